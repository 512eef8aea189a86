//! Which files are written and removed, and what is in the way.

use super::{Changed, Inputs, Plan, PlanError};
use crate::snapshot::{Entry, Obstacle, is_staged};
use crate::steps::Check;
use crate::steps::Write;
use lockstep_shared::api::Change;
use lockstep_shared::{File, SafePath};

/// Fills `plan.steps`; the files that change.
pub(crate) fn plan<'a>(inputs: Inputs<'a>, plan: &mut Plan) -> Result<Vec<Changed<'a>>, PlanError> {
    let mut changed = Vec::new();
    let mut obstacles = Vec::new();
    for file in &inputs.bundle.files {
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
            Ok(Some(change)) => {
                plan.steps.write.push(Write::of(file, change));
                changed.push(of_bundle(file, change));
            }
            Ok(None) => {}
            Err(obstacle) if obstacles.contains(&obstacle) => {}
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    if !obstacles.is_empty() {
        return Err(PlanError::Obstacles { folder: inputs.data_folder.to_owned(), obstacles });
    }
    changed.extend(removals(inputs, plan));
    plan.checks = checks(&changed, inputs);
    Ok(changed)
}

fn managed(inputs: Inputs<'_>, file: &File) -> Result<Option<Change>, Obstacle> {
    if is_staged(file.path.file_name()) {
        return Err(Obstacle::Reserved(file.path.to_string()));
    }
    match inputs.disk.entry(file.path.as_str()) {
        Entry::Absent => Ok(Some(Change::Added)),
        entry @ Entry::File { .. } => Ok((!Write::of(file, Change::Changed).is_done(entry)).then_some(Change::Changed)),
        Entry::Folder => Err(Obstacle::NotAFile(file.path.to_string())),
        Entry::Blocked(obstacle) => Err(obstacle.clone()),
    }
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
        Entry::Folder => {}
        Entry::File { .. } => return Err(Obstacle::NotAFolder(folder.to_string())),
        // A service's data folder is often a link to a larger disk, and nothing is written there.
        Entry::Blocked(Obstacle::Symlink(at)) => {
            plan.notes.push(format!("{at} is a symlink: the folder {folder} is left to the service"));
        }
        Entry::Blocked(obstacle) => return Err(obstacle.clone()),
    }
    Ok(())
}

fn removals<'a>(inputs: Inputs<'a>, plan: &mut Plan) -> Vec<Changed<'a>> {
    let known = inputs.applied.into_iter().flat_map(|applied| &applied.files);
    let gone = known.filter(|(path, _)| inputs.bundle.file(path.as_str()).is_none() && !path.is_protected());
    let mut changed = Vec::new();
    for (path, known) in gone {
        match inputs.disk.entry(path.as_str()) {
            Entry::File { .. } => {
                plan.steps.remove.push(path.clone());
                changed.push(Changed {
                    path,
                    change: Change::Removed,
                    on_change: known.on_change.as_ref(),
                    services: &known.services,
                    containers: &known.containers,
                });
            }
            Entry::Absent | Entry::Blocked(Obstacle::NotAFolder(_)) => {}
            Entry::Folder => plan.notes.push(format!("{path} was to be removed, but is a folder now: left as it is")),
            Entry::Blocked(obstacle) => plan.notes.push(format!("{path} was to be removed, but {obstacle}")),
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
    }
}

/// The checks of the files that change; a file that goes away has none.
fn checks(changed: &[Changed<'_>], inputs: Inputs<'_>) -> Vec<Check> {
    let files = changed.iter().filter_map(|changed| inputs.bundle.file(changed.path.as_str()));
    let checked = files.filter(|file| !file.check.is_empty());
    checked.map(|file| Check { path: file.path.clone(), command: file.check.clone() }).collect()
}
