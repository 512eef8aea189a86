//! `platform.yml` on disk: read under a lock, and replaced only while it still
//! is what was read. Owner, group and mode stay; a link stays a link.

use super::DeskError;
use crate::config::Config;
use crate::source::{PLATFORM, utf8};
use lockstep_edge::durable;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::PathBuf;

/// The platform file as it was read; links followed.
pub(super) struct Open {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Its text.
    pub(super) text: String,
    like: Option<Metadata>,
}

/// Held while the file is read and replaced; waits for others.
pub(crate) fn lock(config: &Config) -> Result<File, DeskError> {
    let held = held(config, "platform.lock")?;
    durable::sweep(&config.platform.canonicalize().unwrap_or_else(|_| config.platform.clone()));
    Ok(held)
}

/// A turn among the commands that edit while no leader runs: one after the other.
pub(super) fn turn(config: &Config) -> Result<File, DeskError> {
    held(config, "offline.lock")
}

fn held(config: &Config, name: &str) -> Result<File, DeskError> {
    let path = config.state.join(name);
    let lock = || {
        durable::private_folder(&config.state)?;
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    lock().map_err(|source| DeskError::Io { path: path.clone(), source })
}

/// Reads the file; a platform without one has an empty one.
pub(super) fn open(config: &Config) -> Result<Open, DeskError> {
    let path = &config.platform;
    let failed = |source| DeskError::Io { path: path.clone(), source };
    let path = match path.canonicalize() {
        Ok(path) => path,
        // A new platform; a link to nowhere is a mistake.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            return Ok(Open { path: path.clone(), bytes: Vec::new(), text: String::new(), like: None });
        }
        Err(error) => return Err(failed(error)),
    };
    let bytes = fs::read(&path).map_err(failed)?;
    let like = Some(fs::metadata(&path).map_err(failed)?);
    let text = utf8(PLATFORM, &bytes)?.to_owned();
    Ok(Open { path, bytes, text, like })
}

/// False where the file isn't what it was any more.
pub(super) fn replace(file: &Open, text: &str) -> Result<bool, DeskError> {
    let same = || Ok(fs::read(&file.path)? == file.bytes);
    let done = match &file.like {
        Some(like) => durable::replace_if(&file.path, text.as_bytes(), like, same),
        None => durable::replace(&file.path, text.as_bytes(), 0o644).map(|()| true),
    };
    done.map_err(|source| DeskError::Io { path: file.path.clone(), source })
}
