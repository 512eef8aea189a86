//! What an apply will do, as a value: from the bundle, what was applied
//! before, what is on the disk and what the containers mount. Pure, and one
//! for both: the leader shows beforehand what the follower will execute.

pub mod action;
mod actions;
pub mod applied;
mod compose;
pub mod compose_file;
pub mod container;
pub mod drift;
mod files;
mod order;
mod show;
pub mod snapshot;
pub mod steps;
pub mod volumes;

pub use order::waves;

use crate::action::Action;
use crate::applied::Applied;
use crate::compose_file::{BadCompose, ComposeFile};
use crate::container::Container;
use crate::snapshot::{InTheWay, Snapshot};
use crate::steps::{Check, Steps};
use lockstep_shared::api::{Change, FileChange, LeftAlone};
use lockstep_shared::{Bundle, Name, SafePath, Sha256, VolumePath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// All that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is to be true.
    pub bundle: &'a Bundle,
    /// The revision it came with.
    pub revision: u64,
    /// What was written last; `None` on a new machine.
    pub applied: Option<&'a Applied>,
    /// What stands at each of [`paths`].
    pub disk: &'a Snapshot,
    /// The data folder's canonical path, as the engine knows it.
    pub data_folder: &'a Path,
    /// The project's containers; `None` without an engine.
    pub containers: Option<&'a [Container]>,
    /// What was asked for.
    pub wanted: &'a Wanted,
}

/// What an apply was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Act on these services only; what others need is kept for later. `None`: on all.
    pub only: Option<BTreeSet<String>>,
    /// Act on these even if nothing of theirs changed.
    pub asked: BTreeSet<String>,
    /// Whether actions that waited for a notification are done now.
    pub release: bool,
}

impl Wanted {
    /// Whatever has to be done, for all services.
    pub fn all() -> Self {
        Self { only: None, asked: BTreeSet::new(), release: true }
    }

    /// What failed before, once more; what waits goes on waiting.
    pub fn retry() -> Self {
        Self { release: false, ..Self::all() }
    }

    /// These services, as a notification names them.
    pub fn services(services: impl IntoIterator<Item = String>) -> Self {
        let asked: BTreeSet<String> = services.into_iter().collect();
        Self { only: Some(asked.clone()), asked, release: true }
    }

    /// Asks for both at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.only = match (self.only, other.only) {
            (Some(mut one), Some(other)) => {
                one.extend(other);
                Some(one)
            }
            _ => None,
        };
        self.asked.extend(other.asked);
        self.release |= other.release;
        self
    }

    fn includes(&self, service: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(service))
    }
}

/// What an apply will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The role that the bundle is for.
    pub role: Name,
    /// The revision it came with.
    pub revision: u64,
    /// Its digest.
    pub digest: Sha256,
    /// What happens on the disk.
    pub steps: Steps,
    /// What has to succeed on the staged files first.
    pub checks: Vec<Check>,
    /// What happens to containers; [`waves`] gives the order.
    pub actions: Vec<Action>,
    /// What has to happen as well, but waits for a later notification.
    pub deferred: Vec<Action>,
    /// Services that are not touched, each with the reason.
    pub left_alone: Vec<LeftAlone>,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// The compose file's services, each with the hash of its definition.
    pub services: BTreeMap<String, Sha256>,
}

/// Why there is no plan: nothing may be changed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Something on the disk or in a volume is in the way.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Obstacles(Vec<InTheWay>),
    /// The compose file can't be read.
    #[error(
        "the compose file {path:?} of the bundle can't be read: {source}; correct the role's template and publish again"
    )]
    Compose {
        /// The compose file.
        path: SafePath,
        /// What is wrong with it.
        source: BadCompose,
    },
}

/// A file whose bytes, mode or owner change, or that goes.
#[derive(Debug, Clone)]
struct Changed<'a> {
    path: &'a SafePath,
    change: Change,
    on_change: Option<&'a lockstep_shared::OnChange>,
    services: &'a [String],
    containers: &'a [String],
    /// Its place, if it stands in a volume.
    volume: Option<&'a VolumePath>,
}

