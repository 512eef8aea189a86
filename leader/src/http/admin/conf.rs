//! Rendered configuration for people: any machine's, secrets and all.

use super::allow;
use super::refusal::Refusal;
use crate::http::conf::{Asker, answer, finished};
use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use std::sync::Arc;

/// The first machine's bundle, or the named machine's. Holds secrets.
#[utoipa::path(get, path = "/conf", tag = "conf",
    params(("machine" = Option<String>, Query, description = "This machine's own view"),
        ("wait" = Option<String>, Query, pattern = "^(([0-5]?[0-9]{1,2}|600)s?|([0-9]|10)m)$", description = "With If-None-Match: hold the request until it changes; 60s, 5m or seconds, at most 10 minutes")),
    responses((status = 200, content((serde_json::Value = "application/json"), (Vec<u8> = "application/x-tar"))),
        (status = 304, description = "Not changed"), (status = 404, description = "There is no such configuration")))]
pub(super) async fn whole(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    conf(&leader, &actor, &uri, &headers).await
}

/// A role's bundle: its first machine's, or the named machine's. Holds secrets.
#[utoipa::path(get, path = "/conf/{role}", tag = "conf",
    params(("role" = String, Path, description = "The role"),
        ("machine" = Option<String>, Query, description = "This machine's own view"),
        ("wait" = Option<String>, Query, pattern = "^(([0-5]?[0-9]{1,2}|600)s?|([0-9]|10)m)$", description = "With If-None-Match: hold the request until it changes; 60s, 5m or seconds, at most 10 minutes")),
    responses((status = 200, content((serde_json::Value = "application/json"), (Vec<u8> = "application/x-tar"))),
        (status = 304, description = "Not changed")))]
pub(super) async fn role(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    conf(&leader, &actor, &uri, &headers).await
}

/// One rendered file: its bytes. May hold secrets.
#[utoipa::path(get, path = "/conf/{role}/{*path}", tag = "conf",
    params(("role" = String, Path, description = "The role"), ("path" = String, Path, description = "The file's path"),
        ("machine" = Option<String>, Query, description = "This machine's own view")),
    responses((status = 200, description = "The file, with the content type of its name", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "Not changed")))]
pub(super) async fn file(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    conf(&leader, &actor, &uri, &headers).await
}

/// As `GET /conf` for followers. Rendered files hold secrets: reading them takes the right to those.
async fn conf(leader: &Leader, actor: &Actor, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
    allow(actor, Right::Secrets)?;
    let answer = finished(leader, answer(leader, &Asker::Admin, uri.path(), uri.query(), headers)).await;
    answer.map(axum::response::IntoResponse::into_response).map_err(Refusal::from)
}
