//! A file as a container sees it: through its first process's root, or, where
//! that can't be entered, through the engine's archive API.

use crate::docker::{Details, Engine, EngineError};
use lockstep_shared::Sha256;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a container sees at a path, and how that was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The hash of the file; `None` where there is none.
    pub sha256: Option<Sha256>,
    /// Through the archive API: on a mount of a single file that may be newer
    /// than what the running process has open.
    pub by_archive: bool,
}

/// Looks at paths in one container.
#[derive(Debug)]
pub struct View<'e> {
    engine: &'e Engine,
    name: &'e str,
    /// The container's root, as its first process has it.
    root: Option<OwnedFd>,
}

impl<'e> View<'e> {
    /// A view into the container `name`, as it was just inspected.
    pub fn new(engine: &'e Engine, name: &'e str, details: &Details) -> Self {
        Self { engine, name, root: root_of(details) }
    }

    /// What the container sees at `path`, an absolute path in it.
    pub async fn see(&self, path: &Path) -> Result<Seen, EngineError> {
        if let Some(root) = &self.root {
            match read_in(root, path) {
                Ok(sha256) => return Ok(Seen { sha256, by_archive: false }),
                Err(error) => tracing::debug!(
                    container = self.name, path = %path.display(), %error,
                    "a file can't be read through the container's root, the archive API is asked"
                ),
            }
        }
        let archive = self.engine.archive(self.name, path).await?;
        let sha256 = archive.and_then(|archive| first_file(&archive));
        Ok(Seen { sha256, by_archive: true })
    }
}

/// The root of a container's first process, if that process is really the container's.
fn root_of(details: &Details) -> Option<OwnedFd> {
    if details.pid <= 0 || details.id.is_empty() {
        return None;
    }
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Everything is read through this one descriptor: it stays that process's even if the number is used again.
    let process = rustix::fs::open(format!("/proc/{}", details.pid), folder, Mode::empty()).ok()?;
    let names_container = |file: &str| {
        let opened = rustix::fs::openat(&process, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = String::new();
        opened.is_ok_and(|fd| File::from(fd).read_to_string(&mut text).is_ok()) && text.contains(&details.id)
    };
    if !names_container("cgroup") && !names_container("mountinfo") {
        return None;
    }
    rustix::fs::openat(&process, "root", folder, Mode::empty()).ok()
}

/// The hash of the file at `path` below `root`; symlinks stay within it.
fn read_in(root: impl AsFd, path: &Path) -> io::Result<Option<Sha256>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(Sha256::of(&bytes)))
}

/// The hash of the regular file that an archive begins with.
fn first_file(archive: &[u8]) -> Option<Sha256> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    if !entry.header().entry_type().is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).ok()?;
    Some(Sha256::of(&bytes))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    #[test]
    fn stays_within_the_root() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/conf"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/conf", folder.path().join("link")).unwrap();
        let root = rustix::fs::open(folder.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let see = |path: &str| read_in(&root, Path::new(path)).unwrap();
        assert_eq!(see("/link"), Some(Sha256::of(b"inside")));
        assert_eq!(see("/../../etc/conf"), Some(Sha256::of(b"inside")));
        assert_eq!((see("/etc"), see("/etc/passwd")), (None, None));
    }

    #[test]
    fn reads_the_archive_of_one_file() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_cksum();
        builder.append_data(&mut header, "conf", b"hello".as_slice()).unwrap();
        assert_eq!(first_file(&builder.into_inner().unwrap()), Some(Sha256::of(b"hello")));
        assert_eq!(first_file(b""), None);
    }
}
