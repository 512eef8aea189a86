//! Error bodies: `application/problem+json`, RFC 9457.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of a problem body.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One error as a client sees it. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:lockstep:problem:<kind>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same for every occurrence.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened here, why, and what to do next.
    pub detail: String,
    /// Further members: `template`, `line`, `column`, `setting`, `pointer`, `server_time`, `errors`.
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem of the kind `urn:lockstep:problem:<kind>`.
    pub fn new(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:lockstep:problem:{kind}");
        Self { kind, title: title.to_owned(), status, detail: detail.into(), members: Map::new() }
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The last part of `type`, e.g. `bad-signature`.
    pub fn short_kind(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or(&self.kind)
    }

    /// The body's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
