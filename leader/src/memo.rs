//! What was compiled and rendered before, by all that went into it: the same
//! inputs are never rendered twice, not for the next machine and not for the
//! next plan. Knows nothing that rendering anew would not give.

use crate::compose::Services;
use crate::platform::Settings;
use crate::platform::values::{SecretValues, Values};
use crate::render::{Common, Machine};
use crate::source::{PLATFORM, Source};
use crate::templates::{Takes, Templates};
use lockstep_shared::Sha256;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Rounds that an unused rendering is kept: what is planned again and again, published or taken back.
const ROUNDS: u64 = 4;

/// The memory; empty at first.
#[derive(Default)]
pub struct Memo {
    compiled: Option<(Sha256, Arc<Compiled>)>,
    rendered: HashMap<Sha256, Kept>,
    composed: HashMap<Sha256, (Services, u64)>,
    round: u64,
    made: usize,
    remarks: BTreeSet<String>,
}

/// What a release is without a platform: settings and templates, and their faults.
#[derive(Default)]
pub struct Compiled {
    /// What the release knows.
    pub settings: Settings,
    /// The roles.
    pub templates: Templates,
    /// What is wrong with them.
    pub faults: Vec<crate::fault::Fault>,
}

struct Kept {
    content: Arc<[u8]>,
    sha256: Sha256,
    round: u64,
}

impl Memo {
    /// The compiled templates of a source: as before, if nothing but the platform file differs.
    pub fn compiled(&mut self, source: &Source, compile: impl FnOnce() -> Compiled) -> Arc<Compiled> {
        let mut listing = Vec::new();
        for (name, file) in source.files.iter().filter(|(name, _)| *name != PLATFORM) {
            listing.extend_from_slice(name.as_bytes());
            listing.extend_from_slice(&[0, u8::from(file.executable)]);
            listing.extend_from_slice(&file.sha256.0);
        }
        let key = Sha256::of(&listing);
        match &self.compiled {
            Some((known, compiled)) if *known == key => compiled.clone(),
            _ => {
                let compiled = Arc::new(compile());
                self.compiled = Some((key, compiled.clone()));
                compiled
            }
        }
    }

    /// A new round begins: what was not used for some of them is forgotten.
    pub fn begin(&mut self) {
        self.round += 1;
        let oldest = self.round.saturating_sub(ROUNDS);
        self.rendered.retain(|_, kept| kept.round >= oldest);
        self.composed.retain(|_, (_, round)| *round >= oldest);
        self.made = 0;
    }

    /// What there is to say of this round, though nothing is wrong.
    pub fn remark(&mut self, remarks: BTreeSet<String>) {
        self.remarks = remarks;
    }

    /// The same, in order.
    pub fn remarks(&self) -> Vec<String> {
        self.remarks.iter().cloned().collect()
    }

    /// How many files were rendered in this round, and not just found.
    pub fn made(&self) -> usize {
        self.made
    }

    /// What these inputs gave before.
    pub fn known(&mut self, key: &Sha256) -> Option<(Arc<[u8]>, Sha256)> {
        let kept = self.rendered.get_mut(key)?;
        kept.round = self.round;
        Some((kept.content.clone(), kept.sha256))
    }

    /// What they give: rendered in this round.
    pub fn keep(&mut self, key: Sha256, content: Arc<[u8]>, sha256: Sha256) {
        self.made += 1;
        self.rendered.insert(key, Kept { content, sha256, round: self.round });
    }

    /// The services of the compose file with this hash, if it was found to be right.
    pub fn services(&mut self, sha256: &Sha256) -> Option<Services> {
        let (services, round) = self.composed.get_mut(sha256)?;
        *round = self.round;
        Some(services.clone())
    }

    /// The services of a compose file that is right.
    pub fn keep_services(&mut self, sha256: Sha256, services: Services) {
        self.composed.insert(sha256, (services, self.round));
    }
}

/// The hashes of all that one machine's templates may take.
pub struct Ingredients {
    values: Arc<HashMap<String, Sha256>>,
    secrets: HashMap<String, Sha256>,
    machine: Sha256,
    machines: Sha256,
    revision: u64,
    release: Sha256,
}

/// The hashes of a set of values.
pub fn hashes(values: &Values) -> Arc<HashMap<String, Sha256>> {
    let hash = |value: &serde_json::Value| Sha256::of(value.to_string().as_bytes());
    Arc::new(values.iter().map(|(name, value)| (name.clone(), hash(value))).collect())
}

/// The hash of what templates see of some machines.
pub fn of_machines(machines: &[Machine]) -> Sha256 {
    Sha256::of(&serde_json::to_vec(machines).unwrap_or_default())
}

