//! A rollout as a value: who is in which wave, how far everybody is, and so
//! what each machine is served.

use super::lease::Leases;
use super::strategy::{OnFailure, Strategy};
use super::waves::{Candidate, waves};
use lockstep_shared::{Name, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A machine that wasn't heard from for so many seconds is absent: followers report at least once a minute.
pub(super) const SILENT: i64 = 150;

/// How one revision reaches its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision.
    pub revision: u64,
    /// The last one before it that was through.
    #[serde(default)]
    pub good: Option<u64>,
    /// When it began, Unix seconds.
    pub started: i64,
    /// How it goes.
    pub strategy: Strategy,
    /// Where it stands.
    pub phase: Phase,
    /// The wave whose turn it is, from 0.
    pub wave: usize,
    /// How many there are.
    pub waves: usize,
    /// The machines that it changes something for.
    pub members: BTreeMap<Name, Member>,
    /// Roles in which a machine restarted with it and was proven.
    pub proven: BTreeSet<Name>,
}

/// Where a rollout stands; times in Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Machines are being offered it.
    Running,
    /// A wave is through; the next begins at `until`.
    Pausing {
        /// When.
        until: i64,
    },
    /// Every machine that was there has it.
    Done {
        /// When it was.
        at: i64,
    },
    /// No further machine gets it.
    Stopped(End),
    /// The same, and those that had it are offered the last good revision again.
    Returned(End),
    /// A later revision took its place.
    Replaced {
        /// When.
        at: i64,
        /// The later revision.
        by: u64,
    },
}

/// How a rollout came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: i64,
    /// The machine that failed; `None` where a person ended it.
    pub machine: Option<Name>,
    /// Why.
    pub why: String,
}

/// A machine that a rollout changes something for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its role.
    pub role: Name,
    /// Its wave, from 0.
    pub wave: usize,
    /// The digest of what the revision has for it.
    pub digest: Sha256,
    /// What it is served until its turn.
    pub before: Option<Was>,
    /// What it last ran, proven: where it goes back to.
    pub good: Option<Was>,
    /// How far it is.
    pub progress: Progress,
    /// Since when, Unix seconds.
    pub since: i64,
    /// Why it failed.
    pub why: String,
    /// When the failure was that counted last, by the follower's own clock: the same one doesn't count again.
    pub failure: Option<i64>,
    /// It went back by itself, and says so for as long as it is offered what failed.
    #[serde(default)]
    pub undone: bool,
    /// Whether it failed at what it had proven before, and still runs: a file that can't be repaired, say.
    #[serde(default)]
    pub stays: bool,
}

/// What a machine had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// The revision.
    pub revision: u64,
    /// The digest.
    pub digest: Sha256,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Its wave hasn't come.
    Waiting,
    /// It may take the revision.
    Offered,
    /// It is at it.
    Applying,
    /// It runs it, proven.
    Done,
    /// It failed.
    Failed,
    /// The rollout stopped before it took the revision.
    Held,
    /// It failed, and is to try again: offered what it had until it has forgotten the failure.
    Retrying,
    /// It is offered what it had again.
    Returning,
    /// It runs that again, proven.
    Returned,
}

/// Which of its bundles a machine is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer<'r> {
    /// The rollout's revision.
    New,
    /// An earlier one.
    Earlier(&'r Was),
}

/// What a new rollout starts from.
pub struct Ground<'g> {
    /// The rollout before.
    pub last: Option<&'g Rollout>,
    /// The revision before; 0: none.
    pub revision: u64,
    /// What that revision has for each machine.
    pub digests: &'g BTreeMap<Name, Sha256>,
    /// Whether a machine was heard from lately.
    pub alive: &'g dyn Fn(&Name) -> bool,
    /// Now, Unix seconds.
    pub now: i64,
}

