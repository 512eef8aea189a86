//! Revisions: the types, and reading them. A revision's row and its machines'
//! rows are sealed, each bound to its number and name; the row also has a hash
//! over all machines' rows that hold in it, so that one that is lost or put
//! back is told, never passed over.

use super::Store;
use super::content::{FileEntry, Known, SourceEntry};
use super::error::StoreError;
use crate::difference::Bundles;
use crate::platform::edited::Edited;
use crate::source::{PLATFORM, Source, SourceFile};
use lockstep_shared::{Bundle, Name, SafePath, Sha256};
use rusqlite::{OptionalExtension as _, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An immutable revision: what was published, by whom, from what.
#[derive(Debug, Clone, Default)]
pub struct Revision {
    /// From 1, without gaps.
    pub number: u64,
    /// Unix seconds.
    pub created: i64,
    /// Who published it.
    pub author: String,
    /// Why.
    pub message: String,
    /// The release of the templates.
    pub release: String,
    /// The revision whose content it publishes again.
    pub rolled_back_to: Option<u64>,
    /// What it was rendered from.
    pub source: Source,
    /// By machine.
    pub bundles: BTreeMap<Name, Arc<Bundle>>,
}

/// A revision without its content: a line of the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// From 1, without gaps.
    #[serde(skip)]
    pub number: u64,
    /// Unix seconds.
    pub created: i64,
    /// Who published it.
    pub author: String,
    /// Why.
    pub message: String,
    /// The release of the templates.
    pub release: String,
    /// The revision whose content it publishes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// The SHA-256 of `platform.yml` as it was.
    pub platform: Option<Sha256>,
    /// The settings whose values in `platform.yml` differ from the revision before.
    #[serde(default)]
    pub edited: Vec<Edited>,
    /// What it changed against the revision before, in short.
    pub touched: Vec<Touched>,
    /// The pieces of the list of its source.
    pub(super) source: Vec<Sha256>,
    /// Over all machines' rows that hold in it.
    pub(super) machines: Sha256,
}

/// What happened to a machine in a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// It was declared.
    New,
    /// Files of it changed.
    Changed,
    /// It is no longer declared.
    Gone,
}

/// Machines that a revision changed in the same way: the first few by name, all by count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Touched {
    /// What happened.
    pub touch: Touch,
    /// The first of them.
    pub machines: Vec<Name>,
    /// How many there are.
    pub machine_count: usize,
    /// The first of the files.
    pub files: Vec<SafePath>,
    /// How many there are.
    pub file_count: usize,
}

/// What a machine has in a revision, content left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its role then.
    pub role: Name,
    /// The bundle's digest.
    pub digest: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compose: Option<SafePath>,
    /// The pieces of the list of its files.
    pub(super) files: Vec<Sha256>,
}

/// What machines have in a revision.
pub type Holdings = BTreeMap<Name, Held>;

/// The machines' rows that hold in a revision. Names are found by jumping from
/// one to the next, each row by the index: what it costs depends on how many
/// machines there are, not on how many revisions.
const HOLDINGS: &str = "
WITH RECURSIVE known (machine) AS (
    SELECT min(machine) FROM bundle
    UNION ALL
    SELECT (SELECT min(machine) FROM bundle WHERE machine > known.machine) FROM known WHERE known.machine IS NOT NULL)
SELECT bundle.machine, bundle.revision, bundle.sealed FROM known JOIN bundle ON bundle.machine = known.machine
WHERE bundle.revision = (SELECT max(revision) FROM bundle AS row WHERE row.machine = known.machine AND row.revision <= ?1)";

impl Store {
    /// The number of the last revision; 0 where there is none.
    pub fn last_number(&self) -> Result<u64, StoreError> {
        let number: Option<u64> =
            self.connection.query_row("SELECT max(number) FROM revision", [], |row| row.get(0)).map_err(self.sql())?;
        Ok(number.unwrap_or(0))
    }

    /// The last published revision.
    pub fn latest(&self) -> Result<Option<Revision>, StoreError> {
        match self.last_number()? {
            0 => Ok(None),
            number => self.revision(number),
        }
    }

    /// A revision by its number, with everything.
    pub fn revision(&self, number: u64) -> Result<Option<Revision>, StoreError> {
        let Some(head) = self.head(number)? else { return Ok(None) };
        let mut known = Known::new();
        let mut bundles = BTreeMap::new();
        for (machine, held) in self.holdings(&head)? {
            let bundle = self.bundle_known(machine.clone(), held, &mut known)?;
            bundles.insert(machine, Arc::new(bundle));
        }
        let source = self.source_known(&head, &mut known)?;
        let Head { created, author, message, release, rolled_back_to, .. } = head;
        Ok(Some(Revision { number, created, author, message, release, rolled_back_to, source, bundles }))
    }

