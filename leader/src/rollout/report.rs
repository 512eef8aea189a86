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
            let attempt = Sha256::of(apply.id.as_bytes()).to_string();
            let since = i64::from_str_radix(&attempt[..15], 16).unwrap_or_default();
            let why = apply.error.clone().unwrap_or_default();
            Some(Failure { digest: apply.digest?, since, why, undone: false })
        });
        Self {
            state: status.state,
            running: status.running.as_ref().map(|running| running.digest),
            apply: status.apply.as_ref().map(|apply| (apply.id.clone(), apply.digest)),
            changed: status.last_change.as_ref().map(|apply| apply.id.clone()),
            failed: failed.or(refused),
            error: status.apply.as_ref().and_then(|apply| apply.error.clone()),
        }
    }
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
