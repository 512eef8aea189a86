//! The data folder: opened once, everything below it reached relative to it
//! with `openat2` so that no symlink, `..` or device is ever followed out of
//! it. Looks, and says precisely what is in the way; changes nothing.

use crate::snapshot::{Entry, Obstacle, Snapshot, is_staged};
use crate::stamps::{self, Stamps};
use lockstep_shared::{SafePath, Sha256};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Regular files are read only; a pipe that stands in a file's place must not block.
const LOOK: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder that the follower writes below.
#[derive(Debug)]
pub struct DataFolder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Why the disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The data folder is gone though files were written there.
    #[error(
        "the data folder {0} is missing, though files were written there before: is its disk mounted (findmnt, mount -a)? If it was removed on purpose: mkdir {0}"
    )]
    Gone(PathBuf),
    /// Neither the data folder nor its parent is there.
    #[error("the data folder {0} can't be made, as the folder above it is missing: mkdir -p {0}")]
    NoParent(PathBuf),
    /// The data folder's path leads to something else.
    #[error("the data folder {0} is not a folder: move it away, or change paths.dataFolder")]
    NotAFolder(PathBuf),
    /// Something is in the way.
    #[error("below {folder}, {obstacle}")]
    Obstacle {
        /// The data folder.
        folder: PathBuf,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// An operation failed.
    #[error("{operation} {path} failed: {source}{}", advice(.source))]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What an operator does about an error of the operating system.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room (df -h, df -i), the next attempt follows by itself"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable (mount -o remount,rw), the next attempt follows by itself"
        }
        io::ErrorKind::PermissionDenied => "; the follower's user needs to own it or run as root (id, ls -ld)",
        _ => "",
    }
}

