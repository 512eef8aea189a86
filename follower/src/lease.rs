//! Asks the leader whether containers may be restarted now, so that two
//! machines of a role never do so together. Nothing is changed while it waits.

use crate::action::Verb;
use crate::apply::Applier;
use crate::plan::Plan;
use crate::pull::{Leader, PullError};
use crate::step::Step;
use lockstep_edge::backoff::Backoff;
use lockstep_shared::api::{Apply, LeaseRequest, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The longest pause that a leader may ask for before it is asked again.
const LONGEST: u64 = 60;

/// A question that is answered sooner was not held.
const HELD: Duration = Duration::from_secs(1);

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The leader was not reached, or said no to the question itself.
    #[error("nothing was changed, since the leader could not be asked whether containers may restart now: {0}")]
    Unasked(#[from] PullError),
    /// What is applied is not to be applied any more.
    #[error("nothing was changed: the leader stopped it: {0}")]
    Stopped(String),
}

/// How the right to restart came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leased {
    /// Without a wait; also where none is needed.
    AtOnce,
    /// After others.
    Later,
}

impl Applier {
    /// Waits until the containers of a plan may be restarted. Everything is
    /// checked, and nothing is changed yet: an apply that may not go on leaves no trace.
    pub(crate) async fn lease(&self, apply: &mut Apply, plan: &Plan) -> Result<Leased, LeaseError> {
        Step::Lease.begins();
        let down = plan
            .actions
            .iter()
            .filter(|action| matches!(action.verb, Verb::Restart | Verb::Converge | Verb::Recreate | Verb::Create));
        let services: BTreeSet<String> = down.map(|action| action.service.clone()).collect();
        if services.is_empty() || !self.leader.leases() {
            return Ok(Leased::AtOnce);
        }
        let request = LeaseRequest {
            apply: apply.id.clone(),
            revision: plan.revision,
            digest: plan.digest,
            services: services.into_iter().collect(),
        };
        let notes = apply.notes.len();
        let waited = turn(&self.leader, &request, |why| {
            tracing::info!(apply = request.apply, revision = request.revision, "waits for its turn to restart: {why}");
            apply.notes.truncate(notes);
            apply.notes.push(format!("nothing is changed yet: it waits for its turn to restart containers: {why}"));
            self.board.applying(apply);
        });
        let waited = waited.await;
        apply.notes.truncate(notes);
        Ok(if waited? { Leased::Later } else { Leased::AtOnce })
    }
}

/// Waits until containers may be restarted; whether it had to wait. `waits`
/// hears why, each time the reason changes.
async fn turn(leader: &Leader, request: &LeaseRequest, mut waits: impl FnMut(&str)) -> Result<bool, LeaseError> {
    let mut told = None;
    let mut backoff = Backoff::new();
    loop {
        let asked = Instant::now();
        let lease = leader.lease(request).await?;
        match lease.verdict {
            Verdict::Granted => return Ok(told.is_some()),
            Verdict::Stopped => return Err(LeaseError::Stopped(lease.why)),
            Verdict::Wait => {}
        }
        if told.as_ref() != Some(&lease.why) {
            waits(&lease.why);
            told = Some(lease.why);
        }
        // A leader that holds the question needs no pause; one that doesn't is not to be asked without.
        let pause = Duration::from_secs(lease.seconds.min(LONGEST));
        if asked.elapsed() >= HELD {
            backoff.reset();
            sleep(pause).await;
        } else {
            sleep(pause.max(backoff.next_wait())).await;
        }
    }
}
