//! The platform's authority: looked at, and replaced.

use super::audited::Noted;
use super::extract::Json;
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::authority::{Authorities, AuthorityError};
use crate::leader::{Leader, LeaderError};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::Name;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The authorities that are trusted, how far a rotation is, and for whom it waits.
#[utoipa::path(get, path = "/admin/authority", tag = "authority", responses(
    (status = 200, body = Authorities), (status = 409, description = "This leader has no authority of its own")))]
pub(super) async fn show(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Authorities>, Refusal> {
    allow(&actor, Right::Read)?;
    shown(leader).await.map(Json)
}

async fn shown(leader: Arc<Leader>) -> Result<Authorities, Refusal> {
    blocking(move || leader.authority.show(&leader.pinning()).map_err(refused)).await
}

/// Begins to replace the authority: a new one is made and told to every
/// follower; it issues once all trust it, and the old one is forgotten once all
/// have certificates of the new. It goes on by itself.
#[utoipa::path(post, path = "/admin/authority/rotate", tag = "authority", responses(
    (status = 200, body = Authorities), (status = 409, description = "A rotation is under way, or there is no authority")))]
pub(super) async fn rotate(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<(Extension<Noted>, Json<Authorities>), Refusal> {
    allow(&actor, Right::Followers)?;
    let rotated = leader.clone();
    blocking(move || rotated.authority.rotate(&rotated.pinning()).map_err(refused)).await?;
    let shown = shown(leader).await?;
    let noted = shown.authorities.iter().map(|authority| authority.short.clone()).collect::<Vec<_>>().join(" ");
    Ok((Extension(Noted(noted)), Json(shown)))
}

/// What going on without somebody came to.
#[derive(Serialize, ToSchema)]
pub(super) struct FinishedRotation {
    /// Followers that were not waited for: each may have to join again.
    left: Vec<Name>,
    /// The authorities as they stand now.
    authority: Authorities,
}

/// Goes to the rotation's next stage without those who are missing. Who doesn't
/// trust the new authority by then can't reach the leader any more.
#[utoipa::path(post, path = "/admin/authority/finish", tag = "authority", responses(
    (status = 200, body = FinishedRotation), (status = 409, description = "No rotation is under way")))]
pub(super) async fn finish(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<(Extension<Noted>, Json<FinishedRotation>), Refusal> {
    allow(&actor, Right::Followers)?;
    let finished = leader.clone();
    let left = blocking(move || finished.authority.finish(&finished.pinning()).map_err(refused)).await?;
    let authority = shown(leader).await?;
    let names = left.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Ok((Extension(Noted(format!("without {names}"))), Json(FinishedRotation { left, authority })))
}

fn refused(error: AuthorityError) -> LeaderError {
    match error {
        AuthorityError::Off | AuthorityError::UnderWay | AuthorityError::NotUnderWay => {
            LeaderError::Conflict(error.to_string())
        }
        other => LeaderError::Authority(other),
    }
}
