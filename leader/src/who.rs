//! Who acts, and what they may do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a person or a program may do on a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// See settings, plans, revisions and the fleet; never a secret's value.
    Read,
    /// Change settings.
    Edit,
    /// Publish, roll back, notify.
    Publish,
    /// Set and rotate secrets.
    Secrets,
    /// Declare, disable and remove followers.
    Followers,
    /// Make and revoke tokens.
    Users,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Read, Self::Edit, Self::Publish, Self::Secrets, Self::Followers, Self::Users];
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Publish => "publish",
            Self::Secrets => "secrets",
            Self::Followers => "followers",
            Self::Users => "users",
        })
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Their name, as the history shows it.
    pub name: String,
    /// What they may do.
    pub rights: Vec<Right>,
}

impl Actor {
    /// Somebody on the leader's own machine: may do everything.
    pub fn local(name: impl Into<String>) -> Self {
        Self { name: name.into(), rights: Right::ALL.to_vec() }
    }

    /// Whether they may do something.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}
