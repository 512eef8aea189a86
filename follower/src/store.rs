//! All blocking work on the disk, in the order that survives a crash: look,
//! stage, commit, swap; later make durable and forget the journal.

use crate::applied::{Applied, Known, Owed};
use crate::disk::{DataFolder, DiskError};
use crate::journal::{Found, Journal, JournalError, Progress, Record};
use crate::plan;
use crate::plan::drift::Leave;
use crate::previous::{Previous, PreviousError};
use crate::snapshot::Snapshot;
use crate::spares::Spares;
use crate::stamps::Stamps;
use crate::state::{StateError, StateFolder};
use crate::step::Step;
use crate::steps::{Steps, Write};
use crate::write::{Contents, Touched, redo, stage};
use lockstep_edge::clock;
use lockstep_shared::{Bundle, Name, OnDrift, SafePath, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The follower's memory and its data folder.
#[derive(Debug)]
pub struct Store {
    state: StateFolder,
    journal: Journal,
    previous: Previous,
    spares: Spares,
    /// Hashes of contents that the journal has.
    journaled: HashSet<Sha256>,
    data_folder: PathBuf,
    /// Opened anew for every apply: a disk may have been mounted meanwhile.
    data: Option<DataFolder>,
    /// Hashes of what was read before.
    stamps: Stamps,
    /// What a plan leaves as it is, though it is not as it was written.
    leave: Leave,
    /// Written, but perhaps not durable by itself yet.
    touched: Touched,
    /// The new bytes of files that go into volumes, from the journal: a crash may have come before they were written.
    poured: Contents,
    /// Whether something staged may lie around.
    littered: bool,
    /// [`Self::journal_says_all`].
    says_all: bool,
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
    /// The last good bundle can't be kept or used.
    #[error(transparent)]
    Previous(#[from] PreviousError),
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
        let previous = Previous::open(&state.previous())?;
        let spares = state.spares()?;
        let mut store = Self {
            state,
            journal,
            previous,
            spares,
            journaled: HashSet::new(),
            data_folder: data_folder.to_owned(),
            data: None,
            stamps: Stamps::default(),
            leave: Leave::default(),
            touched: Touched::default(),
            poured: Contents::new(),
            littered: false,
            says_all: false,
        };
        let Some(last) = found.last() else {
            let applied = store.state.load()?;
            if data_folder.is_dir() {
                store.sweep()?;
            }
            return Ok((store, applied));
        };
        let applied = store.recovered(last);
        let (steps, contents) = merged(&found);
        tracing::info!(
            revision = applied.revision, digest = %applied.digest, applies = found.len(), owed = applied.owed.len(),
            progress = ?last.progress,
            "going through the journal: what was committed before the last stop is finished"
        );
        let fills = last.record.actions.iter().filter_map(crate::action::Action::fill).flat_map(|fill| &fill.write);
        let poured =
            fills.filter_map(|write| Some((write.file.path.clone(), last.contents.get(&write.file.path)?.clone())));
        store.poured = poured.collect();
        store.journaled.extend(contents_of(&found).into_keys());
        if let Err(error) = store.keep_good(&found, &applied) {
            tracing::warn!("{error}");
        }
        store.data = Some(DataFolder::open(data_folder, true)?);
        store.sweep()?;
        if let Some(data) = &store.data {
            store.touched = redo(data, &steps, &contents, &mut store.spares)?;
        }
        Ok((store, Some(applied)))
    }

    /// The state after the last record. The journal is newer than
    /// `applied.json`, unless that is about the very same apply: then it knows
    /// better what was acted on, and whether it failed.
    fn recovered(&self, last: &Found) -> Applied {
        match self.state.load() {
            Ok(Some(saved)) if saved.apply == last.record.applied.apply => saved,
            _ => recovered(last),
        }
    }

    /// An apply that was proven and then followed by another one before it could
    /// be kept is put together from the journal: an undo may need it.
    fn keep_good(&mut self, found: &[Found], applied: &Applied) -> Result<(), StoreError> {
        let Some(good) = applied.running.as_ref().map(|running| running.digest) else { return Ok(()) };
        if applied.digest == good || self.previous.digest() == Some(good) {
            return Ok(());
        }
        let Some(record) = found.iter().rev().find(|one| one.record.applied.digest == good) else { return Ok(()) };
        let contents = contents_of(found);
        Ok(self.previous.save(&record.record.applied, |_, known| contents.get(&known.sha256).cloned())?)
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
        let written = applied.into_iter().flat_map(Applied::on_disk).map(SafePath::as_str);
        let snapshot = match bundle {
            Some(bundle) => {
                let mut snapshot = data.look(plan::paths(bundle, applied), &mut self.stamps)?;
                snapshot.leave(self.leave.left(bundle, applied, &snapshot));
                snapshot
            }
            None => data.look(written, &mut self.stamps)?,
        };
        let path = data.path().to_owned();
        self.data = Some(data);
        Ok((snapshot, path))
    }

    /// Has plans leave files as they are from now on.
    pub fn leave(&mut self, leave: Leave) {
        self.leave = leave;
    }

    /// Whether a written file is to be written again, as far as stamps tell.
    pub fn has_drifted(&mut self, applied: &Applied) -> Result<bool, StoreError> {
        let (disk, _) = self.look(None, Some(applied))?;
        let drifted = applied.drifted(&disk, self.leave.default);
        Ok(drifted.iter().any(|one| one.policy == OnDrift::Repair && !self.leave.held.contains(&one.path)))
    }

    /// A file of at most so many bytes, if it is text.
    pub fn text(&self, path: &SafePath, most: usize) -> Option<String> {
        let file = std::fs::File::from(self.data.as_ref()?.file(path.as_str()).ok()?);
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
        String::from_utf8(bytes).ok().filter(|text| text.len() <= most)
    }

    /// Reads every file at the next look, whatever its stamps say.
    pub fn forget_stamps(&mut self) {
        self.stamps.forget();
    }

    /// Stages, commits and swaps. Once this has begun to swap, the record will be finished in any case.
    pub fn write(&mut self, record: &Record, contents: &Contents) -> Result<(), WriteError> {
        let before = |error: StoreError| WriteError::Before(error);
        let Self { data, journal, journaled, touched, spares, littered, says_all, .. } = self;
        *says_all = false;
        let data = match data {
            Some(data) => data,
            None => data.insert(DataFolder::open(&self.data_folder, true).map_err(|error| before(error.into()))?),
        };
        if *littered {
            data.sweep().map_err(|error| before(error.into()))?;
        }
        // Until it has gone well.
        *littered = true;
        let staged = stage(data, &record.steps, contents, spares).map_err(|error| before(error.into()))?;
        if let Err(error) = journal.commit(record, contents) {
            staged.undo();
            return Err(before(error.into()));
        }
        journaled.extend(record.writes().map(|write| write.sha256));
        touched.and(staged.swap(contents).map_err(WriteError::Halfway)?);
        *littered = false;
        *says_all = record.actions.is_empty() && record.applied.failed.is_none();
        if !*says_all {
            // For the log of the next start only: whatever it says, what is unproven is done again.
            let _ = journal.note(Progress::Acting);
        }
        Ok(())
    }

    /// Whether the journal says all that is to be known of what was written last: there was nothing to act on.
    pub fn journal_says_all(&self) -> bool {
        self.says_all
    }

    /// Whether an undo could go back to what `before` has as running, if
    /// something were committed now. Either that is kept; or it is `good`, in
    /// memory, and the next start finds in the journal what is not kept of it.
    pub fn can_go_back(&self, before: &Applied, good: Option<&Bundle>) -> bool {
        let Some(running) = before.running.as_ref().map(|running| running.digest) else { return true };
        let has = |known: &Known| self.previous.has(known.sha256) || self.journaled.contains(&known.sha256);
        let remembered = before.digest == running && good.is_some_and(|good| good.digest == running);
        self.previous.digest() == Some(running) || (remembered && before.files.values().all(has))
    }

    /// The last good bundle, as it is kept for `machine`, if it is the one with this digest.
    pub fn good(&self, machine: &Name, digest: Sha256) -> Result<Option<Bundle>, StoreError> {
        if self.previous.digest() != Some(digest) {
            return Ok(None);
        }
        Ok(self.previous.load(machine)?)
    }

    /// The new bytes of files that go into volumes, as a crash left them in the journal.
    pub fn poured(&self) -> &Contents {
        &self.poured
    }

    /// Makes room for an undo: lets go of files that were replaced since the
    /// last checkpoint, and removes what a swap that broke off left staged.
    pub fn make_room(&mut self) -> Result<(), StoreError> {
        self.touched.release();
        self.spares.release();
        self.sweep()
    }

    /// Notes how acting on the last written record ended.
    pub fn settle(&mut self, applied: &Applied, committed: bool) -> Result<(), StoreError> {
        if committed && !applied.owes() {
            self.journal.note(Progress::Proven)?;
        }
        Ok(self.state.save(applied)?)
    }

    /// Keeps that something failed, and how far its undo got.
    pub fn note(&mut self, applied: &Applied) -> Result<(), StoreError> {
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

    /// Makes everything durable in its own place, keeps the bundle that is
    /// proven to run for an undo, and forgets the journal. `good` is that
    /// bundle, where it is still in memory.
    pub fn checkpoint(&mut self, applied: &Applied, good: Option<&Bundle>) -> Result<(), StoreError> {
        Step::Checkpoint.begins();
        if let Some(data) = &self.data {
            self.touched.sync(data)?;
        }
        Step::Checkpoint.begins();
        self.keep(applied, good)?;
        Step::Checkpoint.begins();
        self.state.save(applied)?;
        Step::Checkpoint.begins();
        if !self.journal.is_empty() {
            self.journal.blank()?;
            self.journaled.clear();
            self.says_all = false;
        }
        self.spares.fill();
        self.touched = Touched::default();
        self.data = None;
        Ok(())
    }

    fn keep(&mut self, applied: &Applied, good: Option<&Bundle>) -> Result<(), StoreError> {
        let Some((running, revision)) = applied.running.as_ref().map(|running| (running.digest, running.revision))
        else {
            return Ok(());
        };
        if self.previous.digest() == Some(running) {
            return Ok(());
        }
        let good = good.filter(|good| good.digest == running);
        if applied.digest != running {
            // Something else was written since: only memory still has it all.
            let Some(good) = good else { return Ok(()) };
            let described = Applied::written("", good, revision, BTreeMap::new(), None, 0);
            let find = |path: &SafePath, _: &Known| good.file(path.as_str()).map(|file| file.content.clone());
            return Ok(self.previous.save(&described, find)?);
        }
        let opened = match &self.data {
            Some(_) => None,
            None => DataFolder::open(&self.data_folder, true).ok(),
        };
        let poured = &self.poured;
        let data = self.data.as_ref().or(opened.as_ref());
        let find = |path: &SafePath, known: &Known| {
            let remembered = good.and_then(|good| good.file(path.as_str())).map(|file| file.content.clone());
            // What stands in a volume is not in the data folder; the journal may have it from before the start.
            let poured = || poured.get(path).filter(|bytes| Sha256::of(bytes) == known.sha256).cloned();
            remembered.or_else(poured).or_else(|| data?.read(path.as_str(), known.sha256))
        };
        match self.previous.save(applied, find) {
            // Somebody changed a file since. Once it is written again, there is another checkpoint.
            Err(error @ PreviousError::Missing(_)) => tracing::debug!("{error}"),
            other => other?,
        }
        Ok(())
    }
}

/// Everything that the journal has, by hash.
fn contents_of(found: &[Found]) -> BTreeMap<Sha256, Arc<[u8]>> {
    let mut contents = BTreeMap::new();
    for one in found {
        for write in one.record.writes() {
            if let Some(bytes) = one.contents.get(&write.path) {
                contents.insert(write.sha256, bytes.clone());
            }
        }
    }
    contents
}

/// The state after the last record: all of its actions are owed unless they were proven.
fn recovered(last: &Found) -> Applied {
    let mut applied = last.record.applied.clone();
    let owed = |deferred| move |action: &crate::action::Action| Owed { action: action.clone(), deferred };
    let later = last.record.deferred.iter().map(owed(true));
    let due = last.record.actions.iter().filter(|_| last.progress != Progress::Proven).map(owed(false));
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
