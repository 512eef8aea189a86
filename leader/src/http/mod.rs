//! The leader over HTTP: one file per audience.

mod admin;
mod certificate;
mod conf;
mod join;
mod lease;
mod metrics;
mod operations;
mod status;
mod waits;

use admin::too_often;
pub use admin::{ACTOR, Changed, MadeToken, Rotating, offline, serve as serve_admin, serve_people};
pub use waits::Waits;

use crate::leader::Leader;
use crate::who::Actor;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use lockstep_edge::gate::{Kind, Reply, reply};
use lockstep_edge::trace::{self, RequestId};
use lockstep_shared::Problem;
use lockstep_shared::signature::SIGNATURE_INPUT;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

/// Every request on the followers' listener.
pub async fn route(leader: Arc<Leader>, request: Request<Incoming>, peer: IpAddr) -> Reply {
    let began = Instant::now();
    // A copy: the request's own words lie in the buffer that it was read into, which a held one gives back.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (id, route) = (RequestId::of(request.headers()), pattern(request.uri()));
    let span = tracing::debug_span!("follower", request = %id);
    let mut answer = answer(leader.clone(), request, peer).instrument(span).await;
    let (status, took) = (answer.status(), began.elapsed());
    leader.meters.requests.count(&method, route, status, took);
    // What is wrong with a join is no signature's fault.
    if status == StatusCode::UNAUTHORIZED
        && route != "/join"
        && let Some(Kind(kind)) = answer.extensions().get()
    {
        leader.meters.refusals.count(kind);
    }
    tracing::debug!(request = %id, %method, route, status = status.as_u16(), took_ms = took.as_millis(), %peer, "answered a follower");
    id.echo(&mut answer);
    // A join is written down where it is judged.
    if path == "/join" {
        return answer;
    }
    if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let status = answer.status();
        let counted = leader.audit.count(&format!("{} to a follower", status.as_u16()));
        if counted.matters() {
            // Not waited for: an answer takes no longer for being written down.
            let write = move || {
                let action = format!("{method} on the followers' listener");
                leader.audit.refused(counted, &Actor::unknown(), &action, &path, &format!("{status}, from {peer}"));
            };
            tokio::spawn(trace::within(id, async { tokio::task::spawn_blocking(trace::carried(write)).await }));
        }
    }
    answer
}

/// What requests are counted under: held ones apart, since their time says nothing.
fn pattern(uri: &http::Uri) -> &'static str {
    match uri.path() {
        path if path == "/conf" || path.starts_with("/conf/") => match uri.query() {
            Some(query) if query.contains("wait=") => "/conf?wait",
            _ => "/conf",
        },
        "/status" => "/status",
        "/lease" => "/lease",
        "/certificate" => "/certificate",
        "/join" => "/join",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        _ => "unknown",
    }
}

/// The first test is the hot one.
async fn answer(leader: Arc<Leader>, request: Request<Incoming>, peer: IpAddr) -> Reply {
    let path = request.uri().path();
    if path == "/conf" || path.starts_with("/conf/") {
        return match *request.method() {
            Method::GET => conf::signed(leader, request).await,
            _ => not_allowed("GET"),
        };
    }
    match (path, request.method()) {
        ("/status", &Method::POST) => Box::pin(status::report(leader, request, peer)).await,
        ("/lease", &Method::POST) => Box::pin(lease::ask(leader, request)).await,
        ("/certificate", &Method::POST) => Box::pin(certificate::issue(leader, request)).await,
        ("/join", &Method::POST) => Box::pin(join::join(leader, request, peer)).await,
        ("/status" | "/lease" | "/certificate" | "/join", _) => not_allowed("POST"),
        ("/healthz" | "/readyz" | "/metrics", &Method::GET) => {
            let path = path.to_owned();
            Box::pin(operations::serve(leader, &path, operations::Watcher::Anyone)).await
        }
        ("/healthz" | "/readyz" | "/metrics", _) => not_allowed("GET"),
        _ => Box::pin(unknown_route(&leader, request)).await,
    }
}

fn not_allowed(allowed: &'static str) -> Reply {
    let detail = format!("this address takes {allowed} only");
    let mut answer = reply(&Problem::new(405, "method-not-allowed", "The method is not allowed here", detail));
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    answer
}

/// A 404 that a follower can trust where it signed.
async fn unknown_route(leader: &Arc<Leader>, request: Request<Incoming>) -> Reply {
    let problem =
        Problem::new(404, "not-found", "There is nothing here", "see docs/protocol.md for what a leader answers to");
    let signed = request.headers().contains_key(SIGNATURE_INPUT);
    if !signed {
        return reply(&problem);
    }
    match leader.admit(request).await {
        Ok(admitted) => admitted.seal.sign(reply(&problem)),
        Err(refused) => refused,
    }
}

fn problem(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Problem {
    Problem::new(status.as_u16(), kind, title, detail)
}
