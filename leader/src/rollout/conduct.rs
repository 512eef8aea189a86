//! Does what the decisions say: one thread takes every event in turn, makes
//! durable what must not be lost, then serves, answers and tells followers.

use super::events::{Changed, Events};
use super::push::Pushes;
use super::state::{Ground, Offer, Phase, Rollout, SILENT, State, Was};
use super::step::{Effect, Event, Report, told};
use super::strategy::{Strategy, Wish};
use crate::audit::{self, Audit};
use crate::mask::Mask;
use crate::published::{Published, Served};
use crate::store::{Revision, Store, StoreError};
use crate::who::Actor;
use lockstep_edge::clock;
use lockstep_shared::api::{Lease, LeaseRequest, Status, Verdict};
use lockstep_shared::{Name, Sha256, rollout as shown};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How often time is looked at while something goes on.
const BEAT: Duration = Duration::from_secs(1);

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

struct Shared {
    state: Mutex<State>,
    events: Events,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Message {
    Begin(Box<Fresh>, Sender<()>),
    Report(Name, Box<Report>),
    Ask(Box<Asked>),
    Gone(Name, u64),
    Wish(Event, oneshot::Sender<Result<(), String>>),
}

/// A request for a lease that is being held.
struct Asked {
    name: Name,
    role: Name,
    request: LeaseRequest,
    served: Sha256,
    ticket: u64,
    answer: oneshot::Sender<Lease>,
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
        let leases = super::lease::Leases { held: hands.store.leases()?, queue: Vec::new() };
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
        let runtime = tokio::runtime::Handle::try_current().ok();
        let kept = shared.state().rollout.clone();
        let mut conducting = Conducting {
            new: published.served.clone(),
            shared: shared.clone(),
            hands,
            runtime,
            kept,
            earlier: HashMap::new(),
            asking: HashMap::new(),
        };
        conducting.serve(&published.revision);
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("rollout".to_owned()).spawn(move || conducting.run(&receiver));
        Ok(Self { shared, sender: Some(sender), thread: thread.ok() })
    }

    /// One that only shows: for commands on the files, while no leader runs.
    pub fn idle(usual: &Strategy) -> Self {
        let state = State {
            rollout: None,
            leases: super::lease::Leases::default(),
            heard: HashMap::new(),
            sizes: BTreeMap::new(),
            usual: usual.clone(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), events: Events::default() });
        Self { shared, sender: None, thread: None }
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

struct Conducting {
    shared: Arc<Shared>,
    hands: Hands,
    runtime: Option<tokio::runtime::Handle>,
    /// What the published revision has for each machine.
    new: HashMap<Name, Arc<Served>>,
    /// What machines are served instead, or go back to, by revision.
    earlier: HashMap<(Name, u64), Arc<Served>>,
    /// The rollout as it was last made durable.
    kept: Option<Rollout>,
    asking: HashMap<Name, (u64, oneshot::Sender<Lease>)>,
}

impl Conducting {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let busy = {
                let state = self.shared.state();
                state.rollout.as_ref().is_some_and(Rollout::is_running)
                    || !state.leases.held.is_empty()
                    || !state.leases.queue.is_empty()
            };
            let message = if busy {
                receiver.recv_timeout(BEAT)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.step(Event::Tick);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Begin(fresh, done) => {
                self.begin(*fresh);
                drop(done);
            }
            Message::Report(name, mut report) => {
                self.mask(&mut report);
                let _ = self.step(Event::Report(name, *report));
            }
            Message::Ask(asked) => {
                let Asked { name, role, request, served, ticket, answer } = *asked;
                self.asking.insert(name.clone(), (ticket, answer));
                let _ = self.step(Event::Ask(name, role, request, served));
            }
            Message::Gone(name, ticket) => {
                if self.asking.get(&name).is_some_and(|(own, _)| *own == ticket) {
                    self.asking.remove(&name);
                    let _ = self.step(Event::Gone(name));
                }
            }
            Message::Wish(event, answer) => {
                let _ = answer.send(self.step(event));
            }
        }
    }

