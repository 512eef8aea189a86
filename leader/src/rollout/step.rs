//! What happens to a rollout, and what has to be done then: one pure function
//! of state, event and time.

use super::lease::Held;
use super::report::{Failure, Report};
use super::state::{End, Phase, Progress, Rollout, SILENT, State};
use super::strategy::OnFailure;
use lockstep_shared::api::{self, Lease, LeaseRequest};
use lockstep_shared::{Name, Sha256};

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A revision was published.
    Begin(Box<Rollout>),
    /// A machine said how it is.
    Report(Name, Report),
    /// A machine wants to restart containers. The digest is that of what it is
    /// served where the rollout changes nothing for it.
    Ask(Name, Name, LeaseRequest, Sha256),
    /// A machine's request is not held any more.
    Gone(Name),
    /// A machine is none of the fleet any more: nobody waits for it, and it holds nothing. Why, for people.
    Out(Name, String),
    /// Time went by.
    Tick,
    /// Somebody wants it to go on.
    Resume(String),
    /// Somebody wants it to stop.
    Stop(String),
    /// Somebody wants it taken back.
    Abort(String),
}

/// Something has to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The rollout has to be durable; also this one, which it replaces.
    Keep(Option<Box<Rollout>>),
    /// A machine's lease has to be durable, or be gone.
    KeepLease(Name),
    /// Machines are served something else.
    Offer,
    /// The answer to a machine that asked for a lease.
    Answer(Name, Lease),
    /// A line for the audit and the log: what, and the circumstances.
    Note(&'static str, String),
    /// This machine is not as it was shown.
    Shown(Name),
}

impl State {
    /// Takes an event at a time (Unix seconds). The error says why a person's wish can't be done.
    pub fn step(&mut self, event: Event, now: i64) -> Result<Vec<Effect>, String> {
        let mut effects = Vec::new();
        match event {
            Event::Begin(next) => self.begin(*next, now, &mut effects),
            Event::Report(name, report) => self.report(&name, &report, now, &mut effects),
            Event::Ask(name, role, request, served) => self.ask(&name, role, request, served, now, &mut effects),
            Event::Gone(name) => self.leases.let_go(&name),
            Event::Out(name, why) => self.out(&name, why, &mut effects),
            Event::Tick => self.time_goes_by(now, &mut effects),
            Event::Resume(who) => self.resume(&who, now, &mut effects)?,
            Event::Stop(who) => self.stop(&who, now, &mut effects)?,
            Event::Abort(who) => self.abort(&who, now, &mut effects)?,
        }
        self.advance(now, &mut effects);
        self.answer(now, &mut effects);
        effects.sort_by_key(Effect::order);
        effects.dedup();
        Ok(effects)
    }

    fn begin(&mut self, next: Rollout, now: i64, effects: &mut Vec<Effect>) {
        let replaced = self.rollout.take().filter(Rollout::is_running).map(|mut old| {
            let (done, of) = old.reached();
            let detail = format!("revision {} by {}: {done} of {of} machines had it", old.revision, next.revision);
            if old.strategy.has_waves() {
                effects.push(Effect::Note("rollout replaced", detail));
            }
            old.phase = Phase::Replaced { at: now, by: next.revision };
            Box::new(old)
        });
        self.rollout = Some(next);
        effects.extend([Effect::Keep(replaced), Effect::Offer]);
    }

