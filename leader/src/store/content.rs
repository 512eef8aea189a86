//! Content, stored once, and lists of it in pieces: a list is cut after paths
//! whose own hash says so, wherever they stand. So a changed file costs its
//! piece of about [`PIECE`] entries and the list of pieces, not the whole list,
//! and equal pieces are stored once over all revisions and machines.

use super::Store;
use super::error::StoreError;
use lockstep_shared::{Bundle, File, Mode, OnChange, OnDrift, Owner, SafePath, Sha256, VolumePath};
use rusqlite::{OptionalExtension as _, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Entries of a piece, on the average.
const PIECE: u8 = 16;

/// Content that was read already: machines of one role share most of it.
pub(super) type Known = HashMap<Sha256, Arc<[u8]>>;

/// An entry of a list.
pub(super) trait Entry: Serialize + DeserializeOwned + PartialEq {
    /// What the list is sorted by.
    fn path(&self) -> &str;
    /// The hash of its content.
    fn sha256(&self) -> Sha256;
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SourceEntry {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) executable: bool,
    pub(super) sha256: Sha256,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) path: SafePath,
    pub(super) mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Owner>,
    pub(super) sha256: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_change: Option<OnChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) services: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) containers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) check: Vec<String>,
    #[serde(default, rename = "drift", skip_serializing_if = "Option::is_none")]
    pub(super) on_drift: Option<OnDrift>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) check_in: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) check_seconds: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<VolumePath>,
}

impl Entry for SourceEntry {
    fn path(&self) -> &str {
        &self.name
    }
    fn sha256(&self) -> Sha256 {
        self.sha256
    }
}

impl Entry for FileEntry {
    fn path(&self) -> &str {
        self.path.as_str()
    }
    fn sha256(&self) -> Sha256 {
        self.sha256
    }
}

impl FileEntry {
    /// The entries of a bundle.
    pub(super) fn list(bundle: &Bundle) -> Vec<Self> {
        let entry = |file: &File| Self {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner,
            sha256: file.sha256,
            on_change: file.on_change.clone(),
            services: file.services.clone(),
            containers: file.containers.clone(),
            check: file.check.clone(),
            on_drift: file.on_drift,
            check_in: file.check_in.clone(),
            check_seconds: file.check_seconds,
            volume: file.volume.clone(),
        };
        bundle.files.iter().map(entry).collect()
    }

    /// The file with its content.
    pub(super) fn file(self, content: Arc<[u8]>) -> File {
        File {
            path: self.path,
            mode: self.mode,
            owner: self.owner,
            sha256: self.sha256,
            content,
            on_change: self.on_change,
            services: self.services,
            containers: self.containers,
            check: self.check,
            on_drift: self.on_drift,
            check_in: self.check_in,
            check_seconds: self.check_seconds,
            volume: self.volume,
        }
    }
}

/// The pieces of a list.
fn pieces<E: Entry>(entries: &[E]) -> impl Iterator<Item = &[E]> {
    entries.chunk_by(|entry, _| !Sha256::of(entry.path().as_bytes()).0[0].is_multiple_of(PIECE))
}

impl Store {
    /// Stores a list and, by `content`, what it lists; what is there already is not written again. The hashes of its pieces.
    pub(super) fn put_list<'c, E: Entry>(
        &self,
        entries: &[E],
        content: impl Fn(&E) -> Option<&'c [u8]>,
    ) -> Result<Vec<Sha256>, StoreError> {
        let mut hashes = Vec::new();
        for piece in pieces(entries) {
            let json = serde_json::to_vec(piece).map_err(|error| self.damaged(error))?;
            let hash = Sha256::of(&json);
            hashes.push(hash);
            // Content goes in before the piece that lists it, and nothing is ever taken out.
            if self.has(&hash)? {
                continue;
            }
            for entry in piece {
                if let Some(bytes) = content(entry) {
                    self.put(&entry.sha256(), bytes)?;
                }
            }
            self.put(&hash, &json)?;
        }
        Ok(hashes)
    }

    /// The entries of the pieces with these hashes.
    pub(super) fn list<E: Entry>(&self, pieces: &[Sha256]) -> Result<Vec<E>, StoreError> {
        let mut entries: Vec<E> = Vec::new();
        for hash in pieces {
            let piece: Vec<E> = serde_json::from_slice(&self.get(hash)?).map_err(|error| self.damaged(error))?;
            entries.extend(piece);
        }
        Ok(entries)
    }

    /// Content by its hash.
    pub(super) fn content(&self, sha256: &Sha256, known: &mut Known) -> Result<Arc<[u8]>, StoreError> {
        if let Some(bytes) = known.get(sha256) {
            return Ok(bytes.clone());
        }
        let bytes: Arc<[u8]> = self.get(sha256)?.into();
        known.insert(*sha256, bytes.clone());
        Ok(bytes)
    }

    fn has(&self, sha256: &Sha256) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached("SELECT 1 FROM content WHERE id = ?1")
            .and_then(|mut select| select.exists([&self.sealer.id(sha256)[..]]))
            .map_err(self.sql())
    }

    fn get(&self, sha256: &Sha256) -> Result<Vec<u8>, StoreError> {
        let id = self.sealer.id(sha256);
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT sealed FROM content WHERE id = ?1")
            .and_then(|mut select| select.query_row([&id[..]], |row| row.get(0)).optional())
            .map_err(self.sql())?;
        let sealed = sealed.ok_or_else(|| self.damaged("content is missing"))?;
        self.open_sealed(&id, sealed)
    }

    fn put(&self, sha256: &Sha256, bytes: &[u8]) -> Result<(), StoreError> {
        if self.has(sha256)? {
            return Ok(());
        }
        let id = self.sealer.id(sha256);
        let sealed = self.seal(&id, bytes)?;
        self.connection
            .prepare_cached("INSERT INTO content (id, sealed) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![&id[..], sealed]))
            .map(drop)
            .map_err(self.sql())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<usize>) -> Vec<SourceEntry> {
        let entry = |index: usize| SourceEntry {
            name: format!("templates/core/file{index:04}"),
            executable: false,
            sha256: Sha256::of(&index.to_le_bytes()),
        };
        range.map(entry).collect()
    }

    #[test]
    fn a_new_entry_changes_one_piece() {
        let all = entries(0..1000);
        let mut fewer = all.clone();
        fewer.remove(500);
        let (old, new): (Vec<_>, Vec<_>) = (pieces(&fewer).collect(), pieces(&all).collect());
        assert!((30..130).contains(&new.len()), "{}", new.len());
        let gone = old.iter().filter(|piece| !new.contains(piece)).count();
        assert!(gone <= 2, "{gone}");
        assert_eq!(pieces(&all).flatten().count(), 1000);
    }
}
