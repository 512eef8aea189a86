//! Writes what the plan says, so that any failure before the commit leaves
//! nothing changed: every new file is staged beside its place, with its mode
//! and owner, and after the commit only renamed.

use crate::disk::{DataFolder, DiskError};
use crate::snapshot::{STAGED, Snapshot};
use crate::spares::Spares;
use crate::stamps::Stamps;
use crate::step::Step;
use crate::steps::{How, Steps, Write};
use crate::way;
use lockstep_shared::{SafePath, Sha256};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Gid, Mode as Permissions, OFlags, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// The new bytes, by path.
pub type Contents = BTreeMap<SafePath, Arc<[u8]>>;

/// Files that stand ready beside their places.
#[derive(Debug)]
pub struct Staged<'a> {
    data: &'a DataFolder,
    steps: &'a Steps,
    spares: &'a mut Spares,
    folders: BTreeMap<String, Folder>,
    /// Folders made for this, outermost first.
    made: Vec<String>,
    /// For each write: the staged name, or the open file to be written in place.
    ready: Vec<Ready>,
}

#[derive(Debug)]
struct Folder {
    fd: OwnedFd,
    /// Whether spare files are what would be made there.
    takes_spares: bool,
}

#[derive(Debug)]
enum Ready {
    /// Under this name, in this folder: the one of its place, unless that is still a file.
    Staged {
        folder: String,
        name: String,
    },
    InPlace(File),
}

/// What an apply touched, to be made durable.
#[derive(Debug, Default)]
pub struct Touched {
    files: BTreeSet<SafePath>,
    folders: BTreeSet<String>,
    /// Files that were replaced, held open: to free their blocks takes the file
    /// system several times as long as the rename itself, and can wait.
    replaced: Vec<OwnedFd>,
}

/// How many replaced files are held open at most: far from the usual limit of 1024.
const MOST_HELD: usize = 256;

/// Stages all that `steps` say. On an error nothing is changed.
pub fn stage<'a>(
    data: &'a DataFolder,
    steps: &'a Steps,
    contents: &Contents,
    spares: &'a mut Spares,
) -> Result<Staged<'a>, DiskError> {
    let ready = Vec::with_capacity(steps.write.len());
    let mut staged = Staged { data, steps, spares, folders: BTreeMap::new(), made: Vec::new(), ready };
    for folder in &steps.folders {
        if let Err(error) = staged.make_folder(folder.as_str()) {
            staged.undo();
            return Err(error);
        }
    }
    for write in &steps.write {
        match staged.prepare(write, bytes(contents, &write.path)) {
            Ok(ready) => staged.ready.push(ready),
            Err(error) => {
                staged.undo();
                return Err(error);
            }
        }
    }
    Ok(staged)
}

