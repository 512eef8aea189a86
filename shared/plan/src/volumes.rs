//! What is written into named volumes: one action for each volume, done before
//! anything is done to the containers that mount it.

use super::Plan;
use super::actions::some_of;
use crate::action::{Action, Verb};
use crate::compose_file::ComposeFile;
use crate::container::Container;
use crate::snapshot::{Entry, Obstacle, Snapshot, is_below};
use crate::steps::Write;
use lockstep_shared::{SafePath, VolumePath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens in one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The volume, as the role names it.
    pub volume: String,
    /// Files to write.
    pub write: Vec<VolumeWrite>,
    /// Files to remove.
    pub remove: Vec<VolumeRemove>,
    /// The compose file's services that use it: where no container mounts it
    /// yet, theirs are made before it is filled.
    pub services: Vec<String>,
}

/// A file to write into a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeWrite {
    /// Where in the volume.
    pub place: VolumePath,
    /// The file, by its path in the bundle.
    pub file: Write,
}

/// A file to remove from a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRemove {
    /// Where in the volume.
    pub place: VolumePath,
    /// The file, by its path in the bundle that had it.
    pub path: SafePath,
}

impl Fill {
    /// What stands in place of a compose service in an action on a volume: no
    /// service can have a blank in its name.
    pub fn name(volume: &str) -> String {
        format!("volume {volume}")
    }

    /// What stands where its files are to be: neither removed by it nor a folder without any file.
    pub fn obstacles(&self, disk: &Snapshot) -> Vec<Obstacle> {
        let goes = |path: &str| self.remove.iter().any(|remove| remove.place.path().as_str() == path);
        let mut obstacles = Vec::new();
        for write in &self.write {
            let path = write.place.path().as_str();
            let found = match disk.in_volume(&write.place) {
                Entry::Absent | Entry::File { .. } => None,
                Entry::Blocked(Obstacle::NotAFolder(at)) if goes(at) => None,
                Entry::Blocked(obstacle) => Some(obstacle.clone()),
                Entry::Folder | Entry::EmptyFolder => {
                    let mut inside = disk.below_in_volume(&write.place);
                    let others = inside.find(|(place, entry)| match entry {
                        Entry::File { .. } => !goes(place.path().as_str()),
                        Entry::Blocked(_) => true,
                        Entry::Absent | Entry::Folder | Entry::EmptyFolder => false,
                    });
                    others.map(|(place, _)| Obstacle::NotOurs(path.to_owned(), place.path().to_string()))
                }
            };
            obstacles.extend(found.filter(|found| !obstacles.contains(found)));
        }
        obstacles
    }

    /// Whether one of its files comes where `removed` stands, or below or above it.
    pub fn replaces(&self, removed: &VolumeRemove) -> bool {
        let removed = removed.place.path().as_str();
        let written = self.write.iter().map(|write| write.place.path().as_str());
        written.into_iter().any(|written| is_below(written, removed) || is_below(removed, written))
    }
}

/// What happens in volumes, by volume.
pub(crate) type Fills = BTreeMap<String, Fill>;

/// Notes a file to write.
pub(crate) fn write(fills: &mut Fills, place: &VolumePath, file: Write) {
    let fill = fills.entry(place.volume().to_owned()).or_default();
    fill.write.push(VolumeWrite { place: place.clone(), file });
}

/// Notes a file to remove, once, if it is there; whether it is.
pub(crate) fn remove(fills: &mut Fills, place: &VolumePath, path: &SafePath, entry: &Entry) -> bool {
    let there = matches!(entry, Entry::File { .. });
    if there {
        let fill = fills.entry(place.volume().to_owned()).or_default();
        if !fill.remove.iter().any(|known| known.place == *place) {
            fill.remove.push(VolumeRemove { place: place.clone(), path: path.clone() });
        }
    }
    there
}

/// The actions; a volume that nothing mounts or will mount is only noted.
pub(crate) fn plan(fills: Fills, containers: &[Container], compose: &ComposeFile, plan: &mut Plan) -> Vec<Action> {
    let mut actions = Vec::new();
    for (volume, mut fill) in fills {
        // Only what compose is about to make anyway is made for a volume's sake.
        let made =
            |name: &String| plan.actions.iter().any(|action| action.service == *name && action.verb.is_composed());
        let users = compose.services.iter().filter(|(name, service)| service.volumes.contains(&volume) && made(name));
        fill.services = users.map(|(name, _)| name.clone()).collect();
        let files: Vec<SafePath> = fill.write.iter().map(|write| write.file.path.clone()).collect();
        let gone = fill.remove.iter().map(|remove| remove.path.clone());
        let files: Vec<SafePath> = files.into_iter().chain(gone).collect();
        let named = some_of(&files.iter().map(SafePath::as_str).collect::<Vec<_>>());
        if fill.services.is_empty() && !containers.iter().any(|container| container.mounts_volume(&volume)) {
            plan.notes.push(format!(
                "no container mounts the volume {volume}: {named} is written there once one does, at the next apply"
            ));
            continue;
        }
        actions.push(Action {
            service: Fill::name(&volume),
            container: None,
            verb: Verb::Fill(Box::new(Fill { volume, ..fill })),
            why: named,
            files,
            depends_on: Vec::new(),
        });
    }
    actions
}
