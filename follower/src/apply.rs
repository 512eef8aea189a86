//! One apply, from pull to proof. A single task owns this, so that no two
//! applies ever overlap; what survives a failure is in [`Applied::owed`] and
//! in [`Applier::unfinished`].

use crate::act::{Stage, pending};
use crate::action::Action;
use crate::applied::{Applied, Owed};
use crate::board::Board;
use crate::check;
use crate::compose::Compose;
use crate::container::Container;
use crate::docker::Engine;
use crate::ended::{ApplyError, Ended};
use crate::journal::Record;
use crate::plan::{Inputs, Plan, Wanted, plan};
use crate::pull::{Leader, PullError, Pulled};
use crate::store::{Store, StoreError, WriteError};
use crate::write::Contents;
use futures_util::future::join;
use lockstep_edge::clock;
use lockstep_shared::Bundle;
use lockstep_shared::api::{self, Apply, Outcome, Running};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
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
    leader: Arc<Leader>,
    docker: Option<Docker>,
    store: Arc<Mutex<Store>>,
    board: Arc<Board>,
    /// Where files are staged for their checks.
    staging: PathBuf,
    applied: Option<Applied>,
    /// What an apply had to do that failed before it changed anything.
    unfinished: Option<Wanted>,
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
}

/// Times of the steps, in milliseconds.
struct Lap<'a> {
    took: &'a mut Vec<(String, f64)>,
    last: Instant,
}

impl Lap<'_> {
    fn end(&mut self, step: &str) {
        let now = Instant::now();
        let took = (now - self.last).as_secs_f64() * 1000.0;
        self.took.push((step.to_owned(), (took * 1000.0).round() / 1000.0));
        self.last = now;
    }
}

impl Applier {
    /// An applier that goes on from `applied`.
    pub fn new(
        leader: Arc<Leader>,
        docker: Option<Docker>,
        store: Store,
        board: Arc<Board>,
        staging: PathBuf,
        applied: Option<Applied>,
    ) -> Self {
        Self { leader, docker, store: Arc::new(Mutex::new(store)), board, staging, applied, unfinished: None }
    }

    /// What is on the disk.
    pub fn applied(&self) -> Option<&Applied> {
        self.applied.as_ref()
    }

