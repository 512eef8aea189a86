//! Machines that come and go while the leader runs: they join with a token,
//! are disabled, removed, given new keys. Everything is durable before it is
//! answered, and holds from that moment on.
//!
//! | file | does |
//! |---|---|
//! | `members.rs` | who follows, as one live value |
//! | `tokens.rs` | tokens to join with: made, listed, taken back, swept |
//! | `joining.rs` | whether a machine may join: a pure decision, and doing it |
//! | `papers.rs` | what a machine is given when it joins |
//! | `keys.rs` | a new key beside the old one, until the follower has used it |
//! | `turnover.rs` | what follows from it: at the gate, for pushes, rollout and the others' revision |
//! | `view.rs` | followers as people see them |

pub mod joining;
mod keys;
mod members;
mod papers;
mod tokens;
mod turnover;
mod view;

pub use keys::Rotation;
pub use members::{Member, Members, Roll};
pub use papers::pin_fingerprint;
pub use tokens::{JoinTokenView, State as TokenState, Wanted};
pub use turnover::Followed;
pub use view::{FollowerView, KeyState, Origin};

use crate::config::FILE;
use crate::rollout::Pushes;
use crate::store::{Disabled, Store, StoreError, StoredFollower};
use lockstep_edge::gate::Entry;
use lockstep_edge::{Gate, clock};
use lockstep_shared::{Key, Name, Problem};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The followers of a leader, to change them. What changes holds at the gate
/// and for pushes before the next change begins.
pub struct Roster {
    members: Members,
    store: Mutex<Store>,
    gate: Arc<Gate>,
    pushes: Arc<Pushes>,
}

