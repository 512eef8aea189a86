//! What changes between two sets of bundles, as people read it: unified
//! diffs with secrets' values masked.

use crate::fleet::Reports;
use crate::foresee::{self, Foreseen};
use crate::mask::Mask;
use lockstep_shared::api::Change;
use lockstep_shared::{Bundle, File, Name, SafePath};
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// What changes for one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineChange {
    /// The machine.
    pub machine: Name,
    /// Its role.
    pub role: Name,
    /// By path.
    pub files: Vec<FileChange>,
    /// What it means for the machine's containers, where that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<Foreseen>,
}

/// What changes in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FileDifference)]
pub struct FileChange {
    /// The file.
    pub path: SafePath,
    /// What happens to it.
    pub change: Change,
    /// A unified diff, masked; or, for what can't be shown as text, a sentence.
    pub diff: String,
}

/// All that changes from `old` to `new`. `mask` hides values never to be shown.
pub fn between(old: &Bundles, new: &Bundles, mask: &Mask) -> Vec<MachineChange> {
    let machines: std::collections::BTreeSet<&Name> = old.keys().chain(new.keys()).collect();
    let change = |machine: &Name| {
        let (before, after) = (old.get(machine), new.get(machine));
        if before.zip(after).is_some_and(|(before, after)| (before.digest, &before.role) == (after.digest, &after.role))
        {
            return None;
        }
        let files = files(before.map(|bundle| &**bundle), after.map(|bundle| &**bundle), mask);
        let role = after.or(before)?.role.clone();
        (!files.is_empty()).then(|| MachineChange { machine: machine.clone(), role, files, containers: None })
    };
    machines.into_iter().filter_map(change).collect()
}

/// The same, as something that is about to be published: with `reports`, also
/// what it means for containers.
pub fn planned(old: &Bundles, new: &Bundles, mask: &Mask, reports: Option<&Reports>) -> Vec<MachineChange> {
    let mut changes = between(old, new, mask);
    let Some(reports) = reports else { return changes };
    for change in &mut changes {
        let (before, after) = (old.get(&change.machine), new.get(&change.machine));
        let status = reports.status(&change.machine);
        let foreseen = foresee::foresee(before.map(|it| &**it), after.map(|it| &**it), status.as_ref());
        change.containers = Some(foreseen);
    }
    changes
}

/// Bundles by machine.
pub type Bundles = BTreeMap<Name, Arc<Bundle>>;

fn files(old: Option<&Bundle>, new: Option<&Bundle>, mask: &Mask) -> Vec<FileChange> {
    let by_path = |bundle: Option<&Bundle>| -> BTreeMap<SafePath, File> {
        bundle.into_iter().flat_map(|bundle| &bundle.files).map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    let mut paths: Vec<&SafePath> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    let changed = paths.into_iter().filter_map(|path| {
        let (before, after) = (old.get(path), new.get(path));
        let change = match (before, after) {
            (Some(before), Some(after)) if before == after => return None,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        Some(FileChange { path: path.clone(), change, diff: diff(path, before, after, mask) })
    });
    changed.collect()
}

pub(crate) fn diff(path: &dyn std::fmt::Display, old: Option<&File>, new: Option<&File>, mask: &Mask) -> String {
    let mut out = String::new();
    if let (Some(old), Some(new)) = (old, new) {
        for (what, before, after) in [
            ("mode", old.mode.to_string(), new.mode.to_string()),
            ("owner", shown(old.owner), shown(new.owner)),
            ("on_change", shown(old.on_change.as_ref()), shown(new.on_change.as_ref())),
            ("drift", shown(old.on_drift), shown(new.on_drift)),
            ("volume", shown(old.volume.as_ref()), shown(new.volume.as_ref())),
        ] {
            if before != after {
                out.push_str(&format!("{what}: {before} -> {after}\n"));
            }
        }
        if old.sha256 == new.sha256 {
            return out;
        }
    }
    let text = |file: Option<&File>| std::str::from_utf8(file.map_or(&[][..], |file| &file.content)).map(str::to_owned);
    let (Ok(before), Ok(after)) = (text(old), text(new)) else {
        let size = |file: Option<&File>| file.map_or(0, |file| file.content.len());
        out.push_str(&format!("binary: {} -> {} bytes\n", size(old), size(new)));
        return out;
    };
    let (before, after) = (mask.text(&before), mask.text(&after));
    if before == after {
        out.push_str("only the value of a secret changes\n");
        return out;
    }
    let (from, to) = (
        old.map_or("/dev/null".to_owned(), |_| format!("a/{path}")),
        new.map_or("/dev/null".to_owned(), |_| format!("b/{path}")),
    );
    out.push_str(
        &TextDiff::from_lines(&before, &after).unified_diff().context_radius(CONTEXT).header(&from, &to).to_string(),
    );
    out
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or("(default)".to_owned(), |value| value.to_string())
}
