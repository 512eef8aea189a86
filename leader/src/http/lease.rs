//! `POST /lease`: a follower asks whether it may restart containers now.

use super::problem;
use crate::leader::Leader;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use lockstep_edge::gate::{Reply, json, reply};
use lockstep_shared::Problem;
use lockstep_shared::api::{Lease, LeaseRequest, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// How long a request is held for its turn.
const HELD: Duration = Duration::from_mins(1);
/// The most services that one request may name.
const SERVICES: usize = 1000;
/// The longest name of an apply, in bytes.
const APPLY: usize = 64;

pub(super) async fn ask(leader: Arc<Leader>, request: Request<Incoming>) -> Reply {
    let admitted = match leader.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    leader.reports.seen(admitted.seal.keyid());
    let answer = match serde_json::from_slice::<LeaseRequest>(&admitted.body) {
        Ok(wish) if wish.services.len() > SERVICES || wish.apply.len() > APPLY => {
            Err(unread(format!("at most {SERVICES} services are taken, and {APPLY} bytes of apply")))
        }
        Ok(wish) => turn(&leader, admitted.seal.keyid(), wish).await,
        Err(error) => Err(unread(format!("it is not the JSON that docs/protocol.md describes: {error}"))),
    };
    admitted.seal.sign(answer.map_or_else(|problem| reply(&problem), |lease| json(StatusCode::OK, &lease)))
}

/// Holds the question until it is the machine's turn.
async fn turn(leader: &Leader, machine: &str, wish: LeaseRequest) -> Result<Lease, Problem> {
    let Some(served) = leader.published().served.get(machine).cloned() else {
        let detail = format!(
            "nothing is published for {machine}: on the leader, lockstep followers list says whether it follows, and lockstep publish what is missing"
        );
        return Err(problem(StatusCode::FORBIDDEN, "forbidden", "There is nothing for this machine", detail));
    };
    let bundle = &served.bundle;
    let mut stop = leader.stop.clone();
    let lease = tokio::select! {
        lease = leader.rollout.ask(bundle.machine.clone(), bundle.role.clone(), wish, bundle.digest, HELD) => lease,
        () = lockstep_edge::server::stopped(&mut stop) => {
            Lease { verdict: Verdict::Wait, why: "the leader is stopping".to_owned(), seconds: 1 }
        }
    };
    tracing::debug!(machine, verdict = ?lease.verdict, why = lease.why, "restart lease");
    Ok(lease)
}

fn unread(detail: String) -> Problem {
    problem(StatusCode::BAD_REQUEST, "bad-request", "The request for a lease can't be read", detail)
}
