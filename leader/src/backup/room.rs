//! A folder for what is not in place yet, of a backup or a restoration. There
//! are keys in it: where one was killed, the next one removes what it left.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// What the folders of backups are called, before a random end.
pub(super) const BACKUP: &str = ".lockstep-backup-";
/// What the folders of restorations are called, before a random end.
pub(super) const RESTORATION: &str = ".lockstep-restore-";

/// The folder; gone when this is dropped.
pub(super) struct Room {
    folder: TempDir,
    /// Its lock says that somebody still works in it.
    _held: File,
}

impl Room {
    /// A new one in a folder, after those that were left there are removed.
    pub(super) fn new(place: &Path, prefix: &str) -> io::Result<Self> {
        clear(place, prefix);
        loop {
            let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(place)?;
            let held = File::open(folder.path())?;
            flock(&held, FlockOperation::LockExclusive)?;
            // Another one may have taken it for a leftover before it was held.
            if folder.path().exists() {
                return Ok(Self { folder, _held: held });
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders that nobody works in any more. What can't be removed is said in the log.
pub(super) fn clear(place: &Path, prefix: &str) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let Ok(folder) = File::open(&path) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(folder = %path.display(), "removed what a killed backup or restore had left"),
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "a killed backup or restore left this, with keys in it: remove it");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_removed_and_what_is_held_is_not() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(".lockstep-restore-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("store.key"), "key").unwrap();
        let other = place.path().join(".lockstep-backup-other");
        fs::create_dir(&other).unwrap();
        let held = Room::new(place.path(), RESTORATION).unwrap();
        assert!(!left.exists() && other.exists());
        let second = Room::new(place.path(), RESTORATION).unwrap();
        assert!(held.path().exists());
        drop((held, second));
        clear(place.path(), BACKUP);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
