//! Looking after written files: as soon as something is done to them, and all
//! of them once a minute. What somebody else changed is reported, and written
//! again where that is the policy.

use super::{Follow, LOOK_EVERY};
use crate::apply::Order;
use crate::drift::watch::Watch;
use crate::plan::Wanted;
use lockstep_edge::{clock, random};
use std::time::Duration;
use tokio::time::Instant;

impl Follow {
    /// Looks after this time, or earlier if that was the intention before.
    pub(super) fn look_within(&mut self, time: Duration) {
        let then = Instant::now() + time;
        self.look_at = Some(self.look_at.map_or(then, |at| at.min(then)));
    }

    /// Looks, tells, and repairs what is due.
    pub(super) async fn look(&mut self, every_byte: bool) {
        self.look_at = None;
        if every_byte {
            // Not all followers of a machine in the same moment.
            self.look_at_all_at = Instant::now() + LOOK_EVERY.mul_f64(0.75 + random::fraction() / 2.0);
            self.watch_again();
        }
        if self.applier.applied().is_none() || self.applier.is_unfinished() || self.applier.is_stopped() {
            return;
        }
        match self.applier.look(self.drifts.default_policy(), every_byte) {
            Ok(seen) => self.drifts.saw(seen, Instant::now(), clock::now()),
            // The apply says why, and is tried again.
            Err(_) => return self.repair().await,
        }
        self.show();
        let now = Instant::now();
        match self.drifts.due(now) {
            Some(due) if due <= now => self.repair().await,
            due => self.look_at = due,
        }
    }

    /// Writes again what was written before, not what the leader may have
    /// meanwhile: from the copy that is kept here, so that it needs no leader.
    async fn repair(&mut self) {
        let now = Instant::now();
        // What is due now is held from now on: until its next time comes.
        let leave = self.drifts.leave(now);
        let repaired = self.drifts.repairing(now);
        self.board.repairing(repaired);
        self.show();
        let kept = self.applier.last_good().ok().flatten();
        let current = self.applier.applied().map(|applied| applied.digest);
        // Without a whole copy the leader is asked, which has to be there for that.
        let given = kept.filter(|(bundle, _)| Some(bundle.digest) == current && self.applier.gave_up().is_none());
        let order = Order::of_its_own(Wanted::retry(), given);
        self.apply_leaving(order, leave).await;
    }

    fn show(&self) {
        let (drift, found) = self.drifts.shown();
        self.board.drift(drift, found);
    }

    /// Watches the folders of what is written now.
    pub(super) fn watch_again(&mut self) {
        let Some(applied) = self.applier.applied() else { return };
        let watching = self.watch.take().map_or_else(Watch::new, Ok).and_then(|mut watch| {
            watch.follow(&self.applier.data_folder(), applied.on_disk())?;
            Ok(watch)
        });
        match watching {
            Ok(watch) => (self.watch, self.unwatched) = (Some(watch), false),
            Err(error) if !self.unwatched => {
                self.unwatched = true;
                tracing::warn!("changes of files by others are found once a minute, not at once: {error}");
            }
            _ => {}
        }
        self.board.watches(self.watch.is_some());
    }
}

/// Resolves when something was done to a watched file.
pub(super) async fn stirred(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.stirred().await,
        None => std::future::pending().await,
    }
}
