//! Which files are written and removed, and what is in the way.

use super::{Changed, Inputs, Plan, PlanError};
use crate::applied::Applied;
use crate::snapshot::{Entry, InTheWay, Obstacle, is_below, is_staged};
use crate::steps::{Check, How, Write};
use crate::volumes::{self, Fills};
use lockstep_shared::api::Change;
use lockstep_shared::{File, SafePath, VolumePath};

/// Fills `plan.steps`; the files that change, and what happens in volumes.
pub(crate) fn plan<'a>(inputs: Inputs<'a>, plan: &mut Plan) -> Result<(Vec<Changed<'a>>, Fills), PlanError> {
    let mut fills = Fills::new();
    let mut changed = Vec::new();
    let mut obstacles = Vec::new();
    for file in &inputs.bundle.files {
        if let Some(place) = &file.volume {
            if inputs.containers.is_none() {
                plan.notes.push(format!("{} is not written: it goes into the volume {}", file.path, place.volume()));
            } else if let Some(change) = in_volume(inputs, file, inputs.disk.in_volume(place)) {
                volumes::write(&mut fills, place, Write::of(file, change));
                changed.push(of_bundle(file, change));
            }
            continue;
        }
        let kind = if inputs.disk.is_left(&file.path) {
            plan.notes
                .push(format!("{} was changed by somebody else and is left as it is (lockstep status)", file.path));
            continue;
        } else if file.path.is_protected() {
            protected(inputs, &file.path, plan).map(|()| None)
        } else {
            managed(inputs, file)
        };
        match kind {
            Ok(Some(write)) => {
                changed.push(of_bundle(file, write.change));
                plan.steps.write.push(write);
            }
            Ok(None) => {}
            Err(obstacle) if obstacles.contains(&obstacle) => {}
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    changed.extend(removals(inputs, plan, &mut fills));
    let in_volumes = fills.iter().map(|(volume, fill)| InTheWay::in_volume(volume, fill.obstacles(inputs.disk)));
    let in_the_way: Vec<InTheWay> =
        in_volumes.chain([InTheWay::below(inputs.data_folder, obstacles)]).flatten().collect();
    if !in_the_way.is_empty() {
        return Err(PlanError::Obstacles(in_the_way));
    }
    plan.checks = checks(&changed, inputs);
    Ok((changed, fills))
}

/// What writing a file into its volume changes there, if anything.
fn in_volume(inputs: Inputs<'_>, file: &File, entry: &Entry) -> Option<Change> {
    match entry {
        Entry::File { .. } if Write::of(file, Change::Changed).is_done(entry) => None,
        Entry::File { .. } => Some(Change::Changed),
        // The follower knows nothing of a volume that no container mounts; what
        // was written there counts until it is seen again.
        Entry::Absent if !inputs.disk.has_volume(file.volume.as_ref()?) => {
            let known = inputs.applied.and_then(|applied| applied.files.get(&file.path));
            let same = known.is_some_and(|known| known.volume == file.volume && known.sha256 == file.sha256);
            (!same).then_some(Change::Added)
        }
        _ => Some(Change::Added),
    }
}

fn managed(inputs: Inputs<'_>, file: &File) -> Result<Option<Write>, Obstacle> {
    if is_staged(file.path.file_name()) {
        return Err(Obstacle::Reserved(file.path.to_string()));
    }
    match inputs.disk.entry(file.path.as_str()) {
        Entry::Absent => Ok(Some(Write::of(file, Change::Added))),
        entry @ Entry::File { .. } => {
            let write = Write::of(file, Change::Changed);
            Ok((!write.is_done(entry)).then_some(write))
        }
        Entry::EmptyFolder if is_mounted(inputs, file) => {
            Ok(Some(Write { how: How::OverFolder, ..Write::of(file, Change::Added) }))
        }
        // What was written before and goes now makes way; what else is in the folder is seen when it is staged.
        Entry::Folder if goes(inputs, |path| is_below(path, file.path.as_str())) => {
            Ok(Some(Write::of(file, Change::Added)))
        }
        Entry::Blocked(Obstacle::NotAFolder(at)) if goes(inputs, |path| path == at) => {
            Ok(Some(Write::of(file, Change::Added)))
        }
        Entry::Folder | Entry::EmptyFolder => Err(Obstacle::NotAFile(file.path.to_string())),
        Entry::Blocked(obstacle) => Err(obstacle.clone()),
    }
}

/// Whether a container mounts it as a file of its own. Where there is no such
/// file when the container is made, the engine makes an empty folder.
fn is_mounted(inputs: Inputs<'_>, file: &File) -> bool {
    let host = inputs.data_folder.join(file.path.as_str());
    inputs.containers.into_iter().flatten().any(|container| container.mounts_file(&host))
}

/// Whether a file of such a path was written before, still is one, and is not in the bundle any more.
fn goes(inputs: Inputs<'_>, such: impl Fn(&str) -> bool) -> bool {
    let mut known = inputs.applied.into_iter().flat_map(|applied| applied.files.keys());
    known.any(|path| {
        such(path.as_str())
            && inputs.bundle.file(path.as_str()).is_none()
            && matches!(inputs.disk.entry(path.as_str()), Entry::File { .. })
    })
}

/// A running service's own folder: it is made where it is missing, and nothing else.
fn protected(inputs: Inputs<'_>, path: &SafePath, plan: &mut Plan) -> Result<(), Obstacle> {
    let folder = path.parent().and_then(|folder| SafePath::new(folder).ok());
    let Some(folder) = folder.filter(|_| path.is_folder_marker()) else {
        plan.notes.push(format!("{path} is not written: */data/** and */log/** belong to the running service"));
        return Ok(());
    };
    match inputs.disk.entry(folder.as_str()) {
        Entry::Absent => plan.steps.folders.push(folder),
        Entry::Folder | Entry::EmptyFolder => {}
        Entry::File { .. } => return Err(Obstacle::NotAFolder(folder.to_string())),
        // A service's data folder is often a link to a larger disk, and nothing is written there.
        Entry::Blocked(Obstacle::Symlink(at)) => {
            plan.notes.push(format!("{at} is a symlink: the folder {folder} is left to the service"));
        }
        Entry::Blocked(obstacle) => return Err(obstacle.clone()),
    }
    Ok(())
}

fn removals<'a>(inputs: Inputs<'a>, plan: &mut Plan, fills: &mut Fills) -> Vec<Changed<'a>> {
    let known = inputs.applied.into_iter().flat_map(|applied| &applied.files);
    // What moves into a volume, out of one or to another place in one leaves its old place.
    let gone = known.filter(|(path, known)| {
        let stays = inputs.bundle.file(path.as_str()).is_some_and(|file| file.volume == known.volume);
        let protected = path.is_protected() && known.volume.is_none();
        !stays && !protected
    });
    let is_taken = |place: &VolumePath| inputs.bundle.files.iter().any(|file| file.volume.as_ref() == Some(place));
    let mut changed = Vec::new();
    for (path, known) in gone {
        let removed = Changed {
            path,
            change: Change::Removed,
            on_change: known.on_change.as_ref(),
            services: &known.services,
            containers: &known.containers,
            volume: known.volume.as_ref(),
        };
        if let Some(place) = &known.volume {
            if !is_taken(place) && volumes::remove(fills, place, path, inputs.disk.in_volume(place)) {
                changed.push(removed);
            }
            continue;
        }
        match inputs.disk.entry(path.as_str()) {
            Entry::File { .. } => {
                plan.steps.remove.push(path.clone());
                changed.push(removed);
            }
            Entry::Absent | Entry::Blocked(Obstacle::NotAFolder(_)) => {}
            Entry::Folder | Entry::EmptyFolder => {
                plan.notes.push(format!("{path} was to be removed, but is a folder now: left as it is"));
            }
            Entry::Blocked(obstacle) => plan.notes.push(format!("{path} was to be removed, but {obstacle}")),
        }
    }
    // What is done to containers for it is owed by itself.
    for remove in inputs.applied.into_iter().flat_map(Applied::owed_removals) {
        if !is_taken(&remove.place) {
            volumes::remove(fills, &remove.place, &remove.path, inputs.disk.in_volume(&remove.place));
        }
    }
    changed
}

fn of_bundle(file: &File, change: Change) -> Changed<'_> {
    Changed {
        path: &file.path,
        change,
        on_change: file.on_change.as_ref(),
        services: &file.services,
        containers: &file.containers,
        volume: file.volume.as_ref(),
    }
}

/// The checks of the files that change; a file that goes away has none.
fn checks(changed: &[Changed<'_>], inputs: Inputs<'_>) -> Vec<Check> {
    let changed = changed.iter().filter(|changed| changed.change != Change::Removed);
    let files = changed.filter_map(|changed| inputs.bundle.file(changed.path.as_str()));
    let checked = files.filter(|file| !file.check.is_empty());
    let check = |file: &File| Check {
        path: file.path.clone(),
        command: file.check.clone(),
        service: file.check_in.clone(),
        seconds: file.check_seconds,
    };
    checked.map(check).collect()
}
