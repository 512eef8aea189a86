//! The new root on the disk: built beside its place, proven there, and moved
//! there as a whole. A killed import leaves nothing but its own folder beside.

use crate::ImportError;
use crate::draft::Draft;
use crate::proof::{self, Proven};
use lockstep_edge::durable;
use lockstep_leader::secrets::Fresh;
use lockstep_leader::store::Store;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Who is said to have given the secrets.
const AUTHOR: &str = "import-pryv";

/// Refuses a place where something stands, or which belongs to the old installation.
pub fn refuse(old: &Path, root: &Path) -> Result<(), ImportError> {
    let old = old.canonicalize().map_err(|error| ImportError::read(old, error))?;
    let (parent, name) = place(root)?;
    if parent.join(name).starts_with(&old) {
        return Err(ImportError::at(
            root,
            "lies within the old installation, which is never written: choose another folder",
        ));
    }
    match fs::read_dir(root) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(ImportError::at(root, "is not empty: choose a new folder, or remove this one")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ImportError::read(root, error)),
    }
}

/// The folder that a root lies in, without links, and its name there.
fn place(root: &Path) -> Result<(PathBuf, OsString), ImportError> {
    let whole = std::path::absolute(root).map_err(|error| ImportError::read(root, error))?;
    let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
        return Err(ImportError::at(root, "can't be a new home: name a folder"));
    };
    match parent.canonicalize() {
        Ok(parent) => Ok((parent, name.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(ImportError::at(parent, format!("does not exist: mkdir -p {}", parent.display())))
        }
        Err(error) => Err(ImportError::read(parent, error)),
    }
}

/// Writes and proves a root.
pub fn write(draft: &Draft, root: &Path) -> Result<Proven, ImportError> {
    let (parent, name) = place(root)?;
    let beside = tempfile::Builder::new()
        .prefix(&format!(".{}.importing-", name.display()))
        // Values and certificates' keys stand in it.
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .map_err(|error| ImportError::read(&parent, error))?;
    for (path, (bytes, mode)) in &draft.files {
        put(&beside.path().join(path), bytes, *mode)?;
    }
    keep(&beside.path().join("state"), &draft.secrets)?;
    let proven = proof::prove(beside.path(), &draft.expected)?;
    let finished = beside.keep();
    fs::rename(&finished, parent.join(&name)).map_err(|error| {
        let _ = fs::remove_dir_all(&finished);
        ImportError::at(root, format!("can't be put in place: {error}"))
    })?;
    durable::sync_folder(&parent).map_err(|error| ImportError::read(&parent, error))?;
    Ok(proven)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ImportError> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .and_then(|()| durable::replace(path, bytes, mode))
        .map_err(|error| ImportError::at(path, format!("can't be written: {error}")))
}

/// The secrets are current from the start: no revision has to make them so.
fn keep(state: &Path, secrets: &[(String, String)]) -> Result<(), ImportError> {
    let failed = |error: lockstep_leader::store::StoreError| ImportError::Other(error.to_string());
    durable::private_folder(state).map_err(|error| ImportError::read(state, error))?;
    let mut store = Store::open(state).map_err(failed)?;
    let given = secrets.iter().map(|(name, value)| Fresh::given(name, "", value.clone(), AUTHOR));
    store.settle(&given.collect::<Vec<_>>()).map_err(failed)
}
