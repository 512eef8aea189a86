//! Does what the decisions say: one thread takes every event in turn, makes
//! durable what must not be lost, then serves, answers and tells followers.

use super::conductor::{Asked, Fresh, Hands, Message, Shared, bundles, digests, sizes};
use super::events::Changed;
use super::report::Report;
use super::state::{Ground, Offer, Rollout, Was};
use super::step::{Effect, Event};
use crate::audit;
use crate::mask::Mask;
use crate::published::{Published, Served, etag};
use crate::store::{Revision, StoreError};
use crate::who::Actor;
use lockstep_edge::clock;
use lockstep_shared::Name;
use lockstep_shared::api::{Lease, Verdict};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How often time is looked at while something goes on.
const BEAT: Duration = Duration::from_secs(1);

/// The thread's own.
pub(super) struct Conducting {
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
    /// Goes on from what `shared` says, and serves accordingly.
    pub(super) fn new(hands: Hands, shared: Arc<Shared>) -> Self {
        let published = hands.published.borrow().clone();
        let kept = shared.state().rollout.clone();
        let mut conducting = Self {
            new: published.served.clone(),
            shared,
            hands,
            runtime: tokio::runtime::Handle::try_current().ok(),
            kept,
            earlier: HashMap::new(),
            asking: HashMap::new(),
        };
        conducting.serve(&published.revision);
        conducting
    }

    /// Takes messages until nobody can send one any more.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
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
            Message::Out(name, why, done) => {
                self.new.remove(&name);
                self.earlier.retain(|(other, _), _| *other != name);
                let _ = self.step(Event::Out(name, why));
                drop(done);
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
            let (served, remembered) = (now.served.clone(), now.remembered.clone());
            *now = Arc::new(Published { revision: published.revision, served, remembered });
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
        let (mut offers, mut remembered) = (Vec::new(), HashMap::new());
        if let Some(rollout) = &self.shared.state().rollout {
            for (name, member) in &rollout.members {
                if let Offer::Earlier(was) = rollout.offer(member) {
                    offers.push((name.clone(), was.clone()));
                }
                remembered.extend(rollout.remembered(member).map(|failed| (name.clone(), etag(&failed))));
            }
        }
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
        // Who remembers what failed there is not told to try anything.
        let told = |name: &Name| !remembered.contains_key(name);
        let changed = served.iter().filter(|(name, new)| now.served.get(*name).is_none_or(|old| old.etag != new.etag));
        let changed = changed.filter(|(name, _)| told(name));
        let changed = changed.map(|(name, new)| (name.clone(), new.number())).collect();
        self.hands.published.send_replace(Arc::new(Published { revision: revision.clone(), served, remembered }));
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
