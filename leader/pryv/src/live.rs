//! The folder that the original's follower wrote, on the machine whose
//! installation is read: what the services see at this moment.

use crate::ImportError;
use lockstep_shared::SafePath;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A file as it stands there.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Whether it is a link, or lies behind one: lockstep writes through none.
    pub(crate) linked: bool,
}

/// Those of the files that are there.
pub(crate) fn read<'p>(
    folder: &Path,
    files: impl Iterator<Item = &'p SafePath>,
) -> Result<BTreeMap<SafePath, Live>, ImportError> {
    let mut live = BTreeMap::new();
    for file in files {
        let path = folder.join(file.as_str());
        let Ok(meta) = fs::metadata(&path) else { continue };
        if !meta.is_file() {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| ImportError::read(&path, error))?;
        let mut linked = false;
        let mut step = folder.to_owned();
        for segment in file.segments() {
            step.push(segment);
            linked |= step.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        }
        live.insert(file.clone(), Live { bytes, mode: meta.permissions().mode() & 0o777, linked });
    }
    Ok(live)
}
