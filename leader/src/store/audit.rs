//! The audit's records: appended, never changed, chained. Each record's hash is
//! the SHA-256 of the hash before it and of its own bytes as they are stored,
//! so that anyone can recompute the chain; each hash has a MAC under the
//! store's key, and so has the head, which says how many there are.

use super::{Store, StoreError};
use ring::hmac;
use rusqlite::{OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

/// The tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, record TEXT NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
";

/// A record as it is stored.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// From 1, without gaps.
    pub number: i64,
    /// JSON, as it was hashed.
    pub record: String,
    /// SHA-256 over the hash before and `record`.
    pub hash: Vec<u8>,
}

/// The first thing that is wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The record.
    pub number: i64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A look over the whole chain.
#[derive(Debug, Clone)]
pub struct Chain {
    /// How many records are sound, from the first on.
    pub records: i64,
    /// The hash of the last of them.
    pub head: Vec<u8>,
    /// What is wrong after them.
    pub broken: Option<Broken>,
}

impl Store {
    /// An error where the database is no longer where it was opened.
    pub fn check(&self) -> Result<(), StoreError> {
        self.place.check()
    }

    /// Appends a record; `record` makes its text from its number. Durable on return.
    pub fn audit_append(&mut self, time: i64, record: impl FnOnce(i64) -> String) -> Result<i64, StoreError> {
        self.place.check()?;
        let transaction = self.begin()?;
        let sql = self.sql();
        let head = head(&transaction).map_err(&sql)?;
        let (last, before) = head.map_or_else(|| (0, Vec::new()), |(number, hash, _)| (number, hash));
        let number = last + 1;
        let record = record(number);
        let hash = link(&before, &record);
        let mac = self.sealer.audit_mac("record", number, &hash);
        let head_mac = self.sealer.audit_mac("head", number, &hash);
        let appended = transaction
            .execute(
                "INSERT INTO audit (number, time, record, hash, mac) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![number, time, record, hash, mac.as_ref()],
            )
            .and_then(|_| {
                transaction.execute(
                    "INSERT OR REPLACE INTO audit_head (one, number, hash, mac) VALUES (1, ?1, ?2, ?3)",
                    params![number, hash, head_mac.as_ref()],
                )
            });
        appended.map_err(&sql)?;
        transaction.commit().map_err(&sql)?;
        self.place.check()?;
        Ok(number)
    }

    /// The last `most` records since `since` (Unix seconds) and before the number `before`, oldest first.
    pub fn audit_records(&self, since: i64, before: i64, most: usize) -> Result<Vec<StoredRecord>, StoreError> {
        let mut select = self
            .connection
            .prepare(
                "SELECT number, record, hash FROM audit WHERE time >= ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
            )
            .map_err(self.sql())?;
        let rows = select.query_map(params![since, before, most], |row| {
            Ok(StoredRecord { number: row.get(0)?, record: row.get(1)?, hash: row.get(2)? })
        });
        let mut records: Vec<StoredRecord> = rows.and_then(Iterator::collect).map_err(self.sql())?;
        records.reverse();
        Ok(records)
    }

