//! What a leader counts while it runs. `http/metrics.rs` shows it.

use lockstep_edge::clock;
use lockstep_edge::metrics::{Requests, Tally};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug)]
pub struct Meters {
    /// When this leader began, Unix seconds.
    pub started: i64,
    /// Requests on all listeners.
    pub requests: Requests,
    /// Followers' requests whose signature was not taken, by the problem's kind.
    pub refusals: Tally,
    publications: AtomicU64,
}

impl Meters {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            started: clock::now(),
            requests: Requests::default(),
            refusals: Tally::default(),
            publications: AtomicU64::new(0),
        }
    }

    /// A new revision is served.
    pub fn published(&self) {
        self.publications.fetch_add(1, Ordering::Relaxed);
    }

    /// Revisions since the start.
    pub fn publications(&self) -> u64 {
        self.publications.load(Ordering::Relaxed)
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}
