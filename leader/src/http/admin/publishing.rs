//! Plan, publish, notify.

use super::aside::aside;
use super::audited::Noted;
use super::extract::Json;
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::Leader;
use crate::press::Request as PublishRequest;
use crate::publication::Publication;
use crate::rollout::Launch;
use crate::rollout::strategy::Wish;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use lockstep_shared::api::Push;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What a person says of a publication.
#[derive(Deserialize, ToSchema)]
pub(super) struct Publish {
    /// Why, for the history.
    #[serde(default)]
    message: String,
    /// Only if what would be published is still the plan with this id.
    #[serde(default)]
    plan: Option<String>,
    /// How it goes out, where that is to be otherwise than `config-leader.json` says.
    #[serde(default)]
    rollout: Wish,
}

/// Publishes what is on disk, and notifies the followers.
#[utoipa::path(post, path = "/admin/publish", request_body = Publish, responses(
    (status = 200, body = Publication), (status = 409, description = "It is not the plan that was asked for any more"),
    (status = 422, description = "What is on disk can't be published")))]
pub(super) async fn publish(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<Publish>,
) -> Result<(Extension<Noted>, Response), Refusal> {
    allow(&actor, Right::Publish)?;
    let press = leader.clone();
    let launch = Launch { wish: request.rollout, standing: None };
    let request = PublishRequest { author: actor.name, message: request.message, plan: request.plan, launch };
    // What containers were like before: some are acted on before the author is told.
    let heard = leader.heard();
    let outline = blocking(move || press.publish(&request)).await?;
    let Publication { new, revision, .. } = outline.publication;
    let pushes = async { if new { leader.announce(revision).await } else { Vec::new() } };
    let (pushes, told) = tokio::join!(pushes, aside(move || outline.told(heard.as_ref())));
    let publication = Publication { pushes, ..told? };
    let noted = Extension(Noted(publication.noted()));
    Ok((noted, aside(move || Json(publication).into_response()).await?))
}

/// What publishing would change, and what that means for containers.
#[utoipa::path(get, path = "/admin/plan", responses(
    (status = 200, body = Publication), (status = 422, description = "What is on disk can't be published")))]
pub(super) async fn plan(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Publication>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.plan()).await.map(Json)
}

/// Which services to act on.
#[derive(Deserialize, ToSchema)]
#[schema(as = NotifyFollowers)]
pub(super) struct Notify {
    /// These, changed or not; left out: those whose files changed.
    #[serde(default)]
    services: Option<Vec<String>>,
}

/// Notifies the followers again, without publishing.
#[utoipa::path(post, path = "/admin/notify", request_body = Notify, responses((status = 200, body = Vec<Push>)))]
pub(super) async fn notify(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<Notify>,
) -> Result<Json<Vec<Push>>, Refusal> {
    allow(&actor, Right::Publish)?;
    let revision = leader.published().revision.number;
    Ok(Json(leader.pushes.notify(revision, request.services, |_| true).await))
}
