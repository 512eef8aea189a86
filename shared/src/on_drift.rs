//! What happens to a file when somebody else changes it on the machine.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The policy for a file that is not as it was written, as `role.yml` spells it (`drift`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrift {
    /// It is written again, and its containers are acted on.
    Repair,
    /// It is reported, and left until the bundle has something else for it.
    Report,
}

/// Why a text is not an [`OnDrift`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drift {0:?} is unknown: write repair or report")]
pub struct BadOnDrift(pub String);

impl TryFrom<&str> for OnDrift {
    type Error = BadOnDrift;
    fn try_from(text: &str) -> Result<Self, BadOnDrift> {
        match text {
            "repair" => Ok(Self::Repair),
            "report" => Ok(Self::Report),
            other => Err(BadOnDrift(other.to_owned())),
        }
    }
}

impl fmt::Display for OnDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repair => "repair",
            Self::Report => "report",
        })
    }
}
