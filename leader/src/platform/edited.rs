//! Which settings have another value in one platform file than in another.

use crate::source::PLATFORM;
use crate::yaml::{self, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A setting whose value was set, changed or taken out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(as = EditedSetting)]
pub struct Edited {
    /// The setting.
    pub setting: String,
    /// The machine whose own value it is; none: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// What differs between two platform files, compared as they are spelt. A file
/// that can't be read has no settings: none such is ever published.
pub fn edited(old: &[u8], new: &[u8]) -> Vec<Edited> {
    if old == new {
        return Vec::new();
    }
    let (old, new) = (values(old), values(new));
    let differs = |edited: &&Edited| old.get(*edited) != new.get(*edited);
    let mut all: Vec<Edited> = old.keys().chain(new.keys()).filter(differs).cloned().collect();
    all.sort();
    all.dedup();
    all
}

fn values(file: &[u8]) -> BTreeMap<Edited, String> {
    let Ok(node) = yaml::parse(PLATFORM, &String::from_utf8_lossy(file)) else { return BTreeMap::new() };
    let of = |node: Option<&Node>, machine: Option<&str>| -> Vec<(Edited, String)> {
        let entries = node.and_then(Node::map).unwrap_or_default();
        let name = |setting: &str| Edited { setting: setting.to_owned(), machine: machine.map(str::to_owned) };
        entries.iter().map(|(key, value)| (name(&key.text), value.to_json().to_string())).collect()
    };
    let machines = node.get("machines").and_then(Node::map).unwrap_or_default();
    let own = machines.iter().flat_map(|(machine, settings)| of(Some(settings), Some(&machine.text)));
    of(node.get("settings"), None).into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_and_nothing_else() {
        let old = b"settings: {A: 1, B: 1.10, C: [x]}\nmachines: {m: {A: 2}}\n";
        let new = b"# other words\nsettings:\n  B: 1.1\n  A: 1\n  D: new\nmachines:\n  m: {A: 3}\n  n: {A: 2}\n";
        let names: Vec<String> = edited(old, new)
            .into_iter()
            .map(|edited| format!("{}{}", edited.setting, edited.machine.unwrap_or_default()))
            .collect();
        assert_eq!(names, ["Am", "An", "B", "C", "D"]);
        assert!(edited(old, old).is_empty() && edited(b"", b"settings: {}\n").is_empty());
    }
}
