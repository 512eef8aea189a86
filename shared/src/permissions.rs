//! File modes and owners as they stand in `role.yml` and on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A file mode: four octal digits, `0000` to `0777`. Set-id and sticky bits
/// are refused: configuration is never a program that runs as somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u16);

/// Why a text is not a [`Mode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mode {0:?} is refused: write four octal digits from \"0000\" to \"0777\", in quotes")]
pub struct BadMode(pub String);

impl Mode {
    /// `0644`: what a file has when nothing else is said.
    pub const DEFAULT: Self = Self(0o644);

    /// The permission bits.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<String> for Mode {
    type Error = BadMode;
    fn try_from(text: String) -> Result<Self, BadMode> {
        if text.len() == 4 && text.starts_with('0') && text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
            u16::from_str_radix(&text, 8).map(Self).map_err(|_| BadMode(text))
        } else {
            Err(BadMode(text))
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A numeric owner, `uid:gid`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Why a text is not an [`Owner`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("owner {0:?} is refused: write \"uid:gid\" as two numbers, in quotes")]
pub struct BadOwner(pub String);

impl TryFrom<String> for Owner {
    type Error = BadOwner;
    fn try_from(text: String) -> Result<Self, BadOwner> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten().filter(|n| *n != u32::MAX)
        };
        let parsed = text.split_once(':').and_then(|(uid, gid)| Some(Self { uid: number(uid)?, gid: number(gid)? }));
        parsed.ok_or(BadOwner(text))
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(Mode::try_from("0640".to_owned()).unwrap().bits(), 0o640);
        assert_eq!(Mode::default().to_string(), "0644");
        for bad in ["644", "4755", "0888", "00644", "", "rw", "9999"] {
            assert!(Mode::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners() {
        assert_eq!(Owner::try_from("0:101".to_owned()).unwrap(), Owner { uid: 0, gid: 101 });
        for bad in ["root:root", "1", "1:", ":1", "-1:0", "+1:0", "1:2:3", "4294967295:0"] {
            assert!(Owner::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
