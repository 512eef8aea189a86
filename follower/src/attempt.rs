//! The steps of one attempt, in their order: fetch, plan, check, lease, stage
//! and commit and swap (the store's), act, prove. Up to the commit nothing is
//! changed, whatever fails; from then on it is finished or undone.

use crate::act::{Blame, pending};
use crate::applied::Applied;
use crate::apply::{Applier, Failing, Lap, owed};
use crate::check::{self, CheckError};
use crate::container::Container;
use crate::ended::ApplyError;
use crate::journal::Record;
use crate::lease::Leased;
use crate::plan::{Inputs, Plan, Wanted, plan};
use crate::pull::Pulled;
use crate::step::Step;
use crate::store::WriteError;
use crate::volumes::{self, poured};
use crate::write::Contents;
use futures_util::future::join;
use lockstep_edge::clock;
use lockstep_shared::Bundle;
use lockstep_shared::api::{Apply, FailedBundle};
use std::sync::Arc;

impl Applier {
    /// Whether anything was done.
    pub(crate) async fn attempt(
        &mut self,
        apply: &mut Apply,
        lap: &mut Lap<'_>,
        wanted: &Wanted,
        given: Option<(Arc<Bundle>, u64)>,
        insists: bool,
    ) -> Result<bool, ApplyError> {
        let engine = self.docker.as_ref().map(|docker| docker.engine.clone());
        let listing = async {
            match &engine {
                Some(engine) => Some(engine.containers().await),
                None => None,
            }
        };
        let (fetched, listed) = join(self.fetch(wanted, given, insists), listing).await;
        lap.end("pull");
        if let Some(Ok(containers)) = &listed {
            self.board.containers(containers);
        }
        let Some((bundle, revision)) = self.choose(apply, lap, fetched?, insists).await? else {
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
        Step::Check.begins();
        if !plan.checks.is_empty() {
            apply.notes.extend(self.check(&plan, &bundle, containers.as_deref()).await?);
            lap.end("check");
        }
        let (containers, plan) = match self.lease(apply, &plan).await? {
            Leased::AtOnce => (containers, plan),
            // The machine may be another one than when the wait began.
            Leased::Later => {
                let containers = match &engine {
                    Some(engine) => Some(engine.containers().await?),
                    None => None,
                };
                let plan = self.plan(&bundle, revision, wanted, containers.as_deref()).await?;
                (containers, plan)
            }
        };
        lap.end("lease");
        // What comes now is not what is watched any more.
        if !plan.is_empty() {
            self.watched = None;
        }
        let inspecting = self.inspect(&plan.actions);
        let written = self.write(&apply.id, &bundle, revision, &plan, None);
        lap.end("write");
        let committed = match written {
            Err(ApplyError::Write(WriteError::Halfway(error))) => {
                let left = owed(&plan.actions, false).chain(owed(&plan.deferred, true)).collect();
                let begun = owed(&plan.deferred, true).collect();
                let why = vec![format!("the files are not all in place: {error}")];
                let failing = Failing { blame: Blame::Container, why, begun, left };
                apply.actions.clear();
                return Err(self.fail(apply, lap, failing).await);
            }
            other => other?,
        };
        let changed: Vec<_> = plan.changes().into_iter().map(|change| change.path).collect();
        apply.actions.clear();
        let contents = poured(&plan.actions, &bundle);
        let (listed, inspected) = (containers.as_deref().unwrap_or_default(), inspecting.await);
        let acted = self.act(&plan.actions, &changed, listed, &contents, &inspected, apply).await;
        lap.end("act");
        let concluded = self.conclude(apply, lap, (&plan.actions, &plan.deferred), acted, committed).await;
        if concluded.is_ok() {
            self.good = Some(bundle);
        }
        if !plan.actions.is_empty() {
            self.list_again().await;
        }
        concluded.map(|()| true)
    }

    /// The bundle that the leader offers; `None` if there is nothing to do at all.
    async fn fetch(
        &mut self,
        wanted: &Wanted,
        given: Option<(Arc<Bundle>, u64)>,
        insists: bool,
    ) -> Result<Option<(Arc<Bundle>, u64)>, ApplyError> {
        Step::Fetch.begins();
        if given.is_some() {
            return Ok(given);
        }
        let owed =
            self.applied.as_ref().is_some_and(|applied| applied.owes() || (wanted.release && !applied.owed.is_empty()));
        let mut known = self.gave_up().or_else(|| self.applied.as_ref().map(|applied| applied.digest));
        if owed || !wanted.asked.is_empty() || (insists && self.gave_up().is_some()) {
            known = None;
        }
        loop {
            match self.leader.pull(known, None).await? {
                Pulled::New(bundle, revision) => {
                    self.board.leader_seen();
                    return Ok(Some((bundle, revision)));
                }
                Pulled::Same if self.has_drifted()? => known = None,
                Pulled::Same => {
                    self.board.leader_seen();
                    return Ok(None);
                }
            }
        }
    }

    /// What to apply of what the leader offers: not what failed here before,
    /// unless somebody insists; then what runs is kept as it should be.
    async fn choose(
        &mut self,
        apply: &mut Apply,
        lap: &mut Lap<'_>,
        fetched: Option<(Arc<Bundle>, u64)>,
        insists: bool,
    ) -> Result<Option<(Arc<Bundle>, u64)>, ApplyError> {
        let Some(failed) = self.applied.as_ref().and_then(|applied| applied.failed.clone()) else { return Ok(fetched) };
        match fetched {
            Some((bundle, revision)) if bundle.digest != failed.digest => {
                // What failed is not offered any more. An undo that waits is forgotten only once
                // something else is committed.
                if let Some(applied) = self.applied.as_mut().filter(|applied| !applied.undoes()) {
                    applied.failed = None;
                }
                Ok(Some((bundle, revision)))
            }
            Some(offered) if insists => Ok(Some(offered)),
            _ if self.applied.as_ref().is_some_and(Applied::undoes) => Err(self.go_back(apply, lap).await),
            _ => {
                if !self.is_stopped()
                    && self.has_drifted()?
                    && let Some(good) = self.last_good()?
                {
                    return Ok(Some(good));
                }
                // Who asked is answered with what came of it before.
                (apply.revision, apply.digest) = (failed.revision, Some(failed.digest));
                let running = self.running().filter(|running| running.digest != failed.digest);
                Err(ApplyError::GivenUp { failed, running: running.map(|running| running.revision) })
            }
        }
    }

    pub(crate) async fn plan(
        &mut self,
        bundle: &Bundle,
        revision: u64,
        wanted: &Wanted,
        containers: Option<&[Container]>,
    ) -> Result<Plan, ApplyError> {
        Step::Plan.begins();
        let in_volumes = match (&self.docker, containers) {
            (Some(docker), Some(containers)) => {
                let places = crate::plan::places(bundle, self.applied.as_ref());
                volumes::look(&docker.engine, containers, places).await?
            }
            _ => Vec::new(),
        };
        let host = self.host_folder().await;
        let (mut disk, own_folder) = self.store.look(Some(bundle), self.applied.as_ref())?;
        let data_folder = host.unwrap_or(own_folder);
        volumes::add_to(&mut disk, in_volumes);
        let applied = self.applied.as_ref();
        Ok(plan(Inputs { bundle, revision, applied, disk: &disk, data_folder: &data_folder, containers, wanted })?)
    }

    /// Runs the plan's checks; what was left out, and why.
    async fn check(
        &self,
        plan: &Plan,
        bundle: &Bundle,
        containers: Option<&[Container]>,
    ) -> Result<Vec<String>, CheckError> {
        let own_folder = self.data_folder();
        let data_folder = self.host_folder().await.unwrap_or_else(|| own_folder.clone());
        let site = self.docker.as_ref().zip(containers).map(|(docker, containers)| check::Site {
            engine: &docker.engine,
            containers,
            data_folder: &data_folder,
            own_folder: &own_folder,
            applied: self.applied.as_ref(),
        });
        check::run(&plan.checks, bundle, &self.staging, site).await
    }

    /// Stages, commits and swaps what the plan says; whether a record was
    /// committed. `failed` is what is being undone by it.
    pub(crate) fn write(
        &mut self,
        id: &str,
        bundle: &Bundle,
        revision: u64,
        plan: &Plan,
        failed: Option<FailedBundle>,
    ) -> Result<bool, ApplyError> {
        let written =
            Applied::written(id, bundle, revision, plan.services.clone(), self.applied.as_ref(), clock::now());
        let record = Record {
            applied: Applied { failed, leased: self.leader.leases(), ..written },
            steps: plan.steps.clone(),
            actions: plan.actions.clone(),
            deferred: plan.deferred.clone(),
        };
        if plan.is_empty() {
            self.applied = Some(record.applied);
            return Ok(false);
        }
        let planned = record.writes().filter_map(|write| bundle.file(write.path.as_str()));
        let contents: Contents = planned.map(|file| (file.path.clone(), file.content.clone())).collect();
        let (store, good) = (&mut self.store, self.good.as_deref());
        let before = self.applied.as_ref().filter(|before| store.is_full() || !store.can_go_back(before, good));
        if let Some(before) = before {
            store.checkpoint(before, good).map_err(WriteError::Before)?;
        }
        match store.write(&record, &contents) {
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
                halfway.owed = owed(&record.actions, false).chain(owed(&record.deferred, true)).collect();
                self.applied = Some(halfway);
                Err(error.into())
            }
        }
    }
}
