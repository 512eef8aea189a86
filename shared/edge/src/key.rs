//! Keys as they stand in configuration files: inline, or in a file of their own.

use lockstep_shared::Key;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Both or neither of `key` and `keyFile`.
    #[error("{0} needs exactly one of \"key\" and \"keyFile\"")]
    OneOf(String),
    /// The file can't be read.
    #[error("the key file {path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("{place}: {source}")]
    Bad {
        /// The file or the setting.
        place: String,
        /// Why.
        source: lockstep_shared::key::BadKey,
    },
    /// Others can read a file with secrets in it.
    #[error("{path} holds secrets and others can read it (mode {mode:04o}): chmod 600 {path}")]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// A key from whichever of the two settings is there. `place` names them in errors,
/// `root` is what a relative `keyFile` is relative to.
pub fn load(place: &str, inline: Option<&str>, file: Option<&Path>, root: &Path) -> Result<Key, KeyError> {
    match (inline, file) {
        (Some(text), None) => {
            Key::parse(text).map_err(|source| KeyError::Bad { place: format!("{place}.key"), source })
        }
        (None, Some(file)) => {
            let path = root.join(file);
            refuse_loose(&path)?;
            let text =
                std::fs::read_to_string(&path).map_err(|source| KeyError::Read { path: path.clone(), source })?;
            Key::parse(&text).map_err(|source| KeyError::Bad { place: path.display().to_string(), source })
        }
        _ => Err(KeyError::OneOf(place.to_owned())),
    }
}

/// Refuses a file with secrets in it that others can read.
pub fn refuse_loose(path: &Path) -> Result<(), KeyError> {
    let meta = path.metadata().map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
    let mode = meta.permissions().mode() & 0o777;
    let others = mode % 0o10;
    if others == 0 { Ok(()) } else { Err(KeyError::Loose { path: path.to_owned(), mode }) }
}
