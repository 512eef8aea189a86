//! The last good bundle, whole: `state/previous/`. What an undo goes back to,
//! so it must never be half there. Two files take turns, so that one is whole
//! at every moment: the manifest first, then the contents that it names. Each is
//! written over what it held before, since making and removing a file for each
//! content costs a file system more than writing all of them. Bytes that don't
//! have their hash are never used.

use crate::applied::{Applied, Known};
use lockstep_edge::durable;
use lockstep_shared::{Bundle, File, Name, SafePath, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The form of the manifest that this version reads and writes.
const FORMAT: u64 = 2;
/// The two files.
const SLOTS: [&str; 2] = ["a", "b"];
const MAGIC: &[u8; 8] = b"lockstP2";
/// magic 8, generation 8, manifest's length 8, SHA-256 of the manifest 32.
const HEADER: usize = 56;

/// The folder of the last good bundle.
#[derive(Debug)]
pub struct Previous {
    folder: PathBuf,
    slots: [fs::File; 2],
    kept: Option<Kept>,
}

/// A bundle that is in the folder.
#[derive(Debug)]
struct Kept {
    /// Which of the files has it.
    slot: usize,
    /// The later of two is the one that counts.
    generation: u64,
    manifest: Manifest,
    /// Where each content lies in the file.
    places: BTreeMap<Sha256, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    size: u64,
}

/// All that a [`Bundle`] needs beside its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u64,
    role: Name,
    revision: u64,
    digest: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compose: Option<SafePath>,
    files: BTreeMap<SafePath, Known>,
    /// The sizes of the contents, in bytes, in the order in which they follow: that of their hashes.
    sizes: BTreeMap<Sha256, u64>,
}

/// Why the last good bundle can't be kept, or not be used.
#[derive(Debug, thiserror::Error)]
pub enum PreviousError {
    /// A file operation failed.
    #[error(
        "{operation} {path} failed: {source}; the last good bundle is kept there for an undo: the state folder needs room and an owner that may write (df -h, ls -ld)"
    )]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It isn't what was kept.
    #[error("the last good bundle in {folder} is damaged ({what}) and is not used")]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A content was nowhere to be found.
    #[error("the last good bundle can't be kept for an undo yet: {0} is not on the disk as it was written")]
    Missing(SafePath),
}

impl Previous {
    /// Opens the folder, or makes it. One that is damaged counts as empty, and is said.
    pub fn open(folder: &Path) -> Result<Self, PreviousError> {
        durable::private_folder(folder).map_err(io_error("making", folder))?;
        for entry in fs::read_dir(folder).map_err(io_error("listing", folder))?.flatten() {
            // An earlier version had a file for each content.
            if !SLOTS.iter().any(|slot| entry.file_name() == *slot) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let open = |slot: &str| {
            let path = folder.join(slot);
            let mut options = fs::File::options();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            file.map_err(io_error("opening", &path))
        };
        let slots = [open(SLOTS[0])?, open(SLOTS[1])?];
        durable::sync_folder(folder).map_err(io_error("syncing", folder))?;
        let mut previous = Self { folder: folder.to_owned(), slots, kept: None };
        for slot in 0..SLOTS.len() {
            match previous.read(slot) {
                Ok(Some(found)) if previous.generation() < found.generation => previous.kept = Some(found),
                Ok(_) => {}
                Err(error) => tracing::warn!("{error}; the next good bundle is kept anew"),
            }
        }
        Ok(previous)
    }

    fn generation(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.generation)
    }

