//! Whose turn it is to restart: machines that ask, and what they are answered.

use super::lease::{Held, Turn, Waiter};
use super::state::{Phase, Progress, Rollout, State};
use super::step::{Effect, told};
use lockstep_shared::api::{Lease, LeaseRequest, Verdict};
use lockstep_shared::{Name, Sha256};
use std::collections::BTreeMap;

impl State {
    pub(super) fn ask(
        &mut self,
        name: &Name,
        role: Name,
        request: LeaseRequest,
        served: Sha256,
        now: i64,
        effects: &mut Vec<Effect>,
    ) {
        self.heard.insert(name.clone(), now);
        let offered = self.rollout.as_ref().and_then(|rollout| rollout.offered_digest(name)).unwrap_or(served);
        if request.digest != offered {
            effects.push(Effect::Answer(name.clone(), self.refusal(name, &request.digest)));
            return;
        }
        let mut alone = false;
        let goes_on = self.rollout.as_ref().is_some_and(Rollout::goes_on);
        if let Some(rollout) = &mut self.rollout
            && let Some(member) = rollout.members.get_mut(name)
            && member.digest == request.digest
        {
            alone = goes_on && rollout.strategy.first_alone && !rollout.proven.contains(&member.role);
            if matches!(member.progress, Progress::Offered | Progress::Applying) {
                // Whoever waits for others loses no time of its own.
                (member.progress, member.since) = (Progress::Applying, now);
            }
            effects.push(Effect::Shown(name.clone()));
        }
        let LeaseRequest { apply, revision, digest, services } = request;
        let wish = Held { role, apply, revision, digest, services, since: now, alone };
        match self.leases.held.get_mut(name) {
            // The same machine again, after a restart of its own or an answer that was lost.
            Some(held) if held.digest == wish.digest => {
                *held = Held { alone: held.alone, ..wish };
                effects.push(Effect::KeepLease(name.clone()));
                effects.push(Effect::Answer(name.clone(), self.granted()));
            }
            _ => {
                if self.leases.held.remove(name).is_some() {
                    effects.push(Effect::KeepLease(name.clone()));
                }
                self.leases.wait(name, wish, now);
            }
        }
    }

    /// Answers those who wait: granted, or not any more.
    pub(super) fn answer(&mut self, now: i64, effects: &mut Vec<Effect>) {
        let stale = |waiter: &Waiter| {
            let offered = self.rollout.as_ref().and_then(|rollout| rollout.offered_digest(&waiter.name));
            offered.is_some_and(|offered| offered != waiter.wish.digest)
        };
        let gone: Vec<Waiter> = self.leases.queue.iter().filter(|waiter| stale(waiter)).cloned().collect();
        for waiter in &gone {
            self.leases.queue.retain(|other| other.name != waiter.name);
            let answer = self.refusal(&waiter.name, &waiter.wish.digest);
            effects.extend([Effect::Answer(waiter.name.clone(), answer), Effect::Shown(waiter.name.clone())]);
        }
        if self.leases.queue.is_empty() {
            return;
        }
        let proven = self.rollout.as_ref().map(|rollout| rollout.proven.clone()).unwrap_or_default();
        for waiter in &mut self.leases.queue {
            waiter.wish.alone &= !proven.contains(&waiter.wish.role);
        }
        let strategy = self.strategy().clone();
        let sizes = &self.sizes;
        let turn = |waiter: &Waiter, held: &BTreeMap<Name, Held>| {
            let role = &waiter.wish.role;
            let most = strategy.most_unavailable(role, sizes.get(role).copied().unwrap_or(1));
            let others = || held.iter().filter(|(name, _)| **name != waiter.name);
            if let Some((name, _)) = others().find(|(_, held)| held.alone) {
                return Turn::Later(format!("{name} restarts first, alone: nobody has proven this revision there yet"));
            }
            if waiter.wish.alone && others().next().is_some() {
                return Turn::Barrier(format!("{} first", listed(others().map(|(name, _)| name))));
            }
            let same: Vec<&Name> = others().filter(|(_, held)| held.role == *role).map(|(name, _)| name).collect();
            if same.len() >= most {
                return Turn::Later(format!("{} first: at most {most} of {role} at a time", listed(same.into_iter())));
            }
            Turn::Now
        };
        for name in self.leases.grant(now, turn) {
            if let Some(member) = self.rollout.as_mut().and_then(|rollout| rollout.members.get_mut(&name)) {
                member.since = now;
            }
            let answer = Effect::Answer(name.clone(), self.granted());
            effects.extend([Effect::KeepLease(name.clone()), answer, Effect::Shown(name)]);
        }
    }

    fn granted(&self) -> Lease {
        Lease { verdict: Verdict::Granted, why: String::new(), seconds: self.strategy().patience_seconds }
    }

    /// Why a machine may not go on with a bundle that it isn't served any more.
    fn refusal(&self, name: &Name, digest: &Sha256) -> Lease {
        let member = self.rollout.as_ref().and_then(|rollout| Some((rollout, rollout.members.get(name)?)));
        let why = match member {
            Some((rollout, member)) if member.digest == *digest => match &rollout.phase {
                Phase::Stopped(end) | Phase::Returned(end) => told(rollout, end),
                _ => format!("it is not the turn of {name} for revision {}", rollout.revision),
            },
            _ => match &self.rollout {
                Some(rollout) => format!("{name} is served something else since revision {}", rollout.revision),
                None => format!("{name} is served something else"),
            },
        };
        Lease { verdict: Verdict::Stopped, why, seconds: 0 }
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    match names.len() {
        0..=3 => names.join(", "),
        more => format!("{} and {} more", names[..3].join(", "), more - 3),
    }
}
