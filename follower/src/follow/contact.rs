//! Whether the leader answers, and what is said while it doesn't: at once,
//! then less and less often, never not at all.

use super::Follow;
use crate::pull::PullError;
use crate::queue::new_id;
use lockstep_edge::backoff::Backoff;
use lockstep_edge::random;
use std::time::Duration;
use tokio::time::Instant;

/// When an absence is told again, for the first time; then after twice as long, at least daily.
const TOLD_AGAIN: Duration = Duration::from_mins(10);
const DAY: Duration = Duration::from_hours(24);

/// Whether the leader answers.
pub(super) struct Contact {
    backoff: Backoff,
    pub(super) away_since: Option<Instant>,
    pub(super) was_reached: bool,
    /// Before the next attempt.
    pub(super) pause: Duration,
    /// When the leader was last asked to hold a request.
    pub(super) held_since: Option<Instant>,
    /// How long an absence has to last to be told again.
    told_again: Duration,
}

impl Contact {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::for_contact(),
            away_since: None,
            was_reached: false,
            pause: Duration::ZERO,
            held_since: None,
            told_again: TOLD_AGAIN,
        }
    }

    /// How long to leave the leader alone. Those who were told the same time don't come back together.
    fn wait(&mut self, error: &PullError) -> Duration {
        match error.retry_after() {
            Some(wait) => wait + wait.mul_f64(random::fraction()),
            None => self.backoff.next_wait(),
        }
    }
}

impl Follow {
    /// The leader has answered.
    pub(super) fn back(&mut self) {
        self.board.leader_seen();
        if let Some(since) = self.contact.away_since.take() {
            tracing::info!(away_seconds = since.elapsed().as_secs(), "the leader answers again");
            // It may have been started anew, and knows reports only from its own time.
            self.board.tell_again();
            if self.applier.is_unfinished() {
                self.retry_at = Some(Instant::now());
            }
        } else if !self.contact.was_reached {
            tracing::info!("the leader answers");
        }
        self.contact = Contact { was_reached: true, held_since: self.contact.held_since, ..Contact::new() };
    }

    /// The leader was not reached, or has no time.
    pub(super) fn away(&mut self, error: &PullError) {
        self.contact.pause = self.contact.wait(error);
        match self.contact.away_since {
            None => {
                self.contact.away_since = Some(Instant::now());
                self.board.leader_away();
                tracing::warn!(%error, "the leader is away: {}; it is tried on and on", self.board.staleness());
            }
            Some(since) if since.elapsed() >= self.contact.told_again => {
                self.contact.told_again = (since.elapsed() * 2).min(since.elapsed() + DAY);
                tracing::warn!(%error, "the leader is still away: {}", self.board.staleness());
            }
            Some(_) => {}
        }
    }

    /// What the leader sent can't be used.
    pub(super) fn refused(&mut self, error: &PullError) {
        self.contact.pause = self.contact.backoff.next_wait().max(Duration::from_secs(1));
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            tracing::error!("{text}");
            self.applier.refused(new_id(), error);
            self.told = Some(text);
        }
    }
}
