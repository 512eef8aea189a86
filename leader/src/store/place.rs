//! Where the database lies, and whether it still does: on Unix a file that was
//! moved or deleted can be written to as before, and all of it is lost.

use super::error::{StoreError, io_at};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files of an open database, by what the system knows them.
pub(super) struct Place {
    database: PathBuf,
    files: Vec<(PathBuf, (u64, u64))>,
}

impl Place {
    /// The place of a database whose write-ahead log is open too.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let mut files = Vec::with_capacity(2);
        for path in [database.to_owned(), log.into()] {
            let meta = path.metadata().map_err(io_at(&path))?;
            files.push((path, (meta.dev(), meta.ino())));
        }
        Ok(Self { database: database.to_owned(), files })
    }

    /// The database.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// An error where a file is gone or another lies in its place.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, known) in &self.files {
            let now = path.metadata().map(|meta| (meta.dev(), meta.ino()));
            if !now.is_ok_and(|now| now == *known) {
                return Err(StoreError::Moved(path.clone()));
            }
        }
        Ok(())
    }
}
