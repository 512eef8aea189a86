//! One apply, from pull to proof. One thread owns this, so that no two
//! applies ever overlap; what survives a failure is in [`Applied`] and in
//! [`Applier::unfinished`].

use crate::act::{Acted, Blame, Inspected, Stage, pending};
use crate::action::{Action, Verb};
use crate::aftermath::Watch;
use crate::applied::{Applied, Owed};
use crate::board::Board;
use crate::compose::Compose;
use crate::container::Container;
use crate::docker::Engine;
use crate::ended::{ApplyError, Ended};
use crate::lease::LeaseError;
use crate::plan::Wanted;
use crate::plan::drift::Leave;
use crate::plan::waves;
use crate::pull::{Leader, PullError};
use crate::step::Step;
use crate::store::Store;
use crate::write::Contents;
use futures_util::future::join_all;
use lockstep_edge::clock;
use lockstep_shared::api::{self, Apply, Outcome, Running};
use lockstep_shared::{Bundle, SafePath, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The engine of this machine and what belongs to it.
#[derive(Debug)]
pub struct Docker {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The compose tool.
    pub compose: Compose,
    /// How long a container must stay up if nothing else shows that it works.
    pub settle: Duration,
}

/// Applies bundles, one at a time.
pub struct Applier {
    pub(crate) leader: Arc<Leader>,
    pub(crate) docker: Option<Docker>,
    pub(crate) store: Store,
    pub(crate) board: Arc<Board>,
    /// Where files are staged for their checks.
    pub(crate) staging: PathBuf,
    pub(crate) applied: Option<Applied>,
    /// The bundle that is proven to run, until a checkpoint has kept it.
    pub(crate) good: Option<Arc<Bundle>>,
    /// What an apply had to do that failed before it changed anything.
    unfinished: Option<Unfinished>,
    /// What was proven just now, and may still die of it.
    pub(crate) watched: Option<Watch>,
    /// The loop for what goes on while the disk is worked on.
    beside: Handle,
}

struct Unfinished {
    wanted: Wanted,
    insists: bool,
}

/// What an apply is about.
pub struct Order {
    /// Its name.
    pub id: String,
    /// What it has to do.
    pub wanted: Wanted,
    /// The bundle, if it came already.
    pub given: Option<(Arc<Bundle>, u64)>,
    /// Whether somebody was told its name, and waits for its end even if nothing has to be done.
    pub promised: bool,
    /// Whether a bundle that failed here before is tried once more.
    pub insists: bool,
}

impl Order {
    /// An apply of its own accord, that nobody waits for.
    pub fn of_its_own(wanted: Wanted, given: Option<(Arc<Bundle>, u64)>) -> Self {
        Self { id: crate::queue::new_id(), wanted, given, promised: false, insists: false }
    }
}

/// Times of the steps, in milliseconds.
pub(crate) struct Lap<'a> {
    took: &'a mut Vec<(String, f64)>,
    last: Instant,
}

impl<'a> Lap<'a> {
    pub(crate) fn new(took: &'a mut Vec<(String, f64)>) -> Self {
        Self { took, last: Instant::now() }
    }

    pub(crate) fn end(&mut self, step: &str) {
        let now = Instant::now();
        let took = (now - self.last).as_secs_f64() * 1000.0;
        self.took.push((step.to_owned(), (took * 1000.0).round() / 1000.0));
        self.last = now;
    }
}

impl Applier {
    /// An applier that goes on from `applied`. To be called on a loop that goes on while this one works on the disk.
    pub fn new(
        leader: Arc<Leader>,
        docker: Option<Docker>,
        store: Store,
        board: Arc<Board>,
        staging: PathBuf,
        applied: Option<Applied>,
    ) -> Self {
        if let (Some(docker), Some(applied)) = (&docker, &applied) {
            docker.engine.created(&applied.created);
        }
        let beside = Handle::current();
        Self { leader, docker, store, board, staging, applied, good: None, unfinished: None, watched: None, beside }
    }

    /// Resolves once nothing works on the containers that a follower before this one began.
    pub async fn settled(&self) {
        if let Some(docker) = &self.docker {
            docker.compose.settled().await;
        }
    }

    /// What is on the disk.
    pub fn applied(&self) -> Option<&Applied> {
        self.applied.as_ref()
    }

    /// The bundle that failed here and is not tried again by itself.
    pub fn gave_up(&self) -> Option<Sha256> {
        self.applied.as_ref()?.failed.as_ref().map(|failed| failed.digest)
    }