    /// What one of the files has; `None` if it is empty.
    fn read(&self, slot: usize) -> Result<Option<Kept>, PreviousError> {
        let (file, path) = (&self.slots[slot], self.folder.join(SLOTS[slot]));
        let length = file.metadata().map_err(io_error("reading", &path))?.len();
        if length == 0 {
            return Ok(None);
        }
        let torn = || self.damaged(format!("{} was not written to its end", SLOTS[slot]));
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(|_| torn())?;
        let number = |at: usize| header[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (generation, size) = (number(8), number(16));
        if &header[..8] != MAGIC || size > length {
            return Err(torn());
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, HEADER as u64).map_err(|_| torn())?;
        if Sha256::of(&bytes).0 != header[24..] {
            return Err(torn());
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(self.damaged(format!("it has format {} and this version knows {FORMAT}", manifest.format)));
        }
        let kept = Kept { slot, generation, places: places(&manifest, size), manifest };
        match kept.manifest.files.iter().find(|(_, known)| self.content_of(&kept, known.sha256).is_none()) {
            Some((path, _)) => Err(self.damaged(format!("the content of {path} is missing or torn"))),
            None => Ok(Some(kept)),
        }
    }

    fn damaged(&self, what: String) -> PreviousError {
        PreviousError::Damaged { folder: self.folder.clone(), what }
    }

    /// Which bundle it is.
    pub fn digest(&self) -> Option<Sha256> {
        self.kept.as_ref().map(|kept| kept.manifest.digest)
    }

    /// Whether a content is in the folder.
    pub fn has(&self, sha256: Sha256) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.places.contains_key(&sha256))
    }

    /// A content, if it is there and is what it is named after.
    fn content(&self, sha256: Sha256) -> Option<Vec<u8>> {
        self.content_of(self.kept.as_ref()?, sha256)
    }

    fn content_of(&self, kept: &Kept, sha256: Sha256) -> Option<Vec<u8>> {
        let Place { at, size } = *kept.places.get(&sha256)?;
        let file = &self.slots[kept.slot];
        // A torn manifest may say anything.
        let length = file.metadata().ok()?.len();
        let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| at.saturating_add(size) <= length)?];
        file.read_exact_at(&mut bytes, at).ok()?;
        (Sha256::of(&bytes) == sha256).then_some(bytes)
    }

    /// The bundle for `machine`, every byte of it verified; `None` if none is kept.
    pub fn load(&self, machine: &Name) -> Result<Option<Bundle>, PreviousError> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let find = |path: &SafePath, known: &Known| {
            let content = self.content_of(kept, known.sha256);
            content.ok_or_else(|| self.damaged(format!("the content of {path} is missing or torn")))
        };
        kept.manifest.bundle(machine, find).map(Some).map_err(|error| match error {
            Unmade::Content(error) => error,
            Unmade::Bundle(what) => self.damaged(what),
        })
    }

    /// Keeps what `applied` describes instead of what was kept. `find` gives
    /// the bytes of a file; where it can't, what was kept may have them.
    pub fn save(
        &mut self,
        applied: &Applied,
        find: impl Fn(&SafePath, &Known) -> Option<Arc<[u8]>>,
    ) -> Result<(), PreviousError> {
        let mut contents: BTreeMap<Sha256, Arc<[u8]>> = BTreeMap::new();
        for (path, known) in &applied.files {
            if contents.contains_key(&known.sha256) {
                continue;
            }
            let found = find(path, known).filter(|bytes| Sha256::of(bytes) == known.sha256);
            let bytes = found.or_else(|| self.content(known.sha256).map(Arc::from));
            contents.insert(known.sha256, bytes.ok_or_else(|| PreviousError::Missing(path.clone()))?);
        }
        let manifest = Manifest::of(applied, &contents);
        let json = serde_json::to_vec(&manifest).unwrap_or_default();
        let generation = self.generation() + 1;
        let slot = self.kept.as_ref().map_or(0, |kept| 1 - kept.slot);
        let path = self.folder.join(SLOTS[slot]);
        write(&self.slots[slot], generation, &json, contents.values()).map_err(io_error("writing", &path))?;
        // No bytes stay for longer than an undo may need them.
        let _ = self.slots[1 - slot].set_len(0);
        self.kept = Some(Kept { slot, generation, places: places(&manifest, json.len() as u64), manifest });
        Ok(())
    }
}

