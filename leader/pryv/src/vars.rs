//! `platform.yml` and `template-platform.yml` of the original: groups of
//! settings, each with a value and a description.

use crate::ImportError;
use crate::js::Js;
use crate::repair;
use lockstep_leader::yaml::Node;
use std::path::Path;

/// A platform file.
#[derive(Debug, Default)]
pub struct Vars {
    /// In the order of the file.
    pub groups: Vec<Group>,
    /// What had to be repaired to read it, as a diff.
    pub diff: String,
    /// How many lines that are.
    pub repaired: usize,
}

/// A group of settings.
#[derive(Debug)]
pub struct Group {
    /// Its key.
    pub key: String,
    /// What people call it.
    pub title: String,
    /// What it is for.
    pub description: String,
    /// In the order of the file.
    pub settings: Vec<Var>,
}

/// A setting.
#[derive(Debug)]
pub struct Var {
    /// Its name.
    pub name: String,
    /// What stands under `value`.
    pub value: Option<Js>,
    /// What it is for.
    pub description: String,
    /// Marked as optional, itself or its group.
    pub optional: bool,
}

impl Vars {
    /// Reads a platform file.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, ImportError> {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let read = repair::read(&file, bytes)?;
        let vars = read.node.get("vars").and_then(Node::map).ok_or_else(|| {
            ImportError::at(path, "there is no mapping vars: is this a platform file of the original?")
        })?;
        let mut groups: Vec<Group> = Vec::new();
        for (key, body) in vars {
            let wrong = |what: &str| Err(ImportError::at(path, format!("line {}: {}: {what}", key.at.0, key.text)));
            let Some(settings) = body.get("settings") else { return wrong("the group has no settings") };
            let Some(settings) = settings.map() else { return wrong("settings has to be a mapping") };
            let optional = body.get("optional").and_then(Node::bool) == Some(true);
            let settings = settings.iter().map(|(name, body)| Var {
                name: name.text.clone(),
                value: body.get("value").map(Js::of_yaml),
                description: words(body.get("description")),
                optional: optional || body.get("optional").and_then(Node::bool) == Some(true),
            });
            groups.push(Group {
                key: key.text.clone(),
                title: words(body.get("name")),
                description: words(body.get("description")),
                settings: settings.collect(),
            });
        }
        Ok(Self { groups, diff: read.diff, repaired: read.lines })
    }

    /// The setting of this name; where several groups have one, the last counts.
    pub fn setting(&self, name: &str) -> Option<&Var> {
        self.groups.iter().flat_map(|group| &group.settings).rfind(|var| var.name == name)
    }

    /// All settings, in order.
    pub fn all(&self) -> impl Iterator<Item = &Var> {
        self.groups.iter().flat_map(|group| &group.settings)
    }
}

fn words(node: Option<&Node>) -> String {
    node.and_then(Node::text).unwrap_or_default().trim().to_owned()
}
