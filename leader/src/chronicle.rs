//! Writes down what machines were proven to run, beside everything else: a
//! report is never answered later for it, and one that says what the last one
//! said costs no write.

use crate::store::{Proven, Store};
use lockstep_edge::clock;
use lockstep_shared::api::{State, Status};
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A fleet proves a revision at about the same time: what comes within this is written together, and no follower's
/// own writing on the same disk waits for it.
const GATHER: Duration = Duration::from_millis(250);

/// Takes reports; a thread of its own writes.
pub struct Chronicle {
    last: Mutex<HashMap<String, Proven>>,
    sender: Option<Sender<Proven>>,
    writer: Option<JoinHandle<()>>,
}

impl Chronicle {
    /// For the store in a state folder, which is there already.
    pub fn start(state: &Path) -> Self {
        let (sender, receiver) = channel();
        let state = state.to_owned();
        let writer = std::thread::Builder::new().name("chronicle".to_owned()).spawn(move || write(&state, &receiver));
        Self { last: Mutex::default(), sender: Some(sender), writer: writer.ok() }
    }

    /// A follower said how it is.
    pub fn note(&self, machine: &str, status: &Status) {
        let Some(proven) = proven(machine, status, clock::now()) else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(machine).is_some_and(|last| same(last, &proven)) {
            return;
        }
        last.insert(machine.to_owned(), proven.clone());
        if let Some(sender) = &self.sender {
            let _ = sender.send(proven);
        }
    }
}

/// What was noted is written before the leader ends.
impl Drop for Chronicle {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            let _ = writer.join();
        }
    }
}

/// What a report proves; nothing while an apply is under way.
fn proven(machine: &str, status: &Status, now: i64) -> Option<Proven> {
    let failed = match status.state {
        State::New | State::Applying => return None,
        State::Applied => None,
        State::Failed => {
            let failed = status.failed.as_ref().map(|failed| failed.revision);
            failed.or(status.apply.as_ref().map(|apply| apply.revision)).or(Some(0))
        }
    };
    let running = status.running.as_ref();
    // When it was proven is the follower's to say, but never later than it said so.
    let since = running.filter(|_| failed.is_none()).map_or(now, |running| running.since.min(now));
    Some(Proven {
        machine: machine.to_owned(),
        at: since,
        revision: running.map(|running| running.revision),
        digest: running.map(|running| running.digest),
        failed,
    })
}

fn same(a: &Proven, b: &Proven) -> bool {
    (a.revision, a.digest, a.failed) == (b.revision, b.digest, b.failed)
}

fn write(state: &Path, receiver: &Receiver<Proven>) {
    let mut store = None;
    let mut last: HashMap<String, Proven> = HashMap::new();
    while let Ok(first) = receiver.recv() {
        // Until the end, at which it is woken.
        std::thread::park_timeout(GATHER);
        let rows: Vec<Proven> = std::iter::once(first).chain(receiver.try_iter()).collect();
        if store.is_none() {
            store = Store::peek(state).unwrap_or_default().filter(|store| store.tidies().is_ok());
        }
        let Some(open) = &store else { continue };
        let mut fresh = Vec::with_capacity(rows.len());
        for mut row in rows {
            let known = match last.get(&row.machine) {
                Some(known) => Some(known.clone()),
                // What it said before this leader was started.
                None => open.proven_at(&row.machine, i64::MAX).unwrap_or_default(),
            };
            if known.as_ref().is_some_and(|known| same(known, &row)) {
                last.insert(row.machine.clone(), row);
                continue;
            }
            // Time goes one way, also when a follower's clock doesn't.
            row.at = row.at.max(known.map_or(i64::MIN, |known| known.at));
            last.insert(row.machine.clone(), row.clone());
            fresh.push(row);
        }
        if let Err(error) = open.put_proven(&fresh) {
            tracing::warn!(%error, "what machines were proven to run could not be written down");
            for row in fresh {
                last.remove(&row.machine);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::Sha256;
    use lockstep_shared::api::Running;

    fn status(state: State, revision: u64, since: i64) -> Status {
        Status {
            state,
            running: Some(Running { revision, digest: Sha256::of(&revision.to_le_bytes()), since }),
            ..Status::default()
        }
    }

    #[test]
    fn a_row_only_where_it_changed_also_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let now = clock::now();
        for _ in 0..2 {
            let chronicle = Chronicle::start(folder.path());
            for (state, revision, since) in [
                (State::Applying, 0, 5),
                (State::Applied, 1, now - 100),
                (State::Applied, 1, now - 90),
                (State::Applied, 2, now - 50),
                (State::Failed, 2, now - 50),
                (State::Applied, 2, now - 50),
                // A clock that went back.
                (State::Applied, 3, 7),
            ] {
                chronicle.note("m", &status(state, revision, since));
            }
        }
        let store = Store::peek(folder.path()).unwrap().unwrap();
        let revision = |at| store.proven_at("m", at).unwrap().and_then(|proven| proven.revision);
        assert_eq!([revision(now - 101), revision(now - 100), revision(now - 51)], [None, Some(1), Some(1)]);
        assert_eq!([revision(now - 50), revision(i64::MAX)], [Some(2), Some(3)]);
    }
}
