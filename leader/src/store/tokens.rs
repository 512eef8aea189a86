//! Join tokens. Of a token's secret only its hash is kept, and nothing that is
//! kept lets anybody in.

use super::followers::StoredFollower;
use super::{Store, StoreError};
use lockstep_shared::{Name, Sha256};
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// The table of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS join_token (id TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// A join token without its secret; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredJoinToken {
    /// Its public id.
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: Sha256,
    /// The role of whoever joins with it.
    pub role: Name,
    /// The only name that they may take, where it is bound to one.
    pub name: Option<Name>,
    /// When it was made.
    pub created: i64,
    /// By whom.
    pub author: String,
    /// When it ends.
    pub expires: i64,
    /// The authority by which whoever has it knows the leader; none behind a
    /// proxy, nor in tokens of earlier versions.
    #[serde(default)]
    pub authority: Option<Sha256>,
    /// Who joined with it.
    pub used: Option<Used>,
    /// Who took it back.
    pub revoked: Option<Revoked>,
}

/// Who joined with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// When, Unix seconds.
    pub at: i64,
    /// As which machine.
    pub by: Name,
    /// From which address.
    pub from: String,
}

/// Who took a token back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When, Unix seconds.
    pub at: i64,
    /// Who.
    pub by: String,
}

impl Store {
    /// Every join token that is remembered, the oldest first.
    pub fn join_tokens(&self) -> Result<Vec<StoredJoinToken>, StoreError> {
        let mut select = self.connection.prepare_cached("SELECT id, sealed FROM join_token").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut tokens = Vec::new();
        for row in rows {
            let (id, sealed) = row.map_err(self.sql())?;
            tokens.push(self.unseal::<StoredJoinToken>(&token_id(&id), sealed)?);
        }
        tokens.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(tokens)
    }

    /// Keeps a token, or what became of it; durable on return.
    pub fn put_join_token(&self, token: &StoredJoinToken) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal_json(&token_id(&token.id), token)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO join_token (id, sealed) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![token.id, sealed]))
            .map(|_| ())
            .map_err(self.sql())
    }

    /// Forgets a token.
    pub fn drop_join_token(&self, id: &str) -> Result<(), StoreError> {
        self.place.check()?;
        self.connection.execute("DELETE FROM join_token WHERE id = ?1", [id]).map(|_| ()).map_err(self.sql())
    }

    /// A token is used and its follower is there: both or neither, durable on return.
    pub fn join(&self, token: &StoredJoinToken, follower: &StoredFollower) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.put_join_token(token)?;
        self.put_follower(follower)?;
        transaction.commit().map_err(self.sql())?;
        self.place.check()
    }
}

fn token_id(id: &str) -> String {
    format!("join token\0{id}")
}
