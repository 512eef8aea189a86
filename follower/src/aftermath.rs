//! What is proven at once is watched on: a signal is answered and a port
//! answers long before a program that can't live with its new files has died
//! of them. Until the time is over the bundle before stays the one to go back to.

use crate::act::{Acted, Blame};
use crate::action::{Action, Verb};
use crate::applied::Owed;
use crate::apply::{Applier, Failing, Lap, again, new_apply};
use crate::container::Container;
use crate::docker::{Details, Engine};
use crate::ended::Ended;
use crate::prove::{Expected, Upright, last_words, prove};
use futures_util::stream::Empty;
use lockstep_edge::clock;
use lockstep_shared::Bundle;
use lockstep_shared::api::{Apply, Running, Undo};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::Instant;

/// What an apply acted on, while it may still die of it.
pub(crate) struct Watch {
    until: Instant,
    /// When the apply ended, Unix seconds: nothing may have been started since.
    since: i64,
    /// The apply, as it is shown.
    apply: Apply,
    /// What was acted on, to be done again by an undo.
    begun: Vec<Owed>,
    /// What ran before, and its bundle where it isn't kept yet.
    before: Option<Running>,
    good: Option<Arc<Bundle>>,
}

impl Applier {
    /// Begins to watch what was just proven; `before` ran before.
    pub(crate) fn watch(&mut self, apply: &Apply, actions: &[Action], acted: &Acted, before: Option<Running>) {
        let Some(settle) = self.docker.as_ref().map(|docker| docker.settle) else { return };
        let begun = again(actions, acted);
        if settle.is_zero() || begun.iter().all(|owed| owed.action.verb == Verb::None) {
            return;
        }
        self.watched = Some(Watch {
            until: Instant::now() + settle,
            since: clock::now(),
            apply: apply.clone(),
            begun,
            before,
            good: self.good.take(),
        });
    }

    /// When to look again.
    pub fn watches_until(&self) -> Option<Instant> {
        self.watched.as_ref().map(|watch| watch.until)
    }

    /// Looks again at what was watched; `None` if it lives, or can't be asked.
    pub async fn look_again(&mut self) -> Option<Ended> {
        let Watch { since, mut apply, begun, before, good, .. } = self.watched.take()?;
        let engine = self.docker.as_ref()?.engine.clone();
        let containers = engine.containers().await.ok()?;
        let mut why = Vec::new();
        for container in &containers {
            let owed = begun.iter().find(|owed| concerns(&owed.action, container));
            if let Some(owed) = owed
                && let Ok(details) = engine.details(&container.name).await
                && let Some(end) = end(&engine, container, &details, since, &owed.action.verb).await
            {
                why.push(format!("{}: {end}", container.service));
            }
        }
        if why.is_empty() {
            return None;
        }
        if let Some(applied) = &mut self.applied {
            applied.running = before;
        }
        self.good = good;
        self.board.applying(&apply);
        let left = begun.clone();
        let mut took = std::mem::take(&mut apply.took_ms);
        let failing = Failing { blame: Blame::Container, why, begun, left };
        let error = self.fail(&mut apply, &mut Lap::new(&mut took), failing).await;
        (apply.took_ms, apply.error) = (took, Some(error.to_string()));
        self.ended(apply);
        Some(Ended::Failed(error))
    }
}

impl Applier {
    /// Where nothing more is tried: whether a person, or the engine's own
    /// restarts, brought up what didn't come up before. Nothing is acted on.
    pub async fn came_up_meanwhile(&mut self) -> Option<Ended> {
        let applied = self.applied.as_ref().filter(|applied| applied.is_stopped())?;
        let (revision, digest) = (applied.revision, applied.digest);
        let (waiting, due): (Vec<Owed>, Vec<Owed>) = applied.owed.iter().cloned().partition(|owed| owed.deferred);
        if due.is_empty() {
            return None;
        }
        let docker = self.docker.as_ref()?;
        let containers = docker.engine.containers().await.ok()?;
        let data_folder = self.data_folder();
        let services: BTreeSet<String> = due.iter().map(|owed| owed.action.service.clone()).collect();
        for owed in &due {
            let own: Vec<&Container> =
                containers.iter().filter(|container| concerns(&owed.action, container)).collect();
            if own.is_empty() {
                return None;
            }
            let expected = owed.action.files.iter().map(|path| {
                let known = applied.files.get(path);
                let volume = known.and_then(|known| known.volume.as_ref());
                Expected { path, sha256: known.map(|known| known.sha256), volume }
            });
            let expected: Vec<_> = expected.collect();
            for container in own {
                let stands = Upright::Stands(docker.settle);
                prove(&docker.engine, container, &stands, NO_CHANGES, &data_folder, &expected).await.ok()?;
            }
        }
        tracing::info!(revision, ?services, "what did not come up before has come up meanwhile");
        if let Some(applied) = &mut self.applied {
            // What failed and was undone is still what the leader offers.
            applied.failed = applied.failed.take().filter(|failed| failed.digest != digest);
            if let Some(failed) = &mut applied.failed {
                (failed.undo, failed.advice) = (Undo::Done, None);
            }
        }
        self.settle(waiting, true).ok()?;
        let notes = vec!["it came up without the follower's doing".to_owned()];
        self.ended(Apply { revision, digest: Some(digest), notes, ..new_apply(crate::queue::new_id()) });
        Some(Ended::Proven { services, revision })
    }
}

const NO_CHANGES: Option<Empty<()>> = None;

fn concerns(action: &Action, container: &Container) -> bool {
    action.service == container.service
        && action.verb != Verb::None
        && action.container.as_ref().is_none_or(|name| *name == container.name)
}

/// How a container died, or got unhealthy, since it was proven, if it did.
async fn end(engine: &Engine, container: &Container, details: &Details, since: i64, verb: &Verb) -> Option<String> {
    let name = &container.name;
    let ended = verb.is_composed() && details.exit_code == 0 && !details.restarted_by_policy;
    let again = details.started > since;
    let what = if again {
        format!("was started again after it died shortly after it was proven, with exit code {}", details.exit_code)
    } else if !details.running && ended {
        return None;
    } else if !details.running || details.restarting {
        format!("died shortly after it was proven, with exit code {}", details.exit_code)
    } else if details.health == "unhealthy" && !matches!(verb, Verb::Live(_)) {
        // What was started anew was healthy when it was proven; what a signal was sent to perhaps not even before.
        "became unhealthy shortly after it was proven".to_owned()
    } else {
        return None;
    };
    Some(format!("{name} {what}; the end of its log: {}", last_words(engine, name).await))
}
