//! `role.yml`: what is special about some of a role's files.

use super::RoleFile;
use crate::fault::{Fault, nearest};
use crate::yaml::{self, Kind, Node};
use globset::{GlobBuilder, GlobMatcher};
use lockstep_shared::{Mode, OnChange, OnDrift, Owner, SafePath, VolumePath};
use std::collections::BTreeMap;

/// A compose service as `role.yml` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The service.
    pub service: String,
    /// Line and column of the name.
    pub at: (usize, usize),
}

/// What is said of a file. Where several globs match, the later one wins, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Permission bits.
    pub mode: Option<Mode>,
    /// Numeric owner.
    pub owner: Option<Owner>,
    /// The verb when it changes.
    pub on_change: Option<OnChange>,
    /// Compose services it concerns, instead of those found by their mounts.
    pub services: Vec<Named>,
    /// Containers it concerns, by name.
    pub containers: Vec<String>,
    /// A command that must succeed on the staged file.
    pub check: Vec<String>,
    /// What happens when somebody else changes it on the machine.
    pub on_drift: Option<OnDrift>,
    /// Whether what it renders to has to be what its extension says (`.json`, `.yml`, ...); it has to, by default.
    pub validate: Option<bool>,
    /// The compose service in whose image it runs, instead of on the machine.
    pub check_in: Option<Named>,
    /// How long it may take.
    pub check_seconds: Option<u16>,
    /// Where the file goes in a named volume, instead of the data folder.
    pub volume: Option<VolumePath>,
}

/// A rule as it is written for a glob.
#[derive(Debug)]
struct Written {
    glob: GlobMatcher,
    /// Line and column of the glob.
    at: (usize, usize),
    /// The glob's folders before its first wildcard: files keep their places below it in a volume.
    folder: String,
    rule: Rule,
    /// The volume, and perhaps a folder in it.
    volume: Option<(String, Option<SafePath>)>,
}

/// A role's `role.yml`.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) compose: Option<SafePath>,
    rules: Vec<Written>,
}

impl Manifest {
    pub(super) fn read(file: &str, text: &str, faults: &mut Vec<Fault>) -> Self {
        let mut manifest = Self::default();
        let node = match yaml::parse(file, text) {
            Ok(node) if !node.is_null() => node,
            Ok(_) => return manifest,
            Err(fault) => {
                faults.push(fault);
                return manifest;
            }
        };
        for (key, value) in node.map().unwrap_or_default() {
            match key.text.as_str() {
                "title" => value.text().unwrap_or_default().clone_into(&mut manifest.title),
                "description" => value.text().unwrap_or_default().clone_into(&mut manifest.description),
                "compose" => match SafePath::new(value.text().unwrap_or_default()) {
                    Ok(path) => manifest.compose = Some(path),
                    Err(bad) => faults.push(Fault::new(file, bad.to_string()).at(value.at)),
                },
                "files" => {
                    for (glob, body) in value.map().unwrap_or_default() {
                        let at = glob.at;
                        let matcher = GlobBuilder::new(&glob.text).literal_separator(true).build();
                        match matcher {
                            Ok(matcher) => {
                                let (rule, volume) = rule(file, body, faults);
                                let (glob, folder) = (matcher.compile_matcher(), fixed_folder(&glob.text));
                                manifest.rules.push(Written { glob, at, folder, rule, volume });
                            }
                            Err(error) => {
                                faults.push(Fault::new(file, format!("not a path glob: {error}")).at(glob.at));
                            }
                        }
                    }
                }
                other => {
                    let what = format!(
                        "unknown key {other}{}: role.yml has title:, description:, compose: and files: (a rule for each path glob)",
                        nearest(other, ["title", "description", "files", "compose"])
                    );
                    faults.push(Fault::new(file, what).at(key.at));
                }
            }
        }
        if node.map().is_none() {
            faults
                .push(Fault::new(file, "has to be a mapping of title:, description:, compose: and files:").at(node.at));
        }
        manifest
    }

    pub(super) fn rule(&self, path: &SafePath) -> Rule {
        let mut rule = Rule::default();
        for written in self.rules.iter().filter(|written| written.glob.is_match(path.as_str())) {
            let more = &written.rule;
            rule.mode = more.mode.or(rule.mode);
            rule.owner = more.owner.or(rule.owner);
            rule.on_change = more.on_change.clone().or(rule.on_change);
            if !more.services.is_empty() {
                rule.services.clone_from(&more.services);
            }
            if !more.containers.is_empty() {
                rule.containers.clone_from(&more.containers);
            }
            // A check is one thing: what an earlier rule says of it doesn't mix in.
            if !more.check.is_empty() {
                rule.check.clone_from(&more.check);
                rule.check_in.clone_from(&more.check_in);
                rule.check_seconds = more.check_seconds;
            }
            rule.on_drift = more.on_drift.or(rule.on_drift);
            rule.validate = more.validate.or(rule.validate);
            if let Some((volume, folder)) = &written.volume {
                rule.volume = place(volume, folder.as_ref(), &written.folder, path);
            }
        }
        rule
    }