    /// Of the records after the number `after`: the last one's number, and when `action` was last done, Unix seconds.
    pub fn audit_done(&self, action: &str, after: i64) -> Result<(Option<i64>, Option<i64>), StoreError> {
        self.connection
            .query_row(
                "SELECT max(number), max(CASE WHEN record ->> '$.action' = ?1 AND record ->> '$.outcome' = 'done' THEN time END)
                 FROM audit WHERE number > ?2",
                params![action, after],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(self.sql())
    }

    /// One record.
    pub fn audit_record(&self, number: i64) -> Result<Option<StoredRecord>, StoreError> {
        Ok(self
            .audit_records(i64::MIN, number.saturating_add(1), 1)?
            .into_iter()
            .find(|record| record.number == number))
    }

    /// Recomputes the chain from its first record.
    pub fn audit_chain(&self) -> Result<Chain, StoreError> {
        let mut chain = Chain { records: 0, head: Vec::new(), broken: None };
        let mut select = self
            .connection
            .prepare("SELECT number, record, hash, mac FROM audit ORDER BY number")
            .map_err(self.sql())?;
        let mut rows = select.query([]).map_err(self.sql())?;
        while let Some(row) = rows.next().map_err(self.sql())? {
            let number: i64 = row.get(0).map_err(self.sql())?;
            let (record, hash, mac) = (row.get(1), row.get::<_, Vec<u8>>(2), row.get::<_, Vec<u8>>(3));
            let (record, hash, mac): (String, _, _) =
                (record.map_err(self.sql())?, hash.map_err(self.sql())?, mac.map_err(self.sql())?);
            let why = if number != chain.records + 1 {
                Some("records before it are missing")
            } else if link(&chain.head, &record) != hash {
                Some("it, or the one before it, was changed: its hash is not that of what stands there")
            } else if !self.sealer.audit_mac_fits("record", number, &hash, &mac) {
                Some("it was not written by this leader: its MAC is wrong")
            } else {
                None
            };
            if let Some(why) = why {
                chain.broken = Some(Broken { number: chain.records + 1, why });
                return Ok(chain);
            }
            chain.records = number;
            chain.head = hash;
        }
        drop(rows);
        let head = self
            .connection
            .query_row("SELECT number, hash, mac FROM audit_head", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .optional()
            .map_err(self.sql())?;
        let why = match head {
            None if chain.records == 0 => None,
            None => Some("the head, which says how many records there are, is missing"),
            Some((number, hash, mac)) if !self.sealer.audit_mac_fits("head", number, &hash, &mac) => {
                Some("the head, which says how many records there are, was not written by this leader")
            }
            Some((number, hash, _)) if number != chain.records || hash != chain.head => {
                Some("the head names another last record: records at the end are missing")
            }
            Some(_) => None,
        };
        chain.broken = why.map(|why| Broken { number: chain.records + 1, why });
        Ok(chain)
    }
}

type Head = (i64, Vec<u8>, Vec<u8>);

fn head(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Head>> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    transaction.query_row("SELECT number, hash, mac FROM audit_head", [], row).optional()
}

fn link(before: &[u8], record: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(record.as_bytes());
    hash.finalize().to_vec()
}

impl super::seal::Sealer {
    fn audit_mac(&self, what: &str, number: i64, hash: &[u8]) -> hmac::Tag {
        hmac::sign(&self.ids, &audit_message(what, number, hash))
    }

    fn audit_mac_fits(&self, what: &str, number: i64, hash: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.ids, &audit_message(what, number, hash), mac).is_ok()
    }
}

/// Longer than a content's id by its first words: never the same message.
fn audit_message(what: &str, number: i64, hash: &[u8]) -> Vec<u8> {
    [b"lockstep-audit-v1\0", what.as_bytes(), b"\0", &number.to_be_bytes(), hash].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &std::path::Path) -> Store {
        let mut store = Store::open(folder).unwrap();
        for time in 1..=4 {
            store.audit_append(time, |number| format!("{{\"number\":{number}}}")).unwrap();
        }
        store
    }

    fn broken(tamper: &str) -> Option<(i64, &'static str)> {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path());
        store.connection.execute_batch(tamper).unwrap();
        store.audit_chain().unwrap().broken.map(|broken| (broken.number, broken.why))
    }

    #[test]
    fn whatever_is_changed_is_seen() {
        assert_eq!(broken(""), None);
        let number = |tamper| broken(tamper).map(|(number, _)| number);
        assert_eq!(number("UPDATE audit SET record = 'x' WHERE number = 2"), Some(2));
        assert_eq!(number("UPDATE audit SET mac = x'00' WHERE number = 2"), Some(2));
        assert_eq!(number("DELETE FROM audit WHERE number = 3"), Some(3));
        assert_eq!(number("DELETE FROM audit WHERE number = 1"), Some(1));
        assert_eq!(number("UPDATE audit SET number = 9 WHERE number = 4"), Some(4));
        // The tail, with and without its head.
        assert_eq!(number("DELETE FROM audit WHERE number = 4"), Some(4));
        assert_eq!(number("DELETE FROM audit; DELETE FROM audit_head"), None, "that is what docs/security.md owns to");
        assert_eq!(number("DELETE FROM audit WHERE number = 4; DELETE FROM audit_head"), Some(4));
        let forged = "DELETE FROM audit WHERE number = 4;
            UPDATE audit_head SET number = 3, hash = (SELECT hash FROM audit WHERE number = 3), mac = (SELECT mac FROM audit WHERE number = 3)";
        assert_eq!(number(forged), Some(4), "a record's MAC is no head's");
    }

    #[test]
    fn records_come_oldest_first_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path());
        let numbers = |since, before, most| -> Vec<i64> {
            store.audit_records(since, before, most).unwrap().iter().map(|record| record.number).collect()
        };
        assert_eq!(numbers(0, i64::MAX, 2), [3, 4]);
        assert_eq!(numbers(2, 4, 10), [2, 3]);
    }

    #[test]
    fn what_was_done_last_is_found_among_what_was_not_read_yet() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        for (time, action, outcome) in [(10, "backup", "done"), (20, "backup", "failed"), (30, "publish", "done")] {
            let record = serde_json::json!({"action": action, "outcome": outcome}).to_string();
            store.audit_append(time, |_| record).unwrap();
        }
        assert_eq!(store.audit_done("backup", 0).unwrap(), (Some(3), Some(10)));
        assert_eq!(store.audit_done("backup", 1).unwrap(), (Some(3), None));
        assert_eq!(store.audit_done("backup", 3).unwrap(), (None, None));
    }
}
