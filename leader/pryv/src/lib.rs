//! Moves a platform that ran the original, Pryv.io's leader and follower, over
//! to lockstep: reads the old installation, converts it, and proves that every
//! machine gets the same bytes as before.
//!
//! `old` (with `tree`, `live`, `vars`, `repair`, `recover`) reads; `table` (with `js`, `plain`)
//! is a pure model of how the original puts values into files; `answers` says
//! what a person has to decide; `draft` (with `values`, `forms`, `hbs`, `names`,
//! `documents`, `machines`, `manifest`) is the new root as a value; `write`
//! puts it on the disk and `proof` compares; `verify` asks a running original.

mod account;
mod answers;
mod documents;
mod draft;
mod forms;
mod hbs;
pub mod js;
mod live;
mod machines;
mod manifest;
mod names;
mod old;
mod plain;
mod proof;
mod recover;
mod repair;
pub mod table;
mod tree;
mod values;
mod vars;
mod verify;
mod write;

pub use account::Account;
pub use answers::{Accident, Answer, Answers, Question};
pub use draft::{Draft, Expected};
pub use old::Old;
pub use proof::{Proven, Root};
pub use verify::{Conf, ConfFile, Verified, compare};
pub use write::{refuse, write};

use lockstep_leader::fault::{Fault, Faults};
use std::path::{Path, PathBuf};

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something can't be read.
    #[error("{}: can't be read: {error}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something is not as it has to be.
    #[error("{}: {what}", path.display())]
    At {
        /// Where.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A YAML file of the old installation, or the new files, are wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The proof failed; nothing was written.
    #[error("lockstep would not serve the same bytes, so nothing was written; please report this:\n  {0}")]
    Unequal(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl ImportError {
    fn read(path: &Path, error: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), error }
    }

    fn at(path: &Path, what: impl Into<String>) -> Self {
        Self::At { path: path.to_owned(), what: what.into() }
    }
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> Self {
        Self::Faults(fault.into())
    }
}
