//! What the followers last reported. In memory only: after a restart of the
//! leader every follower reports again by itself.

use crate::published::Published;
use crate::roster::Roll;
use lockstep_edge::clock;
use lockstep_shared::Name;
use lockstep_shared::api::{Fleet, Machine, Status};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

/// What each follower last said, as of one moment.
pub type Heard = HashMap<String, Arc<Status>>;

/// The reports, and a counter that grows with each.
pub struct Reports {
    last: RwLock<HashMap<String, Arc<Report>>>,
    sequence: watch::Sender<u64>,
}

#[derive(Default)]
struct Report {
    /// Unix seconds; 0: never.
    seen: AtomicI64,
    /// Seconds that the machine's clock was ahead, at its last report.
    ahead: AtomicI64,
    status: Mutex<Option<Arc<Status>>>,
}

impl Report {
    fn said(&self) -> Option<Arc<Status>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reports {
    /// None yet.
    pub fn new() -> Self {
        Self { last: RwLock::default(), sequence: watch::Sender::new(0) }
    }

    fn of(&self, machine: &str) -> Arc<Report> {
        if let Some(report) = self.last.read().unwrap_or_else(PoisonError::into_inner).get(machine) {
            return report.clone();
        }
        self.last.write().unwrap_or_else(PoisonError::into_inner).entry(machine.to_owned()).or_default().clone()
    }

    /// A follower asked for something: it is alive.
    pub fn seen(&self, machine: &str) {
        self.of(machine).seen.store(clock::now(), Ordering::Relaxed);
    }

    /// A follower said how it is, in a request that it signed at `created` of
    /// its time. What its report says of its clock counts more: a follower whose
    /// clock is far off signs with the leader's time.
    pub fn store(&self, machine: &str, created: i64, status: Status) {
        let report = self.of(machine);
        let now = clock::now();
        report.seen.store(now, Ordering::Relaxed);
        report.ahead.store(status.clock.unwrap_or(created).saturating_sub(now), Ordering::Relaxed);
        *report.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(status));
        self.sequence.send_modify(|sequence| *sequence += 1);
    }

    /// What they last said.
    pub fn heard(&self) -> Heard {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.iter().filter_map(|(machine, report)| Some((machine.clone(), report.said()?))).collect()
    }

    /// When a follower was last heard from, Unix seconds.
    pub fn last_seen(&self, machine: &Name) -> Option<i64> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.get(machine.as_str()).map(|report| report.seen.load(Ordering::Relaxed))
    }

    /// Until when the certificate holds that a follower last showed, Unix seconds.
    pub fn certificate_ends(&self, machine: &Name) -> Option<i64> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.get(machine.as_str())?.said()?.trust.as_ref()?.certificate_ends
    }

    /// Grows with every report.
    pub fn sequence(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// The fleet as it is known now.
    pub fn fleet(&self, published: &Published, members: &Roll) -> Fleet {
        let sequence = *self.sequence.borrow();
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let machines = published.served.iter().map(|(name, served)| {
            let report = last.get(name.as_str());
            let status = report.and_then(|report| report.said());
            Machine {
                name: name.clone(),
                role: served.bundle.role.clone(),
                wanted: served.bundle.digest,
                offered: served.number(),
                url: members.get(name).and_then(|member| member.url.clone()),
                seen: report.map(|report| report.seen.load(Ordering::Relaxed)),
                clock_ahead: report.filter(|_| status.is_some()).map(|report| report.ahead.load(Ordering::Relaxed)),
                status: status.map(Arc::unwrap_or_clone),
            }
        });
        let mut machines: Vec<Machine> = machines.collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        let disabled = members.values().filter(|member| !member.active()).map(|member| member.name.clone()).collect();
        Fleet { revision: published.revision.number, sequence, machines, rollout: None, ending: Vec::new(), disabled }
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}
