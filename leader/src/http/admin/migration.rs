//! Migrating `platform.yml` from one release to another. Nothing is published by that.

use super::audited::Noted;
use super::extract::{Json, Query};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::Leader;
use crate::migration::Outcome;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Whereto.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Whereto {
    /// The release; left out: that of `templates/`.
    to: Option<String>,
}

/// What a person says of a migration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Migrate {
    /// The release; left out: that of `templates/`.
    to: Option<String>,
    /// Only if `platform.yml` still has this hash (`platform` of the plan).
    seen: Option<String>,
}

/// What migrating would make of `platform.yml`, and what publishing would change then.
#[utoipa::path(get, path = "/admin/migration", params(Whereto), responses(
    (status = 200, body = Outcome),
    (status = 422, description = "It can't be done: errors say why"),
))]
pub(super) async fn plan(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(query): Query<Whereto>,
) -> Result<Json<Outcome>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.migration_plan(query.to.as_deref())).await.map(Json)
}

/// Migrates `platform.yml`. Publishing is another step.
#[utoipa::path(post, path = "/admin/migration", request_body = Migrate, responses(
    (status = 200, body = Outcome),
    (status = 409, description = "The file changed since it was looked at"),
    (status = 422, description = "It can't be done: errors say why"),
))]
pub(super) async fn migrate(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<Migrate>,
) -> Result<(Extension<Noted>, Json<Outcome>), Refusal> {
    allow(&actor, Right::Edit)?;
    let outcome = blocking(move || leader.migrate(request.to.as_deref(), request.seen.as_deref())).await?;
    let noted = outcome.migrated.as_ref().map(|migrated| format!("release {} to {}", migrated.from, migrated.to));
    Ok((Extension(Noted(noted.unwrap_or_else(|| "nothing to do".to_owned()))), Json(outcome)))
}
