//! Back to the last good bundle when one fails after it was committed: planned,
//! written, acted on and proven like any other. What was acted on is owed
//! again, what was not is left alone. An undo that fails too ends there: what
//! can't run is never started again and again.

use crate::act::{Blame, Inspected};
use crate::applied::Owed;
use crate::apply::{Applier, Failing, Lap, failures, new_apply, owed};
use crate::ended::{ApplyError, Ended};
use crate::plan::{Plan, Wanted};
use crate::volumes::poured;
use lockstep_edge::clock;
use lockstep_shared::Bundle;
use lockstep_shared::api::{Apply, FailedBundle, Outcome, Running, Undo};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Applier {
    /// Answers a failure after the commit: back to what ran before, if there is something to go back to.
    pub(crate) async fn fail(&mut self, apply: &mut Apply, lap: &mut Lap<'_>, failing: Failing) -> ApplyError {
        let Failing { blame, why, begun, left } = failing;
        let Some(applied) = &mut self.applied else { return ApplyError::Actions(why) };
        let target = applied.running.as_ref().filter(|running| running.digest != applied.digest);
        let mut failed = FailedBundle {
            revision: applied.revision,
            digest: applied.digest,
            since: clock::now(),
            why: why.join("; "),
            undo: Undo::Pending,
            advice: None,
        };
        if target.is_some() {
            tracing::error!(
                revision = failed.revision, digest = %failed.digest,
                "FAILED({}): {}; the last good bundle is put back", failed.revision, failed.why
            );
            applied.fail(failed, begun);
            // If this can't be kept, a crash in the undo costs one more attempt of what failed.
            if let Err(error) = self.keep_failure() {
                tracing::warn!("{error}");
            }
            apply.error = Some(failures_so_far(&why));
            self.board.undoing(apply, self.applied.as_ref().and_then(|applied| applied.failed.clone()));
            apply.error = None;
            return self.go_back(apply, lap).await;
        }
        if blame == Blame::Compose {
            // Nothing was started, so trying again starts nothing again and again; an image may come yet.
            applied.owed = left;
            return match self.keep_failure() {
                Ok(()) => ApplyError::Actions(why),
                Err(error) => error,
            };
        }
        let first = applied.running.is_none();
        let reason = if first {
            "This is the first bundle of this machine, so there is nothing to go back to"
        } else {
            "It was good before, so going back to it would change nothing"
        };
        let advice = format!(
            "{reason}; its files stay, and nothing is started again by itself: correct it and publish, or, if the cause lies elsewhere, remove that and run lockstep notify"
        );
        let (revision, why) = (failed.revision, failed.why.clone());
        (failed.undo, failed.advice) = (Undo::Nothing, Some(advice.clone()));
        applied.fail(failed, left);
        if let Err(error) = self.keep_failure() {
            tracing::warn!("{error}");
        }
        ApplyError::NothingToUndo { failed: revision, why, advice }
    }

    /// Goes on with an undo that a crash, a full disk or an absent engine kept from ending.
    pub(crate) async fn finish_undo(&mut self, id: String) -> Ended {
        let mut apply = new_apply(id);
        if let Some(failed) = self.applied.as_ref().and_then(|applied| applied.failed.as_ref()) {
            (apply.revision, apply.digest) = (failed.revision, Some(failed.digest));
        }
        self.board.applying(&apply);
        let mut took = Vec::new();
        let error = self.go_back(&mut apply, &mut Lap::new(&mut took)).await;
        apply.took_ms = took;
        apply.error = Some(error.to_string());
        self.ended(apply);
        Ended::Failed(error)
    }

    /// One attempt to put the last good bundle back; how it ended.
    pub(crate) async fn go_back(&mut self, apply: &mut Apply, lap: &mut Lap<'_>) -> ApplyError {
        let Some((failed, running)) = self.applied.as_ref().and_then(|applied| {
            let failed = applied.failed.clone()?;
            Some((failed, applied.running.clone()?))
        }) else {
            return ApplyError::Actions(vec!["there is nothing to go back to".to_owned()]);
        };
        let ended = self.put_back(apply, &failed, &running).await;
        lap.end("undo");
        self.list_again().await;
        let (revision, why) = (failed.revision, failed.why.clone());
        match ended {
            Ok(()) => {
                self.undone(Undo::Done, None);
                ApplyError::Undone { failed: revision, running: running.revision, why }
            }
            Err(Back::Waits(obstacle)) => {
                let advice = format!(
                    "Putting revision {} back has to wait: {obstacle}; it goes on by itself as soon as it can",
                    running.revision
                );
                // It can't be kept where the disk is what it waits for; after a start the next attempt says it again.
                if let Some(failed) = self.applied.as_mut().and_then(|applied| applied.failed.as_mut()) {
                    failed.advice = Some(advice.clone());
                }
                ApplyError::UndoWaits { failed: revision, why, advice }
            }
            Err(Back::Failed(said)) => {
                let advice = format!(
                    "Revision {} is not up either ({said}). Nothing more is tried by itself: look at the containers (docker ps -a, docker logs NAME), remove the cause, then run lockstep notify or publish a correction",
                    running.revision
                );
                self.undone(Undo::Failed, Some(advice.clone()));
                ApplyError::UndoFailed { failed: revision, why, advice }
            }
            Err(Back::Lost(what)) => {
                let advice = format!(
                    "{what}. The files of revision {revision} stay; publish a correction, or lockstep rollback {}",
                    running.revision
                );
                self.undone(Undo::Failed, Some(advice.clone()));
                ApplyError::UndoFailed { failed: revision, why, advice }
            }
        }
    }

    async fn put_back(&mut self, apply: &mut Apply, failed: &FailedBundle, running: &Running) -> Result<(), Back> {
        let good = match self.last_good() {
            Ok(Some((good, _))) => good,
            Ok(None) => return Err(Back::Lost(format!("No whole copy of revision {} is left here", running.revision))),
            Err(error) => return Err(Back::Lost(error.to_string())),
        };
        let containers = match &self.docker {
            Some(docker) => Some(docker.engine.containers().await?),
            None => None,
        };
        self.store.make_room()?;
        let acted: BTreeSet<String> = self.acted_on();
        let wanted = Wanted { only: Some(acted), ..Wanted::retry() };
        let mut plan = self.plan(&good, running.revision, &wanted, containers.as_deref()).await?;
        self.leave_untouched(&mut plan);
        for action in &mut plan.actions {
            action.why = format!("back to revision {}: {}", running.revision, action.why);
        }
        let id = crate::queue::new_id();
        let committed = self.write(&id, &good, running.revision, &plan, Some(failed.clone()))?;
        let changed: Vec<_> = plan.changes().into_iter().map(|change| change.path).collect();
        let contents = poured(&plan.actions, &good);
        let listed = containers.as_deref().unwrap_or_default();
        let acted = self.act(&plan.actions, &changed, listed, &contents, &Inspected::new(), apply).await;
        apply.notes.push(format!("revision {} was put back (files: {})", running.revision, changed.len()));
        let Some(blame) = acted.blame else {
            return Ok(self.settle(owed(&plan.deferred, true).collect(), committed)?);
        };
        let all = plan.actions.iter().zip(&acted.results);
        let left: Vec<_> =
            all.filter(|(_, result)| result.outcome != Outcome::Proven).map(|(action, _)| action.clone()).collect();
        let left: Vec<Owed> = owed(&left, false).chain(owed(&plan.deferred, true)).collect();
        if let Some(applied) = &mut self.applied {
            applied.owed = left;
        }
        let said = failures(&acted.results).join("; ");
        if blame == Blame::Nobody || !self.engine_answers().await {
            self.keep_failure()?;
            return Err(Back::Waits(said));
        }
        Err(Back::Failed(said))
    }

    /// The bundle that was proven last, and its revision; `None` if no whole copy of it is left.
    pub(crate) fn last_good(&self) -> Result<Option<(Arc<Bundle>, u64)>, ApplyError> {
        let Some(running) = self.running().cloned() else { return Ok(None) };
        if let Some(good) = self.good.as_ref().filter(|good| good.digest == running.digest) {
            return Ok(Some((good.clone(), running.revision)));
        }
        let good = self.store.good(self.leader.machine(), running.digest)?;
        Ok(good.map(|good| (Arc::new(good), running.revision)))
    }

    /// Services that what failed was acted on for.
    fn acted_on(&self) -> BTreeSet<String> {
        let owed = self.applied.as_ref().map(|applied| applied.owed.as_slice()).unwrap_or_default();
        owed.iter().filter(|owed| !owed.deferred).map(|owed| owed.action.service.clone()).collect()
    }

    /// What was never acted on for what failed still runs as before: only what
    /// waited for a notification already goes on waiting.
    fn leave_untouched(&self, plan: &mut Plan) {
        let owed = self.applied.as_ref().map(|applied| applied.owed.as_slice()).unwrap_or_default();
        plan.deferred.retain(|action| owed.iter().any(|owed| owed.deferred && owed.action.service == action.service));
    }

    fn undone(&mut self, undo: Undo, advice: Option<String>) {
        if let Some(failed) = self.applied.as_mut().and_then(|applied| applied.failed.as_mut()) {
            (failed.undo, failed.advice) = (undo, advice);
        }
        if let Err(error) = self.keep_failure() {
            tracing::warn!("{error}");
        }
    }

    fn keep_failure(&mut self) -> Result<(), ApplyError> {
        let Some(applied) = &self.applied else { return Ok(()) };
        Ok(self.store.note(applied)?)
    }
}

/// Why what ran before is not back.
enum Back {
    /// Something is missing that comes back: the engine, room, a writable disk.
    Waits(String),
    /// It doesn't run either.
    Failed(String),
    /// There is no whole copy of it.
    Lost(String),
}

impl<E: std::error::Error> From<E> for Back {
    fn from(error: E) -> Self {
        Self::Waits(error.to_string())
    }
}

fn failures_so_far(why: &[String]) -> String {
    format!("the files are written, but {}; what ran before is put back now", why.join("; "))
}
