//! What stands on the disk where an apply is concerned with it.

use lockstep_shared::{SafePath, Sha256, VolumePath};
use std::collections::{BTreeMap, BTreeSet};

/// The end of every staged file's name.
pub const STAGED: &str = ".lockstep-new";

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// The hash of its bytes.
        sha256: Sha256,
        /// Its permission bits, set-id and sticky bits among them.
        mode: u32,
        /// Its user's number.
        uid: u32,
        /// Its group's number.
        gid: u32,
    },
    /// A folder with something in it.
    Folder,
    /// A folder with nothing in it.
    EmptyFolder,
    /// Something that can be neither read nor replaced.
    Blocked(Obstacle),
}

/// Something in the way of a path, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A symlink, at the path or above it.
    #[error(
        "{0:?} is a symlink: lockstep follows none; replace it by a real folder or file, or name its target as dataFolder"
    )]
    Symlink(String),
    /// A file where a folder is needed.
    #[error("{0:?} is a file where a folder is needed: move it away")]
    NotAFolder(String),
    /// A folder where a file is needed.
    #[error(
        "{0:?} is a folder where a file is needed (Docker makes such a folder when a mounted file was missing): move it away, or rmdir it if it is empty"
    )]
    NotAFile(String),
    /// A folder where a file is needed, with something in it that lockstep didn't write.
    #[error(
        "{0:?} is to become a file, but it is a folder and has {1:?} in it, which lockstep did not write: move that away"
    )]
    NotOurs(String, String),
    /// A device, pipe or socket.
    #[error("{0:?} is neither a file nor a folder: move it away")]
    Special(String),
    /// A name that staged files have.
    #[error("{0:?} has a name that lockstep keeps for its own staged files: rename it in the role")]
    Reserved(String),
}

/// What stands at every path that an apply is concerned with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    entries: BTreeMap<String, Entry>,
    left: BTreeSet<SafePath>,
    volumes: BTreeMap<VolumePath, Entry>,
}

impl Snapshot {
    /// What stands at `path`; what was not looked at counts as absent.
    pub fn entry(&self, path: &str) -> &Entry {
        self.entries.get(path).unwrap_or(&Entry::Absent)
    }

    /// Has the plan leave these files as they are.
    pub fn leave(&mut self, paths: BTreeSet<SafePath>) {
        self.left = paths;
    }

    /// Whether the plan is to leave a file as it is.
    pub fn is_left(&self, path: &SafePath) -> bool {
        self.left.contains(path)
    }

    /// Whether it was looked at.
    pub fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// What stands at a place in a volume; what could not be looked at counts as absent.
    pub fn in_volume(&self, place: &VolumePath) -> &Entry {
        self.volumes.get(place).unwrap_or(&Entry::Absent)
    }

    /// Whether a place in a volume was looked at.
    pub fn has_volume(&self, place: &VolumePath) -> bool {
        self.volumes.contains_key(place)
    }

    /// Records what stands at a place in a volume.
    pub fn set_in_volume(&mut self, place: VolumePath, entry: Entry) {
        self.volumes.insert(place, entry);
    }

    /// Records what stands at a path.
    pub fn set(&mut self, path: impl Into<String>, entry: Entry) {
        self.entries.insert(path.into(), entry);
    }
}

/// Whether a name is that of a staged file.
pub fn is_staged(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STAGED)
}
