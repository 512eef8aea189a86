//! Which files are not as they were written, and which of them an apply leaves
//! so. Pure: what is seen of them, and when, is the follower's matter.

use crate::applied::{Applied, Known};
use crate::snapshot::{Entry, Obstacle, Snapshot};
use lockstep_shared::{Bundle, OnDrift, SafePath};
use std::collections::BTreeSet;

/// A file that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    /// The file.
    pub path: SafePath,
    /// What is different, in words.
    pub what: String,
    /// What is to be done about it.
    pub policy: OnDrift,
    /// Whether an apply can write it again: not over a folder, link or device.
    pub writable: bool,
    /// Whether there is a file whose bytes are other ones.
    pub has_other_bytes: bool,
}

/// What decides about files that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// For files whose role says nothing.
    pub default: OnDrift,
    /// Files that are not written again for a while, because that was in vain.
    pub held: BTreeSet<SafePath>,
}

impl Default for Leave {
    fn default() -> Self {
        Self { default: OnDrift::Repair, held: BTreeSet::new() }
    }
}

impl Applied {
    /// Files that are not as they were written. While something is owed, that
    /// may be the follower's own unfinished work, and nobody is blamed for it.
    pub fn drifted(&self, disk: &Snapshot, default: OnDrift) -> Vec<Drifted> {
        if self.owes() {
            return Vec::new();
        }
        // Volumes are looked into at an apply, not watched.
        let files = self.files.iter().filter(|(_, known)| known.volume.is_none());
        let drifted = files.filter_map(|(path, known)| {
            let entry = disk.entry(path.as_str());
            (!known.stands(entry)).then(|| Drifted {
                path: path.clone(),
                what: what(path, known, entry),
                policy: known.on_drift.unwrap_or(default),
                writable: matches!(entry, Entry::Absent | Entry::File { .. }),
                has_other_bytes: matches!(entry, Entry::File { sha256, .. } if *sha256 != known.sha256),
            })
        });
        drifted.collect()
    }
}

impl Leave {
    /// The paths that an apply of `bundle` leaves as they are: changed by
    /// somebody else, and the bundle has nothing else for them than what was
    /// written before.
    pub fn left(&self, bundle: &Bundle, applied: Option<&Applied>, disk: &Snapshot) -> BTreeSet<SafePath> {
        let Some(applied) = applied.filter(|applied| !applied.owes()) else { return BTreeSet::new() };
        let left = bundle.files.iter().filter(|file| file.volume.is_none()).filter(|file| {
            let policy = file.on_drift.unwrap_or(self.default);
            let stays = policy == OnDrift::Report || self.held.contains(&file.path);
            stays
                && applied.files.get(&file.path).is_some_and(|known| {
                    known.is_the_same_as(&Known::from(*file)) && !known.stands(disk.entry(file.path.as_str()))
                })
        });
        left.map(|file| file.path.clone()).collect()
    }
}

fn what(path: &SafePath, known: &Known, entry: &Entry) -> String {
    let (sha256, mode, uid, gid) = match entry {
        Entry::Absent => return "removed".to_owned(),
        Entry::Folder | Entry::EmptyFolder => return "replaced by a folder".to_owned(),
        Entry::Blocked(obstacle) => return blocked(path, obstacle),
        Entry::File { sha256, mode, uid, gid } => (sha256, mode, uid, gid),
    };
    let mut parts = Vec::new();
    if *sha256 != known.sha256 {
        parts.push("changed".to_owned());
    }
    if *mode != known.mode.bits() {
        parts.push(format!("mode {mode:04o} instead of {}", known.mode));
    }
    if let Some(owner) = known.owner.filter(|owner| (owner.uid, owner.gid) != (*uid, *gid)) {
        parts.push(format!("owner {uid}:{gid} instead of {owner}"));
    }
    parts.join(", ")
}

