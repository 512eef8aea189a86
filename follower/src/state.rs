//! The follower's memory: `state/applied.json`, what it wrote and what it
//! still owes, and the lock that keeps a second follower away from it.

use crate::applied::{Applied, FORMAT};
use crate::spares::Spares;
use lockstep_edge::durable;
use rustix::fs::{FlockOperation, Mode as Permissions, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Held by the follower that has the folder.
const LOCK: &str = "follower.lock";

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another follower has it.
    #[error(
        "the state folder {0} is in use by another follower; stop that one first (systemctl status lockstep-follower), or give this one a --root of its own"
    )]
    Locked(PathBuf),
    /// A file operation failed.
    #[error(
        "{operation} {path} failed: {source}; the state folder needs room and an owner that may write: ls -ld and df -h tell"
    )]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not what this version can read.
    #[error(
        "{path} can't be used: {why}. It says which files the follower may remove, so it is never passed over; if it can't be repaired, move it away (mv {path} {path}.bad): the next apply then compares all files with the disk and removes none"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The state folder, locked for this process.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "the lock ends with it"))]
    lock: OwnedFd,
}

impl StateFolder {
    /// Makes the folder where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| StateError::Io { operation, path, source }
        };
        durable::private_folder(path).map_err(failed("making the folder", path))?;
        let file = path.join(LOCK);
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&file, flags, Permissions::from_raw_mode(0o600))
            .map_err(|errno| failed("opening", &file)(errno.into()))?;
        // A record lock, which a child never has. With `flock` one that was being spawned while this process
        // was killed would still hold it, and the follower's next start be refused.
        match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Locked(path.to_owned())),
            Err(errno) => Err(failed("locking", &file)(errno.into())),
        }
    }

    /// Whether another process, a follower, has the state folder `path`. Never to be asked by a follower of its own
    /// folder: it would let go of it.
    pub fn is_taken(path: &Path) -> bool {
        let Ok(lock) = File::open(path.join(LOCK)) else { return false };
        rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// The journal's place.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The last good bundle's place.
    pub fn previous(&self) -> PathBuf {
        self.path.join("previous")
    }

    /// Files for applies to come.
    pub fn spares(&self) -> Result<Spares, StateError> {
        let path = self.path.join("spare");
        Spares::open(&path).map_err(|source| StateError::Io { operation: "making", path, source })
    }

    fn applied(&self) -> PathBuf {
        self.path.join("applied.json")
    }

    /// What was applied; `None` on a new machine.
    pub fn load(&self) -> Result<Option<Applied>, StateError> {
        let path = self.applied();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { operation: "reading", path, source }),
        };
        parse(&bytes).map(Some).map_err(|why| StateError::Unreadable { path, why })
    }

    /// Replaces `applied.json` durably.
    pub fn save(&self, applied: &Applied) -> Result<(), StateError> {
        let path = self.applied();
        durable::replace(&path, &json(applied), 0o600).map_err(|source| StateError::Io {
            operation: "replacing",
            path,
            source,
        })
    }
}

fn json(applied: &Applied) -> Vec<u8> {
    serde_json::to_vec_pretty(applied).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Result<Applied, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON ({error})"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(format!(
                "it has format {other} and this version ({}) knows {FORMAT}: install the newer version again",
                env!("CARGO_PKG_VERSION")
            ));
        }
        None => return Err("it has no \"format\" number".to_owned()),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use crate::action::{Action, Verb};
    use crate::applied::Owed;
    use lockstep_shared::{Bundle, File, Name, SafePath};
    use std::collections::BTreeMap;

    fn applied() -> Applied {
        let file = File::plain(SafePath::new("a/conf/x").unwrap(), b"x".as_slice());
        let bundle = Bundle::new(Name::new("core").unwrap(), Name::new("core-1").unwrap(), None, vec![file]).unwrap();
        Applied::written("a1", &bundle, 7, BTreeMap::new(), None, 1)
    }

    fn owed(deferred: bool) -> Owed {
        let action = Action {
            service: "web".into(),
            container: None,
            verb: Verb::Restart,
            why: "w".into(),
            files: Vec::new(),
            depends_on: Vec::new(),
        };
        Owed { action, deferred }
    }

    #[test]
    fn round_trips_and_knows_a_new_machine() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("state")).unwrap();
        assert_eq!(state.load().unwrap(), None);
        let mut applied = applied();
        applied.settle(vec![owed(true)], 2);
        state.save(&applied).unwrap();
        assert_eq!(state.load().unwrap(), Some(applied));
    }

    #[test]
    fn what_cannot_be_read_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        for (text, wanted) in [
            ("", "not JSON"),
            ("{}", "no \"format\""),
            ("{\"format\":2}", "format 2"),
            ("{\"format\":1}", "missing field"),
        ] {
            std::fs::write(folder.path().join("applied.json"), text).unwrap();
            let error = state.load().unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("mv "), "{error}");
        }
    }

    #[test]
    fn a_child_that_outlives_the_follower_does_not_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateFolder::open(folder.path()).unwrap();
        let inherited = first.lock.try_clone().unwrap();
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).stdout(inherited).spawn().unwrap();
        drop(first);
        let second = StateFolder::open(folder.path());
        child.kill().unwrap();
        child.wait().unwrap();
        second.unwrap();
    }

    #[test]
    fn running_is_what_was_proven_last() {
        let mut applied = applied();
        applied.settle(vec![owed(false)], 2);
        assert_eq!(applied.running, None);
        applied.settle(vec![owed(true)], 2);
        assert_eq!(applied.running.as_ref().map(|running| running.revision), Some(7));
    }
}
