//! What happens to a rollout, for those who watch it: the last events, each
//! with a number that grows also over restarts of the leader.

use lockstep_edge::clock;
use lockstep_shared::rollout::{Member, Rollout};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// How many events are kept for those who come again.
const KEPT: usize = 4096;

/// One event.
#[derive(Debug, Clone)]
pub enum Changed {
    /// The rollout as a whole: another phase or wave; its machines are left out.
    Rollout(Box<Rollout>),
    /// A machine of it.
    Machine(Box<Member>),
}

/// The last events.
pub struct Events {
    kept: Mutex<VecDeque<(u64, Changed)>>,
    sequence: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        // Later than any of an earlier run, as long as that had fewer than a million a second; exact as a JSON number.
        let first = u64::try_from(clock::now()).unwrap_or_default() << 20;
        Self { kept: Mutex::default(), sequence: watch::Sender::new(first) }
    }
}

impl Events {
    /// The number of the last event.
    pub fn sequence(&self) -> u64 {
        *self.sequence.borrow()
    }

    /// Hears of every new one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// Adds events; those who watch are woken once.
    pub(super) fn add(&self, changes: impl IntoIterator<Item = Changed>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = self.sequence();
        for mut change in changes {
            number += 1;
            if let Changed::Rollout(head) = &mut change {
                head.sequence = number;
            }
            kept.push_back((number, change));
        }
        while kept.len() > KEPT {
            kept.pop_front();
        }
        if number != self.sequence() {
            self.sequence.send_replace(number);
        }
    }

    /// A new rollout: whoever comes again begins with the whole of it.
    pub(super) fn begin(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        self.sequence.send_modify(|sequence| *sequence += 1);
    }

    /// The events after a number, with theirs; `None` where not all of them are kept.
    pub fn after(&self, number: u64) -> Option<Vec<(u64, Changed)>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.sequence();
        if number == last {
            return Some(Vec::new());
        }
        let first = kept.front().map_or(last + 1, |(first, _)| *first);
        if number > last || number + 1 < first {
            return None;
        }
        Some(kept.iter().filter(|(other, _)| *other > number).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::Name;
    use lockstep_shared::rollout::MemberState;

    fn machine(wave: usize) -> Changed {
        let name = Name::new("core-1").unwrap();
        let role = name.clone();
        Changed::Machine(Box::new(Member {
            name,
            role,
            wave,
            state: MemberState::Done,
            offered: 1,
            since: 0,
            why: String::new(),
        }))
    }

    #[test]
    fn who_comes_again_misses_nothing_or_is_told_so() {
        let events = Events::default();
        events.begin();
        let first = events.sequence();
        events.add([machine(1), machine(2)]);
        events.add([]);
        let later: Vec<u64> = events.after(first).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(later, [first + 1, first + 2]);
        assert!(events.after(first + 2).unwrap().is_empty());
        assert!(events.after(first + 3).is_none() && events.after(first - 1).is_none());
        events.add((0..KEPT).map(machine));
        assert!(events.after(first).is_none());
        events.begin();
        assert!(events.after(first + 2).is_none());
        assert!(events.after(events.sequence()).unwrap().is_empty());
    }
}
