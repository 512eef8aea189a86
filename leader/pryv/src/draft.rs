//! The new root, as a value: every file, every secret, and what each role has
//! to render to.

use crate::ImportError;
use crate::account::Account;
use crate::answers::{Accident, Answers};
use crate::hbs;
use crate::machines::{self, Machine};
use crate::manifest::{self, Special};
use crate::old::Old;
use crate::table::{Piece, Table, Whence};
use crate::tree::{OldFile, OldRole};
use crate::values::{self, Setting};
use lockstep_leader::render;
use lockstep_shared::{Name, SafePath};
use std::collections::{BTreeMap, BTreeSet};

/// Files with keys or values of a platform are their owner's alone.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// What each role's machines have to get, by path.
pub type Expected = BTreeMap<Name, BTreeMap<SafePath, Vec<u8>>>;

/// A root that was not written yet.
pub struct Draft {
    /// By path below the root: bytes and mode.
    pub(crate) files: BTreeMap<String, (Vec<u8>, u32)>,
    /// Values by name.
    pub(crate) secrets: Vec<(String, String)>,
    /// What the original serves, with the accidents that were answered otherwise set right.
    pub expected: Expected,
    /// What was done.
    pub account: Account,
}

impl Draft {
    /// Converts an installation.
    pub fn of(old: &Old, answers: &Answers) -> Result<Self, ImportError> {
        let mut account = Account::default();
        let table = old.table(answers.rules())?;
        for (vars, file) in [(Some(&old.platform), "platform.yml"), (old.template.as_ref(), "template-platform.yml")] {
            if let Some(vars) = vars.filter(|vars| vars.repaired > 0) {
                account.repairs.push(vars.diff.clone());
                account
                    .did(format!("{file}: {} lines of quoted text were read as if they were indented", vars.repaired));
            }
        }
        let values = values::convert(old, &table, &mut account)?;
        let mut draft = Self { files: BTreeMap::new(), secrets: values.secrets, expected: Expected::new(), account };
        draft.put("platform.yml", values.platform_yml.into_bytes(), PRIVATE);
        draft.put("templates/settings.yml", values.settings_yml.into_bytes(), PUBLIC);
        let mut used = BTreeSet::new();
        for role in &old.roles {
            draft.role(role, &table, &values.settings, answers, &mut used)?;
        }
        draft.machines(old)?;
        draft.tell(old, &table, &values.settings, &used);
        Ok(draft)
    }

    fn put(&mut self, path: impl Into<String>, bytes: Vec<u8>, mode: u32) {
        self.files.insert(path.into(), (bytes, mode));
    }

    fn role(
        &mut self,
        role: &OldRole,
        table: &Table,
        settings: &[Setting],
        answers: &Answers,
        used: &mut BTreeSet<usize>,
    ) -> Result<(), ImportError> {
        let mut expected = BTreeMap::new();
        let mut specials = BTreeMap::new();
        let (mut templates, mut verbatim, mut executable) = (0, 0, 0);
        let (mut refused, mut linked, mut behind, mut private) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let all = !answers.same(Accident::EqualBaseNames);
        for file in role.files.iter().filter(|file| all || file.dropped_for.is_none()) {
            let at = format!("templates/{}/{}", role.name, file.path);
            executable += usize::from(file.executable);
            let mut special = Special { unwritten: !manifest::was_written(&file.path), ..Special::default() };
            // The service's own folders need no rule.
            special.unwritten &= !file.path.is_protected();
            let bytes = if file.binary && !answers.same(Accident::Binary) {
                self.put(at, file.bytes.clone(), PUBLIC);
                verbatim += 1;
                file.bytes.clone()
            } else {
                let pieces = table.pieces(&file.text);
                let text = rendered(table, role, file)?;
                let template = pieces.iter().any(|piece| matches!(piece, Piece::Name(_)));
                used.extend(
                    pieces.iter().filter_map(|piece| if let Piece::Name(index) = piece { Some(*index) } else { None }),
                );
                // Names that mean something in lockstep's template tree.
                let named = file.path.as_str().ends_with(".hbs") || file.path.as_str() == "role.yml";
                let valid = render::is_valid(file.path.as_str(), &text);
                if template || named {
                    special.invalid = !valid;
                    let template = hbs::template(&pieces, |index| &settings[index].print);
                    self.put(format!("{at}.hbs"), template.into_bytes(), PUBLIC);
                    templates += 1;
                } else {
                    self.put(at, file.text.clone().into_bytes(), PUBLIC);
                    verbatim += 1;
                }
                if !valid && file.path.as_str().ends_with(".json") {
                    refused.push(file.path.to_string());
                }
                text.into_bytes()
            };
            if let Some(live) = role.live.get(&file.path).filter(|_| !file.path.is_protected()) {
                special.mode = (live.mode != PUBLIC).then_some(live.mode);
                if live.linked {
                    linked.push(file.path.to_string());
                } else if live.bytes != bytes {
                    behind.push(file.path.to_string());
                }
            }
            if file.text.contains("PRIVATE KEY-----") {
                private.push(file.path.to_string());
            }
            specials.insert(file.path.clone(), special);
            expected.insert(file.path.clone(), bytes);
        }
        self.role_yml(role, &expected, &specials);
        let account = &mut self.account;
        account.did(format!("role {}: {templates} files became templates, {verbatim} travel as they are", role.name));
        if !refused.is_empty() {
            account.look(format!(
                "role {}: not valid JSON, so the original serves nothing for the role: {}; they were taken over as they would render, with validate: false in role.yml where they are templates",
                role.name,
                refused.join(", ")
            ));
        }
        let mut list = |files: &[String], what: &str| {
            if !files.is_empty() {
                account.look(format!("role {}: {what}: {}", role.name, files.join(", ")));
            }
        };
        list(
            &linked,
            "these are links on this machine or lie behind one, and lockstep writes through none: put the files themselves in their place before switching over",
        );
        list(
            &behind,
            "these differ on this machine from what the original serves by now, so switching over changes them and restarts what reads them",
        );
        list(&private, "these hold private keys, and stand in templates/ as they stood in data/");
        if executable > 0 {
            account.look(format!(
                "role {}: {executable} files are executable in data/; the original wrote them without that, and so does lockstep: mode in role.yml says otherwise",
                role.name
            ));
        }
        self.expected.insert(role.name.clone(), expected);
        Ok(())
    }

