//! Going back to an old revision, and what lies on disk beside what is published.

use super::audited::Noted;
use super::extract::{Json, Query, whole, whole_or_none};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::Leader;
use crate::rollback::{Disk, Request, Rollback, disk as disk_beside};
use crate::rollout::Launch;
use crate::rollout::strategy::Wish;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Whereto.
#[derive(Deserialize, IntoParams)]
pub(super) struct Whereto {
    /// The revision whose content is wanted.
    to: u64,
}

/// What going back would change.
#[utoipa::path(get, path = "/admin/rollback", params(Whereto), responses(
    (status = 200, body = Rollback), (status = 404, description = "No such revision"),
    (status = 409, description = "It can't be published for the machines that are declared now")))]
pub(super) async fn plan(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(whereto): Query<Whereto>,
) -> Result<Json<Rollback>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.rollback_plan(whereto.to)).await.map(Json)
}

/// What a person says of going back.
#[derive(Deserialize, ToSchema)]
pub(super) struct Back {
    /// The revision whose content is wanted.
    #[serde(deserialize_with = "whole")]
    to: u64,
    /// Only if this revision is what is published.
    #[serde(default, deserialize_with = "whole_or_none")]
    from: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    message: String,
    /// Put that revision's `platform.yml` back on disk too; takes the right `edit`.
    #[serde(default)]
    with_platform: bool,
    /// How it goes out, where that is to be otherwise than `config-leader.json` says.
    #[serde(default)]
    rollout: Wish,
}

/// Publishes the content of an old revision as a new one, and notifies the followers.
#[utoipa::path(post, path = "/admin/rollback", request_body = Back, responses(
    (status = 200, body = Rollback), (status = 404, description = "No such revision"),
    (status = 409, description = "Another was published meanwhile, or it can't be published for the machines that are declared now")))]
pub(super) async fn rollback(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(back): Json<Back>,
) -> Result<(Extension<Noted>, Json<Rollback>), Refusal> {
    allow(&actor, Right::Publish)?;
    if back.with_platform {
        allow(&actor, Right::Edit)?;
    }
    let Back { to, from, message, with_platform, rollout } = back;
    let launch = Launch { wish: rollout, standing: None };
    let request = Request { to, from, author: actor.name, message, with_platform, launch };
    let press = leader.clone();
    let mut done = blocking(move || press.rollback(&request)).await?;
    if done.new {
        done.pushes = leader.announce(done.revision).await;
    }
    Ok((Extension(Noted(done.noted())), Json(done)))
}

/// Which files on disk are not those of the published revision.
#[utoipa::path(get, path = "/admin/disk", responses((status = 200, body = Disk)))]
pub(super) async fn disk(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Disk>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || disk_beside(&leader.config)).await.map(Json)
}
