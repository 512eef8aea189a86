//! How revisions reach machines, and who may restart containers just now: what
//! a leader that was killed goes on from.

use super::Store;
use super::error::StoreError;
use crate::rollout::lease::Held;
use crate::rollout::state::Rollout;
use lockstep_shared::Name;
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeMap;

/// The tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rollout (revision INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS lease (machine TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

impl Store {
    /// Keeps how a rollout stands; durable on return.
    pub fn put_rollout(&self, rollout: &Rollout) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal_json(&rollout_id(rollout.revision), rollout)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO rollout (revision, sealed) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![rollout.revision, sealed]))
            .map_err(self.sql())?;
        Ok(())
    }

    /// The rollout of a revision; none for one of a leader that knew no rollouts.
    pub fn rollout(&self, revision: u64) -> Result<Option<Rollout>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT sealed FROM rollout WHERE revision = ?1")
            .and_then(|mut select| select.query_row([revision], |row| row.get(0)).optional())
            .map_err(self.sql())?;
        sealed.map(|sealed| self.unseal(&rollout_id(revision), sealed)).transpose()
    }

    /// Keeps a machine's lease, or that it has none; durable on return.
    pub fn put_lease(&self, machine: &Name, held: Option<&Held>) -> Result<(), StoreError> {
        self.place.check()?;
        let done = match held {
            Some(held) => {
                let sealed = self.seal_json(&lease_id(machine.as_str()), held)?;
                self.connection
                    .prepare_cached("INSERT OR REPLACE INTO lease (machine, sealed) VALUES (?1, ?2)")
                    .and_then(|mut insert| insert.execute(params![machine.as_str(), sealed]))
            }
            None => self
                .connection
                .prepare_cached("DELETE FROM lease WHERE machine = ?1")
                .and_then(|mut delete| delete.execute([machine.as_str()])),
        };
        done.map(|_| ()).map_err(self.sql())
    }

    /// The leases that are held.
    pub fn leases(&self) -> Result<BTreeMap<Name, Held>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT machine, sealed FROM lease").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut leases = BTreeMap::new();
        for row in rows {
            let (machine, sealed) = row.map_err(self.sql())?;
            let held = self.unseal(&lease_id(&machine), sealed)?;
            leases.insert(Name::new(machine).map_err(|error| self.damaged(error))?, held);
        }
        Ok(leases)
    }

    /// Every machine that was ever heard from.
    pub fn heard(&self) -> Result<Vec<Name>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT DISTINCT machine FROM proven").map_err(self.sql())?;
        let rows = select.query_map([], |row| row.get::<_, String>(0)).map_err(self.sql())?;
        let names = rows.collect::<Result<Vec<_>, _>>().map_err(self.sql())?;
        Ok(names.into_iter().filter_map(|name| Name::new(name).ok()).collect())
    }
}

fn rollout_id(revision: u64) -> String {
    format!("rollout\0{revision}")
}

fn lease_id(machine: &str) -> String {
    format!("lease\0{machine}")
}
