//! Followers that joined with a token. Those of `config-leader.json` are not in here.

use super::{Store, StoreError};
use lockstep_shared::Name;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The table of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS follower (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// A follower that joined; times are Unix seconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFollower {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// Where it is told of news; none: it only polls.
    pub url: Option<String>,
    /// What templates see as `machine.addresses`.
    pub addresses: Vec<String>,
    /// The key that it shares with the leader, in its text form.
    pub key: Zeroizing<String>,
    /// Since when that is its key.
    pub keyed: i64,
    /// The key that takes its place once the follower has signed with it.
    pub next: Option<Zeroizing<String>>,
    /// When it joined.
    pub joined: i64,
    /// With which token: its public id.
    pub token: String,
    /// From which address.
    pub from: String,
    /// SHA-256, in hex, of the public key of its certificate (`SubjectPublicKeyInfo`).
    pub public: String,
    /// When its certificate ends; none without a CA.
    pub certificate_ends: Option<i64>,
    /// When it signed its first request: until then the answer to its join may have been lost.
    pub signed: Option<i64>,
    /// Since when it is out, and by whose word.
    pub disabled: Option<Disabled>,
}

/// Who put a follower out, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// When, Unix seconds.
    pub at: i64,
    /// By whom.
    pub by: String,
}

impl std::fmt::Debug for StoredFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredFollower({}, {}, hidden)", self.name, self.role)
    }
}

impl Store {
    /// Every follower that joined, by name.
    pub fn followers(&self) -> Result<Vec<StoredFollower>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT name, sealed FROM follower ORDER BY name").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut followers = Vec::new();
        for row in rows {
            let (name, sealed) = row.map_err(self.sql())?;
            followers.push(self.unseal(&follower_id(&name), sealed)?);
        }
        Ok(followers)
    }

    /// Keeps a follower, or what changed of it; durable on return.
    pub fn put_follower(&self, follower: &StoredFollower) -> Result<(), StoreError> {
        self.place.check()?;
        let sealed = self.seal_json(&follower_id(follower.name.as_str()), follower)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO follower (name, sealed) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![follower.name.as_str(), sealed]))
            .map(|_| ())
            .map_err(self.sql())
    }

    /// Forgets a follower; whether there was one. Durable on return.
    pub fn drop_follower(&self, name: &Name) -> Result<bool, StoreError> {
        self.place.check()?;
        let dropped = self.connection.execute("DELETE FROM follower WHERE name = ?1", [name.as_str()]);
        dropped.map(|rows| rows > 0).map_err(self.sql())
    }
}

fn follower_id(name: &str) -> String {
    format!("follower\0{name}")
}
