//! Empty files, made while nothing is to be done: an apply moves them beside
//! the places of its new files instead of making files then. Making one takes a
//! file system up to several milliseconds where others were removed just before
//! (ext4 without a journal leaves inodes alone for minutes after that).

use lockstep_edge::durable;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// So many are kept at most.
const MOST: usize = 128;
/// The group of a folder's new files is the folder's (inode(7)).
const SET_GROUP: u32 = 0o2000;

/// The files, in a folder of their own.
#[derive(Debug)]
pub struct Spares {
    folder: OwnedFd,
    /// The folder's security label, where there are such.
    label: Option<Vec<u8>>,
    ready: Vec<String>,
    /// Names the next one.
    next: u64,
    /// How many there were use for since the last filling.
    wanted: usize,
}

impl Spares {
    /// Opens the folder, or makes it. What an earlier run left is removed: after
    /// a power failure one of those might be some written file too.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        durable::private_folder(path)?;
        for entry in std::fs::read_dir(path)?.flatten() {
            std::fs::remove_file(entry.path())?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let label = attribute(folder.as_fd(), "security.selinux");
        Ok(Self { folder, label, ready: Vec::new(), next: 0, wanted: 0 })
    }

    /// With so many ready.
    #[cfg(test)]
    pub(crate) fn filled(path: &Path, count: usize) -> Self {
        let mut spares = Self { wanted: count, ..Self::open(path).unwrap() };
        spares.fill();
        spares
    }

    /// Whether a file that comes from here is what one made in `folder` would
    /// be: of the same group, access list and label.
    pub fn fits(&self, folder: &OwnedFd) -> bool {
        let folder = folder.as_fd();
        rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_mode & SET_GROUP == 0)
            && attribute(folder, "system.posix_acl_default").is_none()
            && attribute(folder, "security.selinux") == self.label
    }

    /// Moves one into `folder` under a name that is free there; whether there
    /// was one. Nothing is moved to another file system, nor over a file.
    pub fn put(&mut self, folder: &OwnedFd, name: &str) -> bool {
        self.wanted += 1;
        let Some(spare) = self.ready.pop() else { return false };
        match rustix::fs::renameat_with(&self.folder, &spare, folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => true,
            Err(errno) => {
                // Still here; none is made ahead for places that it can't be moved to.
                self.ready.push(spare);
                self.wanted -= usize::from(errno != Errno::EXIST);
                false
            }
        }
    }

    /// Makes as many as there were use for. Where there is no room for more,
    /// the next apply makes its files itself, and says what is missing.
    pub fn fill(&mut self) {
        let wanted = std::mem::take(&mut self.wanted).min(MOST);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        while self.ready.len() < wanted {
            let name = self.next.to_string();
            self.next += 1;
            if rustix::fs::openat(&self.folder, &name, flags, Mode::from_raw_mode(0o600)).is_err() {
                return;
            }
            self.ready.push(name);
        }
    }

    /// Gives their room back.
    pub fn release(&mut self) {
        for spare in self.ready.drain(..) {
            let _ = rustix::fs::unlinkat(&self.folder, spare, AtFlags::empty());
        }
    }
}

/// An extended attribute; `None` where there is none.
fn attribute(folder: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 1024];
    let length = rustix::fs::fgetxattr(folder, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn one_is_moved_where_nothing_is_and_as_many_are_made_as_were_wanted() {
        let home = tempfile::tempdir().unwrap();
        let (state, data) = (home.path().join("spare"), home.path().join("data"));
        fs::create_dir(&data).unwrap();
        let count = || fs::read_dir(&state).unwrap().count();
        let mut spares = Spares::open(&state).unwrap();
        let there = folder(&data);
        assert!(!spares.put(&there, "a") && !spares.put(&there, "b"));
        spares.fill();
        assert_eq!(count(), 2);
        fs::write(data.join("b"), "mine").unwrap();
        assert!(spares.put(&there, "a") && !spares.put(&there, "b"));
        assert_eq!((count(), fs::read(data.join("b")).unwrap().as_slice()), (1, b"mine".as_slice()));
        assert_eq!(
            (fs::read(data.join("a")).unwrap().len(), data.join("a").metadata().unwrap().permissions().mode()),
            (0, 0o100_600)
        );
        spares.fill();
        assert_eq!(count(), 2);
        drop(spares);
        let mut spares = Spares::open(&state).unwrap();
        assert_eq!(count(), 0, "what an earlier run left may be anything");
        assert!(!spares.put(&there, "c"));
        spares.fill();
        spares.release();
        assert_eq!(count(), 0);
    }

    #[test]
    fn none_goes_where_a_new_file_would_be_another_one() {
        let home = tempfile::tempdir().unwrap();
        let spares = Spares::open(&home.path().join("spare")).unwrap();
        let shared = home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        assert!(spares.fits(&folder(&shared)));
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2755)).unwrap();
        assert!(!spares.fits(&folder(&shared)));
    }
}
