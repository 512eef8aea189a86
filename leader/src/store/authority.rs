//! The platform's authorities with their keys, and what followers last said of
//! what they trust: what a leader that was killed goes on from.

use super::Store;
use super::error::StoreError;
use crate::authority::{Said, State};
use lockstep_shared::Name;
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeMap;

/// The tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS authority (key INTEGER PRIMARY KEY CHECK (key = 1), sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS authority_said (machine TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

const ID: &str = "authority";

impl Store {
    /// The authorities; none before they were first needed.
    pub fn authority(&self) -> Result<Option<State>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT sealed FROM authority", [], |row| row.get(0))
            .optional()
            .map_err(self.sql())?;
        sealed.map(|sealed| self.unseal(ID, sealed)).transpose()
    }

    /// Keeps the authorities; durable on return.
    pub fn put_authority(&self, state: &State) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal_json(ID, state)?;
        let put = self.connection.execute("INSERT OR REPLACE INTO authority (key, sealed) VALUES (1, ?1)", [sealed]);
        put.map(|_| ()).map_err(self.sql())
    }

    /// What each follower last said of what it trusts.
    pub fn said(&self) -> Result<BTreeMap<Name, Said>, StoreError> {
        let mut select = self.connection.prepare("SELECT machine, sealed FROM authority_said").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut all = BTreeMap::new();
        for row in rows {
            let (machine, sealed) = row.map_err(self.sql())?;
            let said = self.unseal(&said_id(&machine), sealed)?;
            all.insert(Name::new(machine).map_err(|error| self.damaged(error))?, said);
        }
        Ok(all)
    }

    /// Keeps what a follower said.
    pub fn put_said(&self, machine: &Name, said: &Said) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal_json(&said_id(machine.as_str()), said)?;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO authority_said (machine, sealed) VALUES (?1, ?2)",
                params![machine.as_str(), sealed],
            )
            .map(|_| ())
            .map_err(self.sql())
    }
}

fn said_id(machine: &str) -> String {
    format!("authority_said\0{machine}")
}
