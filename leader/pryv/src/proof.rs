//! The proof: the root that was written, rendered by lockstep itself for every
//! role and machine, has exactly the bytes that the original serves.

use crate::ImportError;
use crate::draft::Expected;
use lockstep_leader::config::Config;
use lockstep_leader::mask::Mask;
use lockstep_leader::memo::Memo;
use lockstep_leader::release::{self, Release};
use lockstep_leader::render::Machine;
use lockstep_leader::secrets::{Drafts, Secrets};
use lockstep_leader::source::Source;
use lockstep_leader::store::Store;
use lockstep_shared::{Bundle, Name, SafePath};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What was proven.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proven {
    /// Roles, and machines beyond one for each.
    pub trees: usize,
    /// Files over all of them.
    pub files: usize,
}

/// A root, ready to render.
pub struct Root {
    release: Release,
    machines: Vec<Machine>,
    store: Option<Store>,
}

impl Root {
    /// Reads a root from the disk.
    pub fn open(root: &Path) -> Result<Self, ImportError> {
        let config = Config::load(root, []).map_err(|error| ImportError::Other(error.to_string()))?;
        config.keys().map_err(|error| ImportError::Other(error.to_string()))?;
        let source = Source::read(&config.platform, &config.templates)?;
        let machines = release::machines(&config);
        let release = Release::compile(&source, &machines, &mut Memo::default());
        let store = Store::peek(&config.state).map_err(|error| ImportError::Other(error.to_string()))?;
        Ok(Self { release, machines, store })
    }

    /// Its roles.
    pub fn roles(&self) -> impl Iterator<Item = &Name> {
        self.release.compiled.templates.roles.keys()
    }

    /// Every machine of a role, or one as if there were.
    pub fn render(&self, role: &Name) -> Result<BTreeMap<Name, Arc<Bundle>>, ImportError> {
        let mut wanted: Vec<Machine> = self.machines.iter().filter(|machine| machine.role == *role).cloned().collect();
        if wanted.is_empty() {
            wanted.push(Machine { name: role.clone(), role: role.clone(), addresses: Vec::new(), url: None });
        }
        let mut secrets = Secrets::new([], self.store.as_ref(), Drafts::Read);
        self.release
            .render(&wanted, &self.machines, &mut secrets, 0, &mut Memo::default())
            .map_err(|error| ImportError::Other(error.to_string()))
    }

    /// Hides every secret that a role renders with.
    pub fn mask(&self) -> Result<Mask, ImportError> {
        let mut secrets = Secrets::new([], self.store.as_ref(), Drafts::Read);
        for role in self.roles() {
            let known = &self.release.compiled.settings;
            secrets.of(known, role, role).map_err(|error| ImportError::Other(error.to_string()))?;
        }
        Ok(Mask::new(&secrets.used().values))
    }
}

/// Renders all of a root and compares.
pub(crate) fn prove(root: &Path, expected: &Expected) -> Result<Proven, ImportError> {
    let root = Root::open(root)?;
    let mut proven = Proven::default();
    let mut wrong = Vec::new();
    for (role, files) in expected {
        if files.is_empty() {
            continue;
        }
        for (machine, bundle) in root.render(role)? {
            proven.trees += 1;
            proven.files += files.len();
            for (path, why) in differences(files, &bundle) {
                wrong.push(format!("{machine}: {path}: {why}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(proven);
    }
    Err(ImportError::Unequal(wrong.join("\n  ")))
}

/// Where a bundle is not what was expected, told without any content.
fn differences(expected: &BTreeMap<SafePath, Vec<u8>>, bundle: &Bundle) -> Vec<(SafePath, String)> {
    let mut wrong = Vec::new();
    for (path, bytes) in expected {
        match bundle.file(path.as_str()) {
            None => wrong.push((path.clone(), "is missing".to_owned())),
            Some(file) if *file.content == bytes[..] => {}
            Some(file) => {
                let same = file.content.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                let line = bytes[..same].iter().filter(|byte| **byte == b'\n').count() + 1;
                wrong.push((path.clone(), format!("differs from byte {same} on, in line {line}")));
            }
        }
    }
    for file in bundle.files.iter().filter(|file| !expected.contains_key(&file.path)) {
        wrong.push((file.path.clone(), "is more than the original serves".to_owned()));
    }
    wrong
}
