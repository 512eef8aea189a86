//! From a source to everything that it renders to: the one way that
//! validating, planning, publishing and offline rendering share.

use crate::certificates;
use crate::compose;
use crate::config::Config;
use crate::fault::{Fault, Faults};
use crate::memo::{self, Compiled, Ingredients, Memo};
use crate::platform::{Platform, schema};
use crate::render::{self, Common, Machine};
use crate::roster::Member;
use crate::secrets::Secrets;
use crate::snippet;
use crate::source::{PLATFORM, Source};
use crate::store::StoreError;
use crate::templates::Templates;
use lockstep_edge::clock;
use lockstep_shared::{Bundle, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A source, read and compiled: settings, values and templates, checked
/// against each other as far as that goes without rendering.
pub struct Release {
    /// Settings and templates.
    pub compiled: Arc<Compiled>,
    /// What the platform says.
    pub platform: Platform,
    faults: Vec<Fault>,
    /// Whether it is still to be published, and so judged.
    judged: bool,
    /// What it was read from, for the lines that faults show.
    source: Source,
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The files are wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The secrets can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The machines that follow, as templates see them.
pub fn machines(config: &Config) -> Vec<Machine> {
    let machine = |member: Arc<Member>| Machine {
        name: member.name.clone(),
        role: member.role.clone(),
        addresses: member.addresses.clone(),
        url: member.url.clone(),
    };
    config.members.active().into_iter().map(machine).collect()
}

/// Machines that would be told at one address: one of them is never told, and follows by its long poll alone.
fn one_url(machines: &[Machine]) -> BTreeSet<String> {
    let mut by_url: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for machine in machines {
        if let Some(url) = &machine.url {
            by_url.entry(url.trim_end_matches('/')).or_default().push(machine.name.as_str());
        }
    }
    let shared = by_url.into_iter().filter(|(_, names)| names.len() > 1);
    let remark = |(url, names): (_, Vec<_>)| {
        format!(
            "{} have one url, {url}: only one of them can be told there; correct followers.NAME.url",
            names.join(" and ")
        )
    };
    shared.map(remark).collect()
}

impl Compiled {
    /// Reads settings and templates.
    fn of(source: &Source) -> Self {
        let (text, mut faults) = text(source, schema::FILE);
        let (settings, more) = schema::read(&text);
        faults.extend(more);
        let known: BTreeSet<&str> = settings.by_name.keys().map(String::as_str).collect();
        let (templates, more) = Templates::load(source, &known);
        faults.extend(more);
        Self { settings, templates, faults }
    }
}

/// A file's text, empty where it is missing.
fn text(source: &Source, name: &str) -> (String, Vec<Fault>) {
    match source.text(name) {
        Ok(text) => (text.unwrap_or_default().to_owned(), Vec::new()),
        Err(fault) => (String::new(), vec![fault]),
    }
}

impl Release {
    /// Reads and compiles, as far as `memo` doesn't know it. `machines` are
    /// those that the platform file may name.
    pub fn compile(source: &Source, machines: &[Machine], memo: &mut Memo) -> Self {
        Self::compile_naming(source, machines, &[], memo)
    }

    /// The same, where the platform file may name further machines: those that are disabled.
    pub fn compile_naming(source: &Source, machines: &[Machine], also: &[Name], memo: &mut Memo) -> Self {
        let compiled = memo.compiled(source, || Compiled::of(source));
        let mut faults = compiled.faults.clone();
        let names = machines.iter().map(|machine| &machine.name).chain(also);
        let names: Vec<&str> = names.map(Name::as_str).collect();
        let (text, more) = text(source, PLATFORM);
        faults.extend(more);
        let (platform, more) = Platform::read(&text, &compiled.settings, &names);
        faults.extend(more);
        let templates = &compiled.templates;
        for machine in machines.iter().filter(|machine| !templates.roles.contains_key(&machine.role)) {
            let roles: Vec<&str> = templates.roles.keys().map(Name::as_str).collect();
            let what = format!(
                "followers.{} has the role {}, but templates/{} holds no files; roles of this release: {}",
                machine.name,
                machine.role,
                machine.role,
                if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
            );
            faults.push(Fault::new(crate::config::FILE, what));
        }
        Self { compiled, platform, faults, judged: true, source: source.clone() }
    }

    /// The same, without what is judged only of what is to be published: a
    /// source that was published once has to render for machines that join.
    #[must_use]
    pub fn as_published(mut self) -> Self {
        self.judged = false;
        self
    }

    /// Renders every machine in `wanted`; `all` are those that templates see.
    pub fn render(
        &self,
        wanted: &[Machine],
        all: &[Machine],
        secrets: &mut Secrets<'_>,
        revision: u64,
        memo: &mut Memo,
    ) -> Result<BTreeMap<Name, Arc<Bundle>>, RenderError> {
        let mut faults = self.faults.clone();
        let mut bundles = BTreeMap::new();
        let mut add = |more: Vec<Fault>| {
            for fault in more {
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }
        };
        let Compiled { settings, templates, .. } = &*self.compiled;
        memo.begin();
        let now = clock::now();
        let mut remarks = one_url(all);
        let mut plain_checked = false;
        let common = Common { machines: all, revision, release: &settings.release };
        let plain = self.platform.resolve(settings, "");
        let plain_hashes = memo::hashes(&plain.0);
        let machines = memo::of_machines(all);
        if wanted.is_empty() {
            add(plain.1.clone());
        }
        for machine in wanted {
            let own = self.platform.overrides(machine.name.as_str());
            let (mut values, wrong) =
                if own { self.platform.resolve(settings, machine.name.as_str()) } else { plain.clone() };
            // With broken settings or templates, rendering would only repeat the same mistakes in other words.
            let broken = !wrong.is_empty() || !self.faults.is_empty();
            add(wrong);
            let Some(role) = templates.roles.get(&machine.role).filter(|_| !broken) else { continue };
            let (secret, wrong) = secrets.of(settings, &machine.name, &machine.role)?;
            // As above: every template that names it would complain as well.
            let mut broken = !wrong.is_empty();
            add(wrong);
            // Keys have one value for the platform: who has no values of its own has the same pairs as others.
            if !broken && (own || !plain_checked) {
                plain_checked |= !own;
                let pairs = (machine.name.as_str(), &values, &secret);
                let wrong = certificates::faults(settings, &self.platform, pairs, now, &mut remarks);
                broken = !wrong.is_empty();
                add(wrong);
            }
            if broken {
                continue;
            }
            for (name, setting) in &settings.by_name {
                if setting.secret.is_some() && setting.optional && !secret.contains_key(name) {
                    values.insert(name.clone(), serde_json::Value::Null);
                }
            }
            let hashes = if own { memo::hashes(&values) } else { plain_hashes.clone() };
            let ingredients = Ingredients::new(hashes, &secret, machine, machines, common);
            match render::bundle(templates, role, machine, &values, &secret, common, &ingredients, memo) {
                Ok(bundle) => {
                    bundles.insert(machine.name.clone(), Arc::new(bundle));
                }
                Err(wrong) => add(wrong),
            }
        }
        if self.judged {
            add(compose::faults(&templates.roles, wanted, &bundles, memo));
            remarks.extend(templates.roles.values().flat_map(|role| role.remarks.iter().cloned()));
        }
        memo.remark(remarks);
        if faults.is_empty() {
            return Ok(bundles);
        }
        snippet::show(&mut faults, |file| self.source.text(file).ok().flatten().map(str::to_owned), settings);
        Err(Faults(faults).into())
    }
}