impl Staged<'_> {
    /// Takes everything back.
    pub fn undo(self) {
        for ready in &self.ready {
            if let Ready::Staged { folder, name } = ready
                && let Some(folder) = self.folders.get(folder)
            {
                let _ = rustix::fs::unlinkat(&folder.fd, name.as_str(), AtFlags::empty());
            }
        }
        for made in self.made.iter().rev() {
            let (parent, name) = made.rsplit_once('/').unwrap_or(("", made));
            if let Ok(folder) = self.data.folder(parent) {
                let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Puts everything in its place. Only to be called after the commit: from
    /// here on the journal, not this value, is what a failure is mended from.
    pub fn swap(mut self, contents: &Contents) -> Result<Touched, DiskError> {
        let mut touched = Touched::default();
        let (first, last): (Vec<_>, Vec<_>) =
            self.steps.remove.iter().partition(|path| way::makes_way(self.steps, path));
        self.remove(&first, &mut touched)?;
        for (write, ready) in self.steps.write.iter().zip(std::mem::take(&mut self.ready)) {
            let path = write.path.as_str();
            Step::Swap.begins();
            match &ready {
                Ready::Staged { folder, name } => {
                    if way::replaces_folder(self.steps, &write.path) && self.data.folder(path).is_ok() {
                        way::clear(self.data, path)?;
                    }
                    self.open(parent(&write.path))?;
                    let (from, to) = (&self.folders[folder].fd, &self.folders[parent(&write.path)].fd);
                    if write.how == How::OverFolder {
                        remove_empty(self.data, to, &write.path)?;
                    }
                    touched.hold(to, write.path.file_name());
                    rustix::fs::renameat(from, name.as_str(), to, write.path.file_name())
                        .map_err(|errno| self.data.failed("renaming the new file to", path, errno))?;
                    touched.folders.insert(parent(&write.path).to_owned());
                }
                Ready::InPlace(file) => {
                    let content = bytes(contents, &write.path);
                    let written = file.write_all_at(content, 0).and_then(|()| file.set_len(content.len() as u64));
                    written.map_err(|source| DiskError::Io {
                        operation: "writing in place",
                        path: self.data.path().join(path),
                        source,
                    })?;
                    set_permissions(file, write)
                        .map_err(|errno| self.data.failed("setting the owner and mode of", path, errno))?;
                }
            }
            touched.files.insert(write.path.clone());
        }
        self.remove(&last, &mut touched)?;
        let above = |made: &String| made.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        touched.folders.extend(self.made.iter().map(above));
        touched.folders.extend(self.made);
        Ok(touched)
    }

    fn remove(&self, paths: &[&SafePath], touched: &mut Touched) -> Result<(), DiskError> {
        for path in paths {
            Step::Swap.begins();
            if remove(self.data, path)? {
                touched.folders.insert(parent(path).to_owned());
            }
        }
        Ok(())
    }

    /// Has a folder open, and made where it is missing.
    fn open(&mut self, path: &str) -> Result<(), DiskError> {
        if !self.folders.contains_key(path) {
            let fd = self.make_folder(path)?;
            let takes_spares = self.spares.fits(&fd);
            self.folders.insert(path.to_owned(), Folder { fd, takes_spares });
        }
        Ok(())
    }

    fn prepare(&mut self, write: &Write, content: &[u8]) -> Result<Ready, DiskError> {
        Step::Stage.begins();
        let path = write.path.as_str();
        let data = self.data;
        if write.how == How::InPlace {
            match data.file_in_place(path) {
                Ok(fd) => {
                    // So that a full disk is met now, not half-way through the only copy.
                    match rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, content.len().max(1) as u64) {
                        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Ready::InPlace(File::from(fd))),
                        Err(errno) => return Err(data.failed("reserving room for", path, errno)),
                    }
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(data.failed("opening", path, errno)),
            }
        }
        if way::replaces_folder(self.steps, &write.path) {
            way::only_ours(data, path, self.steps)?;
        }
        let (folder_path, name) = match way::file_at(self.steps, parent(&write.path)) {
            // The folder can't be made before that file is gone.
            Some(file) => (parent(file), staged_by_hash(path)),
            None => (parent(&write.path), staged_name(write.path.file_name())),
        };
        self.open(folder_path)?;
        let folder = &self.folders[folder_path];
        let made = folder.takes_spares && self.spares.put(&folder.fd, &name);
        let mut flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        flags.set(OFlags::CREATE | OFlags::EXCL, !made);
        let folder = &folder.fd;
        let open = || rustix::fs::openat(folder, name.as_str(), flags, Permissions::from_raw_mode(0o600));
        let opened = match open() {
            Err(Errno::EXIST) => {
                // Left behind by a failure; the lock makes sure that it is nobody's.
                rustix::fs::unlinkat(folder, name.as_str(), AtFlags::empty()).and_then(|()| open())
            }
            other => other,
        };
        let mut file = File::from(opened.map_err(|errno| data.failed("staging", path, errno))?);
        let filled = file
            .write_all(content)
            .map_err(|source| DiskError::Io { operation: "staging", path: data.path().join(path), source })
            .and_then(|()| {
                set_permissions(&file, write).map_err(|errno| data.failed("setting the owner and mode of", path, errno))
            });
        if let Err(error) = filled {
            let _ = rustix::fs::unlinkat(folder, name.as_str(), AtFlags::empty());
            return Err(error);
        }
        Ok(Ready::Staged { folder: folder_path.to_owned(), name })
    }

    /// Opens a folder, making what is missing of it.
    fn make_folder(&mut self, path: &str) -> Result<OwnedFd, DiskError> {
        match self.data.folder(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| self.data.failed("opening the folder", path, errno)),
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.make_folder(above)?;
        match rustix::fs::mkdirat(&parent, name, Permissions::from_raw_mode(0o755)) {
            Ok(()) => self.made.push(path.to_owned()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.data.failed("making the folder", path, errno)),
        }
        self.data.folder(path).map_err(|errno| self.data.failed("opening the folder", path, errno))
    }
}

impl Touched {
    /// Adds what another apply touched.
    pub fn and(&mut self, other: Self) {
        self.files.extend(other.files);
        self.folders.extend(other.folders);
        let room = MOST_HELD.saturating_sub(self.replaced.len());
        self.replaced.extend(other.replaced.into_iter().take(room));
    }

    fn hold(&mut self, folder: &OwnedFd, name: &str) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.replaced.len() < MOST_HELD
            && let Ok(old) = rustix::fs::openat(folder, name, flags, Permissions::empty())
        {
            self.replaced.push(old);
        }
    }

    /// Lets go of the files that were replaced: their room may be needed.
    pub fn release(&mut self) {
        self.replaced.clear();
    }

    /// Makes all of it durable. What is gone meanwhile needs no syncing.
    pub fn sync(&self, data: &DataFolder) -> Result<(), DiskError> {
        let opened = self.files.iter().map(|path| (path.as_str(), data.file(path.as_str())));
        let folders = self.folders.iter().map(|path| (path.as_str(), data.folder(path)));
        for (path, opened) in opened.chain(folders) {
            match opened.and_then(rustix::fs::fsync) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(data.failed("syncing", path, errno)),
            }
        }
        Ok(())
    }
}

