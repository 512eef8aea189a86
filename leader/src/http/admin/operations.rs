//! What anyone on the admin listener may see: whether the leader is well, its
//! counts, and the description of this API.

use super::openapi::Document;
use crate::http::operations::{self, Watcher};
use crate::leader::Leader;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Whether the leader answers at all.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz(State(leader): State<Arc<Leader>>) -> Response {
    operations::serve(leader, "/healthz", Watcher::Person).await.map(Body::new)
}

/// Whether the leader has a revision to serve, can keep another one, and is not going down.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain"),
    (status = 503, description = "It is not: the body says why")))]
pub(super) async fn readyz(State(leader): State<Arc<Leader>>) -> Response {
    operations::serve(leader, "/readyz", Watcher::Person).await.map(Body::new)
}

/// Counts, in Prometheus' text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(leader): State<Arc<Leader>>) -> Response {
    operations::serve(leader, "/metrics", Watcher::Person).await.map(Body::new)
}

/// This document (`OpenAPI` 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
pub(super) async fn openapi(Extension(document): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.json())
}
