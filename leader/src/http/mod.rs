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
use lockstep_edge::lane::{Head, Lane, Outcome};
use lockstep_edge::trace::{self, RequestId};
use lockstep_shared::signature::SIGNATURE_INPUT;
use lockstep_shared::{Fields, Problem};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

/// Every request on the followers' listener that came over hyper.
pub async fn route(leader: Arc<Leader>, request: Request<Incoming>, peer: IpAddr) -> Reply {
    // A copy: the request's own words lie in the buffer that it was read into, which a held one gives back.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = Asked::of(method, &path, request.uri().query(), request.headers(), peer);
    let answer = answer(leader.clone(), request, peer).instrument(asked.span()).await;
    asked.answered(&leader, &path, answer)
}

/// `GET /conf` and what lies under it, by the head alone.
#[derive(Clone)]
pub struct ShortWay(pub Arc<Leader>);

impl Lane for ShortWay {
    fn takes(&self, path: &str) -> bool {
        is_conf(path)
    }

    fn answer(&self, head: &Head<'_>, peer: IpAddr) -> Outcome {
        let leader = &self.0;
        let asked = Asked::of(Method::GET, head.path, head.query, &head.fields, peer);
        let span = asked.span();
        match span.in_scope(|| conf::of_head(leader, head)) {
            Outcome::Now(answer) => Outcome::Now(asked.answered(leader, head.path, answer)),
            Outcome::Later(held) => {
                let (leader, path) = (leader.clone(), Box::<str>::from(head.path));
                let answer = async move { asked.answered(&leader, &path, held.await) };
                Outcome::Later(Box::pin(answer.instrument(span)))
            }
        }
    }
}

/// What is to be counted and said of a request once it is answered, whichever way it came.
struct Asked {
    began: Instant,
    id: RequestId,
    method: Method,
    route: &'static str,
    peer: IpAddr,
}

impl Asked {
    fn of(method: Method, path: &str, query: Option<&str>, fields: &impl Fields, peer: IpAddr) -> Self {
        Self { began: Instant::now(), id: RequestId::of(fields), method, route: pattern(path, query), peer }
    }

    fn span(&self) -> tracing::Span {
        tracing::debug_span!("follower", request = %self.id)
    }

    /// Counts it, and gives the answer its id.
    fn answered(self, leader: &Arc<Leader>, path: &str, mut answer: Reply) -> Reply {
        let Self { began, id, method, route, peer } = self;
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
        if route != "/join" && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let counted = leader.audit.count(&format!("{} to a follower", status.as_u16()));
            if counted.matters() {
                let (leader, path) = (leader.clone(), path.to_owned());
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
}

fn is_conf(path: &str) -> bool {
    path.strip_prefix("/conf").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What requests are counted under: held ones apart, since their time says nothing.
fn pattern(path: &str, query: Option<&str>) -> &'static str {
    match path {
        path if is_conf(path) => match query {
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
    if is_conf(path) {
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
