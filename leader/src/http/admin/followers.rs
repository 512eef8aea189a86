//! Followers: who they are, and putting them out, letting them in, giving them new keys.

use super::audited::Noted;
use super::extract::{Json, Path};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::{Leader, LeaderError};
use crate::roster::{Followed, FollowerView, RosterError};
use crate::who::{Actor, Right, clean_name};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::{Name, Problem};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What a change of who follows came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FollowersChanged)]
pub struct Changed {
    /// The machine.
    pub name: Name,
    /// The revision that was published for the machines that follow now; none where none was needed, or no leader runs.
    pub revision: Option<u64>,
    /// Why none could be published; the change itself holds.
    pub unpublished: Option<String>,
}

impl Changed {
    /// Of a machine, and what followed.
    pub(super) fn of(name: &Name, followed: Followed) -> Self {
        let (revision, unpublished) = match followed {
            Followed::Published(revision) => (Some(revision), None),
            Followed::Nothing => (None, None),
            Followed::Failed(why) => (None, Some(why)),
        };
        Self { name: name.clone(), revision, unpublished }
    }

    fn noted(&self) -> String {
        match (&self.revision, &self.unpublished) {
            (Some(revision), _) => format!("revision {revision}"),
            (None, Some(_)) => "no revision could be published".to_owned(),
            (None, None) => String::new(),
        }
    }
}

/// A rotation of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyRotation)]
pub struct Rotating {
    /// The machine.
    pub name: Name,
    /// Whether it was begun before: that key waits for its first use still.
    pub waits: bool,
}

/// Every follower: those of config-leader.json and those that joined.
#[utoipa::path(get, path = "/admin/followers", tag = "followers", responses((status = 200, body = Vec<FollowerView>)))]
pub(super) async fn list(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<FollowerView>>, Refusal> {
    allow(&actor, Right::Read)?;
    Ok(Json(leader.roster.followers(&leader.reports, &leader.published())))
}

/// One follower.
#[utoipa::path(get, path = "/admin/followers/{name}", tag = "followers",
    params(("name" = String, Path, description = "Its name")), responses((status = 200, body = FollowerView)))]
pub(super) async fn show(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Json<FollowerView>, Refusal> {
    allow(&actor, Right::Read)?;
    let member = leader.roster.members().get(&name).ok_or_else(|| unknown(&name))?;
    Ok(Json(FollowerView::of(&member, &leader.reports, &leader.published())))
}

/// Puts a follower out at once. What it runs goes on running.
#[utoipa::path(post, path = "/admin/followers/{name}/disable", tag = "followers",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Changed), (status = 409, description = "It is disabled already, or declared in config-leader.json")))]
pub(super) async fn disable(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<(Extension<Noted>, Json<Changed>), Refusal> {
    allow(&actor, Right::Followers)?;
    let by = actor.name.clone();
    switch(leader, name, Some(by)).await
}

/// Lets a disabled follower in again.
#[utoipa::path(post, path = "/admin/followers/{name}/enable", tag = "followers",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Changed), (status = 409, description = "It is not disabled, or declared in config-leader.json")))]
pub(super) async fn enable(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<(Extension<Noted>, Json<Changed>), Refusal> {
    allow(&actor, Right::Followers)?;
    switch(leader, name, None).await
}

async fn switch(
    leader: Arc<Leader>,
    name: String,
    by: Option<String>,
) -> Result<(Extension<Noted>, Json<Changed>), Refusal> {
    let name = known(&name)?;
    let acting = leader.clone();
    let changed = blocking(move || {
        let (_, followed) = acting.disable(name.as_str(), by.as_deref())?;
        Ok::<_, LeaderError>(Changed::of(&name, followed))
    });
    Ok(answered(&leader, changed.await?))
}

/// Forgets a follower: its key opens nothing any more, its name is free. What it runs goes on running.
#[utoipa::path(delete, path = "/admin/followers/{name}", tag = "followers",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Changed), (status = 409, description = "It is declared in config-leader.json")))]
pub(super) async fn remove(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<(Extension<Noted>, Json<Changed>), Refusal> {
    allow(&actor, Right::Followers)?;
    let name = known(&name)?;
    let acting = leader.clone();
    let changed = blocking(move || {
        let followed = acting.remove(&name)?;
        Ok::<_, LeaderError>(Changed::of(&name, followed))
    });
    Ok(answered(&leader, changed.await?))
}

/// Begins to give a follower a new key: it hears of it with its next report,
/// and the old key is out as soon as it has used the new one.
#[utoipa::path(post, path = "/admin/followers/{name}/rotate-key", tag = "followers",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Rotating), (status = 409, description = "It can't be told a new key")))]
pub(super) async fn rotate(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<(Extension<Noted>, Json<Rotating>), Refusal> {
    allow(&actor, Right::Followers)?;
    let name = known(&name)?;
    let rotation = blocking(move || leader.rotate(name.as_str())).await?;
    let noted = if rotation.waits { "it was begun before" } else { "both keys are taken until the new one is used" };
    Ok((Extension(Noted(noted.to_owned())), Json(Rotating { name: rotation.name, waits: rotation.waits })))
}

/// Followers are told of the revision that came of it; nobody waits for them here.
fn answered(leader: &Arc<Leader>, changed: Changed) -> (Extension<Noted>, Json<Changed>) {
    if let Some(revision) = changed.revision {
        let leader = leader.clone();
        tokio::spawn(async move { leader.announce(revision).await });
    }
    (Extension(Noted(changed.noted())), Json(changed))
}

fn known(name: &str) -> Result<Name, Refusal> {
    Name::new(name).map_err(|_| unknown(name))
}

fn unknown(name: &str) -> Refusal {
    let error = RosterError::Unknown(clean_name(name));
    Problem::new(404, "unknown", "There is no such follower", error.to_string()).into()
}
