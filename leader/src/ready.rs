//! Whether a leader can do its work: what `/readyz` answers.

use crate::leader::Leader;
use lockstep_edge::durable;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what was found out about the disk is believed.
const FRESH: Duration = Duration::from_secs(5);
/// What is written to see whether the disk takes it.
const PROBE: &str = "writable";

/// What was last found out about the disk.
#[derive(Debug, Default)]
pub struct Disk(Mutex<Option<(Instant, Result<(), String>)>>);

impl Disk {
    /// Whether the state folder takes a durable write; the error says why not and what to do. Blocks.
    fn check(&self, state: &Path) -> Result<(), String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, found)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            tracing::trace!(age = ?at.elapsed(), "the disk was looked at lately");
            return found.clone();
        }
        let probe = state.join(PROBE);
        let found = durable::replace(&probe, b"this leader can write here\n", 0o600).map_err(|error| {
            format!(
                "{} can't be written: {error}; nothing can be published: see df -h, and mount for ro",
                state.display()
            )
        });
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

impl Leader {
    /// Whether it serves a revision, can keep another one, and is not going down. Blocks.
    pub fn ready(&self) -> Result<(), String> {
        if *self.stop.borrow() {
            return Err("it is stopping".to_owned());
        }
        if self.published().revision.number == 0 {
            return Err("nothing is published yet: lockstep publish".to_owned());
        }
        if !self.rollout.is_at_work() {
            return Err("what brings revisions to machines ended by a bug, which the log tells: restart it".to_owned());
        }
        self.audit.check().map_err(|error| error.to_string())?;
        self.disk.check(&self.config.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_gone_is_noticed_and_remembered_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        assert_eq!(disk.check(folder.path()), Ok(()));
        let gone = folder.path().join("gone");
        assert_eq!(disk.check(&gone), Ok(()), "looked at a moment ago");
        let error = Disk::default().check(&gone).unwrap_err();
        assert!(error.contains("gone can't be written") && error.contains("df -h"), "{error}");
    }
}