    /// Whether something is to be tried again by itself.
    pub fn is_unfinished(&self) -> bool {
        let owes = |applied: &Applied| applied.undoes() || (applied.owes() && !applied.is_stopped());
        self.unfinished.is_some() || self.applied.as_ref().is_some_and(owes)
    }

    /// Whether it waits for a person, and nothing may be done by itself meanwhile.
    pub fn is_stopped(&self) -> bool {
        self.applied.as_ref().is_some_and(Applied::is_stopped)
    }

    /// One apply, with all that others hear of it.
    pub async fn apply(&mut self, order: Order) -> Ended {
        let Order { id, wanted, given, promised, insists } = order;
        if !promised && given.is_none() && self.applied.as_ref().is_some_and(Applied::undoes) {
            return self.finish_undo(id).await;
        }
        let mut apply = new_apply(id);
        if let Some((bundle, revision)) = &given {
            (apply.revision, apply.digest) = (*revision, Some(bundle.digest));
        }
        if promised || given.is_some() {
            self.board.applying(&apply);
        }
        let (wanted, insists) = match self.unfinished.take() {
            Some(before) => (before.wanted.and(wanted), before.insists || insists),
            None => (wanted, insists),
        };
        let mut took = Vec::new();
        let mut lap = Lap::new(&mut took);
        let tried = self.attempt(&mut apply, &mut lap, &wanted, given, insists).await;
        apply.took_ms = took;
        match tried {
            // A failure that is shown is over as soon as there is nothing left to do.
            Ok(false) if !promised && !self.board.shows_failure() => Ended::Nothing,
            Ok(_) => {
                if let Some(applied) = self.applied.as_ref().filter(|_| apply.digest.is_none()) {
                    (apply.revision, apply.digest) = (applied.revision, Some(applied.digest));
                }
                let services = apply.actions.iter().map(|action| action.service.clone()).collect();
                let revision = apply.revision;
                self.ended(apply);
                Ended::Proven { services, revision }
            }
            // Nothing failed: others did, and what runs here goes on.
            Err(ApplyError::Lease(LeaseError::Stopped(why))) => {
                tracing::warn!(revision = apply.revision, "nothing was changed: the leader stopped it: {why}");
                let notes = vec![format!("revision {} was left out: the leader stopped it: {why}", apply.revision)];
                self.ended(Apply { notes, took_ms: apply.took_ms, digest: apply.digest, ..new_apply(apply.id) });
                Ended::Dropped
            }
            Err(error) => {
                if !error.is_settled() {
                    self.unfinished = Some(Unfinished { wanted, insists });
                }
                // A leader that is away is no failure of what runs, unless somebody waits for this very apply.
                let absence = matches!(&error, ApplyError::Pull(error) if error.is_absence());
                if promised || !absence {
                    apply.error = Some(error.to_string());
                    apply.refused = error.is_refusal();
                    self.ended(apply);
                }
                Ended::Failed(error)
            }
        }
    }

    /// Shows how an apply ended.
    pub(crate) fn ended(&self, apply: Apply) {
        Step::Report.begins();
        let applied = self.applied.as_ref();
        self.board.ended(
            apply,
            applied.and_then(|applied| applied.running.clone()),
            applied.and_then(|applied| applied.failed.clone()),
        );
    }

    /// Acts on containers, and has each proven.
    pub(crate) async fn act(
        &mut self,
        actions: &[Action],
        changed: &[SafePath],
        containers: &[Container],
        contents: &Contents,
        inspected: &Inspected,
        apply: &mut Apply,
    ) -> Acted {
        let (Some(docker), Some(applied)) = (&self.docker, &self.applied) else {
            return Acted { results: pending(actions), begun: vec![false; actions.len()], blame: None };
        };
        if actions.is_empty() {
            return Acted { results: Vec::new(), begun: Vec::new(), blame: None };
        }
        let own_folder = self.data_folder();
        let data_folder = self.host_folder().await.unwrap_or_else(|| own_folder.clone());
        let stage = Stage {
            engine: &docker.engine,
            compose: &docker.compose,
            settle: docker.settle,
            data_folder: &data_folder,
            own_folder: &own_folder,
            contents,
            applied,
            changed,
            containers,
            inspected,
        };
        // What is shown already stays: an undo follows what it undoes.
        let shown = std::mem::take(&mut apply.actions);
        let progress = |results: &[api::Action]| {
            apply.actions = shown.iter().chain(results).cloned().collect();
            self.board.applying(apply);
        };
        let acted = stage.act(actions, progress).await;
        apply.actions = shown.into_iter().chain(acted.results.iter().cloned()).collect();
        self.note_created(actions, containers).await;
        acted
    }

