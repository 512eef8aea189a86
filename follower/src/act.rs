//! Does what the plan says to containers, in its waves, and has each proven.
//! An action that fails keeps only those from being done that depend on it.

use crate::action::{Action, Verb};
use crate::applied::Applied;
use crate::compose::{Compose, ComposeError, Up};
use crate::container::Container;
use crate::docker::{Details, Engine, EngineError};
use crate::plan::volumes::Fill;
use crate::plan::waves;
use crate::prove::{Expected, Unproven, Upright, prove};
use crate::step::Step;
use crate::volumes::{self, VolumeError};
use crate::write::Contents;
use futures_util::future::{join, join_all};
use futures_util::stream::Empty;
use lockstep_edge::clock;
use lockstep_shared::api::{self, Outcome};
use lockstep_shared::{OnChange, SafePath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// All that acting needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The compose tool.
    pub compose: &'a Compose,
    /// How long a container must stay up if nothing else shows that it works.
    pub settle: Duration,
    /// The data folder's canonical path, as the engine knows it.
    pub data_folder: &'a Path,
    /// The same as this process knows it.
    pub own_folder: &'a Path,
    /// The new bytes of files that go into volumes.
    pub contents: &'a Contents,
    /// What is written now.
    pub applied: &'a Applied,
    /// The files that this apply changed.
    pub changed: &'a [SafePath],
    /// The project's containers before acting.
    pub containers: &'a [Container],
    /// How those are that were asked for already.
    pub inspected: &'a Inspected,
}

/// Containers just before they are acted on, by name.
pub type Inspected = BTreeMap<String, Details>;

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Compose(#[from] ComposeError),
    #[error(transparent)]
    Unproven(#[from] Unproven),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("not done, as it depends on {0}, which failed")]
    Dependency(String),
    #[error("it has no container named {0:?} any more; the next attempt looks for the new one")]
    Gone(String),
    #[error("{0}")]
    Together(Arc<Failure>),
    #[error("there is no compose file to {0} it from")]
    NoComposeFile(Verb),
}

impl Failure {
    /// What it says of the bundle that was acted for.
    fn blame(&self) -> Blame {
        match self {
            Self::Engine(error) | Self::Unproven(Unproven::Engine(error)) if error.is_absence() => Blame::Nobody,
            Self::Dependency(_)
            | Self::Gone(_)
            | Self::Volume(VolumeError::Unmounted(_) | VolumeError::NoContent(_)) => Blame::Nobody,
            Self::Compose(_) | Self::NoComposeFile(_) => Blame::Compose,
            Self::Together(failure) => failure.blame(),
            Self::Volume(VolumeError::Engine(error)) if error.is_absence() => Blame::Nobody,
            Self::Engine(_) | Self::Unproven(_) | Self::Volume(_) => Blame::Container,
        }
    }
}

/// What the failures of an apply say of its bundle, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// Nothing: the engine didn't answer, or somebody else was at work.
    Nobody,
    /// Compose could not do its part: there may be no container to blame.
    Compose,
    /// A container doesn't run with it.
    Container,
}

/// How acting went.
#[derive(Debug)]
pub struct Acted {
    /// How each action ended, in the order of the actions.
    pub results: Vec<api::Action>,
    /// Whether each was begun, in the same order; otherwise what it needs failed before.
    pub begun: Vec<bool>,
    /// The worst of what failed; `None` if nothing did.
    pub blame: Option<Blame>,
}

/// How an action ended: seen how, or failed why.
type Ended = Result<String, Failure>;

const NO_CHANGES: Option<Empty<()>> = None;

/// The actions as they are reported before anything is done.
pub fn pending(actions: &[Action]) -> Vec<api::Action> {
    let pending = actions.iter().map(|action| api::Action {
        service: action.service.clone(),
        container: action.container.clone(),
        verb: action.verb.to_string(),
        why: action.why.clone(),
        outcome: Outcome::Pending,
        detail: String::new(),
        took_ms: 0.0,
    });
    pending.collect()
}

