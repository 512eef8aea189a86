//! What machines were proven to run, over time: a row where it changed, never
//! one for each report.

use super::Store;
use super::error::StoreError;
use lockstep_shared::Sha256;
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

/// What a machine ran from a moment on, as its follower reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The machine.
    #[serde(skip)]
    pub machine: String,
    /// From when, Unix seconds.
    #[serde(skip)]
    pub at: i64,
    /// The revision that the last proven bundle came with.
    pub revision: Option<u64>,
    /// That bundle's digest.
    pub digest: Option<Sha256>,
    /// The revision that it was failing to apply; its files may be there already. 0: not known which.
    pub failed: Option<u64>,
}

impl Store {
    /// Adds rows, in one transaction.
    pub fn put_proven(&self, rows: &[Proven]) -> Result<(), StoreError> {
        self.place.check()?;
        let transaction = self.begin()?;
        for row in rows {
            let sealed = self.seal_json(&row_id(&row.machine, row.at), row)?;
            self.connection
                .prepare_cached("INSERT INTO proven (machine, at, sealed) VALUES (?1, ?2, ?3)")
                .and_then(|mut insert| insert.execute(params![row.machine, row.at, sealed]))
                .map_err(self.sql())?;
        }
        transaction.commit().map_err(self.sql())
    }

    /// What a machine was proven to run at a time, Unix seconds.
    pub fn proven_at(&self, machine: &str, at: i64) -> Result<Option<Proven>, StoreError> {
        let found: Option<(i64, Vec<u8>)> = self
            .connection
            .prepare_cached(
                "SELECT at, sealed FROM proven WHERE machine = ?1 AND at <= ?2 ORDER BY at DESC, key DESC LIMIT 1",
            )
            .and_then(|mut select| {
                select.query_row(params![machine, at], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(self.sql())?;
        let Some((at, sealed)) = found else { return Ok(None) };
        let proven: Proven = self.unseal(&row_id(machine, at), sealed)?;
        Ok(Some(Proven { machine: machine.to_owned(), at, ..proven }))
    }
}

fn row_id(machine: &str, at: i64) -> String {
    format!("proven\0{machine}\0{at}")
}