    /// Says which rules are for no file of the role: a misspelt glob means that a check is not run, a signal not sent.
    pub(super) fn idle(&self, manifest: &str, files: &BTreeMap<SafePath, RoleFile>) -> Vec<String> {
        let idle = self.rules.iter().filter(|written| !files.keys().any(|path| written.glob.is_match(path.as_str())));
        let said = idle.map(|Written { glob, at, .. }| {
            let glob = glob.glob().glob();
            let near = nearest(glob, files.keys().map(SafePath::as_str));
            let what = format!("{glob} matches no file of the role, so this rule does nothing{near}");
            Fault::new(manifest, what).at(*at).to_string()
        });
        said.collect()
    }
}

/// The folders of a glob before the first segment with a wildcard.
fn fixed_folder(glob: &str) -> String {
    let end = glob.find(['*', '?', '[', '{']).unwrap_or(glob.len());
    glob[..end].rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
}

/// A file's place in a volume: as it lies below the glob's own folders.
fn place(volume: &str, folder: Option<&SafePath>, fixed: &str, path: &SafePath) -> Option<VolumePath> {
    let below = path.as_str().strip_prefix(fixed).unwrap_or(path.as_str()).trim_start_matches('/');
    let below = match folder {
        Some(folder) => format!("{folder}/{below}"),
        None => below.to_owned(),
    };
    VolumePath::new(volume, SafePath::new(below).ok()?)
}

const KEYS: [&str; 9] =
    ["mode", "owner", "on_change", "services", "containers", "check", "drift", "validate", "volume"];

type Volume = Option<(String, Option<SafePath>)>;

fn rule(file: &str, body: &Node, faults: &mut Vec<Fault>) -> (Rule, Volume) {
    let mut rule = Rule::default();
    let mut volume = None;
    let Some(entries) = body.map() else {
        let what = format!("a rule has to be a mapping of {}", KEYS.join(", "));
        faults.push(Fault::new(file, what).at(body.at));
        return (rule, None);
    };
    for (key, value) in entries {
        let text = value.text().unwrap_or_default().to_owned();
        let read = match key.text.as_str() {
            "mode" => Mode::try_from(text).map(|mode| rule.mode = Some(mode)).map_err(|bad| bad.to_string()),
            "owner" => Owner::try_from(text).map(|owner| rule.owner = Some(owner)).map_err(|bad| bad.to_string()),
            "on_change" => on_change(value).map(|verb| rule.on_change = Some(verb)),
            "services" => services(value).map(|services| rule.services = services),
            "containers" => words(value).map(|words| rule.containers = words),
            "drift" => {
                OnDrift::try_from(&*text).map(|policy| rule.on_drift = Some(policy)).map_err(|bad| bad.to_string())
            }
            "validate" => match value.bool() {
                Some(validate) => {
                    rule.validate = Some(validate);
                    Ok(())
                }
                None => Err("has to be true or false".to_owned()),
            },
            "check" => check(value, &mut rule),
            "volume" => in_volume(&text).map(|place| volume = Some(place)),
            other => {
                let near = nearest(other, KEYS);
                faults.push(Fault::new(file, format!("unknown key {other}{near}")).at(key.at));
                continue;
            }
        };
        if let Err(what) = read {
            faults.push(Fault::new(file, format!("{}: {what}", key.text)).at(value.at));
        }
    }
    (rule, volume)
}

/// `[nginx, -t]`, or `{in: SERVICE, command: [nginx, -t], seconds: 60}`.
fn check(node: &Node, rule: &mut Rule) -> Result<(), String> {
    const KEYS: [&str; 3] = ["command", "in", "seconds"];
    let Some(entries) = node.map() else {
        rule.check = words(node).map_err(|_| {
            "has to be a list of words, e.g. [nginx, -t], or {in: nginx, command: [nginx, -t], seconds: 60}".to_owned()
        })?;
        return Ok(());
    };
    if let Some((unknown, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.text.as_str())) {
        return Err(format!("unknown key {}{}", unknown.text, nearest(&unknown.text, KEYS)));
    }
    rule.check = words(node.get("command").ok_or("needs command: a list of words, e.g. [nginx, -t]")?)
        .map_err(|what| format!("command {what}"))?;
    if let Some(service) = node.get("in") {
        let named = service.text().filter(|text| !text.is_empty());
        let named = named.ok_or("in has to be a service of the compose file")?.to_owned();
        rule.check_in = Some(Named { service: named, at: service.at });
    }
    if let Some(seconds) = node.get("seconds") {
        let number =
            seconds.text().and_then(|text| text.parse::<u16>().ok()).filter(|number| (1..=600).contains(number));
        rule.check_seconds = Some(number.ok_or("seconds has to be a whole number from 1 to 600")?);
    }
    Ok(())
}