impl Changed<'_> {
    /// Where a container sees it.
    fn seen_by(&self, container: &Container, data_folder: &Path) -> Vec<PathBuf> {
        match self.volume {
            Some(place) => container.sees_in_volume(place),
            None => container.sees(&data_folder.join(self.path.as_str())),
        }
    }
}

impl Plan {
    /// Whether nothing happens at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.actions.is_empty()
    }

    /// The files that change, by path.
    pub fn changes(&self) -> Vec<FileChange> {
        let written =
            self.steps.write.iter().map(|write| FileChange { path: write.path.clone(), change: write.change });
        let removed = self.steps.remove.iter().map(|path| FileChange { path: path.clone(), change: Change::Removed });
        let fills = || self.actions.iter().filter_map(Action::fill);
        let poured = fills().flat_map(|fill| &fill.write);
        let poured = poured.map(|write| FileChange { path: write.file.path.clone(), change: write.file.change });
        let drained = fills().flat_map(|fill| &fill.remove);
        let drained = drained.map(|remove| FileChange { path: remove.path.clone(), change: Change::Removed });
        let mut changes: Vec<_> = written.chain(removed).chain(poured).chain(drained).collect();
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        changes
    }
}

/// Every path that a plan needs to know about, relative to the data folder.
pub fn paths<'a>(bundle: &'a Bundle, applied: Option<&'a Applied>) -> impl Iterator<Item = &'a str> {
    let wanted = bundle.files.iter().filter(|file| file.volume.is_none());
    let wanted = wanted.filter_map(|file| match file.path.is_protected() {
        false => Some(file.path.as_str()),
        true if file.path.is_folder_marker() => file.path.parent(),
        true => None,
    });
    let known = applied.into_iter().flat_map(|applied| &applied.files);
    wanted.chain(known.filter(|(_, known)| known.volume.is_none()).map(|(path, _)| path.as_str()))
}

/// Every place in a volume that a plan needs to know about.
pub fn places<'a>(bundle: &'a Bundle, applied: Option<&'a Applied>) -> impl Iterator<Item = &'a VolumePath> {
    let wanted = bundle.files.iter().filter_map(|file| file.volume.as_ref());
    let known = applied.into_iter().flat_map(|applied| applied.files.values());
    let owed = applied.into_iter().flat_map(Applied::owed_removals);
    wanted.chain(known.filter_map(|known| known.volume.as_ref())).chain(owed.map(|remove| &remove.place))
}

/// Makes the plan.
pub fn plan(inputs: Inputs<'_>) -> Result<Plan, PlanError> {
    let bundle = inputs.bundle;
    let compose = match bundle.compose_file() {
        Some(file) => compose_file::read(&file.content)
            .map_err(|source| PlanError::Compose { path: file.path.clone(), source })?,
        None => ComposeFile::default(),
    };
    let mut plan = Plan {
        role: bundle.role.clone(),
        revision: inputs.revision,
        digest: bundle.digest,
        steps: Steps::default(),
        checks: Vec::new(),
        actions: Vec::new(),
        deferred: Vec::new(),
        left_alone: Vec::new(),
        notes: Vec::new(),
        services: compose.services.iter().map(|(name, service)| (name.clone(), service.definition)).collect(),
    };
    if let Some(before) = inputs.applied.filter(|applied| applied.role != bundle.role) {
        plan.notes.push(format!("the machine's role changes from {} to {}", before.role, bundle.role));
    }
    let (changed, fills) = files::plan(inputs, &mut plan)?;
    match inputs.containers {
        Some(containers) => {
            actions::plan(inputs, containers, &compose, &changed, fills, &mut plan);
        }
        None if compose.services.is_empty() && changed.is_empty() => {}
        None => plan.notes.push("this machine has no engine (\"docker\": null): files only".to_owned()),
    }
    Ok(plan)
}

#[cfg(test)]
mod tests;
