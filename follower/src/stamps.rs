//! Hashes of files that were read before, with the stamps by which the kernel
//! shows that they are still the same: what is unchanged need not be read again.

use lockstep_shared::Sha256;
use rustix::fs::{Stat, Timespec};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;

/// Nanoseconds that must lie between a file's last change and the reading of it:
/// a change within the same tick of the kernel's clock would leave no trace.
const TICK: i128 = 100_000_000;
/// The same where a file system keeps whole seconds only (two, on some).
const COARSE_TICK: i128 = 2_500_000_000;
const SECOND: i128 = 1_000_000_000;

/// What the kernel changes with every write to a file, and nobody can set back:
/// `st_ctime`, beside where the file lies and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    changed: i128,
    modified: i128,
}

/// What was read, by path.
#[derive(Debug, Default)]
pub struct Stamps {
    known: HashMap<String, (Stamp, Sha256)>,
}

impl Stamp {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the fields' types differ from machine to machine"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            changed: stat.st_ctime as i128 * SECOND + stat.st_ctime_nsec as i128,
            modified: stat.st_mtime as i128 * SECOND + stat.st_mtime_nsec as i128,
        }
    }

    /// Whether any later change would show at a file that is read from `now` on.
    fn is_settled(&self, now: i128) -> bool {
        let tick = if self.changed % SECOND == 0 { COARSE_TICK } else { TICK };
        now - self.changed > tick
    }
}

impl Stamps {
    /// Whether a file at this path was read before.
    pub(crate) fn knows(&self, path: &str) -> bool {
        self.known.contains_key(path)
    }

    /// The hash of a file that has not changed since it was read.
    pub(crate) fn hash(&self, path: &str, stat: &Stat) -> Option<Sha256> {
        self.known.get(path).filter(|(stamp, _)| *stamp == Stamp::of(stat)).map(|(_, sha256)| *sha256)
    }

    /// Keeps the hash of a file that was read from `began` on, after `stat`.
    pub(crate) fn keep(&mut self, path: &str, stat: &Stat, began: i128, sha256: Sha256) {
        let stamp = Stamp::of(stat);
        if stamp.is_settled(began) {
            self.known.insert(path.to_owned(), (stamp, sha256));
        } else {
            self.known.remove(path);
        }
    }

    /// Forgets everything: the next look reads every file.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// The time by which the kernel stamps files, in nanoseconds.
pub(crate) fn now() -> i128 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
    i128::from(tv_sec) * SECOND + i128::from(tv_nsec)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn only_what_has_settled_is_trusted_and_only_while_it_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let changed = i128::from(path.metadata().unwrap().ctime()) * SECOND;
        let mut stamps = Stamps::default();
        stamps.keep("file", &stat, changed, Sha256::of(b"one"));
        assert_eq!(stamps.hash("file", &stat), None, "it might change again within the tick");
        stamps.keep("file", &stat, changed + 10 * SECOND, Sha256::of(b"one"));
        assert_eq!(stamps.hash("file", &stat), Some(Sha256::of(b"one")));
        std::fs::write(&path, "two").unwrap();
        // The same size, and the time of its content set back.
        let before = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        std::fs::File::options().write(true).open(&path).unwrap().set_times(before).unwrap();
        let other = rustix::fs::stat(&path).unwrap();
        assert_eq!(stamps.hash("file", &other), None);
    }
}
