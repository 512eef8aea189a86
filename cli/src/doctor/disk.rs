//! Room on the disk, inodes, and file systems that can't be written.

use super::{Finding, Level, fine, found};
use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;

/// A folder's file system.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) path: PathBuf,
    /// Bytes that may still be written.
    pub(super) free: u64,
    pub(super) size: u64,
    /// Files that may still be made.
    pub(super) inodes: u64,
    /// 0 where the file system doesn't count them.
    pub(super) all_inodes: u64,
    /// Why a file can't be made there, if it can't.
    pub(super) refused: Option<String>,
}

/// `None` where the folder isn't there.
pub(super) fn gather(path: &Path) -> Option<Facts> {
    let room = rustix::fs::statvfs(path).ok()?;
    let refused = match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Err(error) => Some(std::io::Error::from(error).to_string()),
        Ok(()) => None,
    };
    Some(Facts {
        path: path.to_owned(),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        size: room.f_blocks.saturating_mul(room.f_frsize),
        inodes: room.f_favail,
        all_inodes: room.f_files,
        refused,
    })
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let path = facts.path.display();
    let mut findings = Vec::new();
    if let Some(why) = &facts.refused {
        findings.push(found(
            "disk",
            Level::Broken,
            format!("{path} can't be written: {why}"),
            "nothing can be published or applied",
            format!("findmnt -T {path}; if it is mounted read-only: mount -o remount,rw, or see dmesg for the disk"),
        ));
    }
    let share = facts.free.saturating_mul(100).checked_div(facts.size).unwrap_or(100);
    let room = |level| {
        found(
            "disk",
            level,
            format!("{path} has {} MiB left, {share} % of its disk", facts.free / MIB),
            "a full disk publishes and applies nothing; databases of the services may be damaged by it",
            format!("df -h {path}; du -xsh {path}/* | sort -h; docker system df"),
        )
    };
    match facts.free {
        0..67_108_864 if share < 20 => findings.push(room(Level::Broken)),
        free if share < 5 && free < 5 * 1024 * MIB => findings.push(room(Level::Warning)),
        _ => {}
    }
    if facts.all_inodes > 0 && facts.inodes < (facts.all_inodes / 50).min(10_000) {
        let level = if facts.inodes < 100 { Level::Broken } else { Level::Warning };
        findings.push(found(
            "disk",
            level,
            format!("{path} has room for {} more files only (inodes)", facts.inodes),
            "no file can be made once they are used up, however much room there is",
            format!("df -i {path}; find {path} -xdev -printf '%h\\n' | sort | uniq -c | sort -n | tail"),
        ));
    }
    if findings.is_empty() {
        findings.push(fine("disk", format!("{path} can be written, {} MiB are free", facts.free / MIB)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(free: u64, inodes: u64) -> Facts {
        Facts { path: "/x".into(), free, size: 100 * 1024 * MIB, inodes, all_inodes: 1_000_000, refused: None }
    }

    #[test]
    fn a_disk_runs_full_by_bytes_or_by_files() {
        let levels = |facts: &Facts| judge(facts).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(&facts(50 * 1024 * MIB, 900_000)), [Level::Fine]);
        assert_eq!(levels(&facts(3 * 1024 * MIB, 900_000)), [Level::Warning]);
        assert_eq!(levels(&facts(10 * MIB, 900_000)), [Level::Broken]);
        let small = Facts { size: 60 * MIB, ..facts(36 * MIB, 900_000) };
        assert_eq!(levels(&small), [Level::Fine], "a disk may be small");
        assert_eq!(levels(&Facts { free: 9 * MIB, ..small }), [Level::Broken]);
        assert_eq!(levels(&facts(50 * 1024 * MIB, 5_000)), [Level::Warning]);
        assert_eq!(levels(&facts(10 * MIB, 3)), [Level::Broken, Level::Broken]);
        let uncounted = Facts { all_inodes: 0, ..facts(50 * 1024 * MIB, 0) };
        assert_eq!(levels(&uncounted), [Level::Fine], "btrfs counts no inodes");
        let read_only = Facts { refused: Some("Read-only file system".into()), ..facts(50 * 1024 * MIB, 900_000) };
        assert!(judge(&read_only)[0].what.contains("Read-only"));
    }
}
