//! Why nothing was read or written.

use crate::fault::{Fault, Faults};
use crate::platform::wording;
use crate::source::PLATFORM;
use serde_json::Value;
use std::io;
use std::path::PathBuf;

/// Why nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The files can't be read.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// What the edit would make of the files is wrong.
    #[error("{0}\nnothing was written")]
    Rejected(Faults),
    /// No such setting.
    #[error("{0}")]
    Unknown(String),
    /// Not to be edited so.
    #[error("{0}")]
    Refused(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Moved(Box<Moved>),
    /// The disk.
    #[error("{}: {source}; nothing was changed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<Fault> for DeskError {
    fn from(fault: Fault) -> Self {
        Self::Faults(fault.into())
    }
}

/// A value that changed since its writer looked.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The setting.
    pub name: String,
    /// The machine.
    pub machine: Option<String>,
    /// What is written now.
    pub now: Option<Value>,
    /// In which line.
    pub line: Option<usize>,
    /// Its tag.
    pub etag: String,
    /// What the writer saw, where they said it.
    pub seen: Option<Value>,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} changed since you looked", self.name)?;
        if let Some(machine) = &self.machine {
            write!(f, " (for {machine})")?;
        }
        match &self.seen {
            Some(seen) => write!(f, ": it was {} and is ", wording::shown(seen))?,
            None => f.write_str(": it is ")?,
        }
        match (&self.now, self.line) {
            (Some(now), Some(line)) => write!(f, "{} now ({PLATFORM}:{line})", wording::shown(now))?,
            (Some(now), None) => write!(f, "{} now", wording::shown(now))?,
            (None, _) => f.write_str("not set now")?,
        }
        write!(f, "; nothing was written. Look again with lockstep settings get {}, then set it", self.name)
    }
}
