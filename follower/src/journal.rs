//! The journal: `state/journal`. One write and one `fdatasync` commit an
//! apply: the intent, the new state and the new bytes. Everything after that
//! is redone from here after a crash, so files need not be synced one by one.
//!
//! Records follow each other from the start of a file that is never made
//! shorter; once all of them are durable elsewhere, the first is blanked. What
//! stands behind it belongs to another generation, and means nothing any more.

use crate::action::Action;
use crate::applied::Applied;
use crate::step::Step;
use crate::steps::{Steps, Write};
use crate::write::Contents;
use lockstep_shared::Sha256;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What one apply is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What is true once it is done, apart from what acting leaves owed.
    pub applied: Applied,
    /// What happens on the disk.
    pub steps: Steps,
    /// What happens to containers, in order.
    pub actions: Vec<Action>,
    /// Actions that wait for a later notification.
    pub deferred: Vec<Action>,
}

impl Record {
    /// All files to write, in the data folder and in volumes: the journal has their new bytes.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        let fills = self.actions.iter().filter_map(Action::fill).flat_map(|fill| &fill.write);
        self.steps.write.iter().chain(fills.map(|write| &write.file))
    }
}

/// A record that was read back.
#[derive(Debug)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// How far it got.
    pub progress: Progress,
    /// The new bytes of [`Record::writes`].
    pub contents: Contents,
}

/// How far a committed record got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its files may be in their places or not.
    Committed = 1,
    /// It was acted on and proven.
    Proven = 2,
    /// Its files are in their places, and containers are acted on.
    Acting = 3,
}

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{operation} the journal {path} failed: {source}; the state folder needs room and an owner that may write: ls -l and df -h tell"
)]
pub struct JournalError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The journal's file.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Of the records that count: another number after each blanking, and after each start that finds none.
    generation: u64,
    sequence: u32,
    /// Where the next record goes.
    end: u64,
    /// Where the last record is.
    last: u64,
    buffer: Vec<u8>,
}

const MAGIC: &[u8; 8] = b"lockstJ1";
/// magic 8, generation 8, sequence 4, progress 1 + 3 spare, intent's length 8, contents' length 8, SHA-256 of the intent 32.
const HEADER: usize = 72;
const PROGRESS_AT: u64 = 20;
/// Written once at the beginning: overwriting allocated blocks needs no second write for the file's size.
const ALLOCATED: usize = 1024 * 1024;
/// Past this the caller should make all records durable elsewhere first.
const LONG: u64 = 64 * 1024 * 1024;
/// Kept between commits for the next one; more is given back.
const KEPT_BUFFER: usize = 64 * 1024;

impl Journal {
    /// Opens the journal, or makes it, and reads what was committed and not blanked.
    pub fn open(path: &Path) -> Result<(Self, Vec<Found>), JournalError> {
        let failed = |operation| move |source| JournalError { operation, path: path.to_owned(), source };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(path).map_err(failed("opening"))?;
        let length = file.metadata().map_err(failed("reading"))?.len();
        let mut journal = Self {
            file,
            path: path.to_owned(),
            generation: u64::from_le_bytes(lockstep_edge::random::bytes()),
            sequence: 0,
            end: 0,
            last: 0,
            buffer: Vec::new(),
        };
        if length == 0 {
            journal.file.write_all_at(&vec![0; ALLOCATED], 0).map_err(failed("allocating"))?;
            journal.file.sync_all().map_err(failed("allocating"))?;
            return Ok((journal, Vec::new()));
        }
        let mut found = Vec::new();
        while let Some((one, next)) = journal.read_at(journal.end, length).map_err(failed("reading"))? {
            journal.last = journal.end;
            journal.end = next;
            journal.sequence += 1;
            found.push(one);
        }
        Ok((journal, found))
    }

