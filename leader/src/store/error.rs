//! Why the store can't be used: what happened, and what to type next.

use super::schema::VERSION;
use lockstep_edge::key;
use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the state folder.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another leader has it open.
    #[error(
        "{0} is in use by another leader: stop it first (scripts/stop-config-leader), or give this one its own root"
    )]
    Locked(PathBuf),
    /// The key file is readable by others or isn't a key.
    #[error(transparent)]
    Key(#[from] key::KeyError),
    /// `SQLite` says no.
    #[error("the store {path} failed: {source}; nothing of this was stored")]
    Sql {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The disk doesn't do what it should; also where it is too full even for `SQLite` to begin.
    #[error(
        "the disk of the store {path} fails: {source}; nothing of this was stored: make room if it is full (df -h), else see the kernel's messages (dmesg)"
    )]
    Disk {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// No space is left.
    #[error("the disk of the store {0} is full: nothing of this was stored; make room (df -h) and try again")]
    Full(PathBuf),
    /// The key is there without what it opens.
    #[error(
        "{0} is missing, though store.key is there: it was moved away, or a restore was interrupted; put it back, or restore a backup (lockstep restore FILE); \
         only if this platform never published anything, remove store.key and start anew"
    )]
    Missing(PathBuf),
    /// The database isn't where it was when it was opened.
    #[error(
        "{0} was moved, replaced or deleted under the running leader: nothing more is stored, what is published is still served; \
         put the very file back, or restart the leader with a restored one (lockstep restore FILE)"
    )]
    Moved(PathBuf),
    /// Made by a later version.
    #[error("the store {path} has layout {found}, this version knows {VERSION}: install the version that wrote it")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// Made by an earlier version that still uses it.
    #[error("the store {path} has layout {found}, this version reads {VERSION}: restart the leader with this version")]
    Older {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// Something doesn't decrypt, parse or fit together.
    #[error(
        "the store {path} is damaged ({what}), or store.key beside it is not its key: nothing of it is used; restore a backup (lockstep restore FILE)"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Numbers have no gaps, and nothing is written over.
    #[error("revision {wanted} can't follow revision {last}: another program published; try again")]
    Order {
        /// The last one.
        last: u64,
        /// The one that was to be stored.
        wanted: u64,
    },
}

/// An error of a file.
pub(super) fn io_at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_owned(), source }
}

/// An error of `SQLite`, told by what a person can do about it.
pub(super) fn sql_at(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    |source| {
        let path = path.to_owned();
        let code = source.sqlite_error_code();
        let damaged = match &source {
            rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => true,
            // A table that is not there, in a file that says it is of a known layout.
            rusqlite::Error::SqliteFailure(_, Some(words)) if words.contains("no such") => true,
            _ => matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
        };
        match code {
            Some(ErrorCode::DiskFull) => StoreError::Full(path),
            // To open it SQLite needs a few pages beside it, and says I/O error where there are none.
            Some(ErrorCode::SystemIoFailure) if room(&path) < LITTLE => StoreError::Full(path),
            Some(ErrorCode::SystemIoFailure) => StoreError::Disk { path, source },
            _ if damaged => StoreError::Damaged { path, what: source.to_string() },
            _ => StoreError::Sql { path, source },
        }
    }
}

/// With less room on its disk than this, in bytes, `SQLite` can't begin.
pub(super) const LITTLE: u64 = 64 * 1024;

/// How much may still be written to the disk of `path`, in bytes.
pub(super) fn room(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