    /// Whether something is to be tried again.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished.is_some() || self.applied.as_ref().is_some_and(Applied::owes)
    }

    /// What is to be tried again.
    pub fn take_unfinished(&mut self) -> Wanted {
        self.unfinished.take().unwrap_or_else(Wanted::retry)
    }

    /// One apply, with all that others hear of it.
    pub async fn apply(&mut self, order: Order) -> Ended {
        let Order { id, wanted, given, promised } = order;
        let mut apply = new_apply(id);
        if let Some((bundle, revision)) = &given {
            (apply.revision, apply.digest) = (*revision, Some(bundle.digest));
        }
        if promised || given.is_some() {
            self.board.applying(&apply);
        }
        let wanted = match self.unfinished.take() {
            Some(before) => before.and(wanted),
            None => wanted,
        };
        let mut took = Vec::new();
        let mut lap = Lap { took: &mut took, last: Instant::now() };
        let tried = self.attempt(&mut apply, &mut lap, &wanted, given).await;
        apply.took_ms = took;
        let running = self.running();
        match tried {
            Ok(false) if !promised => Ended::Nothing,
            Ok(_) => {
                if let Some(applied) = self.applied.as_ref().filter(|_| apply.digest.is_none()) {
                    (apply.revision, apply.digest) = (applied.revision, Some(applied.digest));
                }
                let services = apply.actions.iter().map(|action| action.service.clone()).collect();
                let revision = apply.revision;
                self.board.ended(apply, running);
                Ended::Proven { services, revision }
            }
            Err(error) => {
                if !matches!(error, ApplyError::Actions(_)) {
                    self.unfinished = Some(wanted);
                }
                // A leader that is away is no failure of what runs, unless somebody waits for this very apply.
                let absence = matches!(&error, ApplyError::Pull(error) if error.is_absence());
                if promised || !absence {
                    apply.error = Some(error.to_string());
                    self.board.ended(apply, running);
                }
                Ended::Failed(error)
            }
        }
    }

    /// Whether anything was done.
    async fn attempt(
        &mut self,
        apply: &mut Apply,
        lap: &mut Lap<'_>,
        wanted: &Wanted,
        given: Option<(Arc<Bundle>, u64)>,
    ) -> Result<bool, ApplyError> {
        let engine = self.docker.as_ref().map(|docker| docker.engine.clone());
        let listing = async {
            match &engine {
                Some(engine) => Some(engine.containers().await),
                None => None,
            }
        };
        let (bundle, listed) = join(self.bundle(wanted, given), listing).await;
        lap.end("pull");
        if let Some(Ok(containers)) = &listed {
            self.board.containers(containers);
        }
        let Some((bundle, revision)) = bundle? else {
            return Ok(false);
        };
        (apply.revision, apply.digest) = (revision, Some(bundle.digest));
        self.board.applying(apply);
        let containers = listed.transpose()?;
        let plan = self.plan(&bundle, revision, wanted, containers.as_deref()).await?;
        if let Some(docker) =
            self.docker.as_ref().filter(|_| plan.actions.iter().any(|action| action.verb.is_composed()))
        {
            docker.compose.tool().await?;
        }
        lap.end("plan");
        (apply.files, apply.actions) = (plan.changes(), pending(&plan.actions));
        (apply.left_alone, apply.notes) = (plan.left_alone.clone(), plan.notes.clone());
        if !plan.is_empty() {
            self.board.applying(apply);
        }
        if !plan.checks.is_empty() {
            check::run(&plan.checks, &bundle, &self.staging).await?;
            lap.end("check");
        }
        let committed = self.write(&apply.id, &bundle, revision, &plan).await?;
        lap.end("write");
        let results = self.act(&plan, containers.as_deref().unwrap_or_default(), apply).await;
        lap.end("act");
        apply.actions = results;
        let settled = self.settle(&plan.actions, &plan.deferred, &apply.actions, committed).await;
        if !plan.actions.is_empty() {
            self.list_again().await;
        }
        settled.map(|()| true)
    }

    /// The bundle to apply; `None` if there is nothing to do at all.
    async fn bundle(
        &self,
        wanted: &Wanted,
        given: Option<(Arc<Bundle>, u64)>,
    ) -> Result<Option<(Arc<Bundle>, u64)>, ApplyError> {
        if given.is_some() {
            return Ok(given);
        }
        let owed =
            self.applied.as_ref().is_some_and(|applied| applied.owes() || (wanted.release && !applied.owed.is_empty()));
        let mut known = self.applied.as_ref().map(|applied| applied.digest);
        if owed || !wanted.asked.is_empty() {
            known = None;
        }
        loop {
            match self.leader.pull(known, None).await? {
                Pulled::New(bundle, revision) => {
                    self.board.leader_seen();
                    return Ok(Some((bundle, revision)));
                }
                Pulled::Same if self.has_drifted().await? => known = None,
                Pulled::Same => {
                    self.board.leader_seen();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether files that were written are not as they were written any more,
    /// every byte of them read again.
    pub async fn has_drifted_in_depth(&self) -> Result<bool, ApplyError> {
        self.on_disk(Store::forget_stamps).await?;
        self.has_drifted().await
    }

    /// The same, but files that are stamped as they were are believed to be.
    pub async fn has_drifted(&self) -> Result<bool, ApplyError> {
        let Some(applied) = self.applied.clone() else { return Ok(false) };
        let drifted = self.on_disk(move |store| {
            let (snapshot, _) = store.look(None, Some(&applied))?;
            Ok::<_, StoreError>(applied.has_drifted(&snapshot))
        });
        Ok(drifted.await??)
    }

    async fn plan(
        &self,
        bundle: &Arc<Bundle>,
        revision: u64,
        wanted: &Wanted,
        containers: Option<&[Container]>,
    ) -> Result<Plan, ApplyError> {
        let (bundle, applied, wanted) = (bundle.clone(), self.applied.clone(), wanted.clone());
        let containers = containers.map(<[Container]>::to_vec);
        let planned = self.on_disk(move |store| {
            let (disk, data_folder) = store.look(Some(&bundle), applied.as_ref())?;
            let inputs = Inputs {
                bundle: &bundle,
                revision,
                applied: applied.as_ref(),
                disk: &disk,
                data_folder: &data_folder,
                containers: containers.as_deref(),
                wanted: &wanted,
            };
            plan(inputs).map_err(ApplyError::from)
        });
        planned.await?
    }

    /// Writes what the plan says; whether a record was committed.
    async fn write(&mut self, id: &str, bundle: &Bundle, revision: u64, plan: &Plan) -> Result<bool, ApplyError> {
        let written =
            Applied::written(id, bundle, revision, plan.services.clone(), self.applied.as_ref(), clock::now());
        let record = Record {
            applied: written,
            steps: plan.steps.clone(),
            actions: plan.actions.clone(),
            deferred: plan.deferred.clone(),
        };
        if plan.is_empty() {
            self.applied = Some(record.applied);
            return Ok(false);
        }
        let planned = plan.steps.write.iter().filter_map(|write| bundle.file(write.path.as_str()));
        let contents: Contents = planned.map(|file| (file.path.clone(), file.content.clone())).collect();
        let before = self.applied.clone();
        let (record, outcome) = self
            .on_disk(move |store| {
                if let Some(before) = before.filter(|_| store.is_full())
                    && let Err(error) = store.checkpoint(&before)
                {
                    return (record, Err(WriteError::Before(error)));
                }
                let outcome = store.write(&record, &contents);
                (record, outcome)
            })
            .await?;
        match outcome {
            Ok(()) => {
                self.applied = Some(record.applied);
                Ok(true)
            }
            Err(error @ WriteError::Before(_)) => Err(error.into()),
            Err(error) => {
                // Whatever an old or the new bundle wrote may still have to be removed.
                let mut halfway = record.applied;
                for (path, known) in self.applied.take().map(|applied| applied.files).unwrap_or_default() {
                    halfway.files.entry(path).or_insert(known);
                }
                halfway
                    .settle(owed(&record.actions, false).chain(owed(&record.deferred, true)).collect(), clock::now());
                self.applied = Some(halfway);
                Err(error.into())
            }
        }
    }

    async fn act(&self, plan: &Plan, containers: &[Container], apply: &mut Apply) -> Vec<api::Action> {
        let changed: Vec<_> = plan.changes().into_iter().map(|change| change.path).collect();
        self.run_actions(&plan.actions, &changed, containers, apply).await
    }

    async fn run_actions(
        &self,
        actions: &[Action],
        changed: &[lockstep_shared::SafePath],
        containers: &[Container],
        apply: &mut Apply,
    ) -> Vec<api::Action> {
        let (Some(docker), Some(applied)) = (&self.docker, &self.applied) else { return pending(actions) };
        if actions.is_empty() {
            return Vec::new();
        }
        let data_folder = self.data_folder();
        let stage = Stage {
            engine: &docker.engine,
            compose: &docker.compose,
            settle: docker.settle,
            data_folder: &data_folder,
            applied,
            changed,
            containers,
        };
        let progress = |results: &[api::Action]| {
            apply.actions = results.to_vec();
            self.board.applying(apply);
        };
        stage.act(actions, progress).await
    }

    fn data_folder(&self) -> PathBuf {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).data_path()
    }

    /// Does what is owed without the leader: after a crash its restarts must not wait for it.
    pub async fn act_on_owed(&mut self, id: String) -> Option<Ended> {
        let applied = self.applied.as_ref().filter(|applied| applied.owes())?;
        let docker = self.docker.as_ref()?;
        let (due, later): (Vec<Owed>, Vec<Owed>) = applied.owed.iter().cloned().partition(|owed| !owed.deferred);
        let actions: Vec<Action> = due.into_iter().map(|owed| owed.action).collect();
        let deferred: Vec<Action> = later.into_iter().map(|owed| owed.action).collect();
        let (revision, digest) = (applied.revision, Some(applied.digest));
        let notes = vec!["the leader was not reached: this is what an earlier apply still owed".to_owned()];
        let mut apply = Apply { revision, digest, actions: pending(&actions), notes, ..new_apply(id) };
        self.board.applying(&apply);
        let containers = match docker.engine.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                apply.error = Some(error.to_string());
                self.board.ended(apply, self.running());
                return Some(Ended::Failed(error.into()));
            }
        };
        apply.actions = self.run_actions(&actions, &[], &containers, &mut apply).await;
        let settled = self.settle(&actions, &deferred, &apply.actions, true).await;
        self.list_again().await;
        let services = apply.actions.iter().map(|action| action.service.clone()).collect();
        apply.error = settled.as_ref().err().map(ToString::to_string);
        self.board.ended(apply, self.running());
        Some(match settled {
            Ok(()) => Ended::Proven { services, revision },
            Err(error) => Ended::Failed(error),
        })
    }

    /// Shows that what the leader sent can't be used.
    pub fn refused(&self, id: String, error: &PullError) {
        let apply = Apply { error: Some(error.to_string()), ..new_apply(id) };
        self.board.ended(apply, self.running());
    }

    fn running(&self) -> Option<Running> {
        self.applied.as_ref().and_then(|applied| applied.running.clone())
    }

    /// Keeps what failed and what waits; an error if anything failed.
    async fn settle(
        &mut self,
        actions: &[Action],
        deferred: &[Action],
        results: &[api::Action],
        committed: bool,
    ) -> Result<(), ApplyError> {
        let failed = actions.iter().zip(results).filter(|(_, result)| result.outcome != Outcome::Proven);
        let failures: Vec<(Action, String)> =
            failed.map(|(action, result)| (action.clone(), format!("{}: {}", result.service, result.detail))).collect();
        let (failed, told): (Vec<Action>, Vec<String>) = failures.into_iter().unzip();
        if let Some(applied) = &mut self.applied {
            applied.settle(owed(&failed, false).chain(owed(deferred, true)).collect(), clock::now());
            let applied = applied.clone();
            self.on_disk(move |store| store.settle(&applied, committed)).await??;
        }
        if told.is_empty() { Ok(()) } else { Err(ApplyError::Actions(told)) }
    }

    async fn list_again(&self) {
        if let Some(docker) = &self.docker
            && let Ok(containers) = docker.engine.containers().await
        {
            self.board.containers(&containers);
        }
    }

    /// Makes everything durable in its own place.
    pub async fn checkpoint(&self) -> Result<(), ApplyError> {
        let Some(applied) = self.applied.clone() else { return Ok(()) };
        Ok(self.on_disk(move |store| store.checkpoint(&applied)).await??)
    }

    /// Blocking work belongs on another thread than the listener's.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

fn owed(actions: &[Action], deferred: bool) -> impl Iterator<Item = Owed> {
    actions.iter().map(move |action| Owed { action: action.clone(), deferred })
}

fn new_apply(id: String) -> Apply {
    Apply {
        id,
        revision: 0,
        digest: None,
        files: Vec::new(),
        actions: Vec::new(),
        left_alone: Vec::new(),
        notes: Vec::new(),
        error: None,
        took_ms: Vec::new(),
    }
}