/// Where the contents lie, behind a manifest of so many bytes.
fn places(manifest: &Manifest, size: u64) -> BTreeMap<Sha256, Place> {
    let mut at = (HEADER as u64).saturating_add(size);
    let place = |(sha256, size): (&Sha256, &u64)| {
        let place = Place { at, size: *size };
        at = at.saturating_add(*size);
        (*sha256, place)
    };
    manifest.sizes.iter().map(place).collect()
}

/// Writes over a file that holds nothing of use any more, and makes it durable.
fn write<'c>(
    file: &fs::File,
    generation: u64,
    manifest: &[u8],
    contents: impl Iterator<Item = &'c Arc<[u8]>>,
) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER + manifest.len());
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&generation.to_le_bytes());
    header.extend_from_slice(&(manifest.len() as u64).to_le_bytes());
    header.extend_from_slice(&Sha256::of(manifest).0);
    header.extend_from_slice(manifest);
    let mut at = header.len() as u64;
    file.write_all_at(&header, 0)?;
    for content in contents {
        file.write_all_at(content, at)?;
        at += content.len() as u64;
    }
    file.set_len(at)?;
    file.sync_data()
}

enum Unmade<E> {
    Content(E),
    Bundle(String),
}

impl Manifest {
    fn of(applied: &Applied, contents: &BTreeMap<Sha256, Arc<[u8]>>) -> Self {
        Self {
            sizes: contents.iter().map(|(sha256, bytes)| (*sha256, bytes.len() as u64)).collect(),
            format: FORMAT,
            role: applied.role.clone(),
            revision: applied.revision,
            digest: applied.digest,
            compose: applied.compose.clone(),
            files: applied.files.clone(),
        }
    }

    /// The bundle with these contents. It has no checks: it was good before.
    fn bundle<E>(
        &self,
        machine: &Name,
        content: impl Fn(&SafePath, &Known) -> Result<Vec<u8>, E>,
    ) -> Result<Bundle, Unmade<E>> {
        let mut files = Vec::with_capacity(self.files.len());
        for (path, known) in &self.files {
            files.push(File {
                mode: known.mode,
                owner: known.owner,
                on_change: known.on_change.clone(),
                on_drift: known.on_drift,
                services: known.services.clone(),
                containers: known.containers.clone(),
                volume: known.volume.clone(),
                ..File::plain(path.clone(), content(path, known).map_err(Unmade::Content)?)
            });
        }
        let bundle = Bundle::new(self.role.clone(), machine.clone(), self.compose.clone(), files);
        // Without its checks and folder markers it is still what this digest was given for.
        bundle
            .map(|bundle| Bundle { digest: self.digest, compose: self.compose.clone(), ..bundle })
            .map_err(|error| Unmade::Bundle(error.to_string()))
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PreviousError + use<> {
    let path = path.to_owned();
    move |source| PreviousError::Io { operation, path, source }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let file = |(path, text): &(&str, &str)| File::plain(SafePath::new(*path).unwrap(), text.as_bytes());
        Bundle::new(name("core"), name("core-1"), None, files.iter().map(file).collect()).unwrap()
    }

    fn save(previous: &mut Previous, bundle: &Bundle) -> Result<(), PreviousError> {
        let applied = Applied::written("id", bundle, 1, BTreeMap::new(), None, 1);
        previous.save(&applied, |path, _| bundle.file(path.as_str()).map(|file| file.content.clone()))
    }

    #[test]
    fn what_was_kept_last_comes_back_whole_and_private() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("previous");
        let many: Vec<(String, String)> = (0..20).map(|n| (format!("a/{n}"), format!("content {n}"))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (one, two) = (bundle(&many), bundle(&[("a/1", "content 1"), ("b", "new"), ("c", "new")]));
        let mut previous = Previous::open(&folder).unwrap();
        assert!(previous.load(&one.machine).unwrap().is_none());
        for bundle in [&one, &two] {
            save(&mut previous, bundle).unwrap();
            assert_eq!(Previous::open(&folder).unwrap().load(&bundle.machine).unwrap().as_ref(), Some(bundle));
        }
        // Nothing is left of what was kept before, nor of an earlier version's folder.
        std::fs::write(folder.join("manifest.json"), "{}").unwrap();
        drop(Previous::open(&folder).unwrap());
        let mut sizes = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let metadata = entry.unwrap().metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
            sizes.push(metadata.len());
        }
        sizes.sort_unstable();
        assert!(matches!(sizes[..], [0, kept] if kept > 0), "{sizes:?}");
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    /// Whatever byte of the file is not what was written, the bundle is not used, and the next save mends it.
    #[test]
    fn a_torn_one_is_never_used_and_is_mended_by_the_next() {
        let state = tempfile::tempdir().unwrap();
        let (one, path) = (bundle(&[("a", "1"), ("b", "2")]), state.path().join("a"));
        save(&mut Previous::open(state.path()).unwrap(), &one).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // The generation alone says nothing of what is there.
        for byte in (0..whole.len()).filter(|byte| !(8..16).contains(byte)) {
            let mut torn = whole.clone();
            torn[byte] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            let previous = Previous::open(state.path()).unwrap();
            assert!(previous.load(&one.machine).unwrap().is_none(), "byte {byte}");
        }
        for length in 1..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let previous = Previous::open(state.path()).unwrap();
            assert!(previous.load(&one.machine).unwrap().is_none(), "{length} bytes");
        }
        std::fs::write(&path, &whole).unwrap();
        let mut previous = Previous::open(state.path()).unwrap();
        std::fs::write(&path, "torn").unwrap();
        assert!(previous.load(&one.machine).is_err(), "torn while it was open");
        save(&mut previous, &one).unwrap();
        assert_eq!(Previous::open(state.path()).unwrap().load(&one.machine).unwrap(), Some(one));
    }

