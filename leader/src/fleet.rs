//! What the followers last reported. In memory only: after a restart of the
//! leader every follower reports again by itself.

use crate::config::Follower;
use crate::published::Published;
use lockstep_edge::clock;
use lockstep_shared::Name;
use lockstep_shared::api::{Fleet, Machine, Status};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The reports, and a counter that grows with each.
pub struct Reports {
    last: Mutex<BTreeMap<Name, Report>>,
    sequence: watch::Sender<u64>,
}

struct Report {
    seen: i64,
    status: Option<Status>,
}

impl Reports {
    /// None yet.
    pub fn new() -> Self {
        Self { last: Mutex::default(), sequence: watch::Sender::new(0) }
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<Name, Report>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A follower asked for something: it is alive.
    pub fn seen(&self, machine: &Name) {
        let mut last = self.last();
        match last.get_mut(machine) {
            Some(report) => report.seen = clock::now(),
            None => {
                last.insert(machine.clone(), Report { seen: clock::now(), status: None });
            }
        }
    }

    /// A follower said how it is.
    pub fn store(&self, machine: &Name, status: Status) {
        self.last().insert(machine.clone(), Report { seen: clock::now(), status: Some(status) });
        self.sequence.send_modify(|sequence| *sequence += 1);
    }

    /// Grows with every report.
    pub fn sequence(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// The fleet as it is known now.
    pub fn fleet(&self, published: &Published, followers: &BTreeMap<Name, Follower>) -> Fleet {
        let sequence = *self.sequence.borrow();
        let last = self.last();
        let machines = published.served.iter().map(|(name, served)| {
            let report = last.get(name);
            Machine {
                name: name.clone(),
                role: served.bundle.role.clone(),
                wanted: served.bundle.digest,
                url: followers.get(name).and_then(|follower| follower.url.clone()),
                seen: report.map(|report| report.seen),
                status: report.and_then(|report| report.status.clone()),
            }
        });
        let mut machines: Vec<Machine> = machines.collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        Fleet { revision: published.revision.number, sequence, machines }
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}