    fn report(&mut self, name: &Name, report: &Report, now: i64, effects: &mut Vec<Effect>) {
        self.heard.insert(name.clone(), now);
        let ended = match self.leases.held.get(name) {
            Some(held) if report.ends(held, now) => self.leases.held.remove(name),
            _ => None,
        };
        if ended.is_some() {
            effects.extend([Effect::KeepLease(name.clone()), Effect::Shown(name.clone())]);
        }
        let Some(rollout) = &mut self.rollout else { return };
        let (returned, running, goes_on) =
            (matches!(rollout.phase, Phase::Returned(_)), rollout.is_running(), rollout.goes_on());
        let Some(member) = rollout.members.get_mut(name) else { return };
        if ended.is_some_and(|held| held.digest == member.digest)
            && report.proves(&member.digest)
            && rollout.proven.insert(member.role.clone())
        {
            effects.push(Effect::Keep(None));
        }
        let before = member.progress;
        match before {
            Progress::Offered | Progress::Applying | Progress::Done | Progress::Failed => {
                let ours = |failed: &&Failure| failed.digest == member.digest;
                let unwell = report.unwell.as_deref().filter(ours);
                let failure = report.failed.as_ref().filter(ours).or(unwell.filter(|_| running));
                let failure = failure.filter(|failed| member.failure != Some(failed.since));
                if let Some(Failure { since, why, undone, .. }) = failure {
                    (member.failure, member.undone) = (Some(*since), *undone);
                    member.stays = unwell.is_none() && report.running == Some(member.digest);
                    self.fail(name, why, now, effects);
                    return;
                }
                let sick = before == Progress::Failed && unwell.is_some();
                if report.proves(&member.digest) && !sick {
                    // One that was given up, and is late, goes back like the others; one that was told to try again doesn't.
                    let back = returned && member.good.is_some() && !member.undone;
                    member.become_(if back { Progress::Returning } else { Progress::Done }, now);
                    member.why.clear();
                } else if before != Progress::Failed
                    && let Some((_, Some(digest))) = &report.apply
                    && *digest == member.digest
                {
                    if before == Progress::Offered {
                        member.become_(Progress::Applying, now);
                    }
                    // It is tried again by itself; it counts as failed when it takes too long.
                    if report.state == api::State::Failed {
                        member.why = report.error.clone().unwrap_or_default();
                    }
                } else if member.undone && !goes_on && report.failed.is_none() && report.state != api::State::Applying {
                    // It was notified, or begins anew: a later attempt has nothing to wait for.
                    member.undone = false;
                    effects.extend([Effect::Keep(None), Effect::Offer]);
                }
            }
            Progress::Returning => {
                let idle = report.state != api::State::Applying && report.failed.is_none();
                if member.good.as_ref().is_none_or(|good| idle && report.running == Some(good.digest)) {
                    member.become_(Progress::Returned, now);
                }
            }
            // It has forgotten what failed.
            Progress::Retrying if report.failed.is_none() && report.state != api::State::Applying => {
                member.become_(Progress::Offered, now);
                member.undone = false;
                effects.push(Effect::Offer);
            }
            Progress::Waiting | Progress::Held | Progress::Retrying | Progress::Returned => {}
        }
        if member.progress != before {
            effects.push(Effect::Shown(name.clone()));
        }
    }

    /// A machine failed: by the strategy, that is the end of it all.
    fn fail(&mut self, name: &Name, why: &str, now: i64, effects: &mut Vec<Effect>) {
        let Some(rollout) = &mut self.rollout else { return };
        let running = rollout.is_running();
        let Some(member) = rollout.members.get_mut(name) else { return };
        member.become_(Progress::Failed, now);
        why.clone_into(&mut member.why);
        effects.push(Effect::Shown(name.clone()));
        if !running {
            effects.extend([Effect::Keep(None), Effect::Offer]);
            return;
        }
        let end = End { at: now, machine: Some(name.clone()), why: why.to_owned() };
        match rollout.strategy.on_failure {
            OnFailure::Continue => {}
            OnFailure::Stop => self.hold(end, effects),
            OnFailure::Return => self.take_back(end, effects),
        }
    }

    /// Nobody else gets it. Who restarts just now may end it.
    pub(super) fn hold(&mut self, end: End, effects: &mut Vec<Effect>) {
        let Some(rollout) = &mut self.rollout else { return };
        for (name, member) in &mut rollout.members {
            let restarting = self.leases.held.get(name).is_some_and(|held| held.digest == member.digest);
            if matches!(member.progress, Progress::Offered | Progress::Retrying | Progress::Applying) && !restarting {
                member.become_(Progress::Held, end.at);
                effects.push(Effect::Shown(name.clone()));
            }
        }
        effects.push(Effect::Note("rollout stopped", told(rollout, &end)));
        rollout.phase = Phase::Stopped(end);
        effects.extend([Effect::Keep(None), Effect::Offer]);
    }

    /// Nobody keeps it.
    pub(super) fn take_back(&mut self, end: End, effects: &mut Vec<Effect>) {
        let Some(rollout) = &mut self.rollout else { return };
        for (name, member) in &mut rollout.members {
            let next = match member.progress {
                // One that never had anything else keeps what there is.
                _ if member.good.is_none() => continue,
                Progress::Offered | Progress::Retrying => Progress::Held,
                Progress::Applying | Progress::Done => Progress::Returning,
                _ => continue,
            };
            member.become_(next, end.at);
            effects.push(Effect::Shown(name.clone()));
        }
        effects.push(Effect::Note("rollout returned", told(rollout, &end)));
        rollout.phase = Phase::Returned(end);
        effects.extend([Effect::Keep(None), Effect::Offer]);
    }

    fn out(&mut self, name: &Name, why: String, effects: &mut Vec<Effect>) {
        self.heard.remove(name);
        if self.rollout.as_mut().is_some_and(|rollout| rollout.members.remove(name).is_some()) {
            effects.push(Effect::Keep(None));
        }
        if self.leases.held.remove(name).is_some() {
            effects.push(Effect::KeepLease(name.clone()));
        }
        self.leases.queue.retain(|waiter| waiter.name != *name);
        let answer = Lease { verdict: api::Verdict::Stopped, why, seconds: 0 };
        effects.extend([Effect::Answer(name.clone(), answer), Effect::Offer]);
    }

