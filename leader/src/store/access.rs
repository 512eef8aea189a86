//! API tokens: who may come in from elsewhere. Of a token only its hash is kept.

use super::{Store, StoreError};
use crate::who::Right;
use rusqlite::{ErrorCode, params};

/// The table of this file. A number is never given twice: the audit names tokens by it.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS access_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, hash BLOB NOT NULL, rights TEXT NOT NULL,
    created INTEGER NOT NULL, author TEXT NOT NULL, expires INTEGER, used INTEGER) STRICT;
";

/// A token, without what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its number.
    pub id: i64,
    /// Its name: who acts with it.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// What may be done with it.
    pub rights: Vec<Right>,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// By whom.
    pub author: String,
    /// When it ends.
    pub expires: Option<i64>,
    /// When it was last used, to the minute.
    pub used: Option<i64>,
}

impl Store {
    /// Every token, by name.
    pub fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let mut select = self
            .connection
            .prepare("SELECT id, name, hash, rights, created, author, expires, used FROM access_token ORDER BY name")
            .map_err(self.sql())?;
        let rows = select.query_map([], |row| {
            let rights: String = row.get(3)?;
            Ok(StoredToken {
                id: row.get(0)?,
                name: row.get(1)?,
                hash: row.get(2)?,
                rights: rights.split(' ').filter_map(Right::parse).collect(),
                created: row.get(4)?,
                author: row.get(5)?,
                expires: row.get(6)?,
                used: row.get(7)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.sql())
    }

    /// Keeps a token and gives its number; `None` where the name is taken. `token.id` is not looked at.
    pub fn put_token(&self, token: &StoredToken) -> Result<Option<i64>, StoreError> {
        let rights: Vec<String> = token.rights.iter().map(ToString::to_string).collect();
        let row = params![token.name, token.hash, rights.join(" "), token.created, token.author, token.expires];
        let put = self.connection.execute(
            "INSERT INTO access_token (name, hash, rights, created, author, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            row,
        );
        match put {
            Ok(_) => Ok(Some(self.connection.last_insert_rowid())),
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::ConstraintViolation => Ok(None),
            Err(error) => Err(self.sql()(error)),
        }
    }

    /// Forgets a token; whether there was one.
    pub fn drop_token(&self, name: &str) -> Result<bool, StoreError> {
        let dropped = self.connection.execute("DELETE FROM access_token WHERE name = ?1", [name]);
        dropped.map(|rows| rows > 0).map_err(self.sql())
    }

    /// Notes that a token was used.
    pub fn token_used(&self, id: i64, at: i64) -> Result<(), StoreError> {
        let noted = self.connection.execute("UPDATE access_token SET used = ?2 WHERE id = ?1", params![id, at]);
        noted.map(|_| ()).map_err(self.sql())
    }
}
