//! Follows the leader: long-polls, hears notifications, tries again what
//! failed, and never stops because the leader is away.

mod contact;
mod looking;

use self::contact::Contact;
use self::looking::stirred;
use crate::apply::{Applier, Order};
use crate::board::Board;
use crate::drift::Drifts;
use crate::drift::watch::Watch;
use crate::ended::{ApplyError, Ended};
use crate::plan::Wanted;
use crate::plan::drift::Leave;
use crate::pull::{Leader, PullError, Pulled, WAIT};
use crate::queue::{Queue, new_id};
use crate::report::GATHER;
use lockstep_edge::backoff::Backoff;
use lockstep_edge::server::stopped;
use lockstep_shared::api::State;
use lockstep_shared::{Bundle, OnDrift, Sha256};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How long after an apply it is made durable in its own place: in a row of
/// applies only once. Until then the journal stands in for it.
const CHECKPOINT_AFTER: Duration = Duration::from_millis(500);
/// A held request that ends so much before its time was let go of.
const ANSWER_EARLY: Duration = Duration::from_secs(2);
/// A request that is answered sooner with nothing new was not held.
const NOT_HELD: Duration = Duration::from_secs(1);
/// Between two looks at every byte of every written file, give or take a quarter.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Bundles that come within this time are a row, in which none waits for the leader to tell the others.
const IN_A_ROW: Duration = Duration::from_secs(1);
/// Whoever changes a file may be about to change it once more.
const SETTLED: Duration = Duration::from_millis(200);
/// How long a running apply may go on after a stop was asked for.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The one that applies, on a thread of its own.
pub struct Follow {
    applier: Applier,
    leader: Arc<Leader>,
    queue: Arc<Queue>,
    board: Arc<Board>,
    contact: Contact,
    retry: Backoff,
    retry_at: Option<Instant>,
    checkpoint_at: Option<Instant>,
    drifts: Drifts,
    /// Hears of changes at once, where the kernel has room for that.
    watch: Option<Watch>,
    /// Whether it was said that it has not.
    unwatched: bool,
    /// When files are looked at again: as far as their stamps tell, and all of them.
    look_at: Option<Instant>,
    look_at_all_at: Instant,
    /// When the last bundle came.
    came_at: Option<Instant>,
    /// The digest that came last, applied or not: only another one is news.
    seen: Option<Sha256>,
    /// What was logged last: the same failure is not logged again.
    told: Option<String>,
    /// Why the last checkpoint failed, if it did.
    undurable: Option<String>,
}

enum Event {
    Asked(crate::queue::Request),
    Polled(Result<Pulled, PullError>),
    Retry,
    Checkpoint,
    Stirred,
    Look,
    LookAtAll,
    Aftermath,
    Stop,
}

type Poll = Pin<Box<dyn Future<Output = Result<Pulled, PullError>> + Send>>;

impl Follow {
    /// Follows with `applier`. To be called where a runtime runs.
    pub fn new(applier: Applier, leader: Arc<Leader>, queue: Arc<Queue>, board: Arc<Board>, on_drift: OnDrift) -> Self {
        let (owes, seen) = (applier.is_unfinished(), applier.gave_up());
        Self {
            applier,
            leader,
            queue,
            board,
            contact: Contact::new(),
            retry: Backoff::new(),
            // What a crash left undone doesn't wait.
            retry_at: owes.then(Instant::now),
            checkpoint_at: Some(Instant::now() + CHECKPOINT_AFTER),
            drifts: Drifts::new(on_drift),
            watch: None,
            unwatched: false,
            look_at: None,
            look_at_all_at: Instant::now() + CHECKPOINT_AFTER,
            came_at: None,
            seen,
            told: None,
            undurable: None,
        }
    }