    /// Asks how the containers are that are acted on first, while something else is done. Later
    /// ones may be others by then.
    pub(crate) fn inspect(&self, actions: &[Action]) -> impl Future<Output = Inspected> + use<> {
        let first = waves(actions).into_iter().next().unwrap_or_default().into_iter().map(|index| &actions[index]);
        let asked = first.filter(|action| matches!(action.verb, Verb::Live(_) | Verb::Restart));
        let asking = self.docker.iter().flat_map(|docker| {
            asked.clone().filter_map(|action| action.container.clone()).map(|name| {
                let engine = docker.engine.clone();
                self.beside.spawn(async move { engine.details(&name).await.map(|details| (name, details)) })
            })
        });
        let asking: Vec<_> = asking.collect();
        // Who wasn't seen is asked for once more, and says why.
        async move { join_all(asking).await.into_iter().filter_map(|asked| asked.ok()?.ok()).collect() }
    }

    /// Remembers the containers that lockstep created: only those are ever removed.
    async fn note_created(&mut self, actions: &[Action], before: &[Container]) {
        let (Some(docker), Some(applied)) = (&self.docker, &mut self.applied) else { return };
        if actions.iter().any(|action| action.verb.is_composed() || action.verb == Verb::Remove)
            && let Ok(after) = docker.engine.containers().await
        {
            applied.note_created(actions, before, &after);
            docker.engine.created(&applied.created);
        }
    }

    /// The data folder where the engine has it elsewhere: the follower itself runs in a container.
    pub(crate) async fn host_folder(&self) -> Option<PathBuf> {
        let (engine, own) = (&self.docker.as_ref()?.engine, self.data_folder());
        let host = engine.host_path(&own).await;
        (host != own).then(|| {
            self.board.data_folder(&host);
            host
        })
    }

    pub(crate) fn data_folder(&self) -> PathBuf {
        self.store.data_path()
    }

