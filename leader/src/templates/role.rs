//! `role.yml`: what is special about some of a role's files.

use crate::fault::{Fault, nearest};
use crate::yaml::{self, Kind, Node};
use globset::{GlobBuilder, GlobMatcher};
use lockstep_shared::{Mode, OnChange, OnDrift, Owner, SafePath};

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
    pub services: Vec<String>,
    /// Containers it concerns, by name.
    pub containers: Vec<String>,
    /// A command that must succeed on the staged file.
    pub check: Vec<String>,
    /// What happens when somebody else changes it on the machine.
    pub on_drift: Option<OnDrift>,
    /// Whether what it renders to has to be what its extension says (`.json`, `.yml`, ...); it has to, by default.
    pub validate: Option<bool>,
}

/// A role's `role.yml`.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) compose: Option<SafePath>,
    rules: Vec<(GlobMatcher, Rule)>,
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
                "compose" => match SafePath::new(value.text().unwrap_or_default()) {
                    Ok(path) => manifest.compose = Some(path),
                    Err(bad) => faults.push(Fault::new(file, bad.to_string()).at(value.at)),
                },
                "files" => {
                    for (glob, body) in value.map().unwrap_or_default() {
                        let matcher = GlobBuilder::new(&glob.text).literal_separator(true).build();
                        match matcher {
                            Ok(matcher) => manifest.rules.push((matcher.compile_matcher(), rule(file, body, faults))),
                            Err(error) => {
                                faults.push(Fault::new(file, format!("not a path glob: {error}")).at(glob.at));
                            }
                        }
                    }
                }
                other => {
                    let what = format!(
                        "unknown key {other}{}: role.yml has files: (a rule for each path glob) and compose:",
                        nearest(other, ["files", "compose"])
                    );
                    faults.push(Fault::new(file, what).at(key.at));
                }
            }
        }
        if node.map().is_none() {
            faults.push(Fault::new(file, "has to be a mapping with files: and, if wanted, compose:").at(node.at));
        }
        manifest
    }

    pub(super) fn rule(&self, path: &SafePath) -> Rule {
        let mut rule = Rule::default();
        for (_, more) in self.rules.iter().filter(|(glob, _)| glob.is_match(path.as_str())) {
            let list = |old: &mut Vec<String>, new: &Vec<String>| {
                if !new.is_empty() {
                    old.clone_from(new);
                }
            };
            rule.mode = more.mode.or(rule.mode);
            rule.owner = more.owner.or(rule.owner);
            rule.on_change = more.on_change.clone().or(rule.on_change);
            list(&mut rule.services, &more.services);
            list(&mut rule.containers, &more.containers);
            list(&mut rule.check, &more.check);
            rule.on_drift = more.on_drift.or(rule.on_drift);
            rule.validate = more.validate.or(rule.validate);
        }
        rule
    }
}

const KEYS: [&str; 8] = ["mode", "owner", "on_change", "services", "containers", "check", "drift", "validate"];

fn rule(file: &str, body: &Node, faults: &mut Vec<Fault>) -> Rule {
    let mut rule = Rule::default();
    let Some(entries) = body.map() else {
        let what = format!("a rule has to be a mapping of {}", KEYS.join(", "));
        faults.push(Fault::new(file, what).at(body.at));
        return rule;
    };
    for (key, value) in entries {
        let text = value.text().unwrap_or_default().to_owned();
        let read = match key.text.as_str() {
            "mode" => Mode::try_from(text).map(|mode| rule.mode = Some(mode)).map_err(|bad| bad.to_string()),
            "owner" => Owner::try_from(text).map(|owner| rule.owner = Some(owner)).map_err(|bad| bad.to_string()),
            "on_change" => on_change(value).map(|verb| rule.on_change = Some(verb)),
            "services" => words(value).map(|words| rule.services = words),
            "containers" => words(value).map(|words| rule.containers = words),
            "check" => words(value).map(|words| rule.check = words),
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
    rule
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
    fn mistakes_are_placed() {
        let (_, faults) =
            read("file:\n  a: {}\nfiles:\n  a: {mod: '0644', mode: 644, on_change: reload, drift: ignore}\n");
        insta::assert_snapshot!(faults.join("\n"));
    }
}