    fn time_goes_by(&mut self, now: i64, effects: &mut Vec<Effect>) {
        self.leases.forget(now);
        let patience = i64::try_from(self.strategy().patience_seconds).unwrap_or(i64::MAX);
        let mut failures: Vec<(Name, String)> = Vec::new();
        if let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.is_running()) {
            for (name, member) in &rollout.members {
                let alive = self.is_alive(name, now);
                let restarting = self.leases.held.get(name).is_some_and(|held| held.digest == member.digest);
                let late = now - member.since > patience;
                let why = match member.progress {
                    Progress::Offered | Progress::Applying if restarting && !alive => {
                        format!("it was about to restart containers, and was not heard from for {SILENT} s since")
                    }
                    Progress::Applying if late => match member.why.as_str() {
                        "" => format!("it is not done after {patience} s"),
                        why => format!("it is not done after {patience} s: {why}"),
                    },
                    Progress::Offered | Progress::Retrying if late && alive => {
                        format!("it did not take it within {patience} s")
                    }
                    _ => continue,
                };
                failures.push((name.clone(), why));
            }
        }
        for (name, why) in failures {
            // The first may have ended it for all.
            let open = self.rollout.as_ref().and_then(|rollout| rollout.members.get(&name));
            if open.is_some_and(|member| {
                matches!(member.progress, Progress::Offered | Progress::Retrying | Progress::Applying)
            }) {
                self.fail(&name, &why, now, effects);
                if self.leases.held.remove(&name).is_some() {
                    effects.push(Effect::KeepLease(name));
                }
            }
        }
        let heard = &self.heard;
        let over = |name: &Name, held: &Held| {
            now - held.since > patience || heard.get(name).is_none_or(|heard| now - heard.max(&held.since) > SILENT)
        };
        let ended: Vec<Name> =
            self.leases.held.iter().filter(|(name, held)| over(name, held)).map(|(name, _)| name.clone()).collect();
        for name in ended {
            self.leases.held.remove(&name);
            effects.extend([Effect::KeepLease(name.clone()), Effect::Shown(name)]);
        }
    }

    /// On to the next wave, and the next, for as long as nothing is waited for.
    fn advance(&mut self, now: i64, effects: &mut Vec<Effect>) {
        loop {
            let Some(rollout) = &self.rollout else { return };
            let pause = i64::try_from(rollout.strategy.pause_seconds).unwrap_or(i64::MAX);
            let next = match &rollout.phase {
                Phase::Running if self.is_through(rollout, now) => {
                    if rollout.wave + 1 >= rollout.waves {
                        Phase::Done { at: now }
                    } else if pause > 0 {
                        Phase::Pausing { until: now.saturating_add(pause) }
                    } else {
                        Phase::Running
                    }
                }
                Phase::Pausing { until } if now >= *until => Phase::Running,
                _ => return,
            };
            let Some(rollout) = &mut self.rollout else { return };
            let begins = next == Phase::Running;
            rollout.phase = next;
            effects.push(Effect::Keep(None));
            if begins {
                rollout.wave += 1;
                for (name, member) in rollout.members.iter_mut().filter(|(_, member)| member.wave <= rollout.wave) {
                    if member.progress == Progress::Waiting {
                        member.become_(Progress::Offered, now);
                        effects.push(Effect::Shown(name.clone()));
                    }
                }
                effects.push(Effect::Offer);
            }
        }
    }

    /// Whether the waves until now are through. A machine that is away holds
    /// nobody up, but somebody must have proven it before others get it; only
    /// machines that were never heard from can't be waited for.
    fn is_through(&self, rollout: &Rollout, now: i64) -> bool {
        let mut offered = rollout.members.iter().filter(|(_, member)| member.wave <= rollout.wave);
        let open = |(name, member): (&Name, &super::state::Member)| match member.progress {
            Progress::Done | Progress::Failed => false,
            Progress::Offered | Progress::Retrying => self.is_alive(name, now),
            _ => true,
        };
        if offered.clone().any(open) {
            return false;
        }
        let last = rollout.wave + 1 >= rollout.waves;
        let settled = offered.clone().any(|(_, member)| member.progress != Progress::Offered);
        rollout.members.is_empty() || settled || (!last && offered.all(|(name, _)| !self.heard.contains_key(name)))
    }
}

impl Effect {
    fn order(&self) -> u8 {
        match self {
            Self::Keep(_) => 0,
            Self::KeepLease(_) => 1,
            Self::Offer => 2,
            Self::Answer(..) => 3,
            Self::Note(..) => 4,
            Self::Shown(_) => 5,
        }
    }
}

/// How it ended, for people.
pub(super) fn told(rollout: &Rollout, end: &End) -> String {
    let wave =
        if rollout.waves > 1 { format!(" (wave {} of {})", rollout.wave + 1, rollout.waves) } else { String::new() };
    match &end.machine {
        Some(machine) => format!("revision {} failed at {machine}{wave}: {}", rollout.revision, end.why),
        None => format!("revision {}{wave}: {}", rollout.revision, end.why),
    }
}
