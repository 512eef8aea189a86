//! A leader in one file, and back: a tar (POSIX.1-2001) in zstd (RFC 8878)
//! whose first entry lists all others with their hashes. The database in it is
//! a consistent copy, taken while a leader may publish.

pub(crate) mod restore;
mod room;
mod save;

pub use restore::{Restored, Wanted, restore};
pub use save::{Saved, save};

use crate::config::ConfigFault;
use crate::fault::Faults;
use crate::store::StoreError;
use lockstep_edge::settings::ConfigError;
use lockstep_shared::Sha256;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The entry that lists the others.
const LIST: &str = "lockstep-backup.json";
/// The form that this version writes and reads.
const FORM: u32 = 1;
/// Where the parts lie in the archive, wherever a home has them.
const DATABASE: &str = "state/store.db";
const KEY: &str = "state/store.key";

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    form: u32,
    /// RFC 3339, UTC.
    created: String,
    /// The version of lockstep that made it.
    version: String,
    /// The last revision in it.
    revision: u64,
    /// Whether the keys are in it.
    keys: bool,
    /// In the order of the archive.
    files: Vec<Listed>,
}

/// One file of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    path: String,
    mode: u32,
    size: u64,
    sha256: Sha256,
}

/// Why there is no backup, or why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is there already.
    #[error("{0} is there already: name a new file")]
    Exists(PathBuf),
    /// Where it is to be written there is no folder.
    #[error("{0} is no folder that is there: mkdir -p {0}, or name a file in one that is there; nothing was written")]
    NoFolder(PathBuf),
    /// The backup isn't what it was.
    #[error("the backup {path} is damaged: {what}; nothing was changed, take another backup")]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Made by a later version.
    #[error("the backup {path} has form {found}, this version reads {FORM}: install the version that wrote it")]
    Newer {
        /// The backup.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// The keys were left out and are not there otherwise.
    #[error("the backup {0} was made without keys: give store.key with --key FILE; nothing was changed")]
    NoKey(PathBuf),
    /// Something would be overwritten.
    #[error(
        "{} there already, nothing was changed: restore into another --root, or with --replace, which moves what is there aside",
        .0.join(", ") + if .0.len() == 1 { " is" } else { " are" }
    )]
    Occupied(Vec<String>),
    /// A path of the configuration that leads out of the home.
    #[error("{0} lies outside the home: a backup holds one folder; see paths in config-leader.json")]
    Outside(PathBuf),
    /// There is nothing to back up.
    #[error("nothing was ever published here, there is nothing to back up: see --root")]
    Nothing,
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys of followers.
    #[error(transparent)]
    Keys(#[from] ConfigFault),
    /// The files that people edit.
    #[error("{0}\nthe files on disk can't be read as a whole: correct that and back up again")]
    Faults(#[from] Faults),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes what a killed restoration left in a home: there are keys in it.
pub fn clear(root: &Path) {
    room::clear(root, room::RESTORATION);
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    |source| BackupError::Io { path: path.to_owned(), source }
}
