//! The last good bundle, whole: `state/previous/`. What an undo goes back to,
//! so it must never be half there: contents by their hashes, then the manifest
//! that names them, then what no manifest names any more is removed. A crash in
//! between leaves the old one or the new one; bytes that don't have their hash
//! are never used.

use crate::applied::{Applied, Known};
use lockstep_edge::durable;
use lockstep_shared::{Bundle, File, Name, SafePath, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The form of the manifest that this version reads and writes.
const FORMAT: u64 = 1;
const MANIFEST: &str = "manifest.json";
/// Files synced at the same time: their commits to the file system's own journal are shared.
const AT_ONCE: usize = 4;

/// The folder of the last good bundle.
#[derive(Debug)]
pub struct Previous {
    folder: PathBuf,
    manifest: Option<Manifest>,
    /// Contents that are in the folder.
    contents: BTreeSet<Sha256>,
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
        let mut previous = Self { folder: folder.to_owned(), manifest: None, contents: BTreeSet::new() };
        for entry in std::fs::read_dir(folder).map_err(io_error("listing", folder))? {
            let name = entry.map_err(io_error("listing", folder))?.file_name();
            let Some(sha256) = name.to_str().and_then(|name| Sha256::try_from(name.to_owned()).ok()) else { continue };
            // Whatever it holds by now, it is written anew unless it has its hash.
            if previous.content(sha256).is_some() {
                previous.contents.insert(sha256);
            }
        }
        match previous.read() {
            Ok(manifest) => previous.manifest = manifest,
            Err(error) => tracing::warn!("{error}; the next good bundle is kept anew"),
        }
        Ok(previous)
    }

    fn read(&self) -> Result<Option<Manifest>, PreviousError> {
        let path = self.folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("reading", &path)(source)),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(self.damaged(format!("it has format {} and this version knows {FORMAT}", manifest.format)));
        }
        match manifest.files.iter().find(|(_, known)| !self.contents.contains(&known.sha256)) {
            Some((path, _)) => Err(self.damaged(format!("the content of {path} is missing or torn"))),
            None => Ok(Some(manifest)),
        }
    }

    fn damaged(&self, what: String) -> PreviousError {
        PreviousError::Damaged { folder: self.folder.clone(), what }
    }

    /// Which bundle it is.
    pub fn digest(&self) -> Option<Sha256> {
        self.manifest.as_ref().map(|manifest| manifest.digest)
    }

    /// Whether a content is in the folder.
    pub fn has(&self, sha256: Sha256) -> bool {
        self.contents.contains(&sha256)
    }

    /// A content, if it is there and is what it is named after.
    pub fn content(&self, sha256: Sha256) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.folder.join(sha256.to_string())).ok()?;
        (Sha256::of(&bytes) == sha256).then_some(bytes)
    }

    /// The bundle for `machine`, every byte of it verified; `None` if none is kept.
    pub fn load(&self, machine: &Name) -> Result<Option<Bundle>, PreviousError> {
        let Some(manifest) = &self.manifest else { return Ok(None) };
        let find = |path: &SafePath, known: &Known| {
            let content = self.content(known.sha256);
            content.ok_or_else(|| self.damaged(format!("the content of {path} is missing or torn")))
        };
        manifest.bundle(machine, find).map(Some).map_err(|error| match error {
            Unmade::Content(error) => error,
            Unmade::Bundle(what) => self.damaged(what),
        })
    }

    /// Keeps what `applied` describes instead of what was kept. `find` gives
    /// the bytes of a file, and is asked only for those that aren't there yet.
    pub fn save(
        &mut self,
        applied: &Applied,
        find: impl Fn(&SafePath, &Known) -> Option<Arc<[u8]>>,
    ) -> Result<(), PreviousError> {
        let manifest = Manifest::of(applied);
        let mut new: BTreeMap<Sha256, Arc<[u8]>> = BTreeMap::new();
        for (path, known) in &manifest.files {
            if self.contents.contains(&known.sha256) || new.contains_key(&known.sha256) {
                continue;
            }
            let bytes = find(path, known).filter(|bytes| Sha256::of(bytes) == known.sha256);
            new.insert(known.sha256, bytes.ok_or_else(|| PreviousError::Missing(path.clone()))?);
        }
        self.add(&new)?;
        let path = self.folder.join(MANIFEST);
        let json = serde_json::to_vec(&manifest).unwrap_or_default();
        // It syncs the folder too, but only after its own rename.
        if !new.is_empty() {
            durable::sync_folder(&self.folder).map_err(io_error("syncing", &self.folder))?;
        }
        durable::replace(&path, &json, 0o600).map_err(io_error("replacing", &path))?;
        self.contents.extend(new.into_keys());
        let wanted: BTreeSet<Sha256> = manifest.files.values().map(|known| known.sha256).collect();
        self.manifest = Some(manifest);
        self.tidy(&wanted);
        Ok(())
    }

    fn add(&self, new: &BTreeMap<Sha256, Arc<[u8]>>) -> Result<(), PreviousError> {
        let all: Vec<_> = new.iter().collect();
        let write = |part: &[(&Sha256, &Arc<[u8]>)]| {
            for (sha256, bytes) in part {
                let path = self.folder.join(sha256.to_string());
                durable::place(&path, bytes, 0o600).map_err(io_error("writing", &path))?;
            }
            Ok(())
        };
        if all.len() < AT_ONCE {
            return write(&all);
        }
        std::thread::scope(|scope| {
            let parts = all.chunks(all.len().div_ceil(AT_ONCE));
            let threads: Vec<_> = parts.map(|part| scope.spawn(|| write(part))).collect();
            let ended = threads.into_iter().map(|thread| {
                let broken = |_| io_error("writing", &self.folder)(io::Error::other("a thread ended early"));
                thread.join().map_err(broken).flatten()
            });
            ended.collect()
        })
    }

    /// Removes what is not `wanted`; what can't be removed is tried at the next save.
    fn tidy(&mut self, wanted: &BTreeSet<Sha256>) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let sha256 = name.to_str().and_then(|name| Sha256::try_from(name.to_owned()).ok());
            let keep = name.to_str() == Some(MANIFEST) || sha256.is_some_and(|sha256| wanted.contains(&sha256));
            if !keep && std::fs::remove_file(entry.path()).is_ok() {
                sha256.map(|sha256| self.contents.remove(&sha256));
            }
        }
    }
}

enum Unmade<E> {
    Content(E),
    Bundle(String),
}

impl Manifest {
    fn of(applied: &Applied) -> Self {
        Self {
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
        // Two contents and the manifest: equal bytes once, and nothing of what was kept before.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        for entry in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_torn_one_is_never_used_and_is_mended_by_the_next() {
        let state = tempfile::tempdir().unwrap();
        let one = bundle(&[("a", "1"), ("b", "2")]);
        for torn in ["manifest.json".to_owned(), Sha256::of(b"1").to_string()] {
            let mut previous = Previous::open(state.path()).unwrap();
            save(&mut previous, &one).unwrap();
            std::fs::write(state.path().join(&torn), "torn").unwrap();
            if torn != MANIFEST {
                assert!(previous.load(&one.machine).is_err(), "torn while it was open");
            }
            let mut previous = Previous::open(state.path()).unwrap();
            assert!(previous.load(&one.machine).unwrap().is_none(), "{torn}");
            save(&mut previous, &one).unwrap();
            assert_eq!(Previous::open(state.path()).unwrap().load(&one.machine).unwrap().as_ref(), Some(&one));
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
