//! Settings: looked at, set and unset in `platform.yml`. Nothing is published by that.

use super::audited::Noted;
use super::extract::{Json, Path, Query};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::desk::{Desk, DeskError, Edited, MachineValue, SettingState, Wish};
use crate::leader::{Leader, LeaderError};
use crate::uses::{FileSettings, SettingUses};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use lockstep_shared::Problem;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// For whom.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct For {
    /// One machine; left out: the platform.
    machine: Option<String>,
}

/// Which files.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// A path as followers write it, or a template's name; left out: all.
    file: Option<String>,
}

/// A value to set. Either `words` or `value`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    /// As a person types it: taken as it is for text, else read as YAML or JSON.
    words: Option<String>,
    /// As JSON.
    value: Option<Value>,
    /// Refuse with 412 unless this is what is written now (references as typed).
    seen: Option<Value>,
}

/// Every setting: its value, where that comes from, what it may be. Secrets without a value.
#[utoipa::path(get, path = "/admin/settings", params(For), responses(
    (status = 200, body = Vec<SettingState>),
    (status = 404, description = "No such machine"),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn list(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(view): Query<For>,
) -> Result<Json<Vec<SettingState>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).list(view.machine.as_deref())).await.map(Json)
}

/// One setting. Its `ETag` stands for what is written in `platform.yml` for the platform or the machine.
#[utoipa::path(get, path = "/admin/settings/{name}", params(("name" = String, Path), For), responses(
    (status = 200, body = SettingState, headers(("etag" = String))),
    (status = 404, description = "No such setting or machine"),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn get(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Query(view): Query<For>,
) -> Result<Response, Refusal> {
    allow(&actor, Right::Read)?;
    let state = blocking(move || desk(&leader).get(&name, view.machine.as_deref())).await?;
    Ok(tagged(&state.etag.clone(), state))
}

/// Sets a value in `platform.yml`; every other byte of the file stays.
#[utoipa::path(put, path = "/admin/settings/{name}",
    params(("name" = String, Path), For, ("If-Match" = Option<String>, Header, description = "Refuse unless the value still has this ETag")),
    request_body = NewValue, responses(
    (status = 200, body = Edited, headers(("etag" = String))),
    (status = 400, description = "The body isn't one value"),
    (status = 404, description = "No such setting or machine"),
    (status = 412, description = "It changed since it was looked at: now, line, etag say to what"),
    (status = 422, description = "The value doesn't fit, or the setting can't be set so"),
))]
pub(super) async fn put(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Query(view): Query<For>,
    headers: HeaderMap,
    Json(body): Json<NewValue>,
) -> Result<Response, Refusal> {
    allow(&actor, Right::Edit)?;
    let wish = match (body.words, body.value) {
        (Some(words), None) => Wish::Words(words),
        (None, Some(value)) => Wish::Json(value),
        _ => {
            let detail = "give exactly one of words and value; to go back to the default, use DELETE";
            return Err(Problem::new(400, "bad-request", "The request can't be read", detail).into());
        }
    };
    change(leader, actor, name, view, &headers, wish, body.seen).await
}

/// Takes a value out of `platform.yml`: the default holds again, or for a machine the platform's value.
#[utoipa::path(delete, path = "/admin/settings/{name}",
    params(("name" = String, Path), For, ("If-Match" = Option<String>, Header, description = "Refuse unless the value still has this ETag")),
    responses(
    (status = 200, body = Edited, headers(("etag" = String))),
    (status = 404, description = "No such setting"),
    (status = 412, description = "It changed since it was looked at: now, line, etag say to what"),
    (status = 422, description = "It is required, or others need it"),
))]
pub(super) async fn unset(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Query(view): Query<For>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    allow(&actor, Right::Edit)?;
    change(leader, actor, name, view, &headers, Wish::Unset, None).await
}

/// A setting's value on every machine, and where it comes from.
#[utoipa::path(get, path = "/admin/settings/{name}/machines", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<MachineValue>),
    (status = 404, description = "No such setting"),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn machines(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Json<Vec<MachineValue>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).on_machines(&name)).await.map(Json)
}

