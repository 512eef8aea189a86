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
                Undo::Pending => match &failed.advice {
                    Some(advice) => format!("; {advice}"),
                    None => "; it is going back".to_owned(),
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::Name;

    #[test]
    fn a_lease_ends_with_its_apply_also_where_another_came_right_after() {
        let held = Held {
            role: Name::new("web").unwrap(),
            apply: "one".to_owned(),
            revision: 2,
            digest: Sha256::of(b"2"),
            services: vec!["web".to_owned()],
            since: 100,
            alone: false,
        };
        let report = |state, apply: &str, changed: Option<&str>| Report {
            state,
            apply: Some((apply.to_owned(), Some(Sha256::of(b"2")))),
            changed: changed.map(str::to_owned),
            ..Report::default()
        };
        assert!(!report(api::State::Applying, "one", Some("before")).ends(&held, 101));
        assert!(!report(api::State::Applied, "before", Some("before")).ends(&held, 101), "it was on its way");
        assert!(report(api::State::Applied, "one", Some("one")).ends(&held, 101));
        assert!(report(api::State::Applied, "two", Some("one")).ends(&held, 101), "the second found nothing to do");
        assert!(report(api::State::Applying, "two", Some("one")).ends(&held, 101));
    }

    #[test]
    fn only_what_was_proven_after_a_fresh_start_can_get_unwell() {
        let status = |verb: &str, outcome: &str, state: &str, container: (&str, &str, &str)| -> api::Status {
            let action = serde_json::json!({"service": "web", "container": "web-1", "verb": verb, "why": "", "detail": "",
                "outcome": outcome, "took_ms": 1.0});
            let apply = serde_json::json!({"id": "one", "revision": 2, "digest": Sha256::of(b"2"), "files": [],
                "actions": [action], "left_alone": [], "notes": [], "error": null, "took_ms": []});
            let (service, state_of_it, health) = container;
            let container =
                serde_json::json!({"service": service, "name": "web-1", "state": state_of_it, "health": health});
            api::Status {
                state: serde_json::from_value(state.into()).unwrap(),
                last_change: serde_json::from_value(apply).unwrap(),
                containers: vec![serde_json::from_value(container).unwrap()],
                ..api::Status::default()
            }
        };
        let sick = ("web", "running", "unhealthy");
        let told = |verb, outcome, state, container| unwell(&status(verb, outcome, state, container)).map(|it| it.why);
        let unhealthy = told("restart", "proven", "applied", sick).unwrap();
        assert_eq!(unhealthy, "web: web-1 became unhealthy after it was proven: docker logs web-1, there");
        assert!(
            told("recreate", "proven", "applied", ("web", "restarting", "none")).unwrap().contains("web-1 died after")
        );
        assert_eq!(told("restart", "proven", "applied", ("web", "running", "healthy")), None);
        assert_eq!(told("restart", "proven", "applied", ("db", "running", "unhealthy")), None, "nobody acted on it");
        assert_eq!(told("signal:HUP", "proven", "applied", sick), None, "it may have been so before");
        assert_eq!(told("restart", "failed", "applied", sick), None);
        assert_eq!(told("restart", "proven", "applying", sick), None, "something else is under way");
    }
}
