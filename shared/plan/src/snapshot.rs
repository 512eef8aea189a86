//! What stands on the disk where an apply is concerned with it.

use lockstep_shared::{SafePath, Sha256, VolumePath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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
        "{0:?} is a symlink: lockstep follows none; replace it by a real folder or file, or, below the data folder, name its target as dataFolder"
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

/// What is in the way in one place, so that nothing may be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}, {}", .obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InTheWay {
    /// The place, in words.
    pub place: String,
    /// What is in the way, at least one.
    pub obstacles: Vec<Obstacle>,
}

impl InTheWay {
    /// Obstacles below the data folder; `None` where there are none.
    pub fn below(folder: &Path, obstacles: Vec<Obstacle>) -> Option<Self> {
        (!obstacles.is_empty()).then(|| Self { place: format!("below {}", folder.display()), obstacles })
    }

    /// Obstacles in a volume, by paths in it; `None` where there are none.
    pub fn in_volume(volume: &str, obstacles: Vec<Obstacle>) -> Option<Self> {
        (!obstacles.is_empty()).then(|| Self { place: format!("in the volume {volume}"), obstacles })
    }
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

    /// What was seen below a folder in a volume.
    pub fn below_in_volume(&self, folder: &VolumePath) -> impl Iterator<Item = (&VolumePath, &Entry)> {
        let below = |place: &VolumePath| {
            place.volume() == folder.volume() && is_below(place.path().as_str(), folder.path().as_str())
        };
        self.volumes.iter().filter(move |(place, _)| below(place))
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

/// Whether `path` lies below `folder`.
pub fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a name is that of a staged file.
pub fn is_staged(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STAGED)
}
