//! A file of ours that becomes a folder, and a folder of ours that becomes a
//! file: what goes makes way before what comes takes its place. The journal
//! has both, so a crash in between is finished like any other.

use crate::disk::{DataFolder, DiskError};
use crate::snapshot::{Obstacle, is_below, is_staged};
use crate::steps::Steps;
use lockstep_shared::SafePath;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::os::fd::AsFd as _;

/// Whether something is written where `removed` stands, or below it.
pub(crate) fn makes_way(steps: &Steps, removed: &SafePath) -> bool {
    let removed = removed.as_str();
    steps.write.iter().any(|write| is_below(write.path.as_str(), removed) || is_below(removed, write.path.as_str()))
}

/// The file among those to be removed that stands where `folder`, or a folder above it, is needed.
pub(crate) fn file_at<'s>(steps: &'s Steps, folder: &str) -> Option<&'s SafePath> {
    steps.remove.iter().find(|removed| removed.as_str() == folder || is_below(folder, removed.as_str()))
}

/// Whether `path` is to be a file where a folder stands whose files are removed.
pub(crate) fn replaces_folder(steps: &Steps, path: &SafePath) -> bool {
    steps.remove.iter().any(|removed| is_below(removed.as_str(), path.as_str()))
}

/// Refuses a folder that has anything in it which is not removed by `steps`.
/// To be asked before the commit: afterwards it would be too late to refuse.
pub(crate) fn only_ours(data: &DataFolder, folder: &str, steps: &Steps) -> Result<(), DiskError> {
    walk(data, folder, &mut |path, kind| {
        let ours = || steps.remove.iter().any(|removed| removed.as_str() == path);
        match kind {
            FileType::Directory => Ok(()),
            FileType::RegularFile if ours() || is_staged(path.rsplit('/').next().unwrap_or(path)) => Ok(()),
            _ => Err(DiskError::Obstacle {
                folder: data.path().to_owned(),
                obstacle: Obstacle::NotOurs(folder.to_owned(), path.to_owned()),
            }),
        }
    })
}

/// Removes a folder that has nothing but folders in it.
pub(crate) fn clear(data: &DataFolder, folder: &str) -> Result<(), DiskError> {
    let remove = |path: &str, flags| {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let removed = data.folder(above).and_then(|above| rustix::fs::unlinkat(above, name, flags));
        removed.map_err(|errno| data.failed("removing", path, errno))
    };
    walk(data, folder, &mut |path, kind| {
        remove(path, if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })
    })?;
    remove(folder, AtFlags::REMOVEDIR)
}

/// Everything below a folder, what is deeper first. A folder that is none, or not there, has nothing.
fn walk(
    data: &DataFolder,
    folder: &str,
    each: &mut impl FnMut(&str, FileType) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let fd = match data.folder(folder) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(data.failed("opening the folder", folder, errno)),
    };
    let failed = |errno| data.failed("listing", folder, errno);
    for entry in rustix::fs::Dir::read_from(fd.as_fd()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { return Err(failed(Errno::ILSEQ)) };
        if matches!(name, "." | "..") {
            continue;
        }
        let path = format!("{folder}/{name}");
        if entry.file_type() == FileType::Directory {
            walk(data, &path, each)?;
        }
        each(&path, entry.file_type())?;
    }
    Ok(())
}
