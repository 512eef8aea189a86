//! What happens to a rollout, and what has to be done then: one pure function
//! of state, event and time.

use super::lease::{Held, Turn, Waiter};
use super::state::{End, Phase, Progress, Rollout, SILENT, State};
use super::strategy::OnFailure;
use lockstep_shared::api::{self, Lease, LeaseRequest, Undo, Verdict};
use lockstep_shared::{Name, Sha256};
use std::collections::BTreeMap;

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
    /// Time went by.
    Tick,
    /// Somebody wants it to go on.
    Resume(String),
    /// Somebody wants it to stop.
    Stop(String),
    /// Somebody wants it taken back.
    Abort(String),
}

/// What of a report matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the machine is doing.
    pub state: api::State,
    /// What it runs, proven.
    pub running: Option<Sha256>,
    /// The apply that it speaks of, and what that applies.
    pub apply: Option<(String, Option<Sha256>)>,
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
            failed: failed.or(refused),
            error: status.apply.as_ref().and_then(|apply| apply.error.clone()),
        }
    }
}

impl Report {
    fn proves(&self, digest: &Sha256) -> bool {
        self.state == api::State::Applied && self.running == Some(*digest)
    }

    /// Whether what a lease was given for is over. A report that was on its way
    /// when the lease was granted still speaks of the apply before.
    fn ends(&self, held: &Held, now: i64) -> bool {
        let same = self.apply.as_ref().is_some_and(|(id, _)| *id == held.apply);
        match (same, self.state) {
            (true, api::State::Applying) => false,
            (true, _) => true,
            // After a restart of the follower, what is left of it is done under another name.
            (false, api::State::Applying)
                if self.apply.as_ref().is_some_and(|(_, digest)| *digest == Some(held.digest)) =>
            {
                false
            }
            (false, _) => now - held.since >= 5,
        }
    }
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
        let returned = matches!(rollout.phase, Phase::Returned(_));
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
                let failure = report.failed.as_ref();
                let failure =
                    failure.filter(|failed| failed.digest == member.digest && member.failure != Some(failed.since));
                if let Some(Failure { since, why, undone, .. }) = failure {
                    (member.failure, member.undone) = (Some(*since), *undone);
                    self.fail(name, why, now, effects);
                    return;
                }
                if report.proves(&member.digest) {
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
    fn hold(&mut self, end: End, effects: &mut Vec<Effect>) {
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
    fn take_back(&mut self, end: End, effects: &mut Vec<Effect>) {
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

    fn resume(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &mut self.rollout else { return Err(nothing()) };
        match &rollout.phase {
            Phase::Pausing { .. } => rollout.phase = Phase::Pausing { until: now },
            Phase::Stopped(_) => {
                rollout.phase = Phase::Running;
                for member in rollout.members.values_mut().filter(|member| member.wave <= rollout.wave) {
                    if matches!(member.progress, Progress::Held | Progress::Failed) {
                        member.begin_again(Progress::Offered, now);
                    }
                }
            }
            Phase::Returned(_) => {
                // All over again: nobody has it any more.
                (rollout.phase, rollout.wave) = (Phase::Running, 0);
                rollout.proven.clear();
                for member in rollout.members.values_mut() {
                    member.before = member.good.clone().or(member.before.take());
                    member.begin_again(if member.wave == 0 { Progress::Offered } else { Progress::Waiting }, now);
                }
            }
            _ => return Err(over(rollout, "resumed")),
        }
        effects.push(Effect::Note("rollout resumed", format!("revision {}, by {who}", rollout.revision)));
        effects.extend(rollout.members.keys().cloned().map(Effect::Shown));
        effects.extend([Effect::Keep(None), Effect::Offer]);
        Ok(())
    }

    fn stop(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &self.rollout else { return Err(nothing()) };
        if !rollout.is_running() {
            return Err(over(rollout, "stopped"));
        }
        self.hold(End { at: now, machine: None, why: format!("stopped by {who}") }, effects);
        Ok(())
    }

    fn abort(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &self.rollout else { return Err(nothing()) };
        if !rollout.is_running() && !matches!(rollout.phase, Phase::Stopped(_)) {
            return Err(over(rollout, "aborted"));
        }
        self.take_back(End { at: now, machine: None, why: format!("aborted by {who}") }, effects);
        Ok(())
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

    fn ask(
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
    fn answer(&mut self, now: i64, effects: &mut Vec<Effect>) {
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

fn nothing() -> String {
    "there is no rollout: nothing was published since this leader began".to_owned()
}

fn over(rollout: &Rollout, what: &str) -> String {
    let revision = rollout.revision;
    match &rollout.phase {
        Phase::Done { .. } => format!(
            "the rollout of revision {revision} is through and can't be {what}: lockstep rollback goes back (lockstep history shows whereto)"
        ),
        Phase::Stopped(_) => format!(
            "the rollout of revision {revision} is stopped already: lockstep rollout resume goes on, lockstep rollout abort takes it back"
        ),
        Phase::Returned(_) => format!(
            "the rollout of revision {revision} is taken back already: lockstep rollout resume tries it again, lockstep publish brings something better"
        ),
        Phase::Replaced { by, .. } => format!("the rollout of revision {revision} was replaced by revision {by}"),
        Phase::Running | Phase::Pausing { .. } => {
            format!("the rollout of revision {revision} goes on and can't be {what}: lockstep rollout shows it")
        }
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    match names.len() {
        0..=3 => names.join(", "),
        more => format!("{} and {} more", names[..3].join(", "), more - 3),
    }
}
