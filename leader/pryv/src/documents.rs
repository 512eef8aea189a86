//! `settings.yml` and `platform.yml`, written.

use crate::ImportError;
use crate::old::Old;
use crate::table::{Table, Whence};
use crate::values::Setting;
use lockstep_leader::yaml::spell::{self, Spelling};
use lockstep_leader::yaml::{Key, Kind, Node};
use serde_json::Value;
use std::collections::BTreeSet;

/// The release's version, where `TEMPLATE_VERSION` doesn't say it.
const RELEASE: &str = "1.0.0";

/// `templates/settings.yml`.
pub(crate) fn settings(old: &Old, table: &Table, settings: &[Setting]) -> Result<String, ImportError> {
    let mut groups: Vec<(String, Node)> = Vec::new();
    let mut done = BTreeSet::new();
    for group in &old.platform.groups {
        let mut members = Vec::new();
        for var in &group.settings {
            let Some(index) = table.index(&var.name).filter(|index| done.insert(*index)) else { continue };
            let setting = &settings[index];
            members.push((setting.name.clone(), described(setting, &var.description)));
        }
        let mut body = Vec::new();
        body.extend(worded("title", &group.title));
        body.extend(worded("description", &group.description));
        body.push(("settings".to_owned(), map(members)));
        groups.push((group.key.clone(), map(body)));
    }
    let internals = table.entries().values().enumerate().filter(|(_, entry)| entry.whence == Whence::Internal);
    let internals: Vec<_> =
        internals.map(|(index, _)| (settings[index].name.clone(), described(&settings[index], ""))).collect();
    if !internals.is_empty() {
        let mut key = "INTERNALS".to_owned();
        while groups.iter().any(|(known, _)| *known == key) {
            key.push('_');
        }
        let title = ("title".to_owned(), Node::text_of("Secrets between components"));
        groups.push((key, map(vec![title, ("settings".to_owned(), map(internals))])));
    }
    let root = vec![("release".to_owned(), plain(&release(old))), ("groups".to_owned(), map(groups))];
    let header = "# Every setting of this release. Types marked as inferred were read off values: correct them where they are wrong.\n";
    text(header, root, "settings.yml")
}

/// `platform.yml`.
pub(crate) fn platform(old: &Old, table: &Table, settings: &[Setting]) -> Result<String, ImportError> {
    let mut done = BTreeSet::new();
    let order = old.platform.all().filter_map(|var| table.index(&var.name)).filter(|index| done.insert(*index));
    let given = order.filter_map(|index| {
        let setting = &settings[index];
        Some((setting.name.clone(), setting.given.clone()?))
    });
    let root = vec![("settings".to_owned(), map(given.collect())), ("release".to_owned(), plain(&release(old)))];
    let header = "# What this platform says differently from its release. Settings: templates/settings.yml, or lockstep settings list.\n";
    text(header, root, "platform.yml")
}

/// The release that the platform's templates are of.
pub(crate) fn release(old: &Old) -> String {
    let said = old.platform.setting("TEMPLATE_VERSION").and_then(|var| var.value.as_ref());
    let said = said.and_then(|value| semver::Version::parse(value.text()?).ok());
    said.map_or_else(|| RELEASE.to_owned(), |version| version.to_string())
}

fn described(setting: &Setting, description: &str) -> Node {
    let mut body = Vec::new();
    body.extend(worded("description", description));
    if setting.secret {
        body.push(("secret".to_owned(), plain("true")));
    }
    if let Some(schema) = &setting.schema {
        body.push(("schema".to_owned(), of_json(schema)));
    }
    if let Some(default) = &setting.default {
        body.push(("default".to_owned(), default.clone()));
    }
    if setting.optional {
        body.push(("optional".to_owned(), plain("true")));
    }
    map(body)
}

fn worded(key: &str, words: &str) -> Option<(String, Node)> {
    // What no editor shows has no place in a description.
    let words: String = words.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    (!words.is_empty()).then(|| (key.to_owned(), Node::text_of(&words)))
}

fn map(entries: Vec<(String, Node)>) -> Node {
    let entries = entries.into_iter().map(|(text, node)| (Key { text, at: (0, 0) }, node));
    Node { kind: Kind::Map(entries.collect()), at: (0, 0) }
}

fn plain(text: &str) -> Node {
    Node { kind: Kind::Scalar { text: text.to_owned(), plain: true }, at: (0, 0) }
}

fn of_json(value: &Value) -> Node {
    match value {
        Value::String(text) => Node::text_of(text),
        Value::Object(entries) => map(entries.iter().map(|(name, value)| (name.clone(), of_json(value))).collect()),
        other => plain(&other.to_string()),
    }
}

fn text(header: &str, root: Vec<(String, Node)>, file: &str) -> Result<String, ImportError> {
    match spell::block(&map(root), None, true) {
        Some(Spelling::Below(_, lines)) => Ok(format!("{header}{}\n", lines.join("\n"))),
        _ => Err(ImportError::Other(format!("{file} can't be written: a value has no spelling in YAML"))),
    }
}
