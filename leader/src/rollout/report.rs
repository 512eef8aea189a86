//! What of a machine's report matters to a rollout.

use super::lease::Held;
use lockstep_shared::Sha256;
use lockstep_shared::api::{self, Undo};

/// A report that was on its way when a lease was granted is older than this, in seconds.
const ON_ITS_WAY: i64 = 5;

/// What of a report matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the machine is doing.
    pub state: api::State,
    /// What it runs, proven.
    pub running: Option<Sha256>,
    /// The apply that it speaks of, and what that applies.
    pub apply: Option<(String, Option<Sha256>)>,
    /// The last apply that ended and changed something, where another one came right after it.
    pub changed: Option<String>,
    /// What failed there.
    pub failed: Option<Failure>,
    /// What was proven there and is not well any more: it ends a rollout that is still under way.
    pub unwell: Option<Box<Failure>>,
    /// Why the last apply failed, whether or not it is tried again.
    pub error: Option<String>,
}

/// A bundle that failed on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its digest.
    pub digest: Sha256,
    /// When, by the machine's own clock; any number that tells one failure from the next.
    pub since: i64,
    /// Why.
    pub why: String,
    /// Whether the machine remembers it, and doesn't try again by itself.
    pub undone: bool,
}

impl From<&api::Status> for Report {
    fn from(status: &api::Status) -> Self {
        let failed = status.failed.as_ref().map(|failed| {
            let undone = match failed.undo {
                Undo::Done => String::new(),
                Undo::Pending => "; it is going back".to_owned(),
                Undo::Failed => match &failed.advice {
                    Some(advice) => format!("; the undo failed too: {advice}"),
                    None => "; the undo failed too".to_owned(),
                },
                Undo::Nothing => "; there is nothing to go back to".to_owned(),
            };
            let why = format!("{}{undone}", failed.why);
            Failure { digest: failed.digest, since: failed.since, why, undone: true }
        });
        let apply = status.apply.as_ref();
        // What a check refused changed nothing there, and is no better elsewhere; each attempt is told as a failure of its own.
        let refused = apply.filter(|apply| apply.refused && status.state == api::State::Failed);
        let refused = refused.and_then(|apply| {
            let why = apply.error.clone().unwrap_or_default();
            Some(Failure { digest: apply.digest?, since: number(&apply.id), why, undone: false })
        });
        Self {
            state: status.state,
            running: status.running.as_ref().map(|running| running.digest),
            apply: status.apply.as_ref().map(|apply| (apply.id.clone(), apply.digest)),
            changed: status.last_change.as_ref().map(|apply| apply.id.clone()),
            failed: failed.or(refused),
            unwell: unwell(status).map(Box::new),
            error: status.apply.as_ref().and_then(|apply| apply.error.clone()),
        }
    }
}

/// Tells one apply from the next.
fn number(apply: &str) -> i64 {
    i64::from_str_radix(&Sha256::of(apply.as_bytes()).to_string()[..15], 16).unwrap_or_default()
}

/// A container that was healthy when its restart was proven, and is not any more.
fn unwell(status: &api::Status) -> Option<Failure> {
    let settled = status.state == api::State::Applied;
    let change = status.last_change.as_ref().filter(|change| settled && change.error.is_none())?;
    let started = |service: &str| {
        let afresh = |action: &api::Action| matches!(action.verb.as_str(), "restart" | "recreate" | "create");
        change
            .actions
            .iter()
            .any(|action| action.service == service && afresh(action) && action.outcome == api::Outcome::Proven)
    };
    let sick = |container: &&api::Container| container.health == "unhealthy" || container.state == "restarting";
    let container = status.containers.iter().filter(sick).find(|container| started(&container.service))?;
    let what = if container.state == "restarting" { "died" } else { "became unhealthy" };
    let name = &container.name;
    let why = format!("{}: {name} {what} after it was proven: docker logs {name}, there", container.service);
    Some(Failure { digest: change.digest?, since: number(&change.id), why, undone: false })
}

impl Report {
    pub(super) fn proves(&self, digest: &Sha256) -> bool {
        self.state == api::State::Applied && self.running == Some(*digest)
    }

    /// Whether what a lease was given for is over. A report that was on its way
    /// when the lease was granted still speaks of the apply before.
    pub(super) fn ends(&self, held: &Held, now: i64) -> bool {
        let same = self.apply.as_ref().is_some_and(|(id, _)| *id == held.apply);
        match (same, self.state) {
            (true, api::State::Applying) => false,
            (true, _) => true,
            _ if self.changed.as_ref() == Some(&held.apply) => true,
            // After a restart of the follower, what is left of it is done under another name.
            (false, api::State::Applying)
                if self.apply.as_ref().is_some_and(|(_, digest)| *digest == Some(held.digest)) =>
            {
                false
            }
            (false, _) => now - held.since >= ON_ITS_WAY,
        }
    }
}
