//! What was asked for and not begun yet. However often it is asked while an
//! apply runs, one more apply follows, and all who asked hear its name.

use crate::plan::Wanted;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// One apply to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub id: String,
    /// What it has to do.
    pub wanted: Wanted,
    /// The highest revision that was announced with it.
    pub revision: u64,
}

/// The apply to come, if any, and the one under way.
#[derive(Debug, Default)]
pub struct Queue {
    slots: Mutex<Slots>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    next: Option<Request>,
    /// The apply under way, or the last one while it is fresh.
    latest: Option<Latest>,
}

#[derive(Debug)]
struct Latest {
    id: String,
    /// The revision it brings.
    revision: u64,
    /// When it ended well.
    ended: Option<Instant>,
}

/// How long an apply that ended well still answers for its revision: a burst
/// of notifications, or one that crosses the long poll's answer, needs no other.
const FRESH: Duration = Duration::from_millis(100);

/// A new apply's name: random, so that it is unique across restarts.
pub fn new_id() -> String {
    format!("{:016x}", u64::from_le_bytes(lockstep_edge::random::bytes()))
}

impl Queue {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an apply; its name. Where no service is named and the one under
    /// way, or just ended, brings that revision already, nothing more is needed.
    pub fn ask(&self, wanted: Wanted, revision: u64) -> String {
        let mut slots = self.slots();
        if let Some(latest) = &slots.latest
            && wanted == Wanted::all()
            && slots.next.is_none()
            && (1..=latest.revision).contains(&revision)
            && latest.ended.is_none_or(|ended| ended.elapsed() < FRESH)
        {
            return latest.id.clone();
        }
        let request = match slots.next.take() {
            Some(before) => {
                Request { id: before.id, wanted: before.wanted.and(wanted), revision: before.revision.max(revision) }
            }
            None => Request { id: new_id(), wanted, revision },
        };
        let id = request.id.clone();
        slots.next = Some(request);
        self.bell.notify_one();
        id
    }

    /// The next apply that is asked for, as soon as there is one.
    pub async fn next(&self) -> Request {
        loop {
            if let Some(request) = self.take() {
                return request;
            }
            self.bell.notified().await;
        }
    }

    /// What is asked for, if anything is.
    pub fn take(&self) -> Option<Request> {
        self.slots().next.take()
    }

    /// The apply `id` is under way, and brings `revision`.
    pub fn began(&self, id: &str, revision: u64) {
        self.slots().latest = Some(Latest { id: id.to_owned(), revision, ended: None });
    }

    /// The apply under way has ended, well or not.
    pub fn ended(&self, well: bool) {
        let mut slots = self.slots();
        slots.latest = slots.latest.take().filter(|_| well);
        if let Some(latest) = &mut slots.latest {
            latest.ended = Some(Instant::now());
        }
    }

    /// Services that were acted on just now, for `revision`: who asked for them
    /// meanwhile, for this revision or an older one, has what they wanted.
    pub fn satisfy(&self, services: &BTreeSet<String>, revision: u64) {
        if let Some(request) = self.slots().next.as_mut().filter(|request| request.revision <= revision) {
            request.wanted.asked.retain(|service| !services.contains(service));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> Wanted {
        Wanted::services(names.iter().map(|name| (*name).to_owned()))
    }

    #[tokio::test]
    async fn five_at_once_are_two_applies_at_most() {
        let queue = Queue::default();
        let first = queue.ask(Wanted::all(), 1);
        assert_eq!(queue.next().await.id, first);
        let others: BTreeSet<String> = (0..4).map(|_| queue.ask(Wanted::all(), 1)).collect();
        assert_eq!(others.len(), 1);
        assert_eq!(BTreeSet::from([queue.next().await.id]), others);
        assert_eq!(queue.take(), None);
    }

    #[tokio::test]
    async fn what_the_apply_under_way_brings_needs_no_other() {
        let queue = Queue::default();
        queue.began("now", 4);
        assert_eq!(queue.ask(Wanted::all(), 4), "now");
        assert_ne!(queue.ask(Wanted::all(), 5), "now");
        queue.take();
        assert_ne!(queue.ask(services(&["a"]), 4), "now");
        queue.take();
        queue.ended(true);
        assert_eq!(queue.ask(Wanted::all(), 4), "now");
        queue.ended(false);
        assert_ne!(queue.ask(Wanted::all(), 4), "now");
    }

    #[tokio::test]
    async fn asking_adds_up() {
        let queue = Queue::default();
        queue.ask(services(&["a"]), 3);
        queue.ask(services(&["b"]), 2);
        queue.satisfy(&BTreeSet::from(["a".to_owned()]), 3);
        let request = queue.next().await;
        assert_eq!((request.wanted.only.as_ref().map(BTreeSet::len), request.revision), (Some(2), 3));
        assert_eq!(request.wanted.asked, BTreeSet::from(["b".to_owned()]));
        queue.ask(services(&["a"]), 4);
        queue.satisfy(&BTreeSet::from(["a".to_owned()]), 3);
        queue.ask(Wanted::all(), 1);
        let request = queue.next().await;
        assert_eq!((request.wanted.only, request.wanted.asked.len()), (None, 1));
    }
}