    fn read_at(&mut self, at: u64, length: u64) -> io::Result<Option<(Found, u64)>> {
        if at + HEADER as u64 > length {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, at)?;
        let number = |range: std::ops::Range<usize>| {
            header[range].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (generation, sequence) = (number(8..16), number(16..20));
        let (intent, contents) = (number(24..32), number(32..40));
        // The first record says which generation counts.
        let counts = at == 0 || generation == self.generation;
        let end = at.checked_add(HEADER as u64).and_then(|end| end.checked_add(intent)?.checked_add(contents));
        let Some(end) = end.filter(|end| *end <= length) else { return Ok(None) };
        if &header[..8] != MAGIC || !counts || sequence != u64::from(self.sequence) {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX) - HEADER];
        self.file.read_exact_at(&mut bytes, at + HEADER as u64)?;
        let (intent, mut rest) = bytes.split_at(usize::try_from(intent).unwrap_or(usize::MAX));
        if Sha256::of(intent).0 != header[40..72] {
            return Ok(None);
        }
        // From here on the intent is whole; contents that aren't mean that the commit never ended.
        let Ok(record) = serde_json::from_slice::<Record>(intent) else { return Ok(None) };
        let mut contents = Contents::new();
        for write in record.writes() {
            let Some((content, more)) = rest.split_at_checked(write.size) else { return Ok(None) };
            if Sha256::of(content) != write.sha256 {
                return Ok(None);
            }
            contents.insert(write.path.clone(), content.into());
            rest = more;
        }
        if !rest.is_empty() {
            return Ok(None);
        }
        let progress = [Progress::Proven, Progress::Acting].into_iter().find(|progress| *progress as u8 == header[20]);
        let progress = progress.unwrap_or(Progress::Committed);
        self.generation = generation;
        Ok(Some((Found { record, progress, contents }, end)))
    }

    /// Commits a record: once this returns it survives any crash. `contents`
    /// has the new bytes of each of [`Record::writes`].
    pub fn commit(&mut self, record: &Record, contents: &Contents) -> Result<(), JournalError> {
        let failed = |path: &Path, source| JournalError { operation: "writing", path: path.to_owned(), source };
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.resize(HEADER, 0);
        serde_json::to_writer(&mut *buffer, record).map_err(|error| failed(&self.path, error.into()))?;
        let intent = buffer.len() - HEADER;
        for write in record.writes() {
            let bytes = contents.get(&write.path).filter(|bytes| bytes.len() == write.size);
            let bytes = bytes.ok_or_else(|| failed(&self.path, io::Error::other("a planned file has no content")))?;
            buffer.extend_from_slice(bytes);
        }
        let content = buffer.len() - HEADER - intent;
        let digest = Sha256::of(&buffer[HEADER..HEADER + intent]);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.generation.to_le_bytes());
        header[16..20].copy_from_slice(&self.sequence.to_le_bytes());
        header[20] = Progress::Committed as u8;
        header[24..32].copy_from_slice(&(intent as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(content as u64).to_le_bytes());
        header[40..].copy_from_slice(&digest.0);
        buffer[..HEADER].copy_from_slice(&header);
        let written = self.file.write_all_at(buffer, self.end).and_then(|()| {
            Step::Commit.begins();
            self.file.sync_data()
        });
        let length = buffer.len() as u64;
        buffer.clear();
        buffer.shrink_to(KEPT_BUFFER);
        if let Err(source) = written {
            // What did reach the file must not look committed to the next start.
            let _ = self.file.write_all_at(&[0; HEADER], self.end);
            return Err(failed(&self.path, source));
        }
        self.last = self.end;
        self.end += length;
        self.sequence += 1;
        Ok(())
    }

    /// Notes how far the last record got. Not synced: after a power failure all
    /// containers start anew, and acting again is right.
    pub fn note(&self, progress: Progress) -> Result<(), JournalError> {
        self.file.write_all_at(&[progress as u8], self.last + PROGRESS_AT).map_err(|source| JournalError {
            operation: "marking",
            path: self.path.clone(),
            source,
        })
    }

    /// Whether there is a record to be made durable elsewhere.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Whether that should happen before the next commit.
    pub fn is_long(&self) -> bool {
        self.end > LONG
    }