    /// Does what is owed without the leader: after a crash its restarts must not wait for it.
    pub async fn act_on_owed(&mut self, id: String) -> Option<Ended> {
        let applied = self.applied.as_ref()?;
        if applied.undoes() {
            return Some(self.finish_undo(id).await);
        }
        if !applied.owes() || applied.is_stopped() {
            return None;
        }
        let docker = self.docker.as_ref()?;
        let (due, later): (Vec<Owed>, Vec<Owed>) = applied.owed.iter().cloned().partition(|owed| !owed.deferred);
        let actions: Vec<Action> = due.into_iter().map(|owed| owed.action).collect();
        let deferred: Vec<Action> = later.into_iter().map(|owed| owed.action).collect();
        let (revision, digest) = (applied.revision, Some(applied.digest));
        let notes = vec!["the leader was not reached: this is what an earlier apply still owed".to_owned()];
        let mut apply = Apply { revision, digest, notes, ..new_apply(id) };
        self.board.applying(&Apply { actions: pending(&actions), ..apply.clone() });
        let containers = match docker.engine.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                apply.error = Some(error.to_string());
                self.ended(apply);
                return Some(Ended::Failed(error.into()));
            }
        };
        let mut took = Vec::new();
        let mut lap = Lap::new(&mut took);
        let contents = self.store.poured().clone();
        let acted = self.act(&actions, &[], &containers, &contents, &Inspected::new(), &mut apply).await;
        lap.end("act");
        let settled = self.conclude(&mut apply, &mut lap, (&actions, &deferred), acted, true).await;
        apply.took_ms = took;
        self.list_again().await;
        let services = apply.actions.iter().map(|action| action.service.clone()).collect();
        apply.error = settled.as_ref().err().map(ToString::to_string);
        self.ended(apply);
        Some(match settled {
            Ok(()) => Ended::Proven { services, revision },
            Err(error) => Ended::Failed(error),
        })
    }

    /// What comes of acting: proven, owed, or to be undone.
    pub(crate) async fn conclude(
        &mut self,
        apply: &mut Apply,
        lap: &mut Lap<'_>,
        (actions, deferred): (&[Action], &[Action]),
        acted: Acted,
        committed: bool,
    ) -> Result<(), ApplyError> {
        let Some(blame) = acted.blame else {
            let before = self.running().cloned();
            self.settle(owed(deferred, true).collect(), committed)?;
            self.watch(apply, actions, &acted, before);
            return Ok(());
        };
        let why = failures(&acted.results);
        let failed = actions.iter().zip(&acted.results).filter(|(_, result)| result.outcome != Outcome::Proven);
        let failed: Vec<Action> = failed.map(|(action, _)| action.clone()).collect();
        let left: Vec<Owed> = owed(&failed, false).chain(owed(deferred, true)).collect();
        if blame == Blame::Nobody || !self.engine_answers().await {
            self.settle(left, committed)?;
            return Err(ApplyError::Actions(why));
        }
        let begun: Vec<Owed> = again(actions, &acted).into_iter().chain(owed(deferred, true)).collect();
        Err(self.fail(apply, lap, Failing { blame, why, begun, left }).await)
    }

    /// Whether what just failed can be a container's fault at all.
    pub(crate) async fn engine_answers(&self) -> bool {
        match &self.docker {
            Some(docker) => docker.engine.containers().await.is_ok(),
            None => true,
        }
    }

    /// Shows that what the leader sent can't be used.
    pub fn refused(&self, id: String, error: &PullError) {
        self.ended(Apply { error: Some(error.to_string()), ..new_apply(id) });
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        self.applied.as_ref().and_then(|applied| applied.running.as_ref())
    }

    /// Keeps what is still to be done, durably.
    pub(crate) fn settle(&mut self, owed: Vec<Owed>, committed: bool) -> Result<(), ApplyError> {
        let Some(applied) = &mut self.applied else { return Ok(()) };
        applied.settle(owed, clock::now());
        if committed && self.store.journal_says_all() {
            return Ok(());
        }
        Ok(self.store.settle(applied, committed)?)
    }

    pub(crate) async fn list_again(&self) {
        if let Some(docker) = &self.docker
            && let Ok(containers) = docker.engine.containers().await
        {
            self.board.containers(&containers);
        }
    }

    /// Whether written files are to be written again, as far as stamps tell.
    pub fn has_drifted(&mut self) -> Result<bool, ApplyError> {
        let Some(applied) = &self.applied else { return Ok(false) };
        Ok(self.store.has_drifted(applied)?)
    }

    /// Has applies leave files as they are from now on.
    pub fn leave(&mut self, leave: Leave) {
        self.store.leave(leave);
    }

    /// Makes everything durable in its own place, and keeps what is proven for an undo.
    pub fn checkpoint(&mut self) -> Result<(), ApplyError> {
        let Some(applied) = &self.applied else { return Ok(()) };
        self.store.checkpoint(applied, self.good.as_deref())?;
        self.good = None;
        Ok(())
    }
}

/// An apply that failed after it was committed.
#[derive(Debug)]
pub(crate) struct Failing {
    /// Whose fault it seems to be.
    pub(crate) blame: Blame,
    /// What failed, for people.
    pub(crate) why: Vec<String>,
    /// Everything that was begun: an undo does it again.
    pub(crate) begun: Vec<Owed>,
    /// What failed and what waits.
    pub(crate) left: Vec<Owed>,
}

/// What was begun, to be done again with the old files. Where a signal killed
/// what it was sent to, the plan makes a restart of it.
pub(crate) fn again(actions: &[Action], acted: &Acted) -> Vec<Owed> {
    let begun = actions.iter().zip(&acted.begun).filter(|(_, begun)| **begun);
    begun.map(|(action, _)| Owed { action: action.clone(), deferred: false }).collect()
}

/// What failed, each with its service.
pub(crate) fn failures(results: &[api::Action]) -> Vec<String> {
    let failed = results.iter().filter(|result| result.outcome != Outcome::Proven);
    failed.map(|result| format!("{}: {}", result.service, result.detail)).collect()
}

pub(crate) fn owed(actions: &[Action], deferred: bool) -> impl Iterator<Item = Owed> {
    actions.iter().map(move |action| Owed { action: action.clone(), deferred })
}

pub(crate) fn new_apply(id: String) -> Apply {
    Apply {
        id,
        revision: 0,
        digest: None,
        files: Vec::new(),
        actions: Vec::new(),
        left_alone: Vec::new(),
        notes: Vec::new(),
        error: None,
        refused: false,
        took_ms: Vec::new(),
    }
}
