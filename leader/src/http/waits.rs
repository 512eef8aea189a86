//! How many requests of each follower are being held.

use lockstep_shared::{Name, Problem};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The held requests, by machine.
#[derive(Default)]
pub struct Waits(Mutex<HashMap<Name, usize>>);

/// One held request; given back when dropped.
pub(super) struct Place<'w> {
    waits: &'w Waits,
    machine: Name,
}

impl Waits {
    /// A place for one more, or the 429 that says so.
    pub(super) fn take(&self, machine: &Name, most: usize) -> Result<Place<'_>, Problem> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(machine.clone()).or_default();
        if *count >= most {
            let detail = format!("{most} requests of {machine} are being held already: end one, or try again later");
            return Err(Problem::new(429, "too-many-waits", "Too many requests are held", detail));
        }
        *count += 1;
        Ok(Place { waits: self, machine: machine.clone() })
    }
}

impl Waits {
    /// How many are held, of all machines.
    pub(super) fn held(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.waits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.machine) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.machine);
            }
        }
    }
}