impl Rollout {
    /// The rollout of a revision that has these roles and digests for its machines.
    pub fn begin(
        revision: u64,
        next: &BTreeMap<Name, (Name, Sha256)>,
        strategy: Strategy,
        ground: &Ground<'_>,
    ) -> Self {
        let mut members = BTreeMap::new();
        for (name, (role, digest)) in next {
            let before = ground.last.and_then(|last| Some((last, last.members.get(name)?)));
            let has = ground.digests.get(name).map(|digest| Was { revision: ground.revision, digest: *digest });
            let (was, good, unproven) = match before {
                Some((last, member)) => {
                    let runs =
                        member.progress == Progress::Done || (member.progress == Progress::Failed && member.stays);
                    let was = match last.offer(member) {
                        // What failed there is not what it is to have until it is its turn.
                        Offer::New if member.progress == Progress::Failed && !runs => member.good.clone().or(has),
                        Offer::New => has,
                        Offer::Earlier(was) => Some(was.clone()),
                    };
                    let good = if runs { was.clone() } else { member.good.clone() };
                    (was, good, matches!(member.progress, Progress::Offered | Progress::Applying))
                }
                None => (has.clone(), has, false),
            };
            // What a machine has already, or is just taking, changes nothing for it; that it isn't proven stays open.
            if was.as_ref().is_some_and(|was| was.digest == *digest) && !unproven {
                continue;
            }
            let member = Member {
                role: role.clone(),
                wave: 0,
                digest: *digest,
                before: was,
                good,
                progress: Progress::Waiting,
                since: ground.now,
                why: String::new(),
                failure: None,
                undone: false,
                stays: false,
            };
            members.insert(name.clone(), member);
        }
        let candidates: Vec<Candidate> = members
            .iter()
            .map(|(name, member)| Candidate {
                name: name.clone(),
                role: member.role.clone(),
                alive: (ground.alive)(name),
                new: member.before.is_none(),
            })
            .collect();
        let (places, count) = waves(&strategy, &candidates);
        for (name, member) in &mut members {
            member.wave = places.get(name).copied().unwrap_or_default();
            if member.wave == 0 {
                member.progress = Progress::Offered;
            }
        }
        let good = match ground.last {
            // What failed or was replaced on its way is nothing to go back to, also for machines that it changed nothing for.
            Some(last) if !matches!(last.phase, Phase::Done { .. }) => last.good(),
            _ => Some(ground.revision).filter(|revision| *revision > 0),
        };
        Self {
            revision,
            good,
            started: ground.now,
            strategy,
            phase: Phase::Running,
            wave: 0,
            waves: count,
            members,
            proven: BTreeSet::new(),
        }
    }

    /// What a machine is served.
    pub fn offer<'r>(&self, member: &'r Member) -> Offer<'r> {
        let earlier = match member.progress {
            Progress::Offered | Progress::Applying | Progress::Done => None,
            Progress::Waiting => member.before.as_ref(),
            // There it runs, and is good.
            Progress::Failed if member.stays && !matches!(self.phase, Phase::Returned(_)) => None,
            // Who went back doesn't try again by itself, only if somebody wants it to.
            Progress::Failed
                if self.goes_on() && (member.undone || self.strategy.on_failure == OnFailure::Continue) =>
            {
                None
            }
            Progress::Failed | Progress::Held | Progress::Retrying | Progress::Returning | Progress::Returned => {
                member.good.as_ref()
            }
        };
        earlier.map_or(Offer::New, Offer::Earlier)
    }

    /// The digest of what failed on a machine and is not offered to it any more, though it may go on naming it: it
    /// remembers that it failed.
    pub fn remembered(&self, member: &Member) -> Option<Sha256> {
        let earlier = matches!(self.offer(member), Offer::Earlier(_));
        (member.progress == Progress::Failed && member.undone && earlier).then_some(member.digest)
    }

    /// The digest of what a machine is served; `None` for one that the rollout changes nothing for.
    pub fn offered_digest(&self, name: &Name) -> Option<Sha256> {
        let member = self.members.get(name)?;
        Some(match self.offer(member) {
            Offer::New => member.digest,
            Offer::Earlier(was) => was.digest,
        })
    }

    /// Whether machines are still being offered it, or wait for it without a stop.
    pub fn goes_on(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Pausing { .. } | Phase::Done { .. })
    }

    /// Whether it is under way.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Pausing { .. })
    }

    /// The last revision before it that was through. One that an earlier version stored doesn't say: the latest that
    /// is good for a machine of it.
    pub fn good(&self) -> Option<u64> {
        self.good.or_else(|| self.members.values().filter_map(|member| Some(member.good.as_ref()?.revision)).max())
    }

    /// How many machines have it, of how many.
    pub fn reached(&self) -> (usize, usize) {
        let done = self.members.values().filter(|member| member.progress == Progress::Done).count();
        (done, self.members.len())
    }
}

