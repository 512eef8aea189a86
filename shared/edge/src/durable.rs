//! Replacing a small file so that a crash leaves the old or the new one.

use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`: a temporary file in the same folder, fsync,
/// rename, fsync of the folder. `mode` holds from the first moment.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    place(path, bytes, mode)?;
    sync_folder(beside(path)?.0)
}

/// The same without the last step: for several files of one folder, which the
/// caller then syncs once ([`sync_folder`]).
pub fn place(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (_, temporary) = beside(path)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(())
}

/// The same for a file that is somebody's: it keeps owner, group and mode of
/// `like`. `still` is asked right before the rename; where it says no, nothing
/// is replaced and the answer is `false`.
pub fn replace_if(
    path: &Path,
    bytes: &[u8],
    like: &Metadata,
    still: impl FnOnce() -> io::Result<bool>,
) -> io::Result<bool> {
    let (folder, temporary) = beside(path)?;
    let write = || {
        let mut file = create(&temporary, 0o600)?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(like.mode() & 0o7777))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let good = still()?;
        if good {
            std::fs::rename(&temporary, path)?;
        }
        Ok(good)
    };
    let done = write();
    if !matches!(done, Ok(true)) {
        let _ = std::fs::remove_file(&temporary);
        return done;
    }
    sync_folder(folder).map(|()| true)
}

/// Removes the temporary files that killed replacements of `path` left. Only for
/// whoever holds the lock that all who replace it take.
pub fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(std::ffi::OsStr::to_str)) else {
        return;
    };
    let temporary = |file: &str| {
        let random = file.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp")?;
        (random.len() == 8 && random.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(())
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(temporary).is_some() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The folder of a file, and a new name in it.
fn beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_string_lossy();
    Ok((folder, folder.join(format!(".{name}.{:08x}.tmp", u32::from_le_bytes(crate::random::bytes())))))
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create(path, mode)?;
    rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes renames and removals in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder that only its owner can enter, and its parents.
pub fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        super::replace(&path, b"one", 0o600).unwrap();
        super::replace(&path, b"two", 0o640).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let like = path.metadata().unwrap();
        assert!(super::replace_if(&path, b"three", &like, || Ok(true)).unwrap());
        assert!(!super::replace_if(&path, b"four", &like, || Ok(false)).unwrap());
        assert!(super::replace_if(&path, b"five", &like, || Err(std::io::Error::other("no"))).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(super::replace(&folder.path().join("no/such"), b"", 0o600).is_err());
        let (_, left) = super::beside(&path).unwrap();
        for file in [&left, &folder.path().join(".x.json.mine.tmp"), &folder.path().join(".y.json.01234567.tmp")] {
            super::write_new(file, b"half", 0o600).unwrap();
        }
        super::sweep(&path);
        assert_eq!((left.exists(), std::fs::read_dir(folder.path()).unwrap().count()), (false, 3));
    }
}
