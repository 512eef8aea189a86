//! Secrets' values.

use super::Store;
use super::error::StoreError;
use lockstep_shared::Sha256;
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeSet;

impl Store {
    /// A secret's value; `holder` is the role or machine it belongs to, or empty.
    pub fn secret(&self, name: &str, holder: &str) -> Result<Option<String>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT sealed FROM secret WHERE name = ?1 AND holder = ?2", [name, holder], |row| row.get(0))
            .optional()
            .map_err(self.sql())?;
        let Some(sealed) = sealed else { return Ok(None) };
        self.text(secret_id(name, holder).as_bytes(), sealed).map(Some)
    }

    /// Stores a secret's value, within the transaction that makes it current.
    pub(super) fn put_secret(&self, name: &str, holder: &str, value: &str) -> Result<(), StoreError> {
        let sealed = self.seal(secret_id(name, holder).as_bytes(), value.as_bytes())?;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO secret (name, holder, sealed) VALUES (?1, ?2, ?3)",
                params![name, holder, sealed],
            )
            .map_err(self.sql())?;
        Ok(())
    }

    /// Every secret's value that a stored revision may hold, also those that are no secret's value any more.
    pub fn rendered_secrets(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT id, sealed FROM rendered_secret").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut values = BTreeSet::new();
        for row in rows {
            let (id, sealed) = row.map_err(self.sql())?;
            values.insert(self.text(&id, sealed)?);
        }
        Ok(values)
    }

    /// Remembers a value that the revision being stored may hold.
    pub(super) fn put_rendered(&self, value: &str) -> Result<(), StoreError> {
        let id = self.sealer.id(&Sha256::of(value.as_bytes()));
        let known = self
            .connection
            .prepare_cached("SELECT 1 FROM rendered_secret WHERE id = ?1")
            .and_then(|mut select| select.exists([&id[..]]))
            .map_err(self.sql())?;
        if !known {
            let sealed = self.seal(&id, value.as_bytes())?;
            self.connection
                .execute("INSERT INTO rendered_secret (id, sealed) VALUES (?1, ?2)", params![&id[..], sealed])
                .map_err(self.sql())?;
        }
        Ok(())
    }

    pub(super) fn text(&self, what: &[u8], sealed: Vec<u8>) -> Result<String, StoreError> {
        String::from_utf8(self.open_sealed(what, sealed)?).map_err(|_| self.damaged("a secret is no text"))
    }
}

pub(super) fn secret_id(name: &str, holder: &str) -> String {
    format!("secret\0{name}\0{holder}")
}
