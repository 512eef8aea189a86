//! What a plan does to files: which are written, how, which go, and what has to succeed first.

use crate::snapshot::Entry;
use lockstep_shared::api::Change;
use lockstep_shared::{File, Mode, Owner, SafePath, Sha256};
use serde::{Deserialize, Serialize};

/// What happens on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Files to write, by path.
    pub write: Vec<Write>,
    /// Files to remove.
    pub remove: Vec<SafePath>,
    /// Folders to make, for services that expect them.
    pub folders: Vec<SafePath>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Where.
    pub path: SafePath,
    /// Its permission bits.
    pub mode: Mode,
    /// Its owner; `None` leaves it to the follower's own user, or as it is in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// How many bytes it has.
    pub size: usize,
    /// Whether it is new.
    pub change: Change,
    /// How it is written.
    pub how: How,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A staged file is renamed over it: readers see the old or the new one.
    Rename,
    /// Its bytes are replaced where they are: a container that mounts the file
    /// itself would not see another one.
    InPlace,
    /// The empty folder that the engine made in its place, when a container that
    /// mounts the file was made before it, is removed; then as [`Self::Rename`].
    OverFolder,
}

impl Steps {
    /// Whether nothing happens.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty() && self.folders.is_empty()
    }
}

impl Write {
    /// Writing a file of a bundle by rename.
    pub fn of(file: &File, change: Change) -> Self {
        Self {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner,
            sha256: file.sha256,
            size: file.content.len(),
            change,
            how: How::Rename,
        }
    }

    /// Whether the disk has it already.
    pub fn is_done(&self, entry: &Entry) -> bool {
        matches!(entry, Entry::File { sha256, mode, uid, gid }
            if *sha256 == self.sha256
                && *mode == self.mode.bits()
                && self.owner.is_none_or(|owner| (owner.uid, owner.gid) == (*uid, *gid)))
    }
}

/// One check, as `role.yml` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The changed file that it is about.
    pub path: SafePath,
    /// Program and arguments. `{file}` stands for the staged file, `{tree}` for
    /// the staged tree; without either, the file is the last argument.
    pub command: Vec<String>,
    /// The compose service in whose image it runs, with the staged files where
    /// that service mounts the real ones; `None`: on the machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many seconds it may take, where the role says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u16>,
}
