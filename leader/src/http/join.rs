//! `POST /join`: a machine with a token becomes a follower.

use super::problem;
use crate::audit::{Event, Outcome};
use crate::authority;
use crate::leader::Leader;
use crate::roster::Followed;
use crate::roster::joining::{Asked, check};
use crate::who::{Actor, How, clean_name};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use lockstep_edge::gate::{Reply, json, reply};
use lockstep_edge::{Limits, server};
use lockstep_shared::join::{JoinRequest, Joined};
use lockstep_shared::{Problem, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The largest request, in bytes; a CSR is at most half of it.
const LARGEST: usize = 32 * 1024;
/// How many are read at a time.
static PLACES: Semaphore = Semaphore::const_new(1024);
/// What the audit calls it.
const ACTION: &str = "join";

pub(super) async fn join(leader: Arc<Leader>, request: Request<Incoming>, peer: IpAddr) -> Reply {
    // Before a byte of the body is read: what would come in the clear is not to be used.
    if let Err(problem) = leader.way_in() {
        let detail = format!("no machine can join: {problem}");
        return reply(&Problem::new(403, "join-closed", "This leader lets no machine join", detail));
    }
    let from = forwarded(&leader, request.headers()).unwrap_or(peer);
    // Nobody proved anything yet: little is read of each, and of few at a time.
    let Ok(_place) = PLACES.try_acquire() else { return reply(&super::too_often(1)) };
    let limits = &leader.config.limits;
    let limits = Limits { body_bytes: limits.body_bytes.min(LARGEST), ..limits.clone() };
    let body = match server::read_body(request.into_body(), &limits).await {
        Ok(body) => body,
        Err(problem) => return reply(&problem),
    };
    let request = match serde_json::from_slice::<JoinRequest>(&body) {
        Ok(request) => request,
        Err(error) => {
            let detail = format!("it is not the JSON that docs/protocol.md describes: {error}");
            return reply(&problem(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The request to join can't be read",
                detail,
            ));
        }
    };
    let acting = leader.clone();
    let done = tokio::task::spawn_blocking(move || take(&acting, &request, from)).await;
    match done {
        Ok(Ok((joined, revision))) => {
            if let Some(revision) = revision {
                tokio::spawn(async move { leader.announce(revision).await });
            }
            json(StatusCode::OK, &joined)
        }
        Ok(Err(problem)) => reply(&problem),
        Err(error) => {
            tracing::error!(%error, "a join ended in a panic");
            reply(&Problem::new(500, "internal", "The leader could not do it", "see its log"))
        }
    }
}

/// Who asks, where a proxy passes it on.
fn forwarded(leader: &Leader, headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back().filter(|_| leader.config.http.behind_proxy)?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Judges, does, and writes down.
fn take(leader: &Leader, request: &JoinRequest, peer: IpAddr) -> Result<(Joined, Option<u64>), Problem> {
    let actor = Actor { name: request.name.to_string(), how: How::Joining, rights: Vec::new() };
    let target = format!("role={}", request.role);
    let token = clean_name(&request.id);
    let asked = check(request).and_then(|()| asked(request, peer)).map_err(|problem| (problem, false));
    let detail = format!("with token {token}, from {peer}");
    let event = Event { target: &target, ..Event::done(&actor, ACTION, &detail) };
    let mut begun = None;
    let result = asked.and_then(|asked| done(leader, &asked, &event, &mut begun).map_err(|problem| (problem, true)));
    match result {
        Ok((joined, revision)) => {
            tracing::info!(machine = %request.name, role = %request.role, token, %peer, "joined");
            leader.audit.note(&Event { answers: begun, ..event });
            Ok((joined, revision))
        }
        Err((refused, guessed)) => {
            let kind = refused.short_kind();
            let counted = leader.audit.count(kind);
            if counted.matters() {
                let detail = format!("{kind}: token {token}, from {peer}");
                leader.audit.refused(counted, &Actor { name: "unknown".to_owned(), ..actor }, ACTION, &target, &detail);
            }
            // Whoever guesses is made to wait; whoever has a right token never is.
            let tired = guessed && kind == "join-token-unknown";
            match tired.then(|| leader.access.failed(peer)).flatten() {
                Some(seconds) => Err(super::too_often(seconds)),
                None => Err(refused),
            }
        }
    }
}

fn asked(request: &JoinRequest, from: IpAddr) -> Result<Asked<'_>, Problem> {
    let secret = URL_SAFE_NO_PAD.decode(request.secret.as_bytes()).map(zeroize::Zeroizing::new);
    let secret = secret.map_err(|_| {
        Problem::new(400, "bad-request", "The request to join can't be read", "the secret is not base64url")
    })?;
    let public = authority::requested(&request.csr).map_err(|error| {
        Problem::new(422, "join-bad-csr", "The request for a certificate can't be used", error.to_string())
    })?;
    let public = public.to_string();
    Ok(Asked { request, hash: Sha256::of(&secret), public, from })
}

fn done(
    leader: &Leader,
    asked: &Asked<'_>,
    event: &Event<'_>,
    begun: &mut Option<i64>,
) -> Result<(Joined, Option<u64>), Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a machine could not join");
        Problem::new(500, "internal", "The leader could not do it", "see the leader's log, then type the same again")
    };
    // Nobody without a token makes the leader wait for a publication.
    leader.roster.knows(asked).map_err(|error| failed(&error))??;
    let roles = leader.with_press(crate::press::Press::roles).map_err(|error| failed(&error))?;
    let noted = || {
        *begun = Some(leader.audit.append(&Event { outcome: Outcome::Asked, detail: event.detail, ..*event })?);
        Ok(())
    };
    let follower = leader.roster.join(asked, &roles, noted).map_err(|error| failed(&error))??;
    let joined = leader.papers(&follower, &asked.request.csr).map_err(|error| failed(&error))?;
    // Also for one that asks again: the leader may have been killed in between.
    let revision = match leader.joined(&follower.name) {
        Followed::Published(revision) => Some(revision),
        _ => None,
    };
    Ok((joined, revision))
}
