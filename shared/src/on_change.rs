//! What happens to a container when a file it reads has changed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The verb for a changed file, as `role.yml` spells it (`on_change`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OnChange {
    /// Nothing: the service reads the file by itself.
    None,
    /// A signal to the container's first process, without the `SIG` prefix.
    Signal(String),
    /// A command inside the container: program and arguments, no shell.
    Exec(Vec<String>),
    /// `docker restart`.
    Restart,
    /// `docker compose up -d --no-deps SERVICE`.
    Recreate,
}

/// Why a text is not an [`OnChange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "on_change {0:?} is unknown: write restart, recreate, none, signal:HUP (or USR1, USR2, WINCH, INT, TERM, QUIT, ALRM, CONT) or exec:[\"program\", \"argument\"]"
)]
pub struct BadOnChange(pub String);

const SIGNALS: [&str; 9] = ["HUP", "USR1", "USR2", "WINCH", "INT", "TERM", "QUIT", "ALRM", "CONT"];

impl TryFrom<String> for OnChange {
    type Error = BadOnChange;
    fn try_from(text: String) -> Result<Self, BadOnChange> {
        let verb = match text.as_str() {
            "none" => Some(Self::None),
            "restart" => Some(Self::Restart),
            "recreate" => Some(Self::Recreate),
            other => {
                other.strip_prefix("signal:").map(signal).or_else(|| other.strip_prefix("exec:").map(exec)).flatten()
            }
        };
        verb.ok_or(BadOnChange(text))
    }
}

fn signal(name: &str) -> Option<OnChange> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    SIGNALS.contains(&name).then(|| OnChange::Signal(name.to_owned()))
}

fn exec(list: &str) -> Option<OnChange> {
    let words: Vec<String> = serde_json::from_str(list).ok()?;
    (!words.is_empty()).then_some(OnChange::Exec(words))
}

impl From<OnChange> for String {
    fn from(verb: OnChange) -> Self {
        verb.to_string()
    }
}

impl fmt::Display for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Signal(name) => write!(f, "signal:{name}"),
            Self::Exec(words) => write!(f, "exec:{}", serde_json::to_string(words).unwrap_or_default()),
            Self::Restart => f.write_str("restart"),
            Self::Recreate => f.write_str("recreate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in ["none", "restart", "recreate", "signal:HUP", r#"exec:["nginx","-s","reload"]"#] {
            assert_eq!(OnChange::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        assert_eq!(OnChange::try_from("signal:SIGHUP".to_owned()).unwrap().to_string(), "signal:HUP");
        for bad in ["", "reload", "signal:", "signal:KILL9", "exec:", "exec:[]", "exec:nginx -s reload"] {
            assert!(OnChange::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