    fn role_yml(
        &mut self,
        role: &OldRole,
        expected: &BTreeMap<SafePath, Vec<u8>>,
        specials: &BTreeMap<SafePath, Special>,
    ) {
        let names = ["pryv.yml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
        let compose =
            names.iter().find_map(|name| expected.get(*name)).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(text) = manifest::role_yml(compose, specials) {
            self.put(format!("templates/{}/role.yml", role.name), text.into_bytes(), PUBLIC);
        }
        let unwritten: Vec<&str> =
            specials.iter().filter(|(_, special)| special.unwritten).map(|(path, _)| path.as_str()).collect();
        if !unwritten.is_empty() {
            self.account.look(format!(
                "role {}: the original served these and its follower wrote none of them; lockstep writes them and restarts nothing for it: {}",
                role.name,
                unwritten.join(", ")
            ));
        }
    }

    fn machines(&mut self, old: &Old) -> Result<(), ImportError> {
        let machines: Vec<Machine> = machines::of(old, &mut self.account)?;
        let pretty = |value| serde_json::to_string_pretty(&value).map(|text| format!("{text}\n").into_bytes());
        let failed = |error: serde_json::Error| ImportError::Other(error.to_string());
        let leader = pretty(machines::leader_config(old, &machines)).map_err(failed)?;
        self.put(lockstep_leader::config::FILE, leader, PRIVATE);
        for (name, config) in machines::follower_configs(old, &machines, &mut self.account) {
            self.put(format!("followers/{name}/config-follower.json"), pretty(config).map_err(failed)?, PRIVATE);
        }
        let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.account.did(format!(
                "followers with new keys: {names}; what each needs is in followers/NAME/config-follower.json"
            ));
        }
        Ok(())
    }

    fn tell(&mut self, old: &Old, table: &Table, settings: &[Setting], used: &BTreeSet<usize>) {
        let mut reached = used.clone();
        reached.extend(used.iter().flat_map(|index| table.reached(*index)));
        let secret = settings.iter().filter(|setting| setting.secret).count();
        let given = settings.iter().filter(|setting| setting.given.is_some()).count();
        let account = &mut self.account;
        account.did(format!(
            "{} settings and {secret} secrets; platform.yml has the {given} that differ from the template platform file",
            settings.len() - secret
        ));
        if !old.recovered.is_empty() {
            let names: Vec<&str> = old.recovered.iter().map(String::as_str).collect();
            account.did(format!(
                "secrets that the original made up and kept nowhere were read off what it served: {}",
                names.join(", ")
            ));
        }
        let unknown: Vec<&str> = old
            .made_up
            .iter()
            .filter(|name| table.index(name).is_some_and(|index| reached.contains(&index)))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            account.look(format!(
                "IMPORTANT: the original makes these secrets up at each start and keeps them nowhere, so they are only the text SECRET now. Import again with --verify URL and a --key KEY for each role, while its leader runs; or read them off a machine's files, and lockstep secrets set: {}",
                unknown.join(", ")
            ));
        }
        for (index, (name, entry)) in table.entries().iter().enumerate() {
            if entry.whence == Whence::Internal && !reached.contains(&index) {
                account.look(format!("no file uses the secret {}", settings[index].name));
            }
            if entry.whence == Whence::Platform && old.internals.iter().any(|(known, _)| known == name) {
                account.look(format!(
                    "{name} stands in platform.yml and among the internals: the one in platform.yml won, and does"
                ));
            }
        }
        if let Some(template) = &old.template {
            let missing: Vec<&str> = template
                .all()
                .map(|var| var.name.as_str())
                .filter(|name| old.platform.setting(name).is_none())
                .collect();
            if !missing.is_empty() {
                account.look(format!(
                    "template-platform.yml has settings that platform.yml lacks: an update of the original was not finished. They were left out: {}",
                    missing.join(", ")
                ));
            }
        }
        if !old.others.is_empty() {
            account.look(format!("in data/ and no role, left out: {}", old.others.join(", ")));
        }
        account.look("people's accounts of the original were not taken over: lockstep access create");
        account.close();
    }
}

fn rendered(table: &Table, role: &OldRole, file: &OldFile) -> Result<String, ImportError> {
    table.render(&file.text).map_err(|why| {
        ImportError::Other(format!(
            "data/{}/{}: {why}; the original can't serve the role {} like that: correct platform.yml in a copy of the installation",
            role.name, file.path, role.name
        ))
    })
}
