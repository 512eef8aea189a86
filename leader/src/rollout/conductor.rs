//! The rollout of a running leader, as all others hold it: who publishes, who
//! reports, who asks for a lease, who wants to see or steer it. What they say
//! goes to the one thread of `conduct.rs`.

use super::conduct::Conducting;
use super::events::Events;
use super::lease::Leases;
use super::push::Pushes;
use super::report::Report;
use super::state::{Phase, Rollout, SILENT, State};
use super::step::{Event, told};
use super::strategy::{Strategy, Wish};
use crate::audit::Audit;
use crate::published::Published;
use crate::store::{Revision, Store, StoreError};
use lockstep_edge::clock;
use lockstep_shared::api::{Lease, LeaseRequest, Status, Verdict};
use lockstep_shared::{Name, Sha256, rollout as shown};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A revision that was just stored, and how it goes out.
pub struct Fresh {
    /// The revision.
    pub published: Published,
    /// Its rollout, as it was stored with it.
    pub rollout: Rollout,
}

/// How a publication is to go out.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// What it wants otherwise than the configuration says.
    pub wish: Wish,
    /// What is known of the fleet, where a leader runs.
    pub standing: Option<Standing>,
}

/// What a running leader knows that its store doesn't.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The last rollout.
    pub rollout: Option<Rollout>,
    /// When each machine last reported.
    pub heard: HashMap<Name, i64>,
}

impl Standing {
    /// What somebody who publishes should know of the rollout before.
    pub fn before(&self) -> Option<String> {
        let rollout = self.rollout.as_ref()?;
        let (number, (done, of)) = (rollout.revision, rollout.reached());
        match &rollout.phase {
            // Where nobody is being waited for, nothing is broken off.
            Phase::Running | Phase::Pausing { .. } if rollout.strategy.has_waves() => Some(format!(
                "revision {number} is on its way (wave {} of {}, {done} of {of} machines have it): a new one takes its place",
                rollout.wave + 1,
                rollout.waves
            )),
            Phase::Stopped(end) | Phase::Returned(end) => {
                Some(format!("{}; lockstep rollout resume would try it again", told(rollout, end)))
            }
            _ => None,
        }
    }

    /// The machines that were heard from lately.
    pub fn alive(&self, now: i64) -> BTreeSet<Name> {
        let alive = self.heard.iter().filter(|(_, heard)| now - **heard <= SILENT);
        alive.map(|(name, _)| name.clone()).collect()
    }
}

/// The rollout of a running leader.
pub struct Conductor {
    shared: Arc<Shared>,
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the others have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) events: Events,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) enum Message {
    Begin(Box<Fresh>, Sender<()>),
    Report(Name, Box<Report>),
    Ask(Box<Asked>),
    Gone(Name, u64),
    Wish(Event, oneshot::Sender<Result<(), String>>),
    Out(Name, String, Sender<()>),
}

/// A request for a lease that is being held.
pub(super) struct Asked {
    pub(super) name: Name,
    pub(super) role: Name,
    pub(super) request: LeaseRequest,
    pub(super) served: Sha256,
    pub(super) ticket: u64,
    pub(super) answer: oneshot::Sender<Lease>,
}

/// What the thread works with.
pub struct Hands {
    /// What is served.
    pub published: watch::Sender<Arc<Published>>,
    /// A connection of its own.
    pub store: Store,
    /// The way to the followers.
    pub pushes: Arc<Pushes>,
    /// Where it is written down.
    pub audit: Arc<Audit>,
}

