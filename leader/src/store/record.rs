//! Storing a revision: all of it or nothing, durable on return, and at the cost
//! of what it changes.

use super::Store;
use super::content::{FileEntry, Known, SourceEntry};
use super::error::StoreError;
use super::reserve;
use super::revisions::{Head, Held, Holdings, Revision, Touch, Touched, fingerprint, head_id, platform_hash, row_id};
use crate::platform::edited::{Edited, edited};
use crate::secrets::Used;
use lockstep_shared::{Name, SafePath, Sha256};
use rusqlite::{Transaction, TransactionBehavior, params};
use serde::Serialize;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many machines, files and groups of them the summary names.
const NAMED: usize = 4;

/// Everything of a revision but content.
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) created: i64,
    pub(super) author: String,
    pub(super) message: String,
    pub(super) release: String,
    pub(super) rolled_back_to: Option<u64>,
    pub(super) platform: Option<Sha256>,
    pub(super) source: Vec<Sha256>,
    pub(super) holdings: Holdings,
}

impl Store {
    /// Stores a revision, and the secrets' values that it may hold, and makes current those that are new; all of it
    /// or nothing; durable on return.
    pub fn insert(&mut self, revision: &Revision, secrets: &Used) -> Result<(), StoreError> {
        self.insert_with(revision, secrets, |_| Ok(()))
    }

    /// The same, with what has to be stored beside it.
    pub fn insert_with(
        &mut self,
        revision: &Revision,
        secrets: &Used,
        beside: impl FnOnce(&Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // A database that was moved away would take all of this, and lose it.
        self.place.check()?;
        let transaction = self.begin()?;
        let last = self.last_number()?;
        if revision.number != last + 1 {
            return Err(StoreError::Order { last, wanted: revision.number });
        }
        let before = self.head(last)?.map(|head| self.holdings(&head)).transpose()?.unwrap_or_default();
        let entry = |(name, file): (&String, &crate::source::SourceFile)| SourceEntry {
            name: name.clone(),
            executable: file.executable,
            sha256: file.sha256,
        };
        let entries: Vec<SourceEntry> = revision.source.files.iter().map(entry).collect();
        let source =
            self.put_list(&entries, |entry| revision.source.files.get(&entry.name).map(|file| &*file.bytes))?;
        let mut holdings = Holdings::new();
        // Many machines' bundles are one and the same.
        let mut lists: HashMap<Sha256, Vec<Sha256>> = HashMap::new();
        for (machine, bundle) in &revision.bundles {
            let known = before.get(machine).filter(|held| held.digest == bundle.digest && held.role == bundle.role);
            let held = if let Some(held) = known {
                held.clone()
            } else {
                let files = match lists.entry(bundle.digest) {
                    Entry::Occupied(list) => list.get().clone(),
                    Entry::Vacant(list) => {
                        let content = |entry: &FileEntry| bundle.file(entry.path.as_str()).map(|file| &*file.content);
                        list.insert(self.put_list(&FileEntry::list(bundle), content)?).clone()
                    }
                };
                Held { role: bundle.role.clone(), digest: bundle.digest, compose: bundle.compose.clone(), files }
            };
            holdings.insert(machine.clone(), held);
        }
        let record = Record {
            number: revision.number,
            created: revision.created,
            author: revision.author.clone(),
            message: revision.message.clone(),
            release: revision.release.clone(),
            rolled_back_to: revision.rolled_back_to,
            platform: platform_hash(&entries),
            source,
            holdings,
        };
        self.write(record, &before)?;
        for value in &secrets.values {
            self.put_rendered(value)?;
        }
        self.make_current(&secrets.fresh)?;
        beside(self)?;
        transaction.commit().map_err(self.sql())?;
        if let Some(state) = self.path().parent() {
            reserve::keep(state);
        }
        self.place.check()
    }

    /// A transaction that no other writer can come between.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(self.sql())
    }

    /// Writes the rows of a revision whose content is there. `before` is what machines have in the one before.
    pub(super) fn write(&self, record: Record, before: &Holdings) -> Result<(), StoreError> {
        let touched = self.touched(before, &record.holdings)?;
        let edited = self.edited(record.number, record.platform)?;
        let head = Head {
            number: record.number,
            created: record.created,
            author: record.author,
            message: record.message,
            release: record.release,
            rolled_back_to: record.rolled_back_to,
            platform: record.platform,
            edited,
            touched,
            source: record.source,
            machines: fingerprint(&record.holdings),
        };
        let sealed = self.seal_json(&head_id(head.number), &head)?;
        self.connection
            .prepare_cached("INSERT INTO revision (number, sealed) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![head.number, sealed]))
            .map_err(self.sql())?;
        for machine in before.keys().chain(record.holdings.keys().filter(|name| !before.contains_key(*name))) {
            let held = record.holdings.get(machine);
            if held == before.get(machine) {
                continue;
            }
            let sealed = self.seal_json(&row_id(machine.as_str(), head.number), &held)?;
            self.connection
                .prepare_cached("INSERT INTO bundle (machine, revision, sealed) VALUES (?1, ?2, ?3)")
                .and_then(|mut insert| insert.execute(params![machine.as_str(), head.number, sealed]))
                .map_err(self.sql())?;
        }
        Ok(())
    }

    pub(super) fn seal_json(&self, what: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(value).map_err(|error| self.damaged(error))?;
        self.seal(what.as_bytes(), &json)
    }

    /// The settings whose values differ from the revision before.
    fn edited(&self, number: u64, platform: Option<Sha256>) -> Result<Vec<Edited>, StoreError> {
        let before = self.head(number.saturating_sub(1))?.and_then(|head| head.platform);
        if before == platform {
            return Ok(Vec::new());
        }
        let text = |hash: Option<Sha256>| match hash {
            Some(hash) => self.content(&hash, &mut Known::new()),
            None => Ok(Vec::new().into()),
        };
        Ok(edited(&text(before)?, &text(platform)?))
    }

    /// What changes from one set to another, in short.
    fn touched(&self, before: &Holdings, after: &Holdings) -> Result<Vec<Touched>, StoreError> {
        let mut groups: BTreeMap<(Vec<SafePath>, u8), (Touch, Vec<Name>)> = BTreeMap::new();
        let names: BTreeSet<&Name> = before.keys().chain(after.keys()).collect();
        let mut known: HashMap<_, Vec<SafePath>> = HashMap::new();
        for machine in names {
            let (was, is) = (before.get(machine), after.get(machine));
            if was == is {
                continue;
            }
            let touch = match (was, is) {
                (None, _) => Touch::New,
                (_, None) => Touch::Gone,
                _ => Touch::Changed,
            };
            let paths = match known.entry((was.map(|held| &held.files), is.map(|held| &held.files))) {
                Entry::Occupied(paths) => paths.get().clone(),
                Entry::Vacant(paths) => {
                    let (gone, come) = self.differing_files(was, is)?;
                    let differing: BTreeSet<SafePath> = gone.into_iter().chain(come).map(|entry| entry.path).collect();
                    paths.insert(differing.into_iter().collect()).clone()
                }
            };
            let group = groups.entry((paths, touch as u8)).or_insert((touch, Vec::new()));
            group.1.push(machine.clone());
        }
        let short = |((files, _), (touch, machines)): ((Vec<SafePath>, u8), (Touch, Vec<Name>))| Touched {
            touch,
            machine_count: machines.len(),
            machines: machines.into_iter().take(NAMED).collect(),
            file_count: files.len(),
            files: files.into_iter().take(NAMED).collect(),
        };
        Ok(groups.into_iter().map(short).collect())
    }
}
