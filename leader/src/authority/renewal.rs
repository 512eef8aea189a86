//! The leader's own certificate, renewed long before it ends.

use super::{Authority, AuthorityError, own};
use lockstep_edge::{clock, server};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The longest time without a look at the clock: one that jumps, or a machine
/// that slept, is noticed within it.
const LOOK_EVERY: i64 = 60;
const LOOK_AT_LEAST: i64 = 1;

/// Seconds until a certificate is to be renewed, at two thirds of its life; 0 where that is over.
pub(super) fn due_in(issued: i64, ends: i64, now: i64) -> i64 {
    // A clock that was set back doesn't stretch a certificate.
    if now < issued { 0 } else { (issued + (ends - issued) * 2 / 3 - now).max(0) }
}

impl Authority {
    /// Renews the leader's own certificate when it is due; connections that are open go on.
    pub fn renew(&self) -> Result<(), AuthorityError> {
        let now = clock::now();
        let mut inside = self.inside();
        let (Some(inside), Some(acceptor)) = (inside.as_mut(), &self.acceptor) else { return Ok(()) };
        let current = inside.state.current.read()?;
        if due_in(inside.own.issued, inside.own.ends, now) > 0 && inside.own.issuer == current.fingerprint {
            return Ok(());
        }
        let (identity, made) = own(&inside.state.current, &self.hosts, now, self.seconds)?;
        acceptor.replace(&identity);
        tracing::info!(ends = clock::rfc3339(made.ends), "the leader's certificate was renewed");
        inside.own = made;
        Ok(())
    }

    /// Seconds until something has to be looked at.
    fn wait(&self) -> Option<i64> {
        let inside = self.inside();
        let own = &inside.as_ref()?.own;
        Some(due_in(own.issued, own.ends, clock::now()).clamp(LOOK_AT_LEAST, LOOK_EVERY))
    }

    /// Keeps the certificate fresh until `stop` turns true.
    pub async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while let Some(wait) = self.wait() {
            let wait = Duration::from_secs(wait.unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = server::stopped(&mut stop) => return,
            }
            let authority = self.clone();
            let renewed = tokio::task::spawn_blocking(move || authority.renew()).await;
            if let Ok(Err(error)) = renewed {
                tracing::error!(%error, "the leader's certificate could not be renewed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_due_at_two_thirds_and_when_the_clock_went_back() {
        let due = |now| super::due_in(1000, 1090, now);
        assert_eq!([due(1000), due(1059), due(1060), due(5000), due(999)], [60, 1, 0, 0, 0]);
    }
}
