//! All blocking work on the disk, in the order that survives a crash: look,
//! stage, commit, swap; later make durable and forget the journal.

use crate::applied::{Applied, Owed};
use crate::disk::{DataFolder, DiskError};
use crate::journal::{Found, Journal, JournalError, Record};
use crate::plan;
use crate::snapshot::Snapshot;
use crate::stamps::Stamps;
use crate::state::{StateError, StateFolder};
use crate::steps::{Steps, Write};
use crate::write::{Contents, Touched, redo, stage};
use lockstep_edge::clock;
use lockstep_shared::{Bundle, SafePath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The follower's memory and its data folder.
#[derive(Debug)]
pub struct Store {
    state: StateFolder,
    journal: Journal,
    data_folder: PathBuf,
    /// Opened anew for every apply: a disk may have been mounted meanwhile.
    data: Option<DataFolder>,
    /// Hashes of what was read before.
    stamps: Stamps,
    /// Written, but perhaps not durable by itself yet.
    touched: Touched,
}

/// Why the disk work was not done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The data folder can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing was changed.
    #[error("nothing was changed: {0}")]
    Before(StoreError),
    /// Some files are new and some old; the next attempt, or the next start, finishes it.
    #[error("the new files are not all in place, the next attempt finishes it: {0}")]
    Halfway(DiskError),
}

impl Store {
    /// Opens the state, and finishes what a crash interrupted on the disk. What
    /// it interrupted on containers is in [`Applied::owed`].
    pub fn open(state_folder: &Path, data_folder: &Path) -> Result<(Self, Option<Applied>), StoreError> {
        let state = StateFolder::open(state_folder)?;
        let (journal, found) = Journal::open(&state.journal())?;
        let mut store = Self {
            state,
            journal,
            data_folder: data_folder.to_owned(),
            data: None,
            stamps: Stamps::default(),
            touched: Touched::default(),
        };
        let Some(last) = found.last() else {
            let applied = store.state.load()?;
            if data_folder.is_dir() {
                store.sweep()?;
            }
            return Ok((store, applied));
        };
        // The journal is newer than applied.json, which may even be torn.
        let applied = recovered(last);
        let (steps, contents) = merged(&found);
        tracing::info!(
            revision = applied.revision, digest = %applied.digest, applies = found.len(), owed = applied.owed.len(),
            "going through the journal: what was committed before the last stop is finished"
        );
        store.data = Some(DataFolder::open(data_folder, true)?);
        store.sweep()?;
        if let Some(data) = &store.data {
            store.touched = redo(data, &steps, &contents)?;
        }
        Ok((store, Some(applied)))
    }

    fn sweep(&mut self) -> Result<(), StoreError> {
        let data = DataFolder::open(&self.data_folder, true)?;
        let swept = data.sweep()?;
        if swept > 0 {
            tracing::info!(files = swept, "removed staged files of an apply that never happened");
        }
        Ok(())
    }

    /// Looks at everything that an apply of `bundle` is concerned with, or,
    /// without one, at what was written. The data folder's canonical path comes with it.
    pub fn look(
        &mut self,
        bundle: Option<&Bundle>,
        applied: Option<&Applied>,
    ) -> Result<(Snapshot, PathBuf), StoreError> {
        let written_before = applied.is_some_and(|applied| !applied.files.is_empty());
        let data = DataFolder::open(&self.data_folder, written_before)?;
        let written = applied.into_iter().flat_map(|applied| applied.files.keys().map(SafePath::as_str));
        let snapshot = match bundle {
            Some(bundle) => data.look(plan::paths(bundle, applied), &mut self.stamps)?,
            None => data.look(written, &mut self.stamps)?,
        };
        let path = data.path().to_owned();
        self.data = Some(data);
        Ok((snapshot, path))
    }

    /// Reads every file at the next look, whatever its stamps say.
    pub fn forget_stamps(&mut self) {
        self.stamps.forget();
    }

    /// Stages, commits and swaps. Once this has begun to swap, the record will be finished in any case.
    pub fn write(&mut self, record: &Record, contents: &Contents) -> Result<(), WriteError> {
        let before = |error: StoreError| WriteError::Before(error);
        let Self { data, journal, touched, .. } = self;
        let data = match data {
            Some(data) => data,
            None => data.insert(DataFolder::open(&self.data_folder, true).map_err(|error| before(error.into()))?),
        };
        let staged = stage(data, &record.steps, contents).map_err(|error| before(error.into()))?;
        if let Err(error) = journal.commit(record, contents) {
            staged.undo();
            return Err(before(error.into()));
        }
        touched.and(staged.swap(contents).map_err(WriteError::Halfway)?);
        Ok(())
    }

    /// Notes how acting on the last written record ended.
    pub fn settle(&mut self, applied: &Applied, committed: bool) -> Result<(), StoreError> {
        if committed && !applied.owes() {
            self.journal.prove()?;
        }
        Ok(self.state.save(applied)?)
    }

    /// The data folder's canonical path, as it was last looked at.
    pub fn data_path(&self) -> PathBuf {
        let known = self.data.as_ref().map(|data| data.path().to_owned());
        known.or_else(|| self.data_folder.canonicalize().ok()).unwrap_or_else(|| self.data_folder.clone())
    }

    /// Whether so much waits to be made durable that it should not wait longer.
    pub fn is_full(&self) -> bool {
        self.journal.is_long()
    }

    /// Makes everything durable in its own place and forgets the journal.
    pub fn checkpoint(&mut self, applied: &Applied) -> Result<(), StoreError> {
        if let Some(data) = &self.data {
            self.touched.sync(data)?;
        }
        self.state.save(applied)?;
        if !self.journal.is_empty() {
            self.journal.blank()?;
        }
        self.touched = Touched::default();
        self.data = None;
        Ok(())
    }
}

/// The state after the last record: all of its actions are owed unless they were proven.
fn recovered(last: &Found) -> Applied {
    let mut applied = last.record.applied.clone();
    let owed = |deferred| move |action: &crate::action::Action| Owed { action: action.clone(), deferred };
    let later = last.record.deferred.iter().map(owed(true));
    let due = last.record.actions.iter().filter(|_| !last.proven).map(owed(false));
    applied.settle(due.chain(later).collect(), clock::now());
    applied
}

/// What several records come to: for each path only the last word counts.
fn merged(found: &[Found]) -> (Steps, Contents) {
    let mut write: BTreeMap<SafePath, Write> = BTreeMap::new();
    let mut remove: BTreeSet<SafePath> = BTreeSet::new();
    let mut folders: BTreeSet<SafePath> = BTreeSet::new();
    let mut contents = Contents::new();
    for one in found {
        for path in &one.record.steps.remove {
            write.remove(path);
            remove.insert(path.clone());
        }
        for new in &one.record.steps.write {
            remove.remove(&new.path);
            write.insert(new.path.clone(), new.clone());
        }
        contents.extend(one.contents.iter().map(|(path, bytes)| (path.clone(), bytes.clone())));
        folders.extend(one.record.steps.folders.iter().cloned());
    }
    let steps = Steps {
        write: write.into_values().collect(),
        remove: remove.into_iter().collect(),
        folders: folders.into_iter().collect(),
    };
    (steps, contents)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests;
