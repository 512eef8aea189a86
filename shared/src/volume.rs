//! Places in named volumes, for files that don't go into the data folder.

use crate::SafePath;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A file's place in a named volume, spelt `VOLUME:PATH`: the volume as the
/// compose file or the engine names it, the path below the volume's root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumePath {
    volume: String,
    path: SafePath,
}

/// Why a text is not a [`VolumePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place in a volume: write VOLUME:PATH, the volume with letters, digits, '.', '_' or '-', the path relative and without '..'"
)]
pub struct BadVolumePath(pub String);

impl VolumePath {
    /// A place in `volume`; `None` if that can't be a volume's name.
    pub fn new(volume: &str, path: SafePath) -> Option<Self> {
        Self::is_volume(volume).then(|| Self { volume: volume.to_owned(), path })
    }

    /// Whether this can be a volume's name. The engine wants two letters at least, and compose puts the
    /// project's name before one that a compose file gives: there one letter is enough.
    pub fn is_volume(name: &str) -> bool {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        first && rest && (1..=255).contains(&name.len())
    }

    /// The volume.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Where in the volume.
    pub fn path(&self) -> &SafePath {
        &self.path
    }
}

impl TryFrom<String> for VolumePath {
    type Error = BadVolumePath;
    fn try_from(text: String) -> Result<Self, BadVolumePath> {
        let place =
            text.split_once(':').and_then(|(volume, path)| Self::new(volume, SafePath::new(path.to_owned()).ok()?));
        place.ok_or(BadVolumePath(text))
    }
}

impl From<VolumePath> for String {
    fn from(place: VolumePath) -> Self {
        place.to_string()
    }
}

impl fmt::Display for VolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.volume, self.path)
    }
}

impl fmt::Debug for VolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_volume_and_stays_in_it() {
        let place = VolumePath::try_from("conf:a/b:c".to_owned()).unwrap();
        assert_eq!((place.volume(), place.path().as_str()), ("conf", "a/b:c"));
        assert_eq!(place.to_string(), "conf:a/b:c");
        assert_eq!(VolumePath::try_from("v:x".to_owned()).unwrap().volume(), "v");
        for bad in ["", "conf", "conf:", ":a", "conf:/a", "conf:../a", "a/b:c", "-:x", "-conf:a"] {
            assert!(VolumePath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
