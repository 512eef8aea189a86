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

    /// From its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.to_string() == word)
    }
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
    /// Their name, as the history shows it: printable, at most [`LONGEST_NAME`] characters.
    pub name: String,
    /// How they came in.
    pub how: How,
    /// What they may do.
    pub rights: Vec<Right>,
}

/// How somebody came to act: what is known of them beside the name they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Over the unix socket, as this user of the leader's machine.
    Socket {
        /// The user's number, as the kernel says.
        uid: Option<u32>,
    },
    /// By a command on the leader's files, while no leader ran.
    Offline {
        /// The user's number.
        uid: u32,
    },
    /// With an API token.
    Token {
        /// The token's number.
        id: i64,
    },
    /// A machine, with a join token.
    Joining,
    /// The leader itself.
    Leader,
    /// Nobody that is known: without a token, or with a wrong one.
    Unknown,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid: Some(uid) } => write!(f, "socket, uid {uid}"),
            Self::Socket { uid: None } => f.write_str("socket"),
            Self::Offline { uid } => write!(f, "offline, uid {uid}"),
            Self::Token { id } => write!(f, "token {id}"),
            Self::Joining => f.write_str("join token"),
            Self::Leader => f.write_str("leader"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The longest name of somebody who acts, in characters.
pub const LONGEST_NAME: usize = 64;

impl Actor {
    /// Somebody on the leader's own machine, with the name they say: may do everything.
    pub fn local(name: &str, how: How) -> Self {
        Self { name: clean_name(name), how, rights: Right::ALL.to_vec() }
    }

    /// The leader itself.
    pub fn leader() -> Self {
        Self { name: "leader".to_owned(), how: How::Leader, rights: Vec::new() }
    }

    /// Somebody who may do nothing but look at what anyone may see.
    pub fn unknown() -> Self {
        Self { name: "unknown".to_owned(), how: How::Unknown, rights: Vec::new() }
    }

    /// Whether they may do something.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}

/// A name that can't forge a line or a column wherever it is printed: letters,
/// digits and a few signs stay, everything else becomes `?`.
pub fn clean_name(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+' | ' ');
    let name: String = name.trim().chars().take(LONGEST_NAME).map(|c| if fits(c) { c } else { '?' }).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::clean_name;

    #[test]
    fn a_name_forges_nothing() {
        assert_eq!(clean_name("alice"), "alice");
        assert_eq!(clean_name("Zoë.b@example+1"), "Zoë.b@example+1");
        assert_eq!(clean_name("a\n12 root\x1b[31m\u{202e}"), "a?12 root??31m?");
        assert_eq!(clean_name(&"x".repeat(1000)).len(), 64);
        assert_eq!(clean_name(" \t"), "unknown");
    }
}