    /// What failed somewhere may quote a container's last words, and these a secret.
    fn mask(&self, report: &mut Report) {
        if report.failed.is_none() && report.error.is_none() {
            return;
        }
        let mask = self.hands.store.rendered_secrets().map(|secrets| Mask::new(&secrets));
        for text in report.failed.iter_mut().map(|failed| &mut failed.why).chain(report.error.iter_mut()) {
            *text = match &mask {
                Ok(mask) => mask.text(text),
                Err(_) => "it failed; see its log".to_owned(),
            };
        }
    }

    fn begin(&mut self, fresh: Fresh) {
        let Fresh { published, rollout: stored } = fresh;
        let before = self.hands.published.borrow().clone();
        let published = published.after(&before);
        // Anew, from what is true at this moment: what was stored was made while reports went on coming in.
        let rollout = {
            let mut state = self.shared.state();
            state.sizes = sizes(&published.revision);
            let digests = digests(&before.revision);
            let ground = Ground {
                last: state.rollout.as_ref(),
                revision: before.revision.number,
                digests: &digests,
                alive: &|name| state.is_alive(name, stored.started),
                now: stored.started,
            };
            Rollout::begin(stored.revision, &bundles(&published.revision), stored.strategy.clone(), &ground)
        };
        let needed = |name: &Name, revision: u64| {
            let member = rollout.members.get(name);
            member.is_some_and(|member| {
                [&member.before, &member.good].into_iter().flatten().any(|was| was.revision == revision)
            })
        };
        self.earlier.retain(|(name, revision), _| needed(name, *revision));
        for (name, member) in &rollout.members {
            let (Some(was), Some(served)) = (&member.before, before.served.get(name)) else { continue };
            if served.bundle.digest == was.digest {
                self.earlier.insert((name.clone(), was.revision), served.clone());
            }
        }
        self.new.clone_from(&published.served);
        self.kept = Some(stored);
        self.shared.events.begin();
        self.hands.published.send_if_modified(|now| {
            // What is served is decided below; nobody is woken before.
            *now = Arc::new(Published { revision: published.revision, served: now.served.clone() });
            false
        });
        let _ = self.step(Event::Begin(Box::new(rollout)));
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let now = clock::now();
        let begins = matches!(event, Event::Begin(_));
        let (effects, head) = {
            let mut state = self.shared.state();
            let before = state.head(0);
            let effects = state.step(event, now)?;
            let after = state.head(0);
            (effects, after.filter(|after| before.as_ref() != Some(after)))
        };
        let mut changes: Vec<Changed> = Vec::new();
        let mut again = Vec::new();
        let mut lost = false;
        for effect in effects {
            match effect {
                Effect::Keep(replaced) => self.keep(replaced.as_deref()),
                Effect::KeepLease(name) => {
                    if let Err(error) = self.keep_lease(&name) {
                        tracing::error!(machine = %name, %error, "a restart lease can't be kept: it is not given");
                        again.push(name);
                    }
                }
                Effect::Offer => {
                    let revision = self.hands.published.borrow().revision.clone();
                    let told = self.serve(&revision);
                    // Whoever publishes tells the followers and waits for their answers.
                    if !begins {
                        self.push(told);
                    }
                }
                Effect::Answer(name, lease) => {
                    let refused = again.contains(&name) && lease.verdict == Verdict::Granted;
                    let wait = || Lease {
                        verdict: Verdict::Wait,
                        why: "the leader can't write it down: is its disk full?".to_owned(),
                        seconds: 5,
                    };
                    if let Some((_, answer)) = self.asking.remove(&name)
                        && answer.send(if refused { wait() } else { lease }).is_err()
                    {
                        // Nobody listened: the lease is the next one's.
                        self.shared.state().leases.held.remove(&name);
                        lost |= self.keep_lease(&name).is_ok();
                    }
                }
                Effect::Note(what, detail) => {
                    tracing::info!("{what}: {detail}");
                    self.hands.audit.note(&audit::Event::done(&Actor::leader(), what, &detail));
                }
                Effect::Shown(name) => {
                    let member = self.shared.state().member(&name, now);
                    changes.extend(member.map(|member| Changed::Machine(Box::new(member))));
                }
            }
        }
        changes.extend(head.map(|head| Changed::Rollout(Box::new(head))));
        self.shared.events.add(changes);
        if lost { self.step(Event::Tick) } else { Ok(()) }
    }