    /// A crash while the next one is written leaves the one before; after it, the later counts.
    #[test]
    fn one_is_whole_at_every_moment() {
        let state = tempfile::tempdir().unwrap();
        let (one, two) = (bundle(&[("a", "1"), ("b", "same")]), bundle(&[("a", "2"), ("b", "same")]));
        save(&mut Previous::open(state.path()).unwrap(), &one).unwrap();
        let first = std::fs::read(state.path().join("a")).unwrap();
        save(&mut Previous::open(state.path()).unwrap(), &two).unwrap();
        let second = std::fs::read(state.path().join("b")).unwrap();
        let loaded = || Previous::open(state.path()).unwrap().load(&one.machine).unwrap();
        std::fs::write(state.path().join("a"), &first).unwrap();
        assert_eq!(loaded().as_ref(), Some(&two), "before the older one was given up");
        for length in 0..second.len() {
            std::fs::write(state.path().join("b"), &second[..length]).unwrap();
            assert_eq!(loaded().as_ref(), Some(&one), "{length} bytes");
        }
    }

    #[test]
    fn what_cannot_be_found_keeps_the_old_one() {
        let state = tempfile::tempdir().unwrap();
        let one = bundle(&[("a", "1")]);
        let mut previous = Previous::open(state.path()).unwrap();
        save(&mut previous, &one).unwrap();
        let two = Applied::written("id", &bundle(&[("a", "2")]), 2, BTreeMap::new(), None, 1);
        assert!(matches!(previous.save(&two, |_, _| None), Err(PreviousError::Missing(_))));
        assert!(matches!(previous.save(&two, |_, _| Some(b"other".as_slice().into())), Err(PreviousError::Missing(_))));
        assert_eq!(Previous::open(state.path()).unwrap().load(&one.machine).unwrap(), Some(one));
    }
}
