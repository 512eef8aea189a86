//! From layout 1, which had a row for every machine in every revision and its
//! lists in one piece. Content keeps its ids and stays as it was sealed.

use super::Store;
use super::content::{FileEntry, SourceEntry};
use super::error::StoreError;
use super::record::Record;
use super::revisions::{Held, Holdings, platform_hash};
use super::schema;
use lockstep_shared::{Name, SafePath, Sha256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct OldBundle {
    compose: Option<SafePath>,
    files: Vec<FileEntry>,
}

struct OldHead {
    number: u64,
    created: i64,
    author: String,
    message: String,
    release: String,
    source: Vec<u8>,
}

struct OldRow {
    machine: String,
    role: String,
    digest: String,
    manifest: Vec<u8>,
}

impl Store {
    /// Brings the store to this version's layout, in one transaction.
    pub(super) fn leave_layout_1(&self) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.batch(
            "ALTER TABLE blob RENAME TO blob_1; ALTER TABLE revision RENAME TO revision_1; ALTER TABLE bundle RENAME TO bundle_1;",
        )?;
        schema::create(&self.connection).map_err(self.sql())?;
        self.batch("INSERT INTO content (id, sealed) SELECT id, sealed FROM blob_1;")?;
        let mut before = Holdings::new();
        let mut lists: BTreeSet<Vec<u8>> = BTreeSet::new();
        for old in self.old_heads()? {
            let mut source: Vec<SourceEntry> = self.old_json(&old.source)?;
            source.sort_by(|a, b| a.name.cmp(&b.name));
            lists.insert(old.source);
            let mut holdings = Holdings::new();
            for row in self.old_rows(old.number)? {
                let name = |text: String| Name::new(text).map_err(|error| self.damaged(error));
                let bundle: OldBundle = self.old_json(&row.manifest)?;
                lists.insert(row.manifest);
                let digest = Sha256::try_from(row.digest).map_err(|error| self.damaged(error))?;
                let files = self.put_list(&bundle.files, |_| None)?;
                let held = Held { role: name(row.role)?, digest, compose: bundle.compose, files };
                holdings.insert(name(row.machine)?, held);
            }
            let record = Record {
                number: old.number,
                created: old.created,
                author: old.author,
                message: old.message,
                release: old.release,
                rolled_back_to: None,
                platform: platform_hash(&source),
                source: self.put_list(&source, |_| None)?,
                holdings: holdings.clone(),
            };
            self.write(record, &before)?;
            before = holdings;
        }
        for list in lists {
            self.connection.execute("DELETE FROM content WHERE id = ?1", [list]).map_err(self.sql())?;
        }
        self.batch("DROP TABLE bundle_1; DROP TABLE revision_1; DROP TABLE blob_1;")?;
        transaction.commit().map_err(self.sql())
    }

    fn batch(&self, text: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(text).map_err(self.sql())
    }

    fn old_heads(&self) -> Result<Vec<OldHead>, StoreError> {
        let mut select = self
            .connection
            .prepare("SELECT number, created, author, message, release, source FROM revision_1 ORDER BY number")
            .map_err(self.sql())?;
        let heads = select.query_map([], |row| {
            Ok(OldHead {
                number: row.get(0)?,
                created: row.get(1)?,
                author: row.get(2)?,
                message: row.get(3)?,
                release: row.get(4)?,
                source: row.get(5)?,
            })
        });
        heads.and_then(Iterator::collect).map_err(self.sql())
    }

    fn old_rows(&self, number: u64) -> Result<Vec<OldRow>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT machine, role, digest, manifest FROM bundle_1 WHERE revision = ?1")
            .map_err(self.sql())?;
        let rows = select.query_map([number], |row| {
            Ok(OldRow { machine: row.get(0)?, role: row.get(1)?, digest: row.get(2)?, manifest: row.get(3)? })
        });
        rows.and_then(Iterator::collect).map_err(self.sql())
    }

    fn old_json<T: DeserializeOwned>(&self, id: &[u8]) -> Result<T, StoreError> {
        let sealed: Vec<u8> = self
            .connection
            .query_row("SELECT sealed FROM blob_1 WHERE id = ?1", [id], |row| row.get(0))
            .map_err(self.sql())?;
        serde_json::from_slice(&self.open_sealed(id, sealed)?).map_err(|error| self.damaged(error))
    }
}