/// Why something can't be done with a follower.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// There is none of that name.
    #[error("there is no follower {0:?}: lockstep followers list names them")]
    Unknown(String),
    /// It is one of the configuration file.
    #[error(
        "{0} is declared in {FILE}: edit its entry there (followers.{0}) and restart the leader; commands work on machines that joined with a token"
    )]
    Declared(Name),
    /// It is as it should be already.
    #[error("{0}")]
    Already(String),
    /// It can't be done as things are.
    #[error("{0}")]
    Not(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads who joined, for all that look at `members`. The names that the
/// configuration file has as well are returned: the file goes first.
pub fn load(members: &Members, store: &Store) -> Result<Vec<Name>, StoreError> {
    Ok(members.complete(store.followers()?))
}

impl Roster {
    /// With a connection of its own; `members` were loaded from the same store.
    pub fn new(members: Members, store: Store, gate: Arc<Gate>, pushes: Arc<Pushes>) -> Self {
        Self { members, store: Mutex::new(store), gate, pushes }
    }

    /// Who follows.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// One change at a time: whoever holds this is the only one who writes.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a follower is now, durably, and makes it hold. `store` shows that nobody else changes anything.
    fn keep(&self, store: &Store, follower: &StoredFollower) -> Result<(), StoreError> {
        store.put_follower(follower)?;
        self.settle(follower)
    }

    /// What is durable already holds from now on.
    fn settle(&self, follower: &StoredFollower) -> Result<(), StoreError> {
        self.members.put(follower);
        admit(&self.gate, &self.pushes, follower)
    }

    /// One that joined; the error says why it is none.
    fn joined(&self, name: &str) -> Result<StoredFollower, RosterError> {
        let member = self.members.get(name).ok_or_else(|| RosterError::Unknown(name.to_owned()))?;
        member.joined.clone().ok_or_else(|| RosterError::Declared(member.name.clone()))
    }

    /// Puts a follower out, or lets it in again. What it runs goes on running.
    pub fn disable(&self, name: &str, by: Option<&str>) -> Result<StoredFollower, RosterError> {
        let store = self.store();
        let mut follower = self.joined(name)?;
        match (&follower.disabled, by) {
            (Some(disabled), Some(_)) => {
                let since = clock::rfc3339(disabled.at);
                return Err(RosterError::Already(format!("{name} is disabled already, since {since}")));
            }
            (None, None) => return Err(RosterError::Already(format!("{name} is not disabled"))),
            _ => {}
        }
        follower.disabled = by.map(|by| Disabled { at: clock::now(), by: by.to_owned() });
        self.keep(&store, &follower)?;
        Ok(follower)
    }

    /// Forgets a follower; its name is free again. One that the configuration
    /// file declares too is forgotten as the one that joined.
    pub fn remove(&self, name: &Name) -> Result<(), RosterError> {
        let store = self.store();
        let member = self.members.get(name.as_str());
        if store.drop_follower(name)? {
            if let Some(joined) = member.and_then(|member| member.joined.clone()) {
                self.members.remove(name);
                self.pushes.remove(name);
                refuse(&self.gate, &joined)?;
            }
            return Ok(());
        }
        Err(match member {
            Some(_) => RosterError::Declared(name.clone()),
            None => RosterError::Unknown(name.to_string()),
        })
    }

    /// What a first request proves: that the follower has what its join was
    /// answered with, or that it uses its new key. Durable on return; whether it was news.
    pub fn proven(&self, name: &str, with_next: bool) -> Result<bool, RosterError> {
        let store = self.store();
        let mut follower = self.joined(name)?;
        let now = clock::now();
        let news = follower.signed.is_none() || (with_next && follower.next.is_some());
        if !news {
            return Ok(false);
        }
        follower.signed.get_or_insert(now);
        if with_next && let Some(next) = follower.next.take() {
            (follower.key, follower.keyed) = (next, now);
        }
        self.keep(&store, &follower)?;
        Ok(true)
    }

    /// Notes until when a follower's certificate holds. Durable on return.
    pub fn certified(&self, name: &str, ends: i64) -> Result<(), RosterError> {
        let store = self.store();
        let mut follower = self.joined(name)?;
        follower.certificate_ends = Some(ends);
        self.keep(&store, &follower)?;
        Ok(())
    }
}

/// How a follower that joined is judged from now on, and where it is told of
/// news. One whose address can't be used follows by its long poll.
pub fn admit(gate: &Gate, pushes: &Pushes, follower: &StoredFollower) -> Result<(), StoreError> {
    let key = read(&follower.key)?;
    let url = follower.url.as_deref().filter(|_| follower.disabled.is_none());
    if let Err(error) = pushes.put(&follower.name, url, &key) {
        tracing::warn!(machine = %follower.name, %error, "it can't be told of news; it follows by its long poll");
    }
    gate.put(&Entry {
        name: follower.name.to_string(),
        key,
        other: follower.next.as_ref().map(|next| read(next)).transpose()?,
        fresh: follower.signed.is_none(),
        barred: follower.disabled.as_ref().map(|disabled| barred(&follower.name, disabled)),
    });
    Ok(())
}

/// Nothing that a removed follower signs is answered with anything else, as
/// long as this leader runs and nobody else takes the name.
fn refuse(gate: &Gate, follower: &StoredFollower) -> Result<(), StoreError> {
    let detail = format!(
        "{} was removed from this leader's followers. What it runs goes on running. To stop its lockstep: systemctl disable --now lockstep-follower; to join again: stop it, move its config-follower/ away, then lockstep join-platform with a new token",
        follower.name
    );
    let gone = Problem::new(403, "removed", "This machine was removed", detail);
    gate.put(&Entry { barred: Some(gone), ..Entry::new(follower.name.as_str(), read(&follower.key)?) });
    Ok(())
}

fn barred(name: &Name, disabled: &Disabled) -> Problem {
    let detail = format!(
        "{name} was disabled on the leader at {} by {}. What it runs goes on running. To let it in again, on the leader: lockstep followers enable {name}",
        clock::rfc3339(disabled.at),
        disabled.by
    );
    Problem::new(403, "disabled", "This machine is disabled", detail)
}

/// A key that the store holds.
fn read(text: &str) -> Result<Key, StoreError> {
    Key::parse(text).map_err(|bad| StoreError::Damaged { path: crate::store::DATABASE.into(), what: bad.to_string() })
}