impl Ingredients {
    /// All that the templates of `machine` may take; `machines` is the hash of all of them.
    pub fn new(
        values: Arc<HashMap<String, Sha256>>,
        secrets: &SecretValues,
        machine: &Machine,
        machines: Sha256,
        all: Common<'_>,
    ) -> Self {
        Self {
            values,
            secrets: secrets.iter().map(|(name, value)| (name.clone(), Sha256::of(value.as_bytes()))).collect(),
            machine: of_machines(std::slice::from_ref(machine)),
            machines,
            revision: all.revision,
            release: Sha256::of(all.release.as_bytes()),
        }
    }

    /// The hash of exactly what one template takes, rendered to `path`.
    pub fn key(&self, path: &str, template: Sha256, settings: Option<&BTreeSet<String>>, takes: &Takes) -> Sha256 {
        let mut taken = Vec::with_capacity(512);
        taken.extend_from_slice(&template.0);
        taken.extend_from_slice(path.as_bytes());
        let mut add = |name: &str, hash: Option<&Sha256>| {
            taken.push(0);
            taken.extend_from_slice(name.as_bytes());
            taken.extend_from_slice(hash.map_or(&[0][..], |hash| &hash.0));
        };
        let revision = Sha256::of(&self.revision.to_le_bytes());
        if takes.everything {
            let mut names: Vec<_> = self.values.iter().chain(&self.secrets).collect();
            names.sort();
            for (name, hash) in names {
                add(name, Some(hash));
            }
            for hash in [self.machine, self.machines, revision, self.release] {
                add("", Some(&hash));
            }
            return Sha256::of(&taken);
        }
        for name in settings.into_iter().flatten() {
            add(name, self.secrets.get(name).or_else(|| self.values.get(name)));
        }
        for name in &takes.context {
            let hash = match *name {
                "machine" => self.machine,
                "machines" => self.machines,
                "revision" => revision,
                _ => self.release,
            };
            add(name, Some(&hash));
        }
        Sha256::of(&taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Release;
    use crate::secrets::{Drafts, Secrets};
    use crate::source::SourceFile;
    use lockstep_shared::Name;

    const SETTINGS: &str =
        "groups: {G: {settings: {A: {default: a, overridable: true}, B: {default: b}, C: {default: c}}}}\n";

    fn source(platform: &str) -> Source {
        let mut source = Source::default();
        let mut add = |name: &str, text: &str| {
            source.files.insert(name.to_owned(), SourceFile::new(text.as_bytes(), false));
        };
        add(PLATFORM, platform);
        add("templates/settings.yml", SETTINGS);
        add("templates/partials/p.hbs", "{{B}}");
        add("templates/core/x/a.hbs", "{{A}}");
        add("templates/core/x/b.hbs", "{{> p}}");
        add("templates/core/x/m.hbs", "{{machine.name}}");
        add("templates/core/x/all.hbs", "{{#each machines}}{{name}} {{/each}}");
        add("templates/core/x/root.hbs", "{{json this}}");
        add("templates/core/x/r.hbs", "{{revision}}");
        add("templates/core/x/verbatim", "{{A}}");
        source
    }

    /// How many files are rendered, and all that comes out, rendered with and without the memory.
    fn render(memo: &mut Memo, platform: &str, number: u64, names: &[&str]) -> usize {
        let name = |name: &str| Name::new(name).unwrap();
        let machine = |it: &&str| Machine { name: name(it), role: name("core"), addresses: Vec::new(), url: None };
        let machines: Vec<Machine> = names.iter().map(machine).collect();
        let bundles = |memo: &mut Memo| {
            let release = Release::compile(&source(platform), &machines, memo);
            let mut secrets = Secrets::new([], None, Drafts::Ignored);
            release.render(&machines, &machines, &mut secrets, number, memo).unwrap()
        };
        let remembered = bundles(memo);
        assert_eq!(remembered, bundles(&mut Memo::default()), "the memory changes nothing");
        memo.made()
    }

    #[test]
    fn renders_what_differs_and_nothing_else() {
        let mut memo = Memo::default();
        let memo = &mut memo;
        let two = ["core-1", "core-2"];
        assert_eq!(render(memo, "", 1, &two), 8, "machine and root for each machine, the other four once");
        assert_eq!(render(memo, "", 1, &two), 0, "nothing changed");
        assert_eq!(render(memo, "settings: {A: x}", 1, &two), 3, "a, and root for each machine");
        assert_eq!(render(memo, "settings: {A: x, B: y}", 1, &two), 3, "b through its partial, and root");
        assert_eq!(render(memo, "settings: {A: x, B: y}", 2, &two), 3, "r and root");
        assert_eq!(render(memo, "machines: {core-2: {A: z}}", 1, &two), 2, "a and root of the one machine");
        assert_eq!(render(memo, "", 1, &["core-1", "core-3"]), 4, "the list, core-3's name, and root for each");
    }
}
