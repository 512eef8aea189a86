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

impl Authority {
    /// Renews the leader's own certificate when it is due; connections that are open go on.
    pub fn renew(&self) -> Result<(), AuthorityError> {
        let now = clock::now();
        let mut inside = self.inside();
        let (Some(inside), Some(acceptor)) = (inside.as_mut(), &self.acceptor) else { return Ok(()) };
        let current = inside.state.current.read()?;
        if inside.own.certificate.due_in(now, 0.0) > 0 && inside.own.issuer == current.fingerprint {
            return Ok(());
        }
        let (identity, made) = own(&inside.state.current, &self.hosts, now, self.seconds)?;
        acceptor.replace(&identity);
        tracing::info!(ends = clock::rfc3339(made.certificate.ends), "the leader's certificate was renewed");
        inside.own = made;
        Ok(())
    }

    /// Seconds until something has to be looked at.
    fn wait(&self) -> Option<i64> {
        let inside = self.inside();
        let own = &inside.as_ref()?.own;
        Some(own.certificate.due_in(clock::now(), 0.0).clamp(LOOK_AT_LEAST, LOOK_EVERY))
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
