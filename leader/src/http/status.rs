//! `POST /status`: a follower says how it is.

use super::problem;
use crate::leader::Leader;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use lockstep_edge::gate::{Reply, json, reply};
use lockstep_edge::trace::{REQUEST_ID, RequestId};
use lockstep_shared::Name;
use lockstep_shared::api::{Status, StatusAnswer, Told};
use std::net::IpAddr;
use std::sync::Arc;

pub(super) async fn report(leader: Arc<Leader>, request: Request<Incoming>, peer: IpAddr) -> Reply {
    let admitted = match leader.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    let answer = match serde_json::from_slice::<Status>(&admitted.body) {
        Ok(status) => {
            let machine = admitted.seal.keyid();
            let status = shown(&leader, machine, status).await;
            let apply = status.apply.as_ref().map(|apply| apply.id.as_str());
            let (state, revision) = (status.state, status.running.as_ref().map_or(0, |running| running.revision));
            // One that goes back to somebody's request is news; the rest says that the machine lives.
            let cause = admitted.head.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
            if let Some(request) = cause.and_then(RequestId::parse) {
                tracing::info!(%request, machine, ?state, running = revision, apply, "a machine reports");
            } else {
                tracing::debug!(machine, ?state, running = revision, apply, "a machine reports");
            }
            leader.chronicle.note(machine, &status);
            leader.rollout.report(machine, &status);
            let told = match leader.told_key(machine, peer) {
                None => told(&leader, machine, &status).await,
                key => Some(Told { key, ..told(&leader, machine, &status).await.unwrap_or_default() }),
            };
            leader.reports.store(machine, admitted.seal.created(), status);
            if let Some(told) = told {
                return admitted.seal.sign(json(StatusCode::OK, &StatusAnswer { told }));
            }
            let mut answer = Response::new(Full::<Bytes>::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
        Err(error) => {
            let detail = format!("the report is not the JSON that docs/protocol.md describes: {error}");
            reply(&problem(StatusCode::BAD_REQUEST, "bad-request", "The report can't be read", detail))
        }
    };
    admitted.seal.sign(answer)
}

/// What it lacks of what it should trust, once what it said is taken note of.
async fn told(leader: &Arc<Leader>, machine: &str, status: &Status) -> Option<Told> {
    let (trust, name) = (status.trust.clone()?, Name::new(machine).ok()?);
    if leader.authority.is_news(&name, &trust) {
        let (leader, trust) = (leader.clone(), trust.clone());
        let heard = tokio::task::spawn_blocking(move || {
            leader.authority.hear(&name, &trust)?;
            leader.authority.go_on(&leader.pinning())
        });
        if let Ok(Err(error)) = heard.await {
            tracing::error!(%error, machine, "what the follower trusts could not be kept");
        }
    }
    leader.authority.lacks(&trust, &leader.config.addresses)
}

/// The report as it may be kept: diffs for what was found in the place of files.
async fn shown(leader: &Arc<Leader>, machine: &str, mut status: Status) -> Status {
    if status.drift.is_empty() {
        return status;
    }
    let (leader, machine) = (leader.clone(), machine.to_owned());
    let shown = tokio::task::spawn_blocking(move || {
        let published = leader.published();
        let served = published.served.get(machine.as_str()).map(|served| served.bundle.clone());
        leader.drifts.show(&mut status, published.revision.number, served.as_deref());
        status
    });
    shown.await.unwrap_or_default()
}
