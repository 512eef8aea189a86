//! A new key for a follower: stored beside the old one, told to the follower
//! in the answer to its next report, and the only one from the moment that the
//! follower has signed with it. Until then both are taken, so that neither end
//! may crash at a wrong moment.

use super::{Roster, RosterError};
use lockstep_edge::random;
use lockstep_shared::{Key, Name};

/// A rotation that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The follower.
    pub name: Name,
    /// Whether it had been begun before, and the key waits for its first use still.
    pub waits: bool,
}

impl Roster {
    /// Whether a follower has a new key that it hasn't used.
    pub fn is_rotating(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|member| member.joined.as_ref().is_some_and(|joined| joined.next.is_some()))
    }

    /// Begins a rotation; durable on return. One that was begun before goes on
    /// with its key: the follower may be about to use it.
    pub fn rotate(&self, name: &str) -> Result<Rotation, RosterError> {
        let store = self.store();
        let mut follower = self.joined(name)?;
        if follower.disabled.is_some() {
            return Err(RosterError::Not(format!(
                "{name} is disabled, so it can't be told a new key: lockstep followers enable {name} first, or remove it"
            )));
        }
        let rotation = Rotation { name: follower.name.clone(), waits: follower.next.is_some() };
        if !rotation.waits {
            follower.next = Some(Key::from_bytes(random::bytes()).reveal());
            self.keep(&store, &follower)?;
        }
        Ok(rotation)
    }
}
