//! Secrets' next values: set, rotated or made, and not yet published. The
//! revision that is rendered with them makes them current, in its own
//! transaction: what is served and what is kept never disagree.

use super::{Store, StoreError};
use crate::secrets::{Fresh, Origin};
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS secret_draft (
    name TEXT NOT NULL, holder TEXT NOT NULL, sealed BLOB NOT NULL,
    origin TEXT NOT NULL, at INTEGER NOT NULL, author TEXT NOT NULL, PRIMARY KEY (name, holder)) STRICT;
CREATE TABLE IF NOT EXISTS secret_origin (
    name TEXT NOT NULL, holder TEXT NOT NULL,
    origin TEXT NOT NULL, at INTEGER NOT NULL, author TEXT NOT NULL, PRIMARY KEY (name, holder)) STRICT;
";

/// Where a kept value came from, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Made or given.
    pub origin: Origin,
    /// Unix seconds.
    pub at: i64,
    /// By whom.
    pub author: String,
}

/// A secret's name, and the role or machine that holds it (empty: the platform).
pub type Place = (String, String);

impl Store {
    /// The next value of a secret, where there is one.
    pub fn draft(&self, name: &str, holder: &str) -> Result<Option<Fresh>, StoreError> {
        let row = self
            .connection
            .query_row(
                "SELECT sealed, origin, at, author FROM secret_draft WHERE name = ?1 AND holder = ?2",
                [name, holder],
                |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()
            .map_err(self.sql())?;
        let Some((sealed, origin, at, author)) = row else { return Ok(None) };
        let value = self.text(draft_id(name, holder).as_bytes(), sealed)?;
        let (name, holder) = (name.to_owned(), holder.to_owned());
        Ok(Some(Fresh { name, holder, value: Zeroizing::new(value), origin: Origin::parse(&origin), at, author }))
    }

    /// Keeps a next value; durable on return.
    pub fn put_draft(&self, fresh: &Fresh) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal(draft_id(&fresh.name, &fresh.holder).as_bytes(), fresh.value.as_bytes())?;
        let row = params![fresh.name, fresh.holder, sealed, fresh.origin.as_str(), fresh.at, fresh.author];
        self.connection
            .execute("INSERT OR REPLACE INTO secret_draft (name, holder, sealed, origin, at, author) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row)
            .map_err(self.sql())?;
        self.place.check()
    }

    /// Forgets the next values of a secret that were not published; how many there were.
    pub fn drop_drafts(&self, name: &str) -> Result<usize, StoreError> {
        self.connection.execute("DELETE FROM secret_draft WHERE name = ?1", [name]).map_err(self.sql())
    }

    /// Makes next values current without a revision: for those that no file holds.
    pub fn settle(&mut self, fresh: &[Fresh]) -> Result<(), StoreError> {
        if fresh.is_empty() {
            return Ok(());
        }
        self.place.check()?;
        let transaction = self.begin()?;
        self.make_current(fresh)?;
        transaction.commit().map_err(self.sql())?;
        self.place.check()
    }

    /// Where each current value came from. Those kept by versions that didn't note it are not in it.
    pub fn secret_origins(&self) -> Result<BTreeMap<Place, Told>, StoreError> {
        self.told("SELECT name, holder, origin, at, author FROM secret_origin")
    }

    /// Where each next value came from.
    pub fn drafts(&self) -> Result<BTreeMap<Place, Told>, StoreError> {
        self.told("SELECT name, holder, origin, at, author FROM secret_draft")
    }

    fn told(&self, query: &str) -> Result<BTreeMap<Place, Told>, StoreError> {
        let mut select = self.connection.prepare(query).map_err(self.sql())?;
        let rows = select.query_map([], |row| {
            let origin = Origin::parse(&row.get::<_, String>(2)?);
            Ok(((row.get(0)?, row.get(1)?), Told { origin, at: row.get(3)?, author: row.get(4)? }))
        });
        rows.and_then(Iterator::collect).map_err(self.sql())
    }

    /// Within the transaction that makes them public.
    pub(super) fn make_current(&self, fresh: &[Fresh]) -> Result<(), StoreError> {
        for fresh in fresh {
            self.put_secret(&fresh.name, &fresh.holder, &fresh.value)?;
            let (name, holder) = (&fresh.name, &fresh.holder);
            let told = params![name, holder, fresh.origin.as_str(), fresh.at, fresh.author];
            self.connection
                .execute("INSERT OR REPLACE INTO secret_origin (name, holder, origin, at, author) VALUES (?1, ?2, ?3, ?4, ?5)", told)
                .and_then(|_| {
                    let gone = "DELETE FROM secret_draft WHERE name = ?1 AND holder = ?2";
                    self.connection.execute(gone, params![name, holder])
                })
                .map_err(self.sql())?;
        }
        Ok(())
    }
}

fn draft_id(name: &str, holder: &str) -> String {
    format!("draft\0{name}\0{holder}")
}
