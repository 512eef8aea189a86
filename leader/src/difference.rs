//! What changes between two sets of bundles, as people read it: unified
//! diffs with secrets' values masked.

use crate::fleet::Heard;
use crate::foresee::{self, Foreseen};
use crate::mask::Mask;
use lockstep_shared::api::Change;
use lockstep_shared::{Bundle, File, Name, SafePath, Sha256};
use serde::{Deserialize, Serialize};
use similar::TextDiff;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
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
    let machines: BTreeSet<&Name> = old.keys().chain(new.keys()).collect();
    let mut texts = Texts { mask, made: HashMap::new() };
    let change = |machine: &Name| {
        let (before, after) = (old.get(machine), new.get(machine));
        if before.zip(after).is_some_and(|(before, after)| (before.digest, &before.role) == (after.digest, &after.role))
        {
            return None;
        }
        let files = texts.files(before.map(|bundle| &**bundle), after.map(|bundle| &**bundle));
        let role = after.or(before)?.role.clone();
        (!files.is_empty()).then(|| MachineChange { machine: machine.clone(), role, files, containers: None })
    };
    machines.into_iter().filter_map(change).collect()
}

/// The same, as something that is about to be published: with what was `heard` of followers, also
/// what it means for containers.
pub fn planned(old: &Bundles, new: &Bundles, mask: &Mask, heard: Option<&Heard>) -> Vec<MachineChange> {
    let mut changes = between(old, new, mask);
    let Some(heard) = heard else { return changes };
    for change in &mut changes {
        let (before, after) = (old.get(&change.machine), new.get(&change.machine));
        let foreseen = foresee::foresee(
            before.map(|it| &**it),
            after.map(|it| &**it),
            heard.get(change.machine.as_str()).map(|status| &**status),
        );
        change.containers = Some(foreseen);
    }
    changes
}

/// Bundles by machine.
pub type Bundles = BTreeMap<Name, Arc<Bundle>>;

/// What changes in files, each pair of contents compared once however many machines have it.
struct Texts<'a> {
    mask: &'a Mask,
    made: HashMap<(&'a SafePath, Option<Sha256>, Option<Sha256>), String>,
}

impl<'a> Texts<'a> {
    fn files(&mut self, old: Option<&'a Bundle>, new: Option<&'a Bundle>) -> Vec<FileChange> {
        let by_path = |bundle: Option<&'a Bundle>| -> BTreeMap<&'a SafePath, &'a File> {
            bundle.into_iter().flat_map(|bundle| &bundle.files).map(|file| (&file.path, file)).collect()
        };
        let (old, new) = (by_path(old), by_path(new));
        let paths: BTreeSet<&SafePath> = old.keys().chain(new.keys()).copied().collect();
        let changed = paths.into_iter().filter_map(|path| {
            let (before, after) = (old.get(path).copied(), new.get(path).copied());
            let change = match (before, after) {
                (Some(before), Some(after)) if before == after => return None,
                (Some(_), Some(_)) => Change::Changed,
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
            };
            let sha256 = |file: Option<&File>| file.map(|file| file.sha256);
            let text = self.made.entry((path, sha256(before), sha256(after)));
            let text = text.or_insert_with(|| content(path, before, after, self.mask));
            Some(FileChange { path: path.clone(), change, diff: about(before, after) + text })
        });
        changed.collect()
    }
}

pub(crate) fn diff(path: &dyn Display, old: Option<&File>, new: Option<&File>, mask: &Mask) -> String {
    about(old, new) + &content(path, old, new, mask)
}

/// What changes of a file beside its content, a line each.
fn about(old: Option<&File>, new: Option<&File>) -> String {
    let mut out = String::new();
    let (Some(old), Some(new)) = (old, new) else { return out };
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
    out
}

/// What changes in a file's content; nothing where that is the same.
fn content(path: &dyn Display, old: Option<&File>, new: Option<&File>, mask: &Mask) -> String {
    if old.zip(new).is_some_and(|(old, new)| old.sha256 == new.sha256) {
        return String::new();
    }
    let text = |file: Option<&File>| std::str::from_utf8(file.map_or(&[][..], |file| &file.content)).map(str::to_owned);
    let (Ok(before), Ok(after)) = (text(old), text(new)) else {
        let size = |file: Option<&File>| file.map_or(0, |file| file.content.len());
        return format!("binary: {} -> {} bytes\n", size(old), size(new));
    };
    let (before, after) = (mask.text(&before), mask.text(&after));
    if before == after {
        return "only the value of a secret changes\n".to_owned();
    }
    let (from, to) = (
        old.map_or("/dev/null".to_owned(), |_| format!("a/{path}")),
        new.map_or("/dev/null".to_owned(), |_| format!("b/{path}")),
    );
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(CONTEXT).header(&from, &to).to_string()
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or("(default)".to_owned(), |value| value.to_string())
}
