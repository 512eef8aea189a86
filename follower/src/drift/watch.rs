//! Hears of changes below the data folder by inotify(7), in the folders of
//! written files and those above them. It only says when to look: what is lost
//! (a full queue, a folder that was replaced, a write that inotify doesn't
//! tell of) the look once a minute finds.

use crate::disk::{DataFolder, DiskError};
use lockstep_shared::SafePath;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// What may change a file. Not `MODIFY`: a file is looked at when its writer closes it.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Room for some hundred events at once.
const ROOM: usize = 16 * 1024;

/// Watches folders.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    /// By watch descriptor: the names in a folder that matter, files and folders.
    folders: HashMap<i32, BTreeSet<String>>,
}

/// Why changes are not heard of at once.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel has no room for more.
    #[error(
        "the kernel gives no more watches ({0}): raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl)"
    )]
    Full(Errno),
    /// The data folder can't be looked at.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something else.
    #[error("inotify doesn't work here: {0}")]
    Other(std::io::Error),
}

impl From<Errno> for WatchError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM => Self::Full(errno),
            other => Self::Other(other.into()),
        }
    }
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Result<Self, WatchError> {
        Ok(Self { inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?, folders: HashMap::new() })
    }

    /// Watches the folders of these files, as they are now, and no others.
    /// One that is missing is told of by the folder above it.
    pub fn follow<'f>(
        &mut self,
        data_folder: &Path,
        files: impl IntoIterator<Item = &'f SafePath>,
    ) -> Result<(), WatchError> {
        let data = DataFolder::open(data_folder, true)?;
        let mut watched: HashMap<i32, BTreeSet<String>> = HashMap::new();
        for (folder, names) in folders(files) {
            // No symlink is followed, and what was opened is what is watched.
            let Ok(fd) = data.folder(folder) else { continue };
            match add_watch(&self.inotify, format!("/proc/self/fd/{}", fd.as_raw_fd()), CHANGES) {
                Ok(descriptor) => watched.entry(descriptor).or_default().extend(names.into_iter().map(str::to_owned)),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        for descriptor in self.folders.keys().filter(|descriptor| !watched.contains_key(descriptor)) {
            // The kernel has forgotten those that are gone.
            let _ = remove_watch(&self.inotify, *descriptor);
        }
        self.folders = watched;
        Ok(())
    }

    /// Resolves when something was done to a watched file, or to a folder above one.
    ///
    /// The runtime knows the descriptor only for as long as this is waited for:
    /// every file that an apply itself writes would wake it several times. Where
    /// the runtime can't wait for it, the look once a minute is left.
    #[allow(
        deprecated,
        reason = "its successor is unsafe, for owners that lose their descriptor; a borrowed one stays"
    )]
    pub async fn stirred(&mut self) {
        let Ok(queue) = AsyncFd::new(self.inotify.as_fd()) else { return std::future::pending().await };
        while !read(&self.inotify, &self.folders) {
            let Ok(mut ready) = queue.readable().await else { return std::future::pending().await };
            ready.clear_ready();
        }
    }
}

/// Reads all that is queued; whether any of it matters.
fn read(inotify: &OwnedFd, folders: &HashMap<i32, BTreeSet<String>>) -> bool {
    let mut buffer = [MaybeUninit::uninit(); ROOM];
    let mut events = Reader::new(inotify, &mut buffer);
    let mut matters = false;
    loop {
        match events.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_string_lossy());
                matters |= matter(folders, event.wd(), event.events(), name.as_deref());
            }
            Err(Errno::INTR) => {}
            Err(_) => return matters,
        }
    }
}

/// Every folder above the files, with the names in it that lead to them.
fn folders<'f>(files: impl IntoIterator<Item = &'f SafePath>) -> BTreeMap<&'f str, BTreeSet<&'f str>> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        let mut path = file.as_str();
        loop {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if !folders.entry(folder).or_default().insert(name) || folder.is_empty() {
                break;
            }
            path = folder;
        }
    }
    folders
}

fn matter(folders: &HashMap<i32, BTreeSet<String>>, watch: i32, events: ReadFlags, name: Option<&str>) -> bool {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        return true;
    }
    // One that is not known was given up by ourselves.
    let Some(names) = folders.get(&watch) else { return false };
    match name {
        Some(name) => names.contains(name),
        None => events.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::fs;

    fn path(text: &str) -> SafePath {
        SafePath::new(text).unwrap()
    }

    #[tokio::test]
    async fn hears_of_written_files_and_of_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir_all(at("a/conf")).unwrap();
        fs::write(at("a/conf/x"), "1").unwrap();
        let files = [path("a/conf/x"), path("top")];
        let mut watch = Watch::new().unwrap();
        watch.follow(home.path(), &files).unwrap();
        let changes: [(&str, &dyn Fn()); 5] = [
            ("written", &|| fs::write(at("a/conf/x"), "2").unwrap()),
            ("a folder replaced", &|| {
                fs::rename(at("a/conf"), at("a/old")).unwrap();
                fs::create_dir(at("a/conf")).unwrap();
                fs::write(at("a/conf/x"), "3").unwrap();
            }),
            ("written in the new folder", &|| fs::write(at("a/conf/x"), "4").unwrap()),
            ("removed", &|| fs::remove_file(at("a/conf/x")).unwrap()),
            ("made at the top", &|| fs::write(at("top"), "").unwrap()),
        ];
        for (what, change) in changes {
            // The kernel has queued the events of all that was done before by now.
            fs::write(at("a/conf/y"), "not mine").unwrap();
            fs::write(at("a/conf/.x.lockstep-new"), "staged").unwrap();
            assert!(watch.stirred().now_or_never().is_none(), "before: {what}");
            change();
            watch.stirred().await;
            watch.follow(home.path(), &files).unwrap();
            assert!(watch.stirred().now_or_never().is_none(), "after: {what}");
        }
    }

    #[tokio::test]
    async fn a_replaced_data_folder_is_told() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        let mut watch = Watch::new().unwrap();
        watch.follow(&data, &[path("a/b/c")]).unwrap();
        fs::rename(&data, home.path().join("away")).unwrap();
        watch.stirred().await;
        assert!(watch.follow(&data, &[path("a")]).is_err());
    }
}