fn blocked(path: &SafePath, obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Symlink(at) if at == path.as_str() => "replaced by a symlink".to_owned(),
        Obstacle::NotAFile(_) | Obstacle::NotOurs(..) => "replaced by a folder".to_owned(),
        Obstacle::Special(at) if at == path.as_str() => "replaced by a device, pipe or socket".to_owned(),
        Obstacle::Symlink(at) => format!("its folder {at} was replaced by a symlink"),
        Obstacle::NotAFolder(at) | Obstacle::Special(at) | Obstacle::Reserved(at) => {
            format!("{at} was replaced by something that is no folder")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::{File, Name, Owner, Sha256};
    use std::collections::BTreeMap;

    fn path(text: &str) -> SafePath {
        SafePath::new(text).unwrap()
    }

    fn bundle(files: Vec<File>) -> Bundle {
        Bundle::new(Name::new("core").unwrap(), Name::new("core-1").unwrap(), None, files).unwrap()
    }

    fn reported(name: &str, content: &str) -> File {
        File { on_drift: Some(OnDrift::Report), ..File::plain(path(name), content.as_bytes()) }
    }

    fn written(bundle: &Bundle) -> Applied {
        Applied::written("a", bundle, 1, BTreeMap::new(), None, 1)
    }

    fn stands(content: &str, mode: u32) -> Entry {
        Entry::File { sha256: Sha256::of(content.as_bytes()), mode, uid: 0, gid: 0 }
    }

    #[test]
    fn every_kind_of_drift_has_its_words() {
        let names = ["a", "b", "c", "d", "e", "f/x", "g", "h"];
        let mut files: Vec<File> = names.iter().map(|name| File::plain(path(name), b"1".as_slice())).collect();
        files[7].owner = Some(Owner { uid: 0, gid: 5 });
        let mut disk = Snapshot::default();
        for (name, entry) in [
            ("a", stands("1", 0o644)),
            ("b", stands("2", 0o644)),
            ("c", stands("1", 0o600)),
            ("d", Entry::Folder),
            ("e", Entry::Blocked(Obstacle::Symlink("e".into()))),
            ("f/x", Entry::Blocked(Obstacle::Symlink("f".into()))),
            ("h", stands("2", 0o4755)),
        ] {
            disk.set(name, entry);
        }
        let mut applied = written(&bundle(files));
        let drifted = applied.drifted(&disk, OnDrift::Repair);
        let words: Vec<String> = drifted.iter().map(|one| format!("{} {}", one.path, one.what)).collect();
        assert_eq!(
            words,
            [
                "b changed",
                "c mode 0600 instead of 0644",
                "d replaced by a folder",
                "e replaced by a symlink",
                "f/x its folder f was replaced by a symlink",
                "g removed",
                "h changed, mode 4755 instead of 0644, owner 0:0 instead of 0:5",
            ]
        );
        let writable: Vec<bool> = drifted.iter().map(|one| one.writable).collect();
        assert_eq!(writable, [true, true, false, false, false, true, true]);
        let action = crate::action::Action {
            service: "s".into(),
            container: None,
            verb: crate::action::Verb::Restart,
            why: "w".into(),
            files: Vec::new(),
            depends_on: Vec::new(),
        };
        applied.settle(vec![crate::applied::Owed { action, deferred: false }], 2);
        assert_eq!(applied.drifted(&disk, OnDrift::Repair), [], "unfinished work is nobody's drift");
    }

    #[test]
    fn only_what_the_bundle_has_nothing_new_for_is_left() {
        let before = bundle(vec![reported("a", "1"), reported("b", "1"), File::plain(path("c"), b"1".as_slice())]);
        let applied = written(&before);
        let mut disk = Snapshot::default();
        for name in ["a", "b", "c"] {
            disk.set(name, stands("by hand", 0o644));
        }
        let after = bundle(vec![reported("a", "1"), reported("b", "2"), File::plain(path("c"), b"1".as_slice())]);
        let mut leave = Leave::default();
        assert_eq!(leave.left(&after, Some(&applied), &disk), BTreeSet::from([path("a")]));
        leave.held.insert(path("c"));
        assert_eq!(leave.left(&after, Some(&applied), &disk), BTreeSet::from([path("a"), path("c")]));
        assert_eq!(leave.left(&after, None, &disk), BTreeSet::new());
        let released = bundle(vec![File::plain(path("a"), b"1".as_slice())]);
        assert_eq!(leave.left(&released, Some(&applied), &disk), BTreeSet::new(), "the policy is the new bundle's");
        leave.default = OnDrift::Report;
        assert_eq!(leave.left(&released, Some(&applied), &disk), BTreeSet::from([path("a")]));
    }
}
