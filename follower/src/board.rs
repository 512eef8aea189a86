//! How the follower is, for all who ask: the local `/status` and `/metrics`,
//! and the reports to the leader. The latest value is the only one that counts.

use lockstep_edge::clock;
use lockstep_edge::metrics::Histogram;
use lockstep_shared::SafePath;
use lockstep_shared::api::{Alone, Apply, Container, Drift, FailedBundle, Found, Running, State, Status};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The upper bounds of what applies take, in seconds.
const APPLY_BOUNDS: &[f64] = &[0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The follower's state, as others may see it.
#[derive(Debug)]
pub struct Board {
    status: watch::Sender<Status>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// What stands in the place of drifted files: for the leader alone.
    found: Mutex<BTreeMap<SafePath, Found>>,
    repairs: AtomicU64,
    watches: AtomicBool,
    away_since: Mutex<Option<Instant>>,
    /// When containers were last acted on.
    acted: Mutex<Option<Instant>>,
    took: Histogram,
    undos: AtomicU64,
}

impl Board {
    /// A board that shows what ran before this start.
    pub fn new(
        running: Option<Running>,
        owes: bool,
        failed: Option<FailedBundle>,
        engine: bool,
        data_folder: &Path,
    ) -> Self {
        let state = match &running {
            _ if owes || failed.is_some() => State::Failed,
            Some(_) => State::Applied,
            None => State::New,
        };
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            running,
            failed,
            engine,
            data_folder: Some(data_folder.display().to_string()),
            ..Status::default()
        };
        Self {
            status: watch::Sender::new(status),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            found: Mutex::default(),
            repairs: AtomicU64::new(0),
            watches: AtomicBool::new(false),
            away_since: Mutex::default(),
            acted: Mutex::default(),
            took: Histogram::new(APPLY_BOUNDS),
            undos: AtomicU64::new(0),
        }
    }

    /// What it shows now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What the leader is told: beside what is shown here, what was found in
    /// the place of drifted files, and this machine's time.
    pub fn report(&self) -> Status {
        let mut status = Status { clock: Some(lockstep_edge::clock::now()), ..self.status() };
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for drift in &mut status.drift {
            drift.found = found.get(&drift.path).cloned();
        }
        status
    }

    /// Files that somebody else changed, and what was found in their places.
    pub fn drift(&self, drift: Vec<Drift>, found: BTreeMap<SafePath, Found>) {
        let mut before = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *before != found;
        *before = found;
        drop(before);
        self.status.send_if_modified(|status| {
            let changed = changed || status.drift != drift;
            status.drift = drift;
            changed
        });
    }

    /// Drifted files are written again.
    pub fn repairing(&self, files: usize) {
        self.repairs.fetch_add(files as u64, Ordering::Relaxed);
    }

    /// Files that were written again since the start.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// Whether changes of files are heard of at once.
    pub fn watches(&self, watches: bool) {
        self.watches.store(watches, Ordering::Relaxed);
    }

    /// The same.
    pub fn is_watching(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }

    /// Whether the last apply failed.
    pub fn shows_failure(&self) -> bool {
        self.status.borrow().state == State::Failed
    }

    /// Hears of every change.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// An apply is under way.
    pub fn applying(&self, apply: &Apply) {
        self.status.send_modify(|status| {
            status.state = State::Applying;
            status.apply = Some(apply.clone());
        });
    }

    /// An apply has failed, and what ran before is on its way back.
    pub fn undoing(&self, apply: &Apply, bundle: Option<FailedBundle>) {
        self.undos.fetch_add(1, Ordering::Relaxed);
        self.status.send_modify(|status| {
            status.state = State::Applying;
            status.apply = Some(apply.clone());
            status.failed = bundle;
        });
    }

    /// An apply has ended. `bundle` is what failed and is still offered, whatever this apply did.
    pub fn ended(&self, apply: Apply, running: Option<Running>, bundle: Option<FailedBundle>) {
        let failed = apply.error.is_some();
        (if failed { &self.failed } else { &self.succeeded }).fetch_add(1, Ordering::Relaxed);
        let millis: f64 = apply.took_ms.iter().map(|(_, took)| took).sum();
        self.took.observe(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default());
        if !apply.actions.is_empty() {
            *self.acted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.status.send_modify(|status| {
            status.state = if failed || bundle.is_some() { State::Failed } else { State::Applied };
            let changed = !apply.files.is_empty() || !apply.actions.is_empty();
            // That it isn't tried again must not hide what came of it.
            let told = status.last_change.as_ref().and_then(|last| last.error.as_ref().map(|_| last.revision));
            let again = bundle.as_ref().is_some_and(|bundle| told == Some(bundle.revision));
            status.failed = bundle;
            if changed || (failed && !again) {
                status.last_change = Some(apply.clone());
            }
            status.apply = Some(apply);
            status.running = running;
        });
    }

    /// The project's containers, as they are now; whether they were otherwise before. Nobody is woken for these alone.
    pub fn containers(&self, containers: &[crate::container::Container]) -> bool {
        let shown: Vec<Container> = containers.iter().map(Container::from).collect();
        let mut changed = false;
        self.status.send_if_modified(|status| {
            changed = status.containers != shown;
            status.containers = shown;
            false
        });
        changed
    }

    /// Whether containers were acted on within this time.
    pub fn acted_within(&self, time: Duration) -> bool {
        let acted = self.acted.lock().unwrap_or_else(PoisonError::into_inner);
        acted.is_some_and(|acted| acted.elapsed() < time)
    }

    /// Where files are written, as the engine sees it: elsewhere for a follower in a container.
    pub fn data_folder(&self, path: &Path) {
        let path = path.display().to_string();
        self.status.send_if_modified(|status| {
            status.data_folder = Some(path);
            false
        });
    }

    /// The leader has answered. Nobody is woken for that alone, except the first time.
    pub fn leader_seen(&self) {
        *self.away_since() = None;
        self.status.send_if_modified(|status| status.leader_seen.replace(clock::now()).is_none());
    }

    /// The leader doesn't answer, from now on.
    pub fn leader_away(&self) {
        self.away_since().get_or_insert_with(Instant::now);
    }

    fn away_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the leader has not answered, by a clock that nobody sets.
    pub fn away(&self) -> Option<Duration> {
        self.away_since().map(|since| since.elapsed())
    }

    /// For how long the leader has not answered and what runs meanwhile, for people.
    pub fn staleness(&self) -> String {
        let (status, now) = (self.status.borrow(), clock::now());
        let seen = match (self.away(), status.leader_seen) {
            (away, Some(_)) => format!("it last answered {} ago", span(away.unwrap_or_default().as_secs())),
            (away, None) => {
                format!("it has not answered since this start, {} ago", span(away.unwrap_or_default().as_secs()))
            }
        };
        // A clock that was set back makes nothing of the future.
        let age = |since: i64| span(u64::try_from(now - since).unwrap_or(0));
        match &status.running {
            Some(running) => {
                format!("{seen}; revision {}, proven {} ago, goes on", running.revision, age(running.since))
            }
            None => format!("{seen}; nothing was proven here yet"),
        }
    }

    /// How it is, for whoever asks on the machine.
    pub fn local(&self) -> Status {
        let alone = self.away().map(|away| Alone { seconds: away.as_secs(), words: self.staleness() });
        Status { alone, ..self.status() }
    }

    /// Has the status reported once more.
    pub fn tell_again(&self) {
        self.status.send_modify(|_| ());
    }

    /// What applies took since the start, from pull to proof.
    pub fn took(&self) -> &Histogram {
        &self.took
    }

    /// How often a failed bundle was begun to be taken back since the start.
    pub fn undos(&self) -> u64 {
        self.undos.load(Ordering::Relaxed)
    }

    /// Applies since the start: those that succeeded, and those that failed.
    pub fn applies(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// A span of time for people.
fn span(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::new_apply;
    use lockstep_shared::Sha256;
    use lockstep_shared::api::{FileChange, Undo};

    #[test]
    fn that_it_is_not_tried_again_hides_nothing_of_the_failure() {
        let board = Board::new(None, false, None, true, Path::new("/data"));
        let failed = FailedBundle {
            revision: 2,
            digest: Sha256::of(b"2"),
            since: 1,
            why: "it died".to_owned(),
            undo: Undo::Done,
            advice: None,
        };
        let error = Some("FAILED(2)".to_owned());
        let files = vec![FileChange {
            path: lockstep_shared::SafePath::new("a").unwrap(),
            change: lockstep_shared::api::Change::Changed,
        }];
        let first = Apply { revision: 2, files, error: error.clone(), ..new_apply("first".to_owned()) };
        board.ended(first, None, Some(failed.clone()));
        board.ended(Apply { revision: 2, error, ..new_apply("asked".to_owned()) }, None, Some(failed.clone()));
        let status = board.status();
        let ids = [status.apply, status.last_change].map(|apply| apply.unwrap().id);
        assert_eq!(
            (ids, status.failed, status.state),
            (["asked".to_owned(), "first".to_owned()], Some(failed), State::Failed)
        );
        board.ended(new_apply("well".to_owned()), None, None);
        assert_eq!((board.status().failed, board.status().state), (None, State::Applied));
    }
}
