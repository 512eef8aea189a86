//! Which setting goes where: the files of each role, the machines that have
//! them, and the settings that take another one in by `${NAME}`.

use crate::platform::references::{Piece, pieces};
use crate::platform::{Platform, Settings};
use crate::render::Machine;
use crate::templates::{Content, Templates};
use crate::yaml::{Kind, Node};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// Where a setting goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingUses {
    /// The setting.
    pub name: String,
    /// Files that name it, or a setting that takes it in.
    pub files: Vec<FileUse>,
    /// Settings whose value takes it in by `${NAME}`.
    pub settings: Vec<String>,
}

/// A file and the settings it is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileSettings {
    /// Its name within the release.
    pub template: String,
    /// The role it belongs to.
    pub role: String,
    /// Where followers write it.
    pub path: String,
    /// The settings that it or its partials name, in alphabetical order.
    pub settings: Vec<String>,
    /// Settings that those take in by `${NAME}`.
    pub through: Vec<String>,
}

/// A file that a setting goes into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileUse {
    /// The role.
    pub role: String,
    /// Where followers write it.
    pub path: String,
    /// Its name within the release.
    pub template: String,
    /// The machines of that role.
    pub machines: Vec<String>,
    /// The setting through which it goes there, where the file names that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Compose services that `role.yml` names for it; empty: those that mount it.
    pub services: Vec<String>,
    /// Containers that `role.yml` names for it.
    pub containers: Vec<String>,
}

/// Uses of everything in a release.
pub struct Uses<'r> {
    templates: &'r Templates,
    machines: &'r [Machine],
    /// For each setting, those that its value or default takes in.
    takes: BTreeMap<String, BTreeSet<String>>,
}

impl<'r> Uses<'r> {
    /// Of a compiled release on a platform.
    pub fn new(settings: &Settings, platform: &Platform, templates: &'r Templates, machines: &'r [Machine]) -> Self {
        let mut takes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, setting) in &settings.by_name {
            let own = platform.written(name, None).map(|given| &given.value);
            let overrides = platform.overriders(name).map(|(_, given)| &given.value);
            let taken = takes.entry(name.clone()).or_default();
            for node in own.or(setting.default.as_ref()).into_iter().chain(overrides) {
                references(node, taken);
            }
        }
        Self { templates, machines, takes }
    }

    /// Where one setting goes.
    pub fn of(&self, name: &str) -> SettingUses {
        let through = self.takers(name);
        let mut files = Vec::new();
        for (role, file) in self.files() {
            let Some(named) = self.templates.uses.get(&file.1.name) else { continue };
            let by = if named.contains(name) {
                None
            } else {
                match through.iter().find(|other| named.contains(**other)) {
                    Some(other) => Some((*other).to_owned()),
                    None => continue,
                }
            };
            files.push(FileUse {
                role: role.to_owned(),
                path: file.0.to_string(),
                template: file.1.name.clone(),
                machines: self.machines_of(role),
                through: by,
                services: file.1.rule.services.iter().map(|named| named.service.clone()).collect(),
                containers: file.1.rule.containers.clone(),
            });
        }
        let settings = self.takes.iter().filter(|(_, taken)| taken.contains(name)).map(|(name, _)| name.clone());
        SettingUses { name: name.to_owned(), files, settings: settings.collect() }
    }

    /// The settings that each file of each role is made from.
    pub fn by_file(&self) -> Vec<FileSettings> {
        let none = BTreeSet::new();
        let files = self.files().into_iter().filter(|(_, file)| matches!(file.1.content, Content::Template));
        files
            .map(|(role, (path, file))| {
                let named = self.templates.uses.get(&file.name).unwrap_or(&none);
                let mut through = BTreeSet::new();
                for name in named {
                    self.taken(name, &mut through);
                }
                FileSettings {
                    template: file.name.clone(),
                    role: role.to_owned(),
                    path: path.to_string(),
                    settings: named.iter().cloned().collect(),
                    through: through.difference(named).cloned().collect(),
                }
            })
            .collect()
    }

    /// Every setting that no file is made from, directly or through others.
    pub fn unused(&self) -> Vec<String> {
        let used: BTreeSet<String> =
            self.by_file().into_iter().flat_map(|file| [file.settings, file.through].concat()).collect();
        self.takes.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }

    fn files(&self) -> Vec<(&'r str, (&'r lockstep_shared::SafePath, &'r crate::templates::RoleFile))> {
        let roles = self.templates.roles.iter();
        roles.flat_map(|(role, tree)| tree.files.iter().map(move |file| (role.as_str(), file))).collect()
    }

    fn machines_of(&self, role: &str) -> Vec<String> {
        let machines = self.machines.iter().filter(|machine| machine.role.as_str() == role);
        machines.map(|machine| machine.name.to_string()).collect()
    }

    /// Settings that take `name` in, however many steps away.
    fn takers(&self, name: &str) -> BTreeSet<&str> {
        let reached = |other: &str| {
            let mut taken = BTreeSet::new();
            self.taken(other, &mut taken);
            taken.contains(name)
        };
        self.takes.keys().map(String::as_str).filter(|other| *other != name && reached(other)).collect()
    }

    fn taken(&self, name: &str, reached: &mut BTreeSet<String>) {
        for other in self.takes.get(name).into_iter().flatten() {
            if reached.insert(other.clone()) {
                self.taken(other, reached);
            }
        }
    }
}

/// Every name that a value refers to.
pub fn references(node: &Node, names: &mut BTreeSet<String>) {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            for piece in pieces(text).unwrap_or_default() {
                if let Piece::Name(name) = piece {
                    names.insert(name.to_owned());
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| references(item, names)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| references(value, names)),
    }
}