impl Member {
    pub(super) fn become_(&mut self, progress: Progress, now: i64) {
        if self.progress != progress {
            (self.progress, self.since) = (progress, now);
        }
    }

    /// Takes it up again as `progress`; a machine that remembers its failure has to forget it first.
    pub(super) fn begin_again(&mut self, progress: Progress, now: i64) {
        let remembers = self.progress == Progress::Failed && self.undone && self.good.is_some();
        let next = if remembers && progress == Progress::Offered { Progress::Retrying } else { progress };
        self.become_(next, now);
        self.why.clear();
    }
}

/// All that decisions are made from.
pub struct State {
    /// The last revision's rollout.
    pub rollout: Option<Rollout>,
    /// Who may restart, and who waits for it.
    pub leases: Leases,
    /// When each machine last reported, Unix seconds; none: never.
    pub heard: HashMap<Name, i64>,
    /// How many machines each role has.
    pub sizes: BTreeMap<Name, usize>,
    /// How things go when no rollout says otherwise.
    pub usual: Strategy,
}

impl State {
    /// Whether a machine was heard from lately.
    pub fn is_alive(&self, name: &Name, now: i64) -> bool {
        self.heard.get(name).is_some_and(|heard| now - heard <= SILENT)
    }

    /// The strategy that holds now.
    pub fn strategy(&self) -> &Strategy {
        self.rollout.as_ref().filter(|rollout| rollout.is_running()).map_or(&self.usual, |rollout| &rollout.strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn digest(revision: u64, machine: &Name) -> Sha256 {
        Sha256::of(format!("{revision} {machine}").as_bytes())
    }

    #[test]
    fn what_failed_is_not_good_for_those_that_it_changed_nothing_for() {
        let (core, web) = (name("core-1"), name("web-1"));
        let next = |core_has: u64, web_has: u64| {
            BTreeMap::from([
                (core.clone(), (name("core"), digest(core_has, &core))),
                (web.clone(), (name("web"), digest(web_has, &web))),
            ])
        };
        let mut last: Option<Rollout> = None;
        let mut follow = |revision: u64, was: (u64, u64), is: (u64, u64), phase: Phase, progress: Progress| {
            let mut digests =
                BTreeMap::from([(core.clone(), digest(was.0, &core)), (web.clone(), digest(was.1, &web))]);
            digests.retain(|_, _| revision > 1);
            let (last_one, alive) = (last.take(), |_: &Name| true);
            let ground =
                Ground { last: last_one.as_ref(), revision: revision - 1, digests: &digests, alive: &alive, now: 1 };
            let mut rollout = Rollout::begin(revision, &next(is.0, is.1), Strategy::default(), &ground);
            rollout.members.values_mut().for_each(|member| member.progress = progress);
            rollout.phase = phase;
            let good = rollout.good();
            last = Some(rollout);
            good
        };
        let end = || Phase::Returned(End { at: 2, machine: None, why: String::new() });
        let done = || Phase::Done { at: 2 };
        assert_eq!(follow(1, (0, 0), (1, 1), done(), Progress::Done), None, "there is nothing before the first");
        assert_eq!(follow(2, (1, 1), (1, 2), end(), Progress::Returned), Some(1), "bad for web alone");
        assert_eq!(
            follow(3, (1, 2), (3, 2), end(), Progress::Returned),
            Some(1),
            "core had 2 as it had 1, but 2 failed"
        );
        assert_eq!(follow(4, (3, 2), (4, 4), Phase::Running, Progress::Applying), Some(1), "still");
        assert_eq!(follow(5, (4, 4), (5, 5), done(), Progress::Done), Some(1), "4 was replaced on its way");
        assert_eq!(follow(6, (5, 5), (6, 6), end(), Progress::Returned), Some(5));
    }
}
