//! Who follows this leader, as one value that all who need it look at: those
//! of `config-leader.json`, and those that joined with a token.

use crate::config::Follower;
use crate::store::StoredFollower;
use arc_swap::ArcSwap;
use lockstep_shared::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// All machines by name; one namespace over both kinds.
pub type Roll = BTreeMap<Name, Arc<Member>>;

/// A machine that follows.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// The role whose configuration it gets.
    pub role: Name,
    /// Where it can be told at once; without, it follows by its long poll.
    pub url: Option<String>,
    /// Addresses that templates see as `machine.addresses`.
    pub addresses: Vec<String>,
    /// What is known of one that joined; `None` for one of `config-leader.json`.
    pub joined: Option<StoredFollower>,
}

impl Member {
    /// Whether it is one of the fleet: rendered for, served, waited for.
    pub fn active(&self) -> bool {
        self.joined.as_ref().is_none_or(|joined| joined.disabled.is_none())
    }
}

impl From<StoredFollower> for Member {
    fn from(joined: StoredFollower) -> Self {
        Self {
            name: joined.name.clone(),
            role: joined.role.clone(),
            url: joined.url.clone(),
            addresses: joined.addresses.clone(),
            joined: Some(joined),
        }
    }
}

/// The machines, live: every copy of this sees every change at once.
#[derive(Clone, Default)]
pub struct Members(Arc<ArcSwap<Roll>>);

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.now().keys()).finish()
    }
}

impl Members {
    /// Those of the configuration file.
    pub fn declared(file: &BTreeMap<Name, Follower>) -> Self {
        let member = |(name, follower): (&Name, &Follower)| {
            let member = Member {
                name: name.clone(),
                role: follower.role.clone(),
                url: follower.url.clone(),
                addresses: follower.addresses.clone(),
                joined: None,
            };
            (name.clone(), Arc::new(member))
        };
        Self(Arc::new(ArcSwap::from_pointee(file.iter().map(member).collect())))
    }

    /// As of now.
    pub fn now(&self) -> Arc<Roll> {
        self.0.load_full()
    }

    /// One of them, also one that is disabled.
    pub fn get(&self, name: &str) -> Option<Arc<Member>> {
        self.0.load().get(name).cloned()
    }

    /// Those that are rendered for, by name.
    pub fn active(&self) -> Vec<Arc<Member>> {
        self.0.load().values().filter(|member| member.active()).cloned().collect()
    }

    /// Those that are disabled: `platform.yml` may go on naming them.
    pub fn disabled(&self) -> Vec<Name> {
        let roll = self.0.load();
        roll.values().filter(|member| !member.active()).map(|member| member.name.clone()).collect()
    }

    /// Takes in what the store knows. The names that `config-leader.json` has
    /// as well are left out and returned: that file goes first.
    pub(super) fn complete(&self, joined: Vec<StoredFollower>) -> Vec<Name> {
        let mut twice = Vec::new();
        let mut roll: Roll = self.0.load().iter().filter(|(_, member)| member.joined.is_none()).map(shared).collect();
        for follower in joined {
            if roll.contains_key(&follower.name) {
                twice.push(follower.name);
            } else {
                roll.insert(follower.name.clone(), Arc::new(follower.into()));
            }
        }
        self.0.store(Arc::new(roll));
        twice
    }

    /// One that joined, or what changed of it.
    pub(super) fn put(&self, follower: &StoredFollower) {
        self.0.rcu(|roll| {
            let mut roll = Roll::clone(roll);
            roll.insert(follower.name.clone(), Arc::new(follower.clone().into()));
            roll
        });
    }

    /// One that is gone.
    pub(super) fn remove(&self, name: &Name) {
        self.0.rcu(|roll| {
            let mut roll = Roll::clone(roll);
            roll.remove(name);
            roll
        });
    }
}

fn shared((name, member): (&Name, &Arc<Member>)) -> (Name, Arc<Member>) {
    (name.clone(), member.clone())
}