/// Does again what a crash may have interrupted: whatever of `steps` the disk
/// doesn't show yet.
pub fn redo(data: &DataFolder, steps: &Steps, contents: &Contents, spares: &mut Spares) -> Result<Touched, DiskError> {
    let snapshot: Snapshot = data.look(steps.write.iter().map(|write| write.path.as_str()), &mut Stamps::default())?;
    let mut left = steps.clone();
    left.write.retain(|write| !write.is_done(snapshot.entry(write.path.as_str())));
    let mut touched = stage(data, &left, contents, spares)?.swap(contents)?;
    // Done before the crash, but perhaps not durably.
    touched.files.extend(steps.write.iter().map(|write| write.path.clone()));
    touched.folders.extend(steps.write.iter().map(|write| parent(&write.path).to_owned()));
    touched.folders.extend(steps.remove.iter().map(|path| parent(path).to_owned()));
    Ok(touched)
}

/// Removes a file if it still is one; whether it was there.
fn remove(data: &DataFolder, path: &SafePath) -> Result<bool, DiskError> {
    let gone = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
    let folder = match data.folder(parent(path)) {
        Ok(folder) => folder,
        Err(errno) if gone(errno) => return Ok(false),
        Err(errno) => return Err(data.failed("opening the folder of", path.as_str(), errno)),
    };
    let is_file = rustix::fs::statat(&folder, path.file_name(), AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !is_file {
        return Ok(false);
    }
    match rustix::fs::unlinkat(&folder, path.file_name(), AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(errno) if gone(errno) => Ok(false),
        Err(errno) => Err(data.failed("removing", path.as_str(), errno)),
    }
}

/// Removes the empty folder in a file's place; what else stands there is met by what follows.
fn remove_empty(data: &DataFolder, folder: &OwnedFd, path: &SafePath) -> Result<(), DiskError> {
    match rustix::fs::unlinkat(folder, path.file_name(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(data.failed("removing the empty folder", path.as_str(), errno)),
    }
}

fn set_permissions(file: &File, write: &Write) -> Result<(), Errno> {
    if let Some(owner) = write.owner {
        rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    rustix::fs::fchmod(file, Permissions::from_raw_mode(write.mode.bits()))
}

fn bytes<'c>(contents: &'c Contents, path: &SafePath) -> &'c [u8] {
    contents.get(path).map_or(&[], |bytes| bytes)
}

fn parent(path: &SafePath) -> &str {
    path.parent().unwrap_or_default()
}

/// The staged file's name: recognisable, and not longer than a name may be.
fn staged_name(name: &str) -> String {
    const ROOM: usize = 255 - 1 - STAGED.len();
    if name.len() <= ROOM {
        return format!(".{name}{STAGED}");
    }
    staged_by_hash(name)
}

fn staged_by_hash(name: &str) -> String {
    format!(".{}{STAGED}", Sha256::of(name.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests;