/// `VOLUME`, or `VOLUME:FOLDER`.
fn in_volume(text: &str) -> Result<(String, Option<SafePath>), String> {
    let (volume, folder) = text.split_once(':').map_or((text, None), |(volume, folder)| (volume, Some(folder)));
    if !VolumePath::is_volume(volume) {
        return Err(format!(
            "{text:?} names no volume: write it as the compose file does, e.g. conf, or conf:FOLDER for a folder in it"
        ));
    }
    let folder = folder.map(|folder| SafePath::new(folder.trim_matches('/'))).transpose();
    Ok((volume.to_owned(), folder.map_err(|bad| bad.to_string())?))
}

/// `restart`, `signal:HUP`, ... or `exec:[nginx, -s, reload]`, spelt as text or as a mapping.
fn on_change(node: &Node) -> Result<OnChange, String> {
    if let Some(command) = node.get("exec") {
        return Ok(OnChange::Exec(words(command)?));
    }
    let text = node.text().unwrap_or_default();
    if let Some(list) = text.strip_prefix("exec:")
        && let Ok(parsed) = yaml::parse("", list)
        && let Ok(command) = words(&parsed)
    {
        return Ok(OnChange::Exec(command));
    }
    OnChange::try_from(text.to_owned()).map_err(|bad| bad.to_string())
}

fn services(node: &Node) -> Result<Vec<Named>, String> {
    let places = node.list().unwrap_or_default().iter().map(|item| item.at);
    Ok(words(node)?.into_iter().zip(places).map(|(service, at)| Named { service, at }).collect())
}

fn words(node: &Node) -> Result<Vec<String>, String> {
    let wrong = || "has to be a list of words, e.g. [nginx, -t]".to_owned();
    match &node.kind {
        Kind::List(items) if !items.is_empty() => {
            items.iter().map(|item| item.text().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Manifest, Vec<String>) {
        let mut faults = Vec::new();
        let manifest = Manifest::read("role.yml", text, &mut faults);
        (manifest, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn later_globs_win_key_by_key() {
        let (manifest, faults) = read(
            "files:\n  '**': {mode: '0640', on_change: restart}\n  nginx/conf/*.conf: {on_change: 'signal:HUP'}\n  a/b: {on_change: 'exec:[nginx, -s, reload]', owner: '0:101', drift: report}\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        let rule = |path: &str| manifest.rule(&SafePath::new(path).unwrap());
        assert_eq!(rule("nginx/conf/x.conf").on_change, Some(OnChange::Signal("HUP".into())));
        assert_eq!(rule("nginx/conf/x.conf").mode.unwrap().to_string(), "0640");
        assert_eq!(rule("nginx/conf/secret/x.conf").on_change, Some(OnChange::Restart));
        assert_eq!((rule("a/b").on_drift, rule("a/c").on_drift), (Some(OnDrift::Report), None));
        assert_eq!(rule("a/b").on_change.unwrap().to_string(), r#"exec:["nginx","-s","reload"]"#);
    }

    #[test]
    fn a_volume_keeps_what_lies_below_the_globs_own_folders() {
        let (manifest, faults) = read(
            "files:\n  app/conf/**: {volume: conf}\n  app/conf/x/*.yml: {volume: 'other:deep/er'}\n  '**/one': {volume: all}\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        let place = |path: &str| manifest.rule(&SafePath::new(path).unwrap()).volume.map(|place| place.to_string());
        assert_eq!(place("app/conf/a/b").as_deref(), Some("conf:a/b"));
        assert_eq!(place("app/conf/x/c.yml").as_deref(), Some("other:deep/er/c.yml"));
        assert_eq!(place("some/one").as_deref(), Some("all:some/one"));
        assert_eq!(place("app/other"), None);
    }

    #[test]
    fn a_check_is_a_list_or_says_where_and_how_long() {
        let (manifest, faults) = read(
            "files:\n  '**': {check: {in: web, command: [nginx, -t], seconds: 5}}\n  a/*: {check: [true]}\n  b/*: {mode: '0600'}\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        let rule = |path: &str| manifest.rule(&SafePath::new(path).unwrap());
        let (all, plain) = (rule("b/x"), rule("a/x"));
        assert_eq!(
            (all.check.len(), all.check_in.map(|named| named.service), all.check_seconds),
            (2, Some("web".to_owned()), Some(5))
        );
        assert_eq!((plain.check.len(), plain.check_in, plain.check_seconds), (1, None, None));
    }

    #[test]
    fn mistakes_are_placed() {
        let (_, faults) = read(
            "file:\n  a: {}\nfiles:\n  a: {mod: '0644', mode: 644, on_change: reload, drift: ignore}\n  b: {volume: ../x, check: {inn: web}}\n  c: {check: {in: web, command: [x], seconds: 0}}\n",
        );
        insta::assert_snapshot!(faults.join("\n"));
    }
}