impl DataFolder {
    /// Opens the folder. Where it is missing it is made, unless
    /// `written_before`: then a disk is not mounted, and writing below the
    /// bare mount point would hide that.
    pub fn open(path: &Path, written_before: bool) -> Result<Self, DiskError> {
        let io = |operation, errno: Errno| DiskError::Io { operation, path: path.to_owned(), source: errno.into() };
        let fd = match rustix::fs::open(path, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) if written_before => return Err(DiskError::Gone(path.to_owned())),
            Err(Errno::NOENT) => {
                match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                    Err(Errno::NOENT) => return Err(DiskError::NoParent(path.to_owned())),
                    Err(errno) => return Err(io("making the data folder", errno)),
                    Ok(()) => {}
                }
                rustix::fs::open(path, FOLDER, Mode::empty())
            }
            other => other,
        };
        let fd = match fd {
            Err(Errno::NOTDIR) => return Err(DiskError::NotAFolder(path.to_owned())),
            other => other.map_err(|errno| io("opening the data folder", errno))?,
        };
        let path = path.canonicalize().map_err(|source| DiskError::Io {
            operation: "resolving",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { fd, path })
    }

    /// Its canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error of an operation below this folder.
    pub(crate) fn failed(&self, operation: &'static str, path: &str, errno: Errno) -> DiskError {
        match self.obstacle(path, errno) {
            Some(obstacle) => DiskError::Obstacle { folder: self.path.clone(), obstacle },
            None => DiskError::Io { operation, path: self.path.join(path), source: errno.into() },
        }
    }

    /// What stands at each of these paths. Files that are stamped as they were
    /// when they were read before are not read again.
    pub fn look<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p str>,
        stamps: &mut Stamps,
    ) -> Result<Snapshot, DiskError> {
        let mut snapshot = Snapshot::default();
        let (mut buffer, mut folder) = (Vec::new(), None);
        for path in paths {
            if !snapshot.has(path) {
                let entry = match self.stamped(path, stamps, &mut folder) {
                    Some(entry) => entry,
                    None => self.entry(path, stamps, &mut buffer)?,
                };
                snapshot.set(path, entry);
            }
        }
        Ok(snapshot)
    }

    /// A file that need not even be opened. Its folder stays open for the next
    /// path, which mostly lies in it too.
    fn stamped<'p>(&self, path: &'p str, stamps: &Stamps, folder: &mut Option<(&'p str, OwnedFd)>) -> Option<Entry> {
        if !stamps.knows(path) {
            return None;
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if folder.as_ref().is_none_or(|(open, _)| *open != above) {
            *folder = Some((above, self.folder(above).ok()?));
        }
        let (_, folder) = folder.as_ref()?;
        // The stamp tells a symlink in its place from the file.
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        stamps.hash(path, &stat).map(|sha256| file(sha256, &stat))
    }

    fn entry(&self, path: &str, stamps: &mut Stamps, buffer: &mut Vec<u8>) -> Result<Entry, DiskError> {
        let began = stamps::now();
        let fd = match rustix::fs::openat2(&self.fd, path, LOOK, Mode::empty(), BENEATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Entry::Absent),
            Err(errno) => {
                return match self.obstacle(path, errno) {
                    Some(obstacle) => Ok(Entry::Blocked(obstacle)),
                    None => Err(self.failed("opening", path, errno)),
                };
            }
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed("reading", path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(if is_empty(&fd) { Entry::EmptyFolder } else { Entry::Folder }),
            _ => return Ok(Entry::Blocked(Obstacle::Special(path.to_owned()))),
        }
        if let Some(known) = stamps.hash(path, &stat) {
            return Ok(file(known, &stat));
        }
        let size = usize::try_from(stat.st_size).unwrap_or(0);
        buffer.resize(size, 0);
        let mut read = 0;
        // One call for a file that stays as long as it was.
        while read < size {
            match rustix::io::read(&fd, &mut buffer[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("reading", path, errno)),
            }
        }
        buffer.truncate(read);
        let sha256 = Sha256::of(buffer);
        stamps.keep(path, &stat, began, sha256);
        Ok(file(sha256, &stat))
    }

    /// Which part of `path` made an operation fail with `errno`, where it is one that can be seen.
    fn obstacle(&self, path: &str, errno: Errno) -> Option<Obstacle> {
        if errno == Errno::NXIO {
            return Some(Obstacle::Special(path.to_owned()));
        }
        if !matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::ISDIR) {
            return None;
        }
        let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let part = &path[..end];
            let stat = rustix::fs::statat(&self.fd, part, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => return Some(Obstacle::Symlink(part.to_owned())),
                FileType::Directory if end == path.len() => return Some(Obstacle::NotAFile(part.to_owned())),
                FileType::Directory => {}
                FileType::RegularFile if end < path.len() => return Some(Obstacle::NotAFolder(part.to_owned())),
                FileType::RegularFile => return None,
                _ => return Some(Obstacle::Special(part.to_owned())),
            }
        }
        None
    }

    /// A file's bytes, if they have this hash.
    pub(crate) fn read(&self, path: &str, sha256: Sha256) -> Option<std::sync::Arc<[u8]>> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        std::fs::File::from(self.file(path).ok()?).read_to_end(&mut bytes).ok()?;
        (Sha256::of(&bytes) == sha256).then(|| bytes.into())
    }

    /// Opens the folder `path` below this one; the empty path is this one.
    pub(crate) fn folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.fd, path, FOLDER, Mode::empty(), BENEATH)
    }

    /// Opens the file `path` for writing where it is.
    pub(crate) fn file_in_place(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), BENEATH)
    }

    /// Opens the file `path` for syncing it.
    pub(crate) fn file(&self, path: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.fd, path, LOOK, Mode::empty(), BENEATH)
    }

    /// Removes staged files that a crash left behind; how many there were.
    /// Running services' own folders (`*/data`, `*/log`) are not entered.
    pub fn sweep(&self) -> Result<usize, DiskError> {
        let mut swept = 0;
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let Ok(fd) = self.folder(&folder) else { continue };
            let entries =
                rustix::fs::Dir::read_from(fd.as_fd()).map_err(|errno| self.failed("listing", &folder, errno))?;
            for entry in entries {
                let entry = entry.map_err(|errno| self.failed("listing", &folder, errno))?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                match entry.file_type() {
                    FileType::Directory if !matches!(name, "." | "..") => {
                        let inside = SafePath::new(format!("{path}/x"));
                        if inside.is_ok_and(|inside| !inside.is_protected()) {
                            folders.push(path);
                        }
                    }
                    FileType::RegularFile if is_staged(name) => {
                        rustix::fs::unlinkat(&fd, name, AtFlags::empty())
                            .map_err(|errno| self.failed("removing", &path, errno))?;
                        swept += 1;
                    }
                    _ => {}
                }
            }
        }
        Ok(swept)
    }
}