impl Stage<'_> {
    /// Does all actions; how each ended, in their order. `progress` hears after every wave.
    pub async fn act(&self, actions: &[Action], mut progress: impl FnMut(&[api::Action])) -> Acted {
        let mut results = pending(actions);
        let mut begun = vec![true; actions.len()];
        let mut blame = None;
        let mut failed: BTreeSet<&str> = BTreeSet::new();
        for wave in waves(actions) {
            let (held, free): (Vec<usize>, Vec<usize>) = wave
                .into_iter()
                .partition(|index| actions[*index].depends_on.iter().any(|needed| failed.contains(needed.as_str())));
            let (composed, single): (Vec<usize>, Vec<usize>) =
                free.into_iter().partition(|index| actions[*index].verb.is_composed());
            let alone = join_all(single.into_iter().map(|index| async move {
                let began = Instant::now();
                (index, self.alone(&actions[index]).await, began.elapsed())
            }));
            let (alone, together) = join(alone, self.together(actions, &composed)).await;
            let held = held.into_iter().map(|index| {
                let needed = actions[index].depends_on.iter().find(|needed| failed.contains(needed.as_str()));
                (index, Err(Failure::Dependency(needed.cloned().unwrap_or_default())), Duration::ZERO)
            });
            let ended: Vec<_> = alone.into_iter().chain(together).chain(held).collect();
            for (index, ended, took) in ended {
                let result = &mut results[index];
                result.took_ms = took.as_secs_f64() * 1000.0;
                match ended {
                    Ok(detail) => (result.outcome, result.detail) = (Outcome::Proven, detail),
                    Err(failure) => {
                        begun[index] = !matches!(failure, Failure::Dependency(_));
                        blame = blame.max(Some(failure.blame()));
                        failed.insert(&actions[index].service);
                        (result.outcome, result.detail) = (Outcome::Failed, failure.to_string());
                    }
                }
            }
            progress(&results);
        }
        Acted { results, begun, blame }
    }

    /// One action on one container.
    async fn alone(&self, action: &Action) -> Ended {
        if let Some(fill) = action.fill() {
            Step::Act.begins();
            return self.fill(action, fill).await;
        }
        let name = action.container.clone().unwrap_or_default();
        let container = self.containers.iter().find(|container| container.name == name);
        let Some(container) = container else {
            return if action.verb == Verb::Remove { Ok("it is gone".to_owned()) } else { Err(Failure::Gone(name)) };
        };
        let name = container.name.as_str();
        tracing::info!(service = %action.service, container = name, verb = %action.verb, why = %action.why, "acting");
        Step::Act.begins();
        match &action.verb {
            Verb::Live(steps) => {
                let before = self.inspected(name).await?;
                for step in steps {
                    match step {
                        OnChange::Signal(signal) => self.engine.signal(name, signal).await?,
                        OnChange::Exec(command) => {
                            self.engine.exec(name, command).await?;
                        }
                        OnChange::None | OnChange::Restart | OnChange::Recreate => {}
                    }
                }
                self.prove(container, &Upright::GoesOn(Box::new(before), clock::now()), action).await
            }
            Verb::Restart => {
                let before = self.inspected(name).await?;
                // Subscribed before acting: a quick death would be missed otherwise.
                let changes = self.engine.changes(name).await?;
                self.engine.restart(name, before.stop_timeout).await?;
                let upright = Upright::ComesUp { settle: self.settle, may_end: false };
                let expected = self.expected(action);
                Ok(prove(self.engine, container, &upright, Some(changes), self.data_folder, &expected).await?)
            }
            Verb::Remove => {
                let before = self.engine.details(name).await?;
                self.engine.remove(name, before.stop_timeout).await?;
                Ok("it is stopped and removed; its volumes stay".to_owned())
            }
            Verb::None | Verb::Converge | Verb::Recreate | Verb::Create | Verb::Fill(_) => {
                self.prove(container, &Upright::AsItIs, action).await
            }
        }
    }

    async fn inspected(&self, name: &str) -> Result<Details, EngineError> {
        match self.inspected.get(name) {
            Some(details) => Ok(details.clone()),
            None => self.engine.details(name).await,
        }
    }

    /// Fills a volume. Where nothing mounts it yet, what will is made first, but not started.
    async fn fill(&self, action: &Action, fill: &Fill) -> Ended {
        if self.containers.iter().any(|container| container.mounts_volume(&fill.volume)) {
            return Ok(volumes::fill(self.engine, self.containers, fill, self.contents).await?);
        }
        if !fill.services.is_empty() {
            let make: Vec<Action> = fill
                .services
                .iter()
                .map(|service| Action { service: service.clone(), verb: Verb::Create, ..action.clone() })
                .collect();
            self.call_compose(&make, &(0..make.len()).collect::<Vec<_>>(), false, true).await?;
        }
        let containers = self.engine.containers().await?;
        Ok(volumes::fill(self.engine, &containers, fill, self.contents).await?)
    }

    async fn prove(&self, container: &Container, upright: &Upright, action: &Action) -> Ended {
        let expected = self.expected(action);
        Ok(prove(self.engine, container, upright, NO_CHANGES, self.data_folder, &expected).await?)
    }

    /// The files to look at in a container: those of this apply, and those of an
    /// earlier one for which the action was still owed.
    fn expected<'s>(&'s self, action: &'s Action) -> Vec<Expected<'s>> {
        let paths: BTreeSet<&SafePath> = self.changed.iter().chain(&action.files).collect();
        let expected = |path: &'s SafePath| {
            let known = self.applied.files.get(path);
            let volume = known.and_then(|known| known.volume.as_ref());
            Expected { path, sha256: known.map(|known| known.sha256), volume }
        };
        paths.into_iter().map(expected).collect()
    }

    /// All that compose does in one wave: one call for what it shall recreate or
    /// create, one more for what it shall compare.
    async fn together(&self, actions: &[Action], composed: &[usize]) -> Vec<(usize, Ended, Duration)> {
        let (compared, forced): (Vec<usize>, Vec<usize>) =
            composed.iter().partition(|index| actions[**index].verb == Verb::Converge);
        let mut ended = self.up(actions, &forced, true).await;
        ended.extend(self.up(actions, &compared, false).await);
        ended
    }

    async fn up(&self, actions: &[Action], indices: &[usize], force: bool) -> Vec<(usize, Ended, Duration)> {
        if indices.is_empty() {
            return Vec::new();
        }
        let began = Instant::now();
        let called = self.call_compose(actions, indices, force, false).await.map_err(Arc::new);
        let containers = self.engine.containers().await;
        let proofs = indices.iter().map(|index| {
            let (called, containers) = (&called, &containers);
            async move {
                let action = &actions[*index];
                let ended = match (called, containers) {
                    (Ok(()), Ok(containers)) => self.came_up(action, containers).await,
                    // Compose stops at the first failure: what came up before it is still good.
                    (Err(failure), Ok(containers)) if self.is_new(action, containers) => {
                        self.came_up(action, containers).await.map_err(|_| Failure::Together(failure.clone()))
                    }
                    (Err(failure), _) => Err(Failure::Together(failure.clone())),
                    (Ok(()), Err(_)) => Err(Failure::Gone(action.service.clone())),
                };
                (*index, ended, began.elapsed())
            }
        });
        join_all(proofs).await
    }

    async fn call_compose(
        &self,
        actions: &[Action],
        indices: &[usize],
        force: bool,
        no_start: bool,
    ) -> Result<(), Failure> {
        let Some(file) = &self.applied.compose else {
            let verb = indices.first().map_or(Verb::Recreate, |index| actions[*index].verb.clone());
            return Err(Failure::NoComposeFile(verb));
        };
        let services: BTreeMap<String, usize> = indices
            .iter()
            .map(|index| {
                let service = &actions[*index].service;
                // One that compose was replacing when it failed or was killed stands beside the one in its place.
                let own = self.containers.iter().filter(|container| container.service == *service);
                let number = |container: &Container| match container.number.as_str() {
                    "" => container.id.clone(),
                    number => number.to_owned(),
                };
                let numbers: BTreeSet<String> = own.map(number).collect();
                (service.clone(), numbers.len())
            })
            .collect();
        let names = services.keys().cloned().collect::<Vec<_>>().join(", ");
        tracing::info!(services = %names, force, "compose brings services up");
        Step::Act.begins();
        // Joining an empty path would add a slash, which a link can't be made at.
        let folder = file.parent().map_or_else(|| self.data_folder.to_owned(), |folder| self.data_folder.join(folder));
        let file = self.own_folder.join(file.as_str());
        // On a machine without any container nothing can be disturbed, and compose sees to all that is needed.
        let no_deps = !self.containers.is_empty();
        Ok(self.compose.up(Up { file: &file, folder: &folder, services: &services, force, no_deps, no_start }).await?)
    }

    /// Whether the service has a container now that it didn't have before.
    fn is_new(&self, action: &Action, containers: &[Container]) -> bool {
        let mut own = containers.iter().filter(|container| container.service == action.service);
        own.any(|container| !self.containers.iter().any(|before| before.id == container.id))
    }

    /// Proves all containers that a service has now.
    async fn came_up(&self, action: &Action, containers: &[Container]) -> Ended {
        let own: Vec<_> = containers.iter().filter(|container| container.service == action.service).collect();
        if own.is_empty() {
            return Ok("compose made no container for it: its definition asks for none".to_owned());
        }
        let proofs = own.into_iter().map(|container| async move {
            let kept = self.containers.iter().any(|before| before.id == container.id);
            if kept && action.verb == Verb::Converge {
                let detail = self.prove(container, &Upright::AsItIs, action).await?;
                let kept = "compose kept it, its definition is the same".to_owned();
                return Ok(if detail.is_empty() { kept } else { format!("{kept}; {detail}") });
            }
            let upright = Upright::ComesUp { settle: self.settle, may_end: true };
            self.prove(container, &upright, action).await
        });
        let details: Result<Vec<String>, Failure> = join_all(proofs).await.into_iter().collect();
        Ok(details?.join("; "))
    }
}
