//! The rollout as people are shown it.

use super::state::{Member, Offer, Phase, Progress, Rollout, State};
use super::step::told;
use lockstep_shared::{Name, rollout as shown};

impl State {
    /// The rollout, without its machines.
    pub fn head(&self, sequence: u64) -> Option<shown::Rollout> {
        let rollout = self.rollout.as_ref()?;
        let end = match &rollout.phase {
            Phase::Stopped(end) | Phase::Returned(end) => Some(end),
            _ => None,
        };
        let (phase, ended) = match &rollout.phase {
            Phase::Running => (shown::Phase::Running, None),
            Phase::Pausing { .. } => (shown::Phase::Pausing, None),
            Phase::Done { at } => (shown::Phase::Done, Some(*at)),
            Phase::Stopped(end) => (shown::Phase::Stopped, Some(end.at)),
            Phase::Returned(end) => (shown::Phase::Returned, Some(end.at)),
            Phase::Replaced { at, .. } => (shown::Phase::Replaced, Some(*at)),
        };
        let until = match rollout.phase {
            Phase::Pausing { until } => Some(until),
            _ => None,
        };
        Some(shown::Rollout {
            revision: rollout.revision,
            phase,
            why: end.map(|end| told(rollout, end)).unwrap_or_default(),
            stopped_at: end.and_then(|end| end.machine.clone()),
            returned_to: rollout.returned_to(),
            strategy: rollout.strategy.to_string(),
            started: rollout.started,
            ended,
            pauses_until: until,
            wave: rollout.wave + 1,
            waves: rollout.waves,
            sequence,
            machines: Vec::new(),
        })
    }

    /// The rollout with its machines.
    pub fn view(&self, sequence: u64, now: i64) -> Option<shown::Rollout> {
        let mut view = self.head(sequence)?;
        let rollout = self.rollout.as_ref()?;
        view.machines = rollout.members.iter().map(|(name, member)| self.line(rollout, name, member, now)).collect();
        view.machines.sort_by(|one, other| (one.wave, &one.name).cmp(&(other.wave, &other.name)));
        Some(view)
    }

    /// One machine of it.
    pub fn member(&self, name: &Name, now: i64) -> Option<shown::Member> {
        let rollout = self.rollout.as_ref()?;
        Some(self.line(rollout, name, rollout.members.get(name)?, now))
    }

    fn line(&self, rollout: &Rollout, name: &Name, member: &Member, now: i64) -> shown::Member {
        let queued = self.leases.queue.iter().find(|waiter| waiter.name == *name);
        let restarting = self.leases.held.get(name);
        let state = match member.progress {
            Progress::Waiting if rollout.goes_on() => shown::MemberState::Waiting,
            Progress::Offered | Progress::Retrying if !self.is_alive(name, now) => shown::MemberState::Absent,
            Progress::Offered | Progress::Applying | Progress::Returning if queued.is_some() => {
                shown::MemberState::Queued
            }
            Progress::Offered | Progress::Applying if restarting.is_some() => shown::MemberState::Restarting,
            Progress::Offered | Progress::Retrying => shown::MemberState::Offered,
            Progress::Applying => shown::MemberState::Applying,
            Progress::Done => shown::MemberState::Done,
            Progress::Failed => shown::MemberState::Failed,
            Progress::Waiting | Progress::Held => shown::MemberState::Held,
            Progress::Returning => shown::MemberState::Returning,
            Progress::Returned => shown::MemberState::Returned,
        };
        let why = match (queued, restarting) {
            (Some(waiter), _) => waiter.why.clone(),
            (None, Some(held)) if member.why.is_empty() && state == shown::MemberState::Restarting => {
                held.services.join(", ")
            }
            _ => member.why.clone(),
        };
        let offered = match rollout.offer(member) {
            Offer::New => rollout.revision,
            Offer::Earlier(was) => was.revision,
        };
        shown::Member {
            name: name.clone(),
            role: member.role.clone(),
            wave: member.wave + 1,
            state,
            offered,
            since: member.since,
            why,
        }
    }
}

impl Rollout {
    /// Where the machines that had it were returned to: the latest of these revisions.
    pub fn returned_to(&self) -> Option<u64> {
        if matches!(self.phase, Phase::Returned(_)) { self.good() } else { None }
    }

    /// How it ended, in a few words, for the history; none while it goes on or where it went as it should.
    pub fn ending(&self) -> Option<String> {
        match &self.phase {
            Phase::Running | Phase::Pausing { .. } | Phase::Done { .. } => None,
            Phase::Stopped(end) => Some(format!("stopped: {}", told(self, end))),
            Phase::Returned(end) => {
                let to = self.returned_to().map(|to| format!(" to revision {to}")).unwrap_or_default();
                Some(format!("returned{to}: {}", told(self, end)))
            }
            // Without waves every machine was offered it, whatever came later.
            Phase::Replaced { .. } if !self.strategy.has_waves() => None,
            Phase::Replaced { by, .. } => {
                Some(format!("replaced by revision {by} before every machine was offered it"))
            }
        }
    }
}
