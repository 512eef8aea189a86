//! What was asked for and not begun yet. However often it is asked while an
//! apply runs, one more apply follows, and all who asked hear its name.

use crate::plan::Wanted;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// Whether it was asked for after the last failure: then what failed is tried once more.
    pub insists: bool,
}

/// The apply to come, if any.
#[derive(Debug, Default)]
pub struct Queue {
    next: Mutex<Option<Request>>,
    bell: Notify,
}

/// A new apply's name: random, so that it is unique across restarts.
pub fn new_id() -> String {
    format!("{:016x}", u64::from_le_bytes(lockstep_edge::random::bytes()))
}

impl Queue {
    fn slot(&self) -> MutexGuard<'_, Option<Request>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an apply that begins from now on; its name. One that is under
    /// way may have asked the leader too early, so it doesn't count.
    pub fn ask(&self, wanted: Wanted, revision: u64) -> String {
        let mut slot = self.slot();
        let request = match slot.take() {
            Some(before) => {
                let (wanted, revision) = (before.wanted.and(wanted), before.revision.max(revision));
                Request { id: before.id, wanted, revision, insists: true }
            }
            None => Request { id: new_id(), wanted, revision, insists: true },
        };
        let id = request.id.clone();
        *slot = Some(request);
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
        self.slot().take()
    }

    /// Something has failed: who asked before can't have known, and doesn't ask to try that again.
    pub fn concede(&self) {
        if let Some(request) = self.slot().as_mut() {
            request.insists = false;
        }
    }

    /// Services that were acted on just now, for `revision`: who asked for them
    /// meanwhile, for this revision or an older one, has what they wanted.
    pub fn satisfy(&self, services: &BTreeSet<String>, revision: u64) {
        if let Some(request) = self.slot().as_mut().filter(|request| request.revision <= revision) {
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
