//! A consistent copy for backups, and checking one.

use super::error::{StoreError, io_at};
use super::{DATABASE, Store, schema};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

impl Store {
    /// Writes a consistent copy of the database to a new file, also while a
    /// leader publishes: what was committed when it began. Only its owner can read it.
    pub fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        // Made first, empty, so that it never has a wider mode.
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(to).map_err(io_at(to))?;
        let text = to.to_str().ok_or_else(|| io_at(to)(std::io::Error::other("the path is not UTF-8")))?;
        self.connection.execute("VACUUM INTO ?1", [text]).map(drop).map_err(super::error::sql_at(to))
    }

    /// Has every page's structure read, also beside a running leader: the last
    /// revision where all is well. Sooner done than [`Store::verify`], and less sure.
    pub fn quick_check(&self) -> Result<u64, StoreError> {
        let said: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(self.sql())?;
        if said == "ok" { self.last_number() } else { Err(self.damaged(said)) }
    }

    /// Opens the store in a folder that nobody else uses and reads all of it: every page's
    /// structure, every revision's row and machines, and the last revision with its content.
    pub fn verify(state: &Path) -> Result<u64, StoreError> {
        let store = Self::connect(state)?;
        match store.layout()? {
            schema::VERSION => {}
            found if found > schema::VERSION => {
                return Err(StoreError::Newer { path: state.join(DATABASE), found });
            }
            1 => store.leave_layout_1()?,
            _ => return Err(store.damaged("it holds no tables")),
        }
        let said: String =
            store.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(store.sql())?;
        if said != "ok" {
            return Err(store.damaged(said));
        }
        let last = store.last_number()?;
        let heads = store.heads(u64::MAX, None, usize::MAX)?;
        if heads.len() as u64 != last {
            return Err(store.damaged("revisions are missing"));
        }
        store.latest()?;
        Ok(last)
    }
}
