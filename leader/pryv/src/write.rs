//! The new root on the disk: built beside its place, proven there, and moved
//! there as a whole. A killed import leaves nothing but its own folder beside.

use crate::ImportError;
use crate::draft::Draft;
use crate::proof::{self, Proven};
use lockstep_edge::durable;
use lockstep_leader::secrets::Fresh;
use lockstep_leader::store::Store;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Who is said to have given the secrets.
const AUTHOR: &str = "import-pryv";

/// Refuses a place where something stands, or which belongs to the old installation.
pub fn refuse(old: &Path, root: &Path) -> Result<(), ImportError> {
    let old = old.canonicalize().map_err(|error| ImportError::read(old, error))?;
    let parent = parent(root)?;
    if parent
        .canonicalize()
        .map_err(|error| ImportError::read(&parent, error))?
        .join(root.file_name().unwrap_or_default())
        .starts_with(&old)
    {
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

fn parent(root: &Path) -> Result<PathBuf, ImportError> {
    let root = std::path::absolute(root).map_err(|error| ImportError::read(root, error))?;
    Ok(root.parent().unwrap_or(&root).to_owned())
}

/// Writes and proves a root.
pub fn write(draft: &Draft, root: &Path) -> Result<Proven, ImportError> {
    let parent = parent(root)?;
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let beside = tempfile::Builder::new()
        .prefix(&format!(".{name}.importing-"))
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
    fs::rename(&finished, root).map_err(|error| {
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

/// The secrets wait in the store for the first revision, which makes them current.
fn keep(state: &Path, secrets: &[(String, String)]) -> Result<(), ImportError> {
    let failed = |error: lockstep_leader::store::StoreError| ImportError::Other(error.to_string());
    durable::private_folder(state).map_err(|error| ImportError::read(state, error))?;
    let store = Store::open(state).map_err(failed)?;
    for (name, value) in secrets {
        store.put_draft(&Fresh::given(name, "", value.clone(), AUTHOR)).map_err(failed)?;
    }
    Ok(())
}
