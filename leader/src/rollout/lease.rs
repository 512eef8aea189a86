//! Who may restart containers now, and who waits for it: first come, first
//! served, within the limits of each role.

use lockstep_shared::{Name, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A waiting machine that nobody heard of for so many seconds has gone.
const FORGOTTEN: i64 = 90;

/// The leases, and the queue for them.
#[derive(Debug, Default)]
pub struct Leases {
    /// Who may, by machine.
    pub held: BTreeMap<Name, Held>,
    /// Who waits, in order.
    pub queue: Vec<Waiter>,
}

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The holder's role.
    pub role: Name,
    /// The apply that it is for.
    pub apply: String,
    /// What is applied.
    pub revision: u64,
    /// Its digest.
    pub digest: Sha256,
    /// The services that are restarted.
    pub services: Vec<String>,
    /// Since when, Unix seconds.
    pub since: i64,
    /// Nobody else gets one meanwhile: it is the first of its role with something new.
    pub alone: bool,
}

/// A machine that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The machine.
    pub name: Name,
    /// What it would hold.
    pub wish: Held,
    /// Whether its request is being held: nobody who doesn't listen is granted anything.
    pub listens: bool,
    /// When it last asked, Unix seconds.
    pub asked: i64,
    /// Why it waits, for people.
    pub why: String,
}

/// What the limits say to a waiting machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Now,
    /// Others come first, for this reason.
    Later(String),
    /// The same, and nobody behind it may pass: it needs the fleet for itself.
    Barrier(String),
}

impl Leases {
    /// Takes a place in the queue, or keeps the one that the machine has.
    pub fn wait(&mut self, name: &Name, wish: Held, now: i64) {
        let waiter = Waiter { name: name.clone(), wish, listens: true, asked: now, why: String::new() };
        match self.queue.iter_mut().find(|other| other.name == *name) {
            Some(place) => *place = waiter,
            None => self.queue.push(waiter),
        }
    }

    /// Grants what can be granted; the machines whose turn it is.
    pub fn grant(&mut self, now: i64, turn: impl Fn(&Waiter, &BTreeMap<Name, Held>) -> Turn) -> Vec<Name> {
        let mut granted = Vec::new();
        let mut barrier: Option<String> = None;
        for waiter in &mut self.queue {
            let said = match &barrier {
                Some(why) => Turn::Later(why.clone()),
                None => turn(waiter, &self.held),
            };
            match said {
                Turn::Now if waiter.listens => {
                    self.held.insert(waiter.name.clone(), Held { since: now, ..waiter.wish.clone() });
                    granted.push(waiter.name.clone());
                }
                // It asks again in a moment; meanwhile it keeps nobody waiting.
                Turn::Now => "it is asked again".clone_into(&mut waiter.why),
                Turn::Later(why) => waiter.why = why,
                Turn::Barrier(why) => {
                    if waiter.listens {
                        barrier = Some(format!("{} comes first, alone", waiter.name));
                    }
                    waiter.why = why;
                }
            }
        }
        self.queue.retain(|waiter| !granted.contains(&waiter.name));
        granted
    }

    /// A request is not held any more: its machine keeps its place for a while.
    pub fn let_go(&mut self, name: &Name) {
        if let Some(waiter) = self.queue.iter_mut().find(|waiter| waiter.name == *name) {
            waiter.listens = false;
        }
    }

    /// Forgets those who asked and never came again.
    pub fn forget(&mut self, now: i64) {
        self.queue.retain(|waiter| waiter.listens || now - waiter.asked <= FORGOTTEN);
    }
}
