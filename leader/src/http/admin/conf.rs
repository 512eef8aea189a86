//! Rendered configuration for people: any machine's, secrets and all.

use super::allow;
use super::refusal::Refusal;
use crate::http::conf::{Asker, answer};
use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::Arc;

/// As `GET /conf` for followers. Rendered files hold secrets: reading them takes the right to those.
pub(super) async fn conf(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Refusal> {
    allow(&actor, Right::Secrets)?;
    let uri = request.uri();
    let answer = answer(&leader, &Asker::Admin, uri.path(), uri.query(), request.headers()).await;
    answer.map(axum::response::IntoResponse::into_response).map_err(Refusal::from)
}