    fn keep(&mut self, replaced: Option<&Rollout>) {
        let current = self.shared.state().rollout.clone();
        let changed = current.as_ref().filter(|current| self.kept.as_ref() != Some(current));
        for rollout in replaced.into_iter().chain(changed) {
            if let Err(error) = self.hands.store.put_rollout(rollout) {
                tracing::error!(%error, "how the rollout stands can't be kept: after a crash it goes on from where it stood before");
                return;
            }
        }
        self.kept = current;
    }

    fn keep_lease(&self, name: &Name) -> Result<(), StoreError> {
        let held = self.shared.state().leases.held.get(name).cloned();
        let kept = self.hands.store.put_lease(name, held.as_ref());
        if kept.is_err() && held.is_some() {
            self.shared.state().leases.held.remove(name);
        }
        kept
    }

    /// Serves every machine what it is to have now; who is served something else than until now, and its revision.
    fn serve(&mut self, revision: &Revision) -> Vec<(Name, u64)> {
        let offers: Vec<(Name, Was)> = {
            let state = self.shared.state();
            let members = state.rollout.iter().flat_map(|rollout| {
                rollout.members.iter().filter_map(|(name, member)| match rollout.offer(member) {
                    Offer::New => None,
                    Offer::Earlier(was) => Some((name.clone(), was.clone())),
                })
            });
            members.collect()
        };
        let mut served = self.new.clone();
        let now = self.hands.published.borrow().clone();
        for (name, was) in offers {
            match self.earlier(&name, &was) {
                Ok(Some(earlier)) => {
                    served.insert(name, earlier);
                }
                result => {
                    let error =
                        result.err().map_or_else(|| "it is not in the store".to_owned(), |error| error.to_string());
                    tracing::error!(machine = %name, revision = was.revision, error, "an earlier revision can't be served: the machine keeps what it is served");
                    if let Some(stays) = now.served.get(&name) {
                        served.insert(name, stays.clone());
                    }
                }
            }
        }
        let changed = served.iter().filter(|(name, new)| now.served.get(*name).is_none_or(|old| old.etag != new.etag));
        let changed = changed.map(|(name, new)| (name.clone(), new.number())).collect();
        self.hands.published.send_replace(Arc::new(Published { revision: revision.clone(), served }));
        changed
    }

    fn earlier(&mut self, name: &Name, was: &Was) -> Result<Option<Arc<Served>>, StoreError> {
        let place = (name.clone(), was.revision);
        if let Some(known) = self.earlier.get(&place) {
            return Ok(Some(known.clone()));
        }
        let Some(revision) = self.hands.store.revision(was.revision)? else { return Ok(None) };
        // The others that have this revision are asked for next.
        for (other, served) in Published::new(revision).served {
            self.earlier.insert((other, was.revision), served);
        }
        Ok(self.earlier.get(&place).cloned())
    }

    /// Tells followers that there is something else for them; their long polls know anyway.
    fn push(&self, told: Vec<(Name, u64)>) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !told.is_empty()) else { return };
        let pushes = self.hands.pushes.clone();
        runtime.spawn(async move { pushes.tell(told).await });
    }
}

/// How many machines each role has.
fn sizes(revision: &Revision) -> BTreeMap<Name, usize> {
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
