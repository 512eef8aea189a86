//! The one retry policy: exponential with full jitter, so that a fleet whose
//! leader returns doesn't come back in one wave.

use std::time::Duration;

/// Waits between attempts: each random between nothing and a bound that
/// doubles from half a second up to a minute.
#[derive(Debug, Clone)]
pub struct Backoff {
    bound: Duration,
    /// Bounds stay below [`Self::SOON`] until so much was waited in all.
    patience: Duration,
    waited: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LAST: Duration = Duration::from_mins(1);
    const SOON: Duration = Duration::from_millis(1500);

    /// A policy that has seen no failure yet.
    pub fn new() -> Self {
        Self { bound: Self::FIRST, patience: Duration::ZERO, waited: Duration::ZERO }
    }

    /// The same for reaching somebody who may only be starting anew: whoever was
    /// away for less than about a minute is found within two seconds, by a fleet
    /// of thousands too; whoever was away for longer, within a minute.
    pub fn for_contact() -> Self {
        Self { patience: Duration::from_mins(1), ..Self::new() }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.bound.mul_f64(crate::random::fraction());
        self.waited += wait;
        let most = if self.waited < self.patience { Self::SOON } else { Self::LAST };
        self.bound = (self.bound * 2).min(most);
        wait
    }

    /// To be called on success.
    pub fn reset(&mut self) {
        (self.bound, self.waited) = (Self::FIRST, Duration::ZERO);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(mut backoff: Backoff) -> Vec<Duration> {
        (0..400).map(|_| backoff.next_wait()).collect()
    }

    #[test]
    fn grows_to_a_minute_and_no_further() {
        let waits = waits(Backoff::new());
        assert!(waits[0] <= Backoff::FIRST && waits.iter().all(|wait| *wait <= Backoff::LAST));
        let longest = waits.iter().max().copied().unwrap_or_default();
        assert!(longest > Duration::from_secs(30), "{longest:?}");
    }

    #[test]
    fn who_is_away_for_a_short_time_is_found_soon() {
        let waits = waits(Backoff::for_contact());
        let mut away = Duration::ZERO;
        for wait in &waits {
            assert!(away >= Duration::from_mins(1) || *wait <= Backoff::SOON, "{wait:?} after {away:?}");
            away += *wait;
        }
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(20)));
    }
}
