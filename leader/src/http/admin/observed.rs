//! Every request of people: its id, its count, and its line in the log.

use crate::leader::Leader;
use crate::who::Actor;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use lockstep_edge::trace::{self, RequestId};
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

pub(super) async fn observed(
    State(leader): State<Arc<Leader>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let (id, method) = (RequestId::of(request.headers()), request.method().clone());
    let actor = request.extensions().get::<Actor>().map(|actor| actor.name.clone());
    let span = tracing::info_span!("person", request = %id);
    let mut answer = trace::within(id.clone(), next.run(request).instrument(span)).await;
    let (status, took) = (answer.status(), began.elapsed());
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    leader.meters.requests.count(&method, route, status, took);
    let (status, took_ms) = (status.as_u16(), took.as_millis());
    // A look is no event; a change and what failed are.
    if method.is_safe() && status < 500 {
        tracing::debug!(request = %id, %method, route, status, took_ms, actor, "answered");
    } else {
        tracing::info!(request = %id, %method, route, status, took_ms, actor, "answered");
    }
    id.echo(&mut answer);
    answer
}