    /// Runs until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.applier.settled() => {}
            () = stopped(&mut stop) => return,
        }
        let mut asked_for = self.known();
        let mut poll = self.poll(Duration::ZERO);
        loop {
            let event = tokio::select! {
                biased;
                () = stopped(&mut stop) => Event::Stop,
                request = self.queue.next() => Event::Asked(request),
                () = until(self.retry_at) => Event::Retry,
                pulled = &mut poll => Event::Polled(pulled),
                () = until(self.applier.watches_until()) => Event::Aftermath,
                () = until(self.checkpoint_at) => Event::Checkpoint,
                () = stirred(&mut self.watch) => Event::Stirred,
                () = until(self.look_at) => Event::Look,
                () = sleep_until(self.look_at_all_at) => Event::LookAtAll,
            };
            let mut pause = None;
            let mut halt = stop.clone();
            let work = async {
                match event {
                    Event::Stop => return false,
                    Event::Asked(request) => self.asked(request).await,
                    Event::Retry => self.try_again().await,
                    Event::Polled(pulled) => pause = Some(self.polled(pulled).await),
                    Event::Checkpoint => self.checkpoint(),
                    Event::Stirred => self.look_within(SETTLED),
                    Event::Look => self.look(false).await,
                    Event::LookAtAll => self.look(true).await,
                    Event::Aftermath => self.aftermath().await,
                }
                true
            };
            let goes_on = tokio::select! {
                goes_on = work => goes_on,
                () = grace(&mut halt) => {
                    tracing::warn!("stopped in the middle of an apply: the next start finishes it");
                    return;
                }
            };
            if !goes_on {
                break;
            }
            let known = self.known();
            if pause.is_some() || known != asked_for {
                asked_for = known;
                poll = self.poll(pause.unwrap_or_default());
            }
        }
        self.checkpoint();
    }

    /// The digest that the leader need not send again.
    fn known(&self) -> Option<Sha256> {
        self.seen.or_else(|| self.applier.applied().map(|applied| applied.digest))
    }

    /// The next pull, after `pause`: held by the leader once it has answered before.
    fn poll(&mut self, pause: Duration) -> Poll {
        let (leader, known) = (self.leader.clone(), self.known());
        let held = self.contact.was_reached && self.contact.away_since.is_none() && known.is_some();
        self.contact.held_since = held.then(|| Instant::now() + pause);
        Box::pin(async move {
            sleep(pause).await;
            leader.pull(known, held.then_some(WAIT)).await
        })
    }

    async fn asked(&mut self, request: crate::queue::Request) {
        self.drifts.ask();
        self.apply(promised(request, None)).await;
    }

    async fn apply(&mut self, order: Order) {
        let leave = self.drifts.leave(Instant::now());
        self.apply_leaving(order, leave).await;
    }

    async fn apply_leaving(&mut self, order: Order, leave: Leave) {
        let id = order.id.clone();
        self.applier.leave(leave);
        let mut ended = self.applier.apply(order).await;
        if let Ended::Failed(ApplyError::Pull(error)) = &ended
            && error.is_absence()
        {
            self.away(error);
            if let Some(owed) = self.applier.act_on_owed(new_id()).await {
                ended = owed;
            }
        }
        self.ended(&id, &ended);
    }

    fn ended(&mut self, id: &str, ended: &Ended) {
        let applied = self.applier.applied();
        // What is watched may still be undone, and a checkpoint keeps it as good.
        let from = self.applier.watches_until().unwrap_or_else(Instant::now);
        self.checkpoint_at = applied.map(|_| from + CHECKPOINT_AFTER);
        let (revision, digest) =
            applied.map_or((0, String::new()), |applied| (applied.revision, applied.digest.to_string()));
        let cause = self.leader.cause.request();
        let request = cause.as_ref().map(tracing::field::display);
        match ended {
            Ended::Nothing => {}
            Ended::Dropped => self.queue.concede(),
            Ended::Proven { services, revision } => {
                self.queue.satisfy(services, *revision);
                self.told = None;
                tracing::info!(apply = id, request, revision, digest, services = services.len(), "applied and proven");
            }
            Ended::Failed(error @ ApplyError::GivenUp { .. }) => tracing::info!(apply = id, request, "{error}"),
            Ended::Failed(error) => {
                self.queue.concede();
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    match error {
                        ApplyError::Pull(error) if error.is_absence() => {
                            tracing::warn!(
                                apply = id,
                                request,
                                revision,
                                digest,
                                "the apply waits for the leader: {text}"
                            );
                        }
                        _ => tracing::error!(apply = id, request, revision, digest, "the apply failed: {text}"),
                    }
                    self.told = Some(text);
                }
            }
        }
        if self.applier.is_unfinished() {
            self.retry_at = Some(Instant::now() + self.retry.next_wait());
        } else {
            self.retry_at = None;
            self.retry.reset();
            // What runs is what is wanted now, or what was wanted is not tried again; what the
            // leader stopped stays what was seen last, so that only another bundle is news.
            if !matches!(ended, Ended::Dropped) {
                self.seen = self.applier.gave_up();
            }
        }
    }

    async fn try_again(&mut self) {
        self.retry_at = None;
        self.apply(Order::of_its_own(Wanted::retry(), None)).await;
    }

    /// What a poll brought; how long to wait before the next.
    async fn polled(&mut self, pulled: Result<Pulled, PullError>) -> Duration {
        match pulled {
            Ok(pulled) => {
                self.back();
                match pulled {
                    Pulled::New(bundle, revision) => {
                        let now = Instant::now();
                        let before = self.came_at.replace(now);
                        self.came(bundle, revision).await;
                        // Others who were told of it go first, unless one publication follows the other.
                        if before.is_some_and(|before| now - before < IN_A_ROW) { Duration::ZERO } else { GATHER }
                    }
                    Pulled::Same => {
                        let held = self.contact.held_since.map(|since| since.elapsed());
                        if held.is_some_and(|held| held >= NOT_HELD && held + ANSWER_EARLY < WAIT) {
                            // A leader that is going down lets go of its held requests.
                            self.board.tell_again();
                        }
                        self.looked().await;
                        // A leader that doesn't hold requests is not to be asked without a pause.
                        if held.is_some_and(|held| held < NOT_HELD) { NOT_HELD } else { Duration::ZERO }
                    }
                }
            }
            Err(error) => {
                if error.is_absence() {
                    self.away(&error);
                } else {
                    self.refused(&error);
                }
                self.contact.pause
            }
        }
    }

    async fn came(&mut self, bundle: Arc<Bundle>, revision: u64) {
        self.seen = Some(bundle.digest);
        // Whoever announced this revision meanwhile is served by the same apply.
        let request = self.queue.take();
        if request.is_some() {
            self.drifts.ask();
        }
        if request.is_none() && self.applier.gave_up() == Some(bundle.digest) {
            return;
        }
        let same = self.applier.applied().is_some_and(|applied| applied.digest == bundle.digest);
        let settled = !self.applier.is_unfinished() && self.applier.gave_up().is_none();
        // What can't be looked at fails the apply, which says why.
        if same && settled && request.is_none() && !self.applier.has_drifted().unwrap_or(true) {
            self.seen = None;
            return;
        }
        let wanted = if same { Wanted::retry() } else { Wanted::all() };
        let order = match request {
            Some(request) if request.revision <= revision => promised(request, Some((bundle, revision))),
            Some(request) => promised(request, None),
            None => Order::of_its_own(wanted, Some((bundle, revision))),
        };
        self.apply(order).await;
    }

    /// The leader has nothing new. If it took back what failed, say that all is well again.
    async fn looked(&mut self) {
        if self.applier.is_stopped()
            && let Some(ended) = self.applier.came_up_meanwhile().await
        {
            self.ended("aftermath", &ended);
            return;
        }
        let failed_before = self.board.status().state == State::Failed;
        let settled = !self.applier.is_unfinished() && self.applier.gave_up().is_none();
        if self.seen.is_none() && failed_before && settled {
            self.apply(Order { promised: true, ..Order::of_its_own(Wanted::retry(), None) }).await;
        }
    }

    async fn aftermath(&mut self) {
        if let Some(ended) = self.applier.look_again().await {
            self.ended("aftermath", &ended);
        }
    }

    fn checkpoint(&mut self) {
        self.checkpoint_at = None;
        match self.applier.checkpoint().map_err(|error| error.to_string()) {
            Ok(()) => self.undurable = None,
            Err(error) => {
                if self.undurable.as_ref() != Some(&error) {
                    tracing::warn!("what was written could not be made durable yet, the journal still has it: {error}");
                }
                self.undurable = Some(error);
                self.checkpoint_at = Some(Instant::now() + self.retry.next_wait());
            }
        }
        self.watch_again();
        self.look_at = Some(Instant::now());
    }
}

/// The apply that a request was promised.
fn promised(request: crate::queue::Request, given: Option<(Arc<Bundle>, u64)>) -> Order {
    let crate::queue::Request { id, wanted, insists, .. } = request;
    Order { id, wanted, given, promised: true, insists }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn grace(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    sleep(GRACE).await;
}