impl Conductor {
    /// Goes on from what the store says. What is served is right when this returns.
    pub fn start(hands: Hands, usual: &Strategy) -> Result<Self, StoreError> {
        let now = clock::now();
        let published = hands.published.borrow().clone();
        let leases = Leases { held: hands.store.leases()?, queue: Vec::new() };
        // Who was ever heard from is given time to be heard from again.
        let heard = hands.store.heard()?.into_iter().chain(leases.held.keys().cloned()).map(|name| (name, now));
        let state = State {
            rollout: hands.store.rollout(published.revision.number)?,
            heard: heard.collect(),
            leases,
            sizes: sizes(&published.revision),
            usual: usual.clone(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), events: Events::default() });
        let conducting = Conducting::new(hands, shared.clone());
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("rollout".to_owned()).spawn(move || conducting.run(&receiver));
        Ok(Self { shared, sender: Some(sender), thread: thread.ok() })
    }

    /// One that only shows: for commands on the files, while no leader runs.
    pub fn idle(usual: &Strategy) -> Self {
        let state = State {
            rollout: None,
            leases: Leases::default(),
            heard: HashMap::new(),
            sizes: BTreeMap::new(),
            usual: usual.clone(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), events: Events::default() });
        Self { shared, sender: None, thread: None }
    }

    /// Whether it goes on: only a bug ends it before the leader.
    pub fn is_at_work(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn send(&self, message: Message) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.send(message).is_ok())
    }

    /// Serves a revision that was just stored, to those whose turn it is. Blocks until it is served.
    pub fn begin(&self, fresh: Fresh) {
        let (done, served) = channel();
        if self.send(Message::Begin(Box::new(fresh), done)) {
            let _ = served.recv();
        }
    }

    /// A machine is out: it is served nothing more, and nobody waits for it. Blocks until it is so.
    pub fn out(&self, name: &Name, why: &str) {
        let (done, left) = channel();
        if self.send(Message::Out(name.clone(), why.to_owned(), done)) {
            let _ = left.recv();
        }
    }

    /// What a publication has to know of the fleet.
    pub fn standing(&self) -> Standing {
        let state = self.shared.state();
        Standing { rollout: state.rollout.clone(), heard: state.heard.clone() }
    }

    /// A follower said how it is.
    pub fn report(&self, name: &str, status: &Status) {
        if let Ok(name) = Name::new(name) {
            self.send(Message::Report(name, Box::new(Report::from(status))));
        }
    }

    /// A follower wants to restart containers; `served` is the digest of what
    /// it is served. Waits for its turn, but not longer than `time`.
    pub async fn ask(&self, name: Name, role: Name, request: LeaseRequest, served: Sha256, time: Duration) -> Lease {
        let (answer, received) = oneshot::channel();
        let ticket = u64::from_le_bytes(lockstep_edge::random::bytes());
        let mut held = Asking { conductor: self, name: name.clone(), ticket, received };
        self.send(Message::Ask(Box::new(Asked { name: name.clone(), role, request, served, ticket, answer })));
        match tokio::time::timeout(time, &mut held.received).await {
            Ok(Ok(lease)) => lease,
            // It may have been granted in this very moment.
            _ => held.last_word().unwrap_or_else(|| {
                let state = self.shared.state();
                let why = state.leases.queue.iter().find(|waiter| waiter.name == name);
                let why = why.map_or_else(|| "ask again".to_owned(), |waiter| waiter.why.clone());
                Lease { verdict: Verdict::Wait, why, seconds: 0 }
            }),
        }
    }

    /// What a person wants. The error says why it can't be.
    pub async fn wish(&self, event: Event) -> Result<(), String> {
        let (answer, received) = oneshot::channel();
        if !self.send(Message::Wish(event, answer)) {
            return Err("no leader is running: there is no rollout to steer (lockstep leader)".to_owned());
        }
        received.await.unwrap_or_else(|_| Err("the leader is stopping".to_owned()))
    }

    /// The rollout with its machines; `None` before the first.
    pub fn view(&self) -> Option<shown::Rollout> {
        // Numbers first: whoever asks for what comes after misses nothing.
        let sequence = self.shared.events.sequence();
        self.shared.state().view(sequence, clock::now())
    }

    /// What happens, as it happens.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A held request: whoever lets go of it is known to listen no more.
struct Asking<'c> {
    conductor: &'c Conductor,
    name: Name,
    ticket: u64,
    received: oneshot::Receiver<Lease>,
}

impl Asking<'_> {
    /// What was answered, if nothing can come any more.
    fn last_word(&mut self) -> Option<Lease> {
        self.received.close();
        self.received.try_recv().ok()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // A grant that got lost is given again when the machine asks again.
        self.conductor.send(Message::Gone(self.name.clone(), self.ticket));
    }
}

/// How many machines each role has.
pub(super) fn sizes(revision: &Revision) -> BTreeMap<Name, usize> {
    let mut sizes = BTreeMap::new();
    for bundle in revision.bundles.values() {
        *sizes.entry(bundle.role.clone()).or_default() += 1;
    }
    sizes
}

/// What a revision has for each machine.
pub(crate) fn digests(revision: &Revision) -> BTreeMap<Name, Sha256> {
    revision.bundles.iter().map(|(name, bundle)| (name.clone(), bundle.digest)).collect()
}

/// The same, with its role.
pub(crate) fn bundles(revision: &Revision) -> BTreeMap<Name, (Name, Sha256)> {
    revision.bundles.iter().map(|(name, bundle)| (name.clone(), (bundle.role.clone(), bundle.digest))).collect()
}
