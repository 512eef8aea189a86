//! What a release has to be told before a platform of these roles renders.

use crate::fault::{Fault, Faults};
use crate::memo::Memo;
use crate::platform::{Setting, Settings};
use crate::release::{Release, RenderError};
use crate::render::Machine;
use crate::secrets::{Drafts, ENV, Secrets};
use crate::source::{PLATFORM, Source, SourceFile};
use crate::templates::Role;
use lockstep_shared::Name;
use std::collections::{BTreeMap, BTreeSet};

/// A release under a platform file that isn't finished yet.
pub struct Survey {
    release: Release,
    /// What nobody can render without, in the order of `settings.yml`.
    pub needs: Vec<Need>,
    /// Mistakes that no further value would mend.
    pub faults: Vec<Fault>,
    /// What a machine of a chosen role could not be rendered for. It may be
    /// that only real machines, with their addresses, make it whole.
    pub doubts: Vec<Fault>,
}

/// A setting or secret that somebody has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// Whether it is a secret.
    pub secret: bool,
}

impl Survey {
    /// Of a release (`templates/...`), this text of `platform.yml`, machines of
    /// `roles`, and secrets that are given. Each role is rendered for a machine
    /// that doesn't exist: what that asks for is what the role needs.
    pub fn new(templates: &Source, platform: &str, roles: &[Name], secrets: &[(String, String)]) -> Self {
        let mut source = templates.clone();
        source.files.insert(PLATFORM.to_owned(), SourceFile::new(platform.as_bytes(), false));
        let mut memo = Memo::default();
        let release = Release::compile(&source, &[], &mut memo);
        let chosen: BTreeSet<&Name> = roles.iter().collect();
        let (settings, known) = (&release.compiled.settings, &release.compiled.templates.roles);
        let chosen = chosen.into_iter().filter(|role| known.contains_key(*role));
        let machines: Vec<Machine> = chosen.filter_map(stand_in).collect();
        let env: Vec<_> = secrets.iter().map(|(name, value)| (format!("{ENV}{name}"), value.clone())).collect();

        let mut wanted = BTreeSet::new();
        let (mut faults, mut doubts) = (Vec::new(), Vec::new());
        let open = |fault: &Fault| -> Option<String> {
            let name = fault.setting.as_ref()?;
            let setting = settings.by_name.get(name)?;
            let given =
                release.platform.written(name, None).is_some() || secrets.iter().any(|(given, _)| given == name);
            (!given && setting.default.is_none()).then(|| name.clone())
        };
        let mut render = |machines: &[Machine], wrong: &mut Vec<Fault>| {
            let mut secrets = Secrets::new(env.iter().cloned(), None, Drafts::Read);
            let rendered = release.render(machines, machines, &mut secrets, 1, &mut memo);
            // Without a store nothing but the files can be wrong.
            let Err(RenderError::Faults(Faults(found))) = rendered else { return };
            for fault in found {
                match open(&fault) {
                    Some(name) => drop(wanted.insert(name)),
                    None if !wrong.contains(&fault) => wrong.push(fault),
                    None => {}
                }
            }
        };
        render(&[], &mut faults);
        if faults.is_empty() && !machines.is_empty() {
            render(&machines, &mut doubts);
        }
        let needs = settings.by_name.iter().filter(|(name, _)| wanted.contains(*name));
        let needs =
            needs.map(|(name, setting)| Need { name: name.clone(), secret: setting.secret.is_some() }).collect();
        Self { release, needs, faults, doubts }
    }

    /// The settings of the release.
    pub fn settings(&self) -> &Settings {
        &self.release.compiled.settings
    }

    /// One of them.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings().by_name.get(name)
    }

    /// The roles of the release.
    pub fn roles(&self) -> &BTreeMap<Name, Role> {
        &self.release.compiled.templates.roles
    }

    /// Whether a template of these roles names a setting.
    pub fn uses(&self, roles: &[Name], setting: &str) -> bool {
        let templates = &self.release.compiled.templates;
        let mut files = roles.iter().filter_map(|role| templates.roles.get(role)).flat_map(|role| role.files.values());
        files.any(|file| templates.uses.get(&file.name).is_some_and(|uses| uses.contains(setting)))
    }
}

fn stand_in(role: &Name) -> Option<Machine> {
    let name = Name::new(format!("{}-1", role.as_str().chars().take(60).collect::<String>())).ok()?;
    // An address that no machine has; RFC 5737.
    Some(Machine { name, role: role.clone(), addresses: vec!["192.0.2.1".to_owned()], url: None })
}
