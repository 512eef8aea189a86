//! Relative paths that can't leave the folder they are joined to.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A path below the follower's data folder: `/`-separated, UTF-8, without
/// leading `/`, empty, `.` or `..` segments or control characters; at most
/// 255 bytes a segment and 1024 in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct SafePath(String);

/// Why a text is not a [`SafePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} is refused: {why}")]
pub struct BadPath {
    /// The text as it came.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl SafePath {
    /// The longest path, in bytes.
    pub const MAX: usize = 1024;

    /// Checks a text.
    pub fn new(text: impl Into<String>) -> Result<Self, BadPath> {
        let path = text.into();
        match fault(&path) {
            None => Ok(Self(path)),
            Some(why) => Err(BadPath { path, why }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, outermost first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder it lies in, as text; `None` at the top.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }

    /// Whether the path lies in a component's `data` or `log` folder
    /// (`*/data/**`, `*/log/**`): belongs to the running service, never
    /// written or removed (seed 2, "data (not touched)").
    pub fn is_protected(&self) -> bool {
        let mut segments = self.segments().skip(1);
        let folder = segments.next();
        matches!(folder, Some("data" | "log")) && segments.next().is_some()
    }

    /// Whether the file only stands for its folder (`.gitkeep`).
    pub fn is_folder_marker(&self) -> bool {
        self.file_name() == ".gitkeep"
    }
}

fn fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it is empty");
    }
    if path.len() > SafePath::MAX {
        return Some("it is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Some("it is absolute");
    }
    if path.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    path.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment"),
        "." | ".." => Some("it has a '.' or '..' segment"),
        _ if segment.len() > 255 => Some("a segment is longer than 255 bytes"),
        _ => None,
    })
}

impl TryFrom<String> for SafePath {
    type Error = BadPath;
    fn try_from(text: String) -> Result<Self, BadPath> {
        Self::new(text)
    }
}

impl From<SafePath> for String {
    fn from(path: SafePath) -> Self {
        path.0
    }
}

impl std::borrow::Borrow<str> for SafePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn protects_data_and_log_of_a_component_only() {
        for yes in ["core/data/.gitkeep", "core/data/a/b", "redis/log/x"] {
            assert!(SafePath::new(yes).unwrap().is_protected(), "{yes}");
        }
        for no in ["core/data", "data/x", "core/conf/data/x", "pryv.yml", "log/x"] {
            assert!(!SafePath::new(no).unwrap().is_protected(), "{no}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_its_folder(text in "[a./\\\\\u{0}-\u{20}]{0,12}") {
            if let Ok(path) = SafePath::new(text) {
                let mut depth = 0i32;
                for part in std::path::Path::new(path.as_str()).components() {
                    prop_assert!(matches!(part, std::path::Component::Normal(_)));
                    depth += 1;
                }
                prop_assert!(depth > 0);
            }
        }
    }
}