fn file(sha256: Sha256, stat: &Stat) -> Entry {
    Entry::File { sha256, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

fn is_empty(folder: &OwnedFd) -> bool {
    let named = |entry: Result<rustix::fs::DirEntry, Errno>| match entry {
        Ok(entry) => !matches!(entry.file_name().to_bytes(), b"." | b".."),
        Err(_) => true,
    };
    rustix::fs::Dir::read_from(folder).is_ok_and(|mut entries| !entries.any(named))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn data() -> (tempfile::TempDir, DataFolder) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path(), false).unwrap();
        (folder, data)
    }

    #[test]
    fn says_what_stands_at_a_path_and_what_is_in_the_way() {
        let (folder, data) = data();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), "x").unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        symlink("/etc/passwd", at("a/link")).unwrap();
        symlink("/etc", at("out")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let cases = [
            ("a/b", Entry::Folder),
            ("empty", Entry::EmptyFolder),
            ("a/none/x", Entry::Absent),
            ("a/link", Entry::Blocked(Obstacle::Symlink("a/link".into()))),
            ("out/passwd", Entry::Blocked(Obstacle::Symlink("out".into()))),
            ("a/b/file/x", Entry::Blocked(Obstacle::NotAFolder("a/b/file".into()))),
            ("pipe", Entry::Blocked(Obstacle::Special("pipe".into()))),
        ];
        let snapshot =
            data.look(cases.iter().map(|(path, _)| *path).chain(["a/b/file"]), &mut Stamps::default()).unwrap();
        for (path, wanted) in &cases {
            assert_eq!(snapshot.entry(path), wanted, "{path}");
        }
        assert!(matches!(snapshot.entry("a/b/file"), Entry::File { sha256, .. } if *sha256 == Sha256::of(b"x")));
    }

    #[test]
    fn what_is_stamped_as_it_was_is_not_opened_and_what_took_its_place_is_seen() {
        let (folder, data) = data();
        let paths = ["a/one", "a/two", "b", "gone/three"];
        let (at, other) = (|path: &str| folder.path().join(path), Sha256::of(b"never read"));
        let mut stamps = Stamps::default();
        for path in paths {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), "x").unwrap();
            let later = stamps::now() + 60_000_000_000;
            stamps.keep(path, &rustix::fs::stat(at(path)).unwrap(), later, other);
        }
        let is = |entry: &Entry, hash| matches!(entry, Entry::File { sha256, .. } if *sha256 == hash);
        let snapshot = data.look(paths, &mut stamps).unwrap();
        assert!(paths.iter().all(|path| is(snapshot.entry(path), other)));
        std::fs::remove_file(at("a/one")).unwrap();
        symlink(at("b"), at("a/one")).unwrap();
        std::fs::write(at("a/two"), "y").unwrap();
        std::fs::remove_dir_all(at("gone")).unwrap();
        let snapshot = data.look(paths, &mut stamps).unwrap();
        assert_eq!(snapshot.entry("a/one"), &Entry::Blocked(Obstacle::Symlink("a/one".into())));
        assert!(is(snapshot.entry("a/two"), Sha256::of(b"y")) && is(snapshot.entry("b"), other));
        assert_eq!(snapshot.entry("gone/three"), &Entry::Absent);
    }

    #[test]
    fn a_missing_folder_is_made_once_and_never_over_a_lost_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pryv");
        assert!(matches!(DataFolder::open(&path, true), Err(DiskError::Gone(_))));
        DataFolder::open(&path, false).unwrap();
        assert!(matches!(DataFolder::open(&folder.path().join("no/such"), false), Err(DiskError::NoParent(_))));
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(DataFolder::open(&folder.path().join("file"), false), Err(DiskError::NotAFolder(_))));
    }

    #[test]
    fn sweeps_its_own_leftovers_only() {
        let (folder, data) = data();
        for path in ["a/conf", "a/data"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
            std::fs::write(folder.path().join(path).join(".x.lockstep-new"), "").unwrap();
        }
        std::fs::write(folder.path().join("a/conf/.other"), "").unwrap();
        assert_eq!(data.sweep().unwrap(), 1);
        assert!(folder.path().join("a/data/.x.lockstep-new").exists());
        assert!(folder.path().join("a/conf/.other").exists());
    }
}
