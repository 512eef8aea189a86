//! The ways in: who comes, and as whom they act. People on the leader's own
//! machine come over the unix socket; everybody else over TCP, with a token.

use super::refusal::Refusal;
use crate::access::Denied;
use crate::leader::Leader;
use crate::who::{Actor, How};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use hyper::body::Incoming;
use lockstep_edge::server;
use lockstep_edge::trace::{self, REQUEST_ID, RequestId};
use lockstep_shared::Problem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UnixListener;
use tower::ServiceExt as _;

/// The header in which a command on the leader's own machine says who types it.
pub const ACTOR: &str = "lockstep-actor";

/// What anyone on the admin listener may see: what watches and describes.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Who is at the other end of the unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// Whoever reaches the socket may do all. They act under the name that they
/// say; the user that the kernel says stands beside it.
pub(super) async fn local(mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().map(|info| info.0);
    let said = request.headers().get(ACTOR).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let actor = Actor::local(said, How::Socket { uid: caller.and_then(|caller| caller.uid) });
    request.extensions_mut().insert(actor);
    next.run(request).await
}

/// A request over TCP: the token is looked at before a byte of the body is read.
pub(super) async fn answer(
    leader: Arc<Leader>,
    router: Router,
    request: hyper::Request<Incoming>,
    peer: IpAddr,
) -> Response {
    let (mut head, incoming) = request.into_parts();
    let (began, id) = (Instant::now(), RequestId::of(&head.headers));
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        head.headers.insert(REQUEST_ID, value);
    }
    let peer = asker(&leader, &head.headers, peer);
    let actor = match admit(&leader, &head.headers, head.uri.path(), peer) {
        Ok(actor) => actor,
        Err(problem) => {
            let counted = leader.audit.count(problem.short_kind());
            if counted.matters() {
                let (action, detail) = (
                    format!("{} on the admin listener", head.method),
                    format!("{}, from {peer}", problem.short_kind()),
                );
                let path = head.uri.path().to_owned();
                let (leader, id) = (leader.clone(), id.clone());
                let write = move || leader.audit.refused(counted, &Actor::unknown(), &action, &path, &detail);
                tokio::spawn(trace::within(id, async { tokio::task::spawn_blocking(trace::carried(write)).await }));
            }
            let mut answer = Refusal::from(problem).into_response();
            leader.meters.requests.count(&head.method, "refused", answer.status(), began.elapsed());
            id.echo(&mut answer);
            return answer;
        }
    };
    if let How::Token { .. } = actor.how {
        let (leader, actor) = (leader.clone(), actor.clone());
        tokio::task::spawn_blocking(move || leader.audit.login(&actor, &peer.to_string()));
    }
    let body = match server::read_body(incoming, &leader.config.limits).await {
        Ok(body) => body,
        Err(problem) => return Refusal::from(problem).into_response(),
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(actor);
    match router.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// The address that failures are counted by.
fn asker(leader: &Leader, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let behind = leader.config.admin.as_ref().is_some_and(|admin| admin.behind_proxy);
    let said = || {
        let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    behind.then(said).flatten().unwrap_or(peer)
}

/// Who comes with these headers. A right token always gets in, however many
/// wrong ones came from the same address: nobody can lock others out.
fn admit(leader: &Leader, headers: &HeaderMap, path: &str, peer: IpAddr) -> Result<Actor, Problem> {
    let Some(said) = headers.get(header::AUTHORIZATION) else {
        if OPEN.contains(&path) {
            return Ok(Actor::unknown());
        }
        let detail = "send a token, as Authorization: Bearer lockstep_...; lockstep access create NAME --right read makes one, on the leader's machine";
        // Nothing was tried: this is not counted.
        return Err(Problem::new(401, "unauthenticated", "Who are you?", detail));
    };
    let token = said.to_str().ok().and_then(|said| said.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let denied = match token.map(|token| leader.access.admit(token)) {
        Some(Ok(actor)) => return Ok(actor),
        Some(Err(denied)) => denied,
        None => Denied::Misspelt,
    };
    let detail = match denied {
        Denied::Misspelt => {
            "this is not a token of lockstep, or it was not copied as a whole: Authorization: Bearer lockstep_..."
        }
        Denied::Unknown => "no such token is known: it was revoked, or made on another leader (lockstep access list)",
        Denied::Expired => "this token has ended: make a new one on the leader (lockstep access create)",
    };
    Err(match leader.access.failed(peer) {
        None => Problem::new(401, "bad-token", "The token is not taken", detail),
        Some(seconds) => super::too_often(seconds),
    })
}
