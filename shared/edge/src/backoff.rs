//! The one retry policy: exponential with full jitter, so that a fleet whose
//! leader returns doesn't come back in one wave.

use std::time::Duration;

/// Waits between attempts: each random between nothing and a bound that
/// doubles from half a second up to a minute.
#[derive(Debug, Clone)]
pub struct Backoff {
    bound: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_mins(1);

    /// A policy that has seen no failure yet.
    pub fn new() -> Self {
        Self { bound: Self::FIRST }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.bound.mul_f64(crate::random::fraction());
        self.bound = (self.bound * 2).min(Self::LAST);
        wait
    }

    /// To be called on success.
    pub fn reset(&mut self) {
        self.bound = Self::FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