/// Where a setting goes: files, roles, machines; and which settings take it in.
#[utoipa::path(get, path = "/admin/settings/{name}/uses", params(("name" = String, Path)), responses(
    (status = 200, body = SettingUses),
    (status = 404, description = "No such setting"),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn uses(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Json<SettingUses>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).uses(&name)).await.map(Json)
}

/// The settings that no file is made from.
#[utoipa::path(get, path = "/admin/settings-unused", responses(
    (status = 200, body = Vec<String>),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn unused(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<String>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).unused()).await.map(Json)
}

/// For each rendered file the settings it comes from.
#[utoipa::path(get, path = "/admin/settings-files", params(Which), responses(
    (status = 200, body = Vec<FileSettings>),
    (status = 404, description = "No such file"),
    (status = 422, description = "The files can't be read"),
))]
pub(super) async fn files(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<FileSettings>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).files(which.file.as_deref())).await.map(Json)
}

/// The JSON Schema (2020-12) of `platform.yml`, for editors.
#[utoipa::path(get, path = "/admin/settings-schema", responses(
    (status = 200, body = Value),
    (status = 422, description = "settings.yml can't be read"),
))]
pub(super) async fn schema(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Value>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || desk(&leader).schema()).await.map(Json)
}

fn desk(leader: &Leader) -> Desk {
    Desk::new(leader.config.clone())
}

async fn change(
    leader: Arc<Leader>,
    actor: Actor,
    name: String,
    view: For,
    headers: &HeaderMap,
    wish: Wish,
    seen: Option<Value>,
) -> Result<Response, Refusal> {
    let tags = headers.get(header::IF_MATCH).and_then(|tags| tags.to_str().ok()).filter(|tags| tags.trim() != "*");
    let tags: Option<Vec<String>> = tags.map(|tags| tags.split(',').map(|tag| tag.trim().to_owned()).collect());
    let edit = move || {
        let machine = view.machine.as_deref();
        let edited = desk(&leader).edit(&name, machine, &wish, tags.as_deref(), seen.as_ref())?;
        if edited.changed {
            tracing::info!(setting = name, machine, author = actor.name, "{} edited", crate::source::PLATFORM);
        }
        Ok::<_, DeskError>(edited)
    };
    let edited = blocking(edit).await?;
    let mut noted = edited.machine.as_ref().map(|machine| format!("for {machine}: ")).unwrap_or_default();
    noted += if edited.changed { "changed" } else { "as it was" };
    let mut response = tagged(&edited.etag.clone(), edited);
    response.extensions_mut().insert(Noted(noted));
    Ok(response)
}

fn tagged(etag: &str, body: impl serde::Serialize) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

impl From<DeskError> for Refusal {
    fn from(error: DeskError) -> Self {
        let told = error.to_string();
        let problem = match error {
            DeskError::Faults(faults) | DeskError::Rejected(faults) => return LeaderError::Faults(faults).into(),
            DeskError::Unknown(_) => Problem::new(404, "unknown-setting", "There is no such thing", told),
            DeskError::Refused(_) => Problem::new(422, "refused", "This can't be edited so", told),
            DeskError::Moved(moved) => {
                let problem = Problem::new(412, "changed", "It changed since you looked", told)
                    .with("setting", moved.name)
                    .with("now", moved.now.unwrap_or_default())
                    .with("etag", moved.etag);
                match (moved.line, moved.seen) {
                    (Some(line), Some(seen)) => problem.with("line", line).with("seen", seen),
                    (Some(line), None) => problem.with("line", line),
                    (None, Some(seen)) => problem.with("seen", seen),
                    (None, None) => problem,
                }
            }
            DeskError::Io { .. } => {
                tracing::error!(error = told, "an edit failed");
                Problem::new(500, "internal", "The leader could not do it", told)
            }
        };
        problem.into()
    }
}
