//! What people are told of a publication. Made of what was stored, once that is
//! served: followers don't wait for what only its author reads.

use crate::difference::{self, Bundles, MachineChange};
use crate::fleet::Heard;
use crate::mask::Mask;
use crate::store::Revision;
use lockstep_shared::api::Push;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a publication would change, or did.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Publication {
    /// Names exactly this: what is published now, and what it would become.
    #[serde(default)]
    pub plan: String,
    /// The revision that is published now.
    pub revision: u64,
    /// Whether it is new: nothing is published where nothing changed.
    pub new: bool,
    /// What changed, machine by machine.
    pub changes: Vec<MachineChange>,
    /// How followers took the news.
    pub pushes: Vec<Push>,
    /// How it goes out, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// Whether machines get it in waves, not all at once.
    #[serde(default)]
    pub waves: bool,
    /// What the author should know of the rollout before, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is not wrong and should be known: a certificate that ends soon, a name that it lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Publication {
    /// What came of it, for the audit.
    pub fn noted(&self) -> String {
        let since = if self.new { "" } else { "nothing changed since " };
        format!("{since}revision {}", self.revision)
    }
}

/// A publication whose changes nobody looked at yet.
pub struct Outline {
    /// All but the changes.
    pub(crate) publication: Publication,
    pub(crate) before: Option<Arc<Revision>>,
    /// `None` where nothing changes.
    pub(crate) after: Option<Arc<Revision>>,
    /// Values never to be shown.
    pub(crate) secrets: BTreeSet<String>,
}

impl Outline {
    /// With the changes; with what was `heard` of followers, also what they mean for containers.
    #[must_use]
    pub fn told(self, heard: Option<&Heard>) -> Publication {
        let Some(after) = self.after else { return self.publication };
        let none = Bundles::new();
        let before = self.before.as_ref().map_or(&none, |before| &before.bundles);
        let mask = Mask::new(&self.secrets);
        let changes = difference::planned(before, &after.bundles, &mask, heard);
        Publication { changes, ..self.publication }
    }
}
