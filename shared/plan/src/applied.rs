//! What a follower last wrote, and what of it is proven: the past that a plan starts from.

use crate::action::Action;
use crate::container::Container;
use crate::snapshot::Entry;
use crate::volumes::VolumeRemove;
use lockstep_shared::api::{FailedBundle, Running, Undo};
use lockstep_shared::{Bundle, File, Mode, Name, OnChange, OnDrift, Owner, SafePath, Sha256, VolumePath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The form of `applied.json` that this version reads and writes.
pub const FORMAT: u64 = 1;

/// What the follower last wrote, and what of it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// [`FORMAT`].
    pub format: u64,
    /// The apply that wrote it.
    pub apply: String,
    /// The role it was for.
    pub role: Name,
    /// The revision it came with.
    pub revision: u64,
    /// The bundle's digest.
    pub digest: Sha256,
    /// When it was written, Unix seconds.
    pub since: i64,
    /// The compose file among `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<SafePath>,
    /// What was written: exactly these files may be removed later.
    pub files: BTreeMap<SafePath, Known>,
    /// The compose file's services, each with the hash of its definition.
    #[serde(default)]
    pub services: BTreeMap<String, Sha256>,
    /// The last bundle that was also acted on and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Actions that are still to be done.
    #[serde(default)]
    pub owed: Vec<Owed>,
    /// The bundle that failed here last, for as long as the leader offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedBundle>,
    /// The containers, by the engine's identifiers, of services that lockstep
    /// created: only these are removed when their service leaves the compose file.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub created: BTreeSet<String>,
    /// Whether the leader wanted to be asked before containers are restarted.
    #[serde(default)]
    pub leased: bool,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The hash of its bytes.
    pub sha256: Sha256,
    /// Its mode.
    pub mode: Mode,
    /// Its owner, where the role set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// What its removal means for a container, where the role said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
    /// The services it concerned, instead of those found by their mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// The containers it concerned, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// What happens when somebody else changes it, where the role says so.
    #[serde(default, rename = "drift", skip_serializing_if = "Option::is_none")]
    pub on_drift: Option<OnDrift>,
    /// Its place in a volume, if it is not in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumePath>,
}

/// An action that is still to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The action.
    pub action: Action,
    /// It waits for the next notification, which names its service or none;
    /// otherwise it failed and is tried again.
    pub deferred: bool,
}

impl From<&File> for Known {
    fn from(file: &File) -> Self {
        Self {
            sha256: file.sha256,
            mode: file.mode,
            owner: file.owner,
            on_change: file.on_change.clone(),
            services: file.services.clone(),
            containers: file.containers.clone(),
            on_drift: file.on_drift,
            volume: file.volume.clone(),
        }
    }
}

impl Known {
    /// Whether another one says the same of what stands on the disk.
    pub(crate) fn is_the_same_as(&self, other: &Self) -> bool {
        (self.sha256, self.mode, self.owner) == (other.sha256, other.mode, other.owner)
    }

    /// Whether the disk still has it.
    pub(crate) fn stands(&self, entry: &Entry) -> bool {
        matches!(entry, Entry::File { sha256, mode, uid, gid }
            if *sha256 == self.sha256
                && *mode == self.mode.bits()
                && self.owner.is_none_or(|owner| (owner.uid, owner.gid) == (*uid, *gid)))
    }
}

impl Applied {
    /// The files in the data folder; those in volumes are not.
    pub fn on_disk(&self) -> impl Iterator<Item = &SafePath> {
        self.files.iter().filter(|(_, known)| known.volume.is_none()).map(|(path, _)| path)
    }

    /// Whether an action failed and is to be tried again.
    pub fn owes(&self) -> bool {
        self.owed.iter().any(|owed| !owed.deferred)
    }

    /// What a volume may still have that an apply before was to remove from it:
    /// that apply's bundle doesn't know it any more.
    pub fn owed_removals(&self) -> impl Iterator<Item = &VolumeRemove> {
        self.owed.iter().filter_map(|owed| owed.action.fill()).flat_map(|fill| &fill.remove)
    }

    /// What is true once `bundle` is written, at the time `now`: nothing of it proven yet.
    pub fn written(
        apply: &str,
        bundle: &Bundle,
        revision: u64,
        services: BTreeMap<String, Sha256>,
        before: Option<&Self>,
        now: i64,
    ) -> Self {
        let managed = bundle.files.iter().filter(|file| !file.is_protected());
        Self {
            format: FORMAT,
            apply: apply.to_owned(),
            role: bundle.role.clone(),
            revision,
            digest: bundle.digest,
            since: now,
            compose: bundle.compose.clone(),
            files: managed.map(|file| (file.path.clone(), Known::from(file))).collect(),
            services,
            running: before.and_then(|before| before.running.clone()),
            owed: Vec::new(),
            failed: None,
            created: before.map(|before| before.created.clone()).unwrap_or_default(),
            leased: before.is_some_and(|before| before.leased),
        }
    }

    /// Whether the last good bundle is on its way back.
    pub fn undoes(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.undo == Undo::Pending)
    }

    /// Whether what is owed waits for a person: another attempt would only
    /// start again what can't run.
    pub fn is_stopped(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| matches!(failed.undo, Undo::Failed | Undo::Nothing))
    }

    /// Records that `failed` is to be answered, or was; `owed` is what that has
    /// to be done to, or is left of it. Nothing counts as proven by this.
    pub fn fail(&mut self, failed: FailedBundle, owed: Vec<Owed>) {
        self.failed = Some(failed);
        self.owed = owed;
    }

    /// Records which containers lockstep created: those of services that it
    /// created, and what it recreated from those.
    pub fn note_created(&mut self, actions: &[Action], before: &[Container], after: &[Container]) {
        for action in actions.iter().filter(|action| action.verb.is_composed()) {
            let of = |containers: &[Container]| -> BTreeSet<String> {
                let own = containers.iter().filter(|container| container.service == action.service);
                own.map(|container| container.id.clone()).collect()
            };
            let (before, after) = (of(before), of(after));
            if before.is_empty() || !before.is_disjoint(&self.created) {
                self.created.extend(after.difference(&before).cloned());
            }
        }
        self.created.retain(|id| after.iter().any(|container| container.id == *id));
    }

    /// Records how acting ended, at the time `now`: proven when nothing failed.
    pub fn settle(&mut self, owed: Vec<Owed>, now: i64) {
        self.owed = owed;
        if !self.owes() {
            let same = self.running.as_ref().filter(|running| running.digest == self.digest);
            let since = same.map_or(now, |running| running.since);
            self.running = Some(Running { revision: self.revision, digest: self.digest, since });
        }
    }
}
