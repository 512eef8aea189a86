//! Tells the leader how this machine is: after every change, every minute, and
//! as soon as a leader that was away answers again. Never delays an apply.

use crate::board::Board;
use crate::docker::Engine;
use crate::key::Keyring;
use crate::pull::Leader;
use crate::trust::Trusted;
use lockstep_edge::backoff::Backoff;
use lockstep_edge::random::fraction;
use lockstep_shared::api::Status;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How often the leader hears of this machine even if nothing happens.
const EVERY: Duration = Duration::from_mins(1);
/// For so long after containers were acted on they are looked at so often: what gets unhealthy then may still end a
/// rollout, and how they are is told as it changes.
const SOAK: Duration = Duration::from_mins(1);
const SOAKING: Duration = Duration::from_secs(5);
/// What changes within this time is told at once, an apply that is over by then only as a whole. Until then others who
/// were told of the same publication have the leader, and perhaps the machine, for their files.
pub const GATHER: Duration = Duration::from_millis(50);

/// Reports for as long as it is polled.
pub async fn run(
    board: Arc<Board>,
    leader: Arc<Leader>,
    trusted: Arc<Trusted>,
    keys: Arc<Keyring>,
    engine: Option<Arc<Engine>>,
) {
    let mut changes = board.subscribe();
    let mut backoff = Backoff::for_contact();
    let mut told = true;
    refresh(&board, engine.as_deref()).await;
    loop {
        changes.mark_unchanged();
        let status = Status { trust: Some(trusted.words()), ..board.report() };
        match leader.report(&status).await {
            Ok(lacks) => {
                let news = lacks.is_some_and(|mut told| {
                    // With the new key the next report is signed at once: the old one is out as soon as it came.
                    let rekeyed = told.key.take().is_some_and(|key| keys.take(&key));
                    trusted.take(told) || rekeyed
                });
                if news {
                    // It waits to hear that it was taken.
                    board.tell_again();
                }
                board.leader_seen();
                backoff.reset();
                told = true;
                until_news(&board, engine.as_deref(), &mut changes).await;
                sleep(GATHER).await;
            }
            Err(error) => {
                if error.is_absence() {
                    tracing::debug!(%error, "a report was not delivered");
                } else if told {
                    tracing::warn!(%error, "the leader doesn't take this follower's reports");
                }
                told = false;
                sleep(error.retry_after().map_or_else(|| backoff.next_wait(), |wait| wait + wait.mul_f64(fraction())))
                    .await;
            }
        }
    }
}

/// Resolves once there is something to tell.
async fn until_news(board: &Board, engine: Option<&Engine>, changes: &mut watch::Receiver<Status>) {
    let told = Instant::now();
    loop {
        let wait = if board.acted_within(SOAK) { SOAKING } else { EVERY };
        let left = EVERY.saturating_sub(told.elapsed());
        if timeout(wait.min(left), changes.changed()).await.is_ok() {
            return;
        }
        if refresh(board, engine).await || told.elapsed() >= EVERY {
            return;
        }
    }
}

/// Whether containers have changed, perhaps without this follower's doing.
async fn refresh(board: &Board, engine: Option<&Engine>) -> bool {
    let Some(engine) = engine else { return false };
    match engine.containers().await {
        Ok(containers) => board.containers(&containers),
        Err(error) => {
            tracing::debug!(%error, "the containers could not be listed for a report");
            false
        }
    }
}