    /// A revision without its content.
    pub fn head(&self, number: u64) -> Result<Option<Head>, StoreError> {
        // SQLite's integers end there, and so do revisions.
        if i64::try_from(number).is_err() {
            return Ok(None);
        }
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT sealed FROM revision WHERE number = ?1")
            .and_then(|mut select| select.query_row([number], |row| row.get(0)).optional())
            .map_err(self.sql())?;
        sealed.map(|sealed| self.unseal_head(number, sealed)).transpose()
    }

    /// Up to `limit` revisions before a number, the latest first; with a
    /// machine, those that changed something for it.
    pub fn heads(&self, before: u64, machine: Option<&str>, limit: usize) -> Result<Vec<Head>, StoreError> {
        let text = if machine.is_some() {
            "SELECT number, revision.sealed FROM bundle JOIN revision ON number = bundle.revision
             WHERE machine = ?3 AND bundle.revision < ?1 ORDER BY bundle.revision DESC LIMIT ?2"
        } else {
            "SELECT number, sealed FROM revision WHERE number < ?1 AND ?3 IS NULL ORDER BY number DESC LIMIT ?2"
        };
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut select = self.connection.prepare_cached(text).map_err(self.sql())?;
        let rows = select
            .query_map(params![before, limit, machine], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut heads = Vec::new();
        for row in rows {
            let (number, sealed) = row.map_err(self.sql())?;
            heads.push(self.unseal_head(number, sealed)?);
        }
        Ok(heads)
    }

    /// What every machine has in a revision.
    pub fn holdings(&self, head: &Head) -> Result<Holdings, StoreError> {
        let holdings = self.rows(head.number)?;
        if fingerprint(&holdings) != head.machines {
            return Err(self.damaged(format!("the machines of revision {} are not those it had", head.number)));
        }
        Ok(holdings)
    }

    /// Every machine that any revision ever had.
    pub fn machines(&self) -> Result<Vec<String>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached(
                "WITH RECURSIVE known (machine) AS (SELECT min(machine) FROM bundle UNION ALL
                 SELECT (SELECT min(machine) FROM bundle WHERE machine > known.machine) FROM known WHERE known.machine IS NOT NULL)
                 SELECT machine FROM known WHERE machine IS NOT NULL",
            )
            .map_err(self.sql())?;
        let rows = select.query_map([], |row| row.get(0)).map_err(self.sql())?;
        rows.collect::<Result<_, _>>().map_err(self.sql())
    }

    fn rows(&self, number: u64) -> Result<Holdings, StoreError> {
        let mut select = self.connection.prepare_cached(HOLDINGS).map_err(self.sql())?;
        let rows = select
            .query_map([number], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, Vec<u8>>(2)?)))
            .map_err(self.sql())?;
        let mut holdings = Holdings::new();
        for row in rows {
            let (machine, revision, sealed) = row.map_err(self.sql())?;
            let held: Option<Held> = self.unseal(&row_id(&machine, revision), sealed)?;
            if let Some(held) = held {
                holdings.insert(Name::new(machine).map_err(|error| self.damaged(error))?, held);
            }
        }
        Ok(holdings)
    }

    /// A machine's bundle.
    pub fn bundle(&self, machine: Name, held: Held) -> Result<Bundle, StoreError> {
        self.bundle_known(machine, held, &mut Known::new())
    }

    fn bundle_known(&self, machine: Name, held: Held, known: &mut Known) -> Result<Bundle, StoreError> {
        let mut files = Vec::new();
        for entry in self.list::<FileEntry>(&held.files)? {
            let content = self.content(&entry.sha256, known)?;
            files.push(entry.file(content));
        }
        let bundle = Bundle::new(held.role, machine, held.compose, files).map_err(|error| self.damaged(error))?;
        if bundle.digest != held.digest {
            return Err(self.damaged(format!("the bundle of {} is not what its digest says", bundle.machine)));
        }
        Ok(bundle)
    }

    /// What differs between two sets of holdings: both sides with the files that
    /// are not alike and nothing else. Reads only the pieces that differ.
    pub fn differing(&self, old: &Holdings, new: &Holdings) -> Result<(Bundles, Bundles), StoreError> {
        let mut known = Known::new();
        let (mut before, mut after) = (Bundles::new(), Bundles::new());
        for machine in old.keys().chain(new.keys()) {
            if after.contains_key(machine) || before.contains_key(machine) {
                continue;
            }
            let (was, is) = (old.get(machine), new.get(machine));
            if was == is {
                continue;
            }
            let (gone, come) = self.differing_files(was, is)?;
            for (held, files, side) in [(was, gone, &mut before), (is, come, &mut after)] {
                let Some(held) = held else { continue };
                let mut bundle = Bundle {
                    role: held.role.clone(),
                    machine: machine.clone(),
                    digest: held.digest,
                    compose: held.compose.clone(),
                    files: Vec::with_capacity(files.len()),
                };
                for entry in files {
                    let content = self.content(&entry.sha256, &mut known)?;
                    bundle.files.push(entry.file(content));
                }
                side.insert(machine.clone(), Arc::new(bundle));
            }
        }
        Ok((before, after))
    }

    /// The entries of either side that the other doesn't have just so.
    pub(super) fn differing_files(
        &self,
        old: Option<&Held>,
        new: Option<&Held>,
    ) -> Result<(Vec<FileEntry>, Vec<FileEntry>), StoreError> {
        let pieces = |held: Option<&Held>, other: Option<&Held>| -> Vec<Sha256> {
            let of = |held: Option<&Held>| held.map(|held| held.files.clone()).unwrap_or_default();
            let other = of(other);
            of(held).into_iter().filter(|piece| !other.contains(piece)).collect()
        };
        let gone: Vec<FileEntry> = self.list(&pieces(old, new))?;
        let come: Vec<FileEntry> = self.list(&pieces(new, old))?;
        let alike = |entry: &FileEntry, side: &[FileEntry]| {
            side.binary_search_by(|other| other.path.as_str().cmp(entry.path.as_str()))
                .is_ok_and(|index| side[index] == *entry)
        };
        let only = |side: &[FileEntry], other: &[FileEntry]| -> Vec<FileEntry> {
            side.iter().filter(|entry| !alike(entry, other)).cloned().collect()
        };
        Ok((only(&gone, &come), only(&come, &gone)))
    }

    /// The files of either source that the other doesn't have just so, by name.
    pub fn differing_source(&self, old: &Head, new: &Head) -> Result<(Source, Source), StoreError> {
        let side = |head: &Head, other: &Head| -> Result<Vec<SourceEntry>, StoreError> {
            let pieces: Vec<Sha256> =
                head.source.iter().filter(|piece| !other.source.contains(piece)).copied().collect();
            self.list(&pieces)
        };
        let (gone, come) = (side(old, new)?, side(new, old)?);
        let mut known = Known::new();
        let mut only = |side: &[SourceEntry], other: &[SourceEntry]| -> Result<Source, StoreError> {
            let mut source = Source::default();
            for entry in side.iter().filter(|entry| !other.contains(entry)) {
                let bytes = self.content(&entry.sha256, &mut known)?;
                let file = SourceFile { bytes, sha256: entry.sha256, executable: entry.executable };
                source.files.insert(entry.name.clone(), file);
            }
            Ok(source)
        };
        Ok((only(&gone, &come)?, only(&come, &gone)?))
    }

    /// Everything that a revision was rendered from.
    pub fn source(&self, head: &Head) -> Result<Source, StoreError> {
        self.source_known(head, &mut Known::new())
    }

    fn source_known(&self, head: &Head, known: &mut Known) -> Result<Source, StoreError> {
        let mut source = Source::default();
        for entry in self.list::<SourceEntry>(&head.source)? {
            let bytes = self.content(&entry.sha256, known)?;
            source.files.insert(entry.name, SourceFile { bytes, sha256: entry.sha256, executable: entry.executable });
        }
        Ok(source)
    }

    /// `platform.yml` as it was in a revision.
    pub fn platform(&self, head: &Head) -> Result<Option<Arc<[u8]>>, StoreError> {
        head.platform.map(|sha256| self.content(&sha256, &mut Known::new())).transpose()
    }

    /// The hash of every file of a revision's source, by name.
    pub fn source_hashes(&self, head: &Head) -> Result<BTreeMap<String, (Sha256, bool)>, StoreError> {
        let entries = self.list::<SourceEntry>(&head.source)?;
        Ok(entries.into_iter().map(|entry| (entry.name, (entry.sha256, entry.executable))).collect())
    }

    fn unseal_head(&self, number: u64, sealed: Vec<u8>) -> Result<Head, StoreError> {
        let mut head: Head = self.unseal(&head_id(number), sealed)?;
        head.number = number;
        Ok(head)
    }

    pub(super) fn unseal<T: DeserializeOwned>(&self, what: &str, sealed: Vec<u8>) -> Result<T, StoreError> {
        let json = self.open_sealed(what.as_bytes(), sealed)?;
        serde_json::from_slice(&json).map_err(|error| self.damaged(error))
    }
}

/// The hash of a source's platform file.
pub(super) fn platform_hash(entries: &[SourceEntry]) -> Option<Sha256> {
    entries.iter().find(|entry| entry.name == PLATFORM).map(|entry| entry.sha256)
}

/// Over everything that machines have.
pub(super) fn fingerprint(holdings: &Holdings) -> Sha256 {
    // A map of plain data always is JSON.
    Sha256::of(&serde_json::to_vec(holdings).unwrap_or_default())
}

/// What a revision's row is sealed as.
pub(super) fn head_id(number: u64) -> String {
    format!("revision\0{number}")
}

/// What a machine's row is sealed as.
pub(super) fn row_id(machine: &str, revision: u64) -> String {
    format!("bundle\0{machine}\0{revision}")
}