    /// Blanks the journal: all its records are durable elsewhere.
    pub fn blank(&mut self) -> Result<(), JournalError> {
        let blanked = self.file.write_all_at(&[0; HEADER], 0).and_then(|()| self.file.sync_data());
        blanked.map_err(|source| JournalError { operation: "blanking", path: self.path.clone(), source })?;
        self.generation = self.generation.wrapping_add(1);
        (self.end, self.last, self.sequence) = (0, 0, 0);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use lockstep_shared::api::Change;
    use lockstep_shared::{Bundle, File as BundleFile, Name, SafePath};
    use std::collections::BTreeMap;

    fn record(revision: u64, content: &'static [u8]) -> (Record, &'static [u8]) {
        let file = BundleFile::plain(SafePath::new("a/x").unwrap(), content);
        let steps = Steps { write: vec![crate::steps::Write::of(&file, Change::Added)], ..Steps::default() };
        let name = |text: &str| Name::new(text).unwrap();
        let bundle = Bundle::new(name("core"), name("core-1"), None, vec![file]).unwrap();
        let applied = Applied::written("id", &bundle, revision, BTreeMap::new(), None, 1);
        (Record { applied, steps, actions: Vec::new(), deferred: Vec::new() }, content)
    }

    fn commit(journal: &mut Journal, revision: u64, content: &'static [u8]) {
        let (record, content) = record(revision, content);
        let contents = [(SafePath::new("a/x").unwrap(), content.into())].into();
        journal.commit(&record, &contents).unwrap();
    }

    fn reopen(path: &Path) -> Vec<(u64, bool, Vec<u8>)> {
        let (_, found) = Journal::open(path).unwrap();
        found
            .into_iter()
            .map(|one| {
                (
                    one.record.applied.revision,
                    one.progress == Progress::Proven,
                    one.contents.values().next().unwrap().to_vec(),
                )
            })
            .collect()
    }

    #[test]
    fn records_survive_until_they_are_blanked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, found) = Journal::open(&path).unwrap();
        assert!(found.is_empty());
        commit(&mut journal, 1, b"one");
        journal.note(Progress::Proven).unwrap();
        commit(&mut journal, 2, b"two!");
        assert_eq!(reopen(&path), [(1, true, b"one".to_vec()), (2, false, b"two!".to_vec())]);
        journal.blank().unwrap();
        assert!(reopen(&path).is_empty());
        // The second record of the blanked generation still stands in the file and must not come back.
        commit(&mut journal, 3, b"one");
        assert_eq!(reopen(&path), [(3, false, b"one".to_vec())]);
    }

    #[test]
    fn what_an_earlier_life_left_behind_the_first_record_never_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for life in 0..4 {
            let (mut journal, found) = Journal::open(&path).unwrap();
            assert!(found.is_empty());
            let revision = 10 * life;
            commit(&mut journal, revision + 1, b"one");
            assert_eq!(reopen(&path), [(revision + 1, false, b"one".to_vec())], "in life {life}");
            commit(&mut journal, revision + 2, b"two");
            assert_eq!(reopen(&path).len(), 2);
            journal.blank().unwrap();
        }
        // Nor behind one that a crash tore.
        let (mut journal, _) = Journal::open(&path).unwrap();
        commit(&mut journal, 91, b"one");
        commit(&mut journal, 92, b"two");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (mut journal, found) = Journal::open(&path).unwrap();
        assert!(found.is_empty());
        commit(&mut journal, 93, b"one");
        assert_eq!(reopen(&path), [(93, false, b"one".to_vec())]);
    }

    #[test]
    fn goes_on_after_what_it_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        commit(&mut Journal::open(&path).unwrap().0, 1, b"one");
        let (mut journal, _) = Journal::open(&path).unwrap();
        commit(&mut journal, 2, b"two");
        assert_eq!(reopen(&path).len(), 2);
    }

    #[test]
    fn a_torn_commit_never_happened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        commit(&mut journal, 1, b"first");
        let second = journal.end;
        commit(&mut journal, 2, b"content of the second");
        let whole = std::fs::read(&path).unwrap();
        let end = usize::try_from(journal.end).unwrap();
        for torn in usize::try_from(second).unwrap()..end {
            let mut bytes = whole.clone();
            bytes[torn] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            // The progress byte and its spare neighbours are outside what is checked.
            let spare = (20..24).contains(&(torn - usize::try_from(second).unwrap()));
            assert_eq!(reopen(&path).len(), if spare { 2 } else { 1 }, "byte {torn} of {second}");
        }
    }
}
