//! Founding a platform: from a release and what only a person knows to a
//! leader's home with its first revision.
//!
//! `survey` says what a release still needs to be told, `text` writes
//! `platform.yml`, `site` puts the home in its place so that whatever is
//! interrupted can be gone on with.

mod site;
mod survey;
#[cfg(test)]
mod tests;
mod text;

pub use site::{Going, Here, Site, Standing};
pub use survey::{Need, Survey};
pub use text::platform_yml;

use crate::backup::BackupError;
use crate::fault::Faults;
use crate::leader::LeaderError;
use crate::source::Source;
use serde_json::Value;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// All that a platform begins with.
pub struct Founding {
    /// `platform.yml` and the release.
    pub source: Source,
    /// Whether the release lies in its place already, and stays there.
    pub own_templates: bool,
    /// `config-leader.json`.
    pub config: Value,
    /// Secrets that a person gives: name, the role that holds it (empty: the platform), value.
    pub secrets: Vec<(String, String, Zeroizing<String>)>,
}

/// Why no platform was founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else's files.
    #[error("nothing was made: there is {} already, and no platform around it: choose another folder with --root, or move that away", shown(.0))]
    Occupied(Vec<PathBuf>),
    /// Two at once.
    #[error("another init-platform works on {}: wait until it has ended", .0.display())]
    Busy(PathBuf),
    /// What a killed one left can't be read.
    #[error("{0}: {what}; nobody uses this folder: remove {1} and run init-platform again", path.display(), path.parent().unwrap_or(path).display())]
    Left {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The files.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The store or the first revision.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Moving.
    #[error(transparent)]
    Move(#[from] BackupError),
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
