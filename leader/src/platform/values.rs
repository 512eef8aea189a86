//! `platform.yml`: what this platform says differently from the release, and
//! from it every setting's value for every machine.

use super::formats::misfit;
use super::references::{Piece, pieces};
use super::schema::{self, Setting, Settings};
use crate::fault::{Fault, nearest};
use crate::source::PLATFORM;
use crate::yaml::{self, Kind, Node, resolve};
use lockstep_shared::Name;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// The file, read but not yet resolved.
#[derive(Debug, Default)]
pub struct Platform {
    settings: BTreeMap<String, Given>,
    machines: BTreeMap<String, BTreeMap<String, Given>>,
    /// The file could not be read as a whole: what it lacks is not worth telling.
    unread: bool,
}

/// A value as it is written in the file.
#[derive(Debug, Clone)]
pub struct Given {
    /// The value, its references as typed.
    pub value: Node,
    /// Where its name stands.
    pub at: (usize, usize),
}

/// Every setting's value for one machine; `None` where an optional one is unset.
pub type Values = BTreeMap<String, Value>;

/// Secrets' values for one machine, by setting.
pub type SecretValues = BTreeMap<String, String>;

impl Platform {
    /// Reads `platform.yml` against what the release knows. `machines` are the
    /// declared ones: a name that none of them has is most likely a slip.
    pub fn read(text: &str, settings: &Settings, machines: &[&str]) -> (Self, Vec<Fault>) {
        let mut platform = Self::default();
        let mut faults = Vec::new();
        let node = match yaml::parse(PLATFORM, text) {
            Ok(node) if node.is_null() => return (platform, faults),
            Ok(node) => node,
            Err(fault) => return (Self { unread: true, ..platform }, vec![fault]),
        };
        let Some(entries) = node.map() else {
            faults
                .push(Fault::new(PLATFORM, "has to be a mapping with settings: and, if wanted, machines:").at(node.at));
            return (platform, faults);
        };
        for (key, value) in entries {
            match key.text.as_str() {
                // Which release the file was migrated to: `migration` reads it.
                "release" if value.text().is_some() => {}
                "settings" => platform.settings = given(value, settings, None, &mut faults),
                "machines" => {
                    for (machine, overrides) in mapping(value, "machines", &mut faults) {
                        if !machines.contains(&machine.text.as_str()) {
                            let near = nearest(&machine.text, machines.iter().copied());
                            let what = format!(
                                "no machine is called {}{near} (followers are declared in config-leader.json)",
                                machine.text
                            );
                            faults.push(Fault::new(PLATFORM, what).at(machine.at));
                            continue;
                        }
                        let values = given(overrides, settings, Some(&machine.text), &mut faults);
                        platform.machines.insert(machine.text.clone(), values);
                    }
                }
                other => {
                    let mut what =
                        format!("unknown key {other}{}", nearest(other, ["settings", "machines", "release"]));
                    if settings.by_name.contains_key(other) {
                        what = format!("the setting {other} has to stand under settings:");
                    }
                    faults.push(Fault::new(PLATFORM, what).at(key.at));
                }
            }
        }
        (platform, faults)
    }

    /// The machines that a platform file names.
    pub fn machines_named(text: &str) -> Vec<Name> {
        let Ok(node) = yaml::parse(PLATFORM, text) else { return Vec::new() };
        let entries = node.map().unwrap_or_default().iter();
        let machines = entries.filter(|(key, _)| key.text == "machines").filter_map(|(_, value)| value.map());
        machines.flatten().filter_map(|(machine, _)| Name::new(machine.text.as_str()).ok()).collect()
    }

    /// Whether the file could not be read as a whole.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// What the file says of a setting: for the platform, or for one machine.
    pub fn written(&self, name: &str, machine: Option<&str>) -> Option<&Given> {
        match machine {
            None => self.settings.get(name),
            Some(machine) => self.machines.get(machine)?.get(name),
        }
    }

    /// The machines that override a setting.
    pub fn overriders<'p>(&'p self, name: &'p str) -> impl Iterator<Item = (&'p str, &'p Given)> {
        self.machines.iter().filter_map(move |(machine, values)| Some((machine.as_str(), values.get(name)?)))
    }

    /// What is wrong with values that are given, for the platform and for
    /// every machine that has its own. What is missing isn't told.
    pub fn wrong(&self, settings: &Settings) -> Vec<Fault> {
        let mut faults = Vec::new();
        let views = std::iter::once("").chain(self.machines.keys().map(String::as_str));
        for fault in views.flat_map(|machine| self.resolve_given(settings, machine).1) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }

    /// Whether a machine has values of its own.
    pub fn overrides(&self, machine: &str) -> bool {
        self.machines.get(machine).is_some_and(|values| !values.is_empty())
    }

    /// All values for a machine: its overrides over the platform's over the
    /// defaults, references followed, schemas checked. `secrets` are kept
    /// apart: no reference reaches them.
    pub fn resolve(&self, settings: &Settings, machine: &str) -> (Values, Vec<Fault>) {
        let (values, mut faults, missing) = self.resolve_given(settings, machine);
        if !missing.is_empty() && !self.unread {
            faults.push(missing_settings(&missing));
        }
        (values, faults)
    }

    /// The same, and apart the required ones that have no value.
    #[allow(clippy::type_complexity)]
    fn resolve_given<'s>(
        &self,
        settings: &'s Settings,
        machine: &str,
    ) -> (Values, Vec<Fault>, Vec<(&'s String, &'s Setting)>) {
        let mut resolver = Resolver {
            settings,
            layers: [self.machines.get(machine), Some(&self.settings)],
            done: HashMap::new(),
            path: Vec::new(),
            faults: Vec::new(),
        };
        let mut values = Values::new();
        let mut missing = Vec::new();
        for (name, setting) in settings.by_name.iter().filter(|(_, setting)| setting.secret.is_none()) {
            match resolver.value(name) {
                Ok(Some(value)) => {
                    values.insert(name.clone(), value);
                }
                Ok(None) if setting.optional => {
                    values.insert(name.clone(), Value::Null);
                }
                Ok(None) => missing.push((name, setting)),
                Err(()) => {}
            }
        }
        (values, resolver.faults, missing)
    }
}

/// One fault for all of them, so that a person fills them in in one go.
fn missing_settings(missing: &[(&String, &Setting)]) -> Fault {
    let list: String = missing
        .iter()
        .map(|(name, setting)| {
            let about = if setting.description.is_empty() { &setting.title } else { &setting.description };
            format!("\n  {name}: {}", about.lines().next().unwrap_or_default())
        })
        .collect();
    let count = match missing.len() {
        1 => "1 required setting is missing".to_owned(),
        n => format!("{n} required settings are missing"),
    };
    let fault = Fault::new(PLATFORM, format!("{count}; add under settings:{list}"));
    if let [(name, _)] = missing { fault.about(name) } else { fault }
}

fn mapping<'n>(node: &'n Node, what: &str, faults: &mut Vec<Fault>) -> &'n [(yaml::Key, Node)] {
    match node.map() {
        Some(entries) => entries,
        None if node.is_null() => &[],
        None => {
            faults.push(Fault::new(PLATFORM, format!("{what} has to be a mapping of NAME: value")).at(node.at));
            &[]
        }
    }
}

fn given(node: &Node, settings: &Settings, machine: Option<&str>, faults: &mut Vec<Fault>) -> BTreeMap<String, Given> {
    let mut values = BTreeMap::new();
    for (key, value) in mapping(node, machine.unwrap_or("settings"), faults) {
        let name = key.text.as_str();
        let refusal = match settings.by_name.get(name) {
            None => {
                Some(format!("unknown setting {name}{}", nearest(name, settings.by_name.keys().map(String::as_str))))
            }
            Some(setting) if setting.secret.is_some() => Some(format!(
                "{name} is a secret and never stands in this file: take it out (lockstep settings unset {name}), and give it with lockstep secrets set {name}"
            )),
            Some(setting) if machine.is_some() && !setting.overridable => Some(format!(
                "{name} can't differ from machine to machine: move it to settings: (it is not marked overridable in {})",
                schema::FILE
            )),
            Some(_) => None,
        };
        match refusal {
            Some(what) => faults.push(Fault::new(PLATFORM, what).at(key.at).about(name)),
            None => {
                values.insert(name.to_owned(), Given { value: value.clone(), at: key.at });
            }
        }
    }
    values
}

struct Resolver<'p> {
    settings: &'p Settings,
    layers: [Option<&'p BTreeMap<String, Given>>; 2],
    done: HashMap<String, Result<Option<Value>, ()>>,
    path: Vec<String>,
    faults: Vec<Fault>,
}

impl Resolver<'_> {
    /// The value of a setting; `Ok(None)` where it has none, `Err` where a
    /// fault was recorded.
    fn value(&mut self, name: &str) -> Result<Option<Value>, ()> {
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        let result = self.value_anew(name);
        self.done.insert(name.to_owned(), result.clone());
        result
    }

    fn value_anew(&mut self, name: &str) -> Result<Option<Value>, ()> {
        let Some(setting) = self.settings.by_name.get(name) else { return Err(()) };
        let given = self.layers.iter().flatten().find_map(|layer| layer.get(name));
        let (node, file, at) = match (given, &setting.default) {
            (Some(given), _) => (&given.value, PLATFORM, given.at),
            (None, Some(default)) => (default, schema::FILE, default.at),
            (None, None) => return Ok(None),
        };
        let node = node.clone();
        if let Some(start) = self.path.iter().position(|known| known == name) {
            let mut cycle = self.path[start..].to_vec();
            cycle.push(name.to_owned());
            let what = format!("the references go round in a circle: {}", cycle.join(" -> "));
            self.faults.push(Fault::new(file, what).at(at).about(name));
            return Err(());
        }
        self.path.push(name.to_owned());
        let value = self.node(&node, &setting.schema, file, name);
        self.path.pop();
        let value = value?;
        if value.is_null() && setting.optional {
            return Ok(None);
        }
        let wrong: Vec<Fault> = setting
            .validator
            .iter_errors(&value)
            .map(|error| {
                let path = error.instance_path().to_string();
                let (place, inside) = within(&node, &path);
                let what = format!("{name}{inside}: {}", misfit(&error, &setting.schema, false));
                Fault::new(file, what).at(place.unwrap_or(at)).about(name)
            })
            .collect();
        if !wrong.is_empty() {
            self.faults.extend(wrong);
            return Err(());
        }
        Ok(Some(value))
    }

    fn node(&mut self, node: &Node, schema: &Value, file: &'static str, name: &str) -> Result<Value, ()> {
        match &node.kind {
            Kind::Scalar { text, plain } => self.scalar(node, text, *plain, schema, file, name),
            Kind::List(items) => {
                let each = &schema["items"];
                items.iter().map(|item| self.node(item, each, file, name)).collect()
            }
            Kind::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let inner = match &schema["properties"][&key.text] {
                        Value::Null => &schema["additionalProperties"],
                        own => own,
                    };
                    map.insert(key.text.clone(), self.node(value, inner, file, name)?);
                }
                Ok(Value::Object(map))
            }
        }
    }

    fn scalar(
        &mut self,
        node: &Node,
        text: &str,
        plain: bool,
        schema: &Value,
        file: &'static str,
        name: &str,
    ) -> Result<Value, ()> {
        if !text.contains("${") {
            return Ok(if plain { typed(text, schema) } else { Value::String(text.to_owned()) });
        }
        let fault = |what: String| Fault::new(file, what).at(node.at).about(name);
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(rest) => {
                let what = format!("{name}: {rest:?} is not a reference: write ${{NAME}}, or $${{ for a literal ${{");
                self.faults.push(fault(what));
                return Err(());
            }
        };
        if let [Piece::Name(other)] = pieces[..] {
            return self.reference(other, name, &fault);
        }
        let mut out = String::with_capacity(text.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(other) => match self.reference(other, name, &fault)? {
                    Value::String(text) => out.push_str(&text),
                    value @ (Value::Number(_) | Value::Bool(_)) => out.push_str(&value.to_string()),
                    _ => {
                        self.faults.push(fault(format!(
                            "{name}: ${{{other}}} is a list or a mapping and can't stand within a text"
                        )));
                        return Err(());
                    }
                },
            }
        }
        // What references make together is never nothing.
        Ok(if plain && !resolve(&out).is_null() { typed(&out, schema) } else { Value::String(out) })
    }

    fn reference(&mut self, other: &str, name: &str, fault: &dyn Fn(String) -> Fault) -> Result<Value, ()> {
        let refusal = match self.settings.by_name.get(other) {
            None => {
                let near = nearest(other, self.settings.by_name.keys().map(String::as_str));
                format!("{name}: ${{{other}}} is no setting{near}")
            }
            Some(setting) if setting.secret.is_some() => {
                format!(
                    "{name}: ${{{other}}} is a secret, and a setting's value can't take one in: name it in the template instead"
                )
            }
            Some(setting) => match self.value(other)? {
                Some(value) => return Ok(value),
                // It is in the list of those that are missing: said once.
                None if !setting.optional => return Err(()),
                None => format!("{name}: ${{{other}}} has no value: set it, or don't refer to it"),
            },
        };
        self.faults.push(fault(refusal));
        Err(())
    }
}

/// A plain scalar with the type its schema asks for: what was typed stays text
/// where text is wanted (`1.10`, `010`, `true`).
pub(super) fn typed(text: &str, schema: &Value) -> Value {
    let value = resolve(text);
    let wants = |kind: &str| match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    };
    let kept = match &value {
        Value::Number(_) => wants("number") || wants("integer"),
        Value::Bool(_) => wants("boolean"),
        _ => true,
    };
    let listed = |value: &Value| match &schema["enum"] {
        Value::Array(values) => values.contains(value),
        _ => false,
    };
    let as_text = || Value::String(text.to_owned());
    // `010` and `.5` are numbers only where a number is asked for.
    if value.is_string()
        && (wants("number") || wants("integer"))
        && !wants("string")
        && let Some(number) = yaml::number(text)
    {
        return Value::Number(serde_json::Number::from_string_unchecked(number));
    }
    if (!kept && wants("string")) || (!listed(&value) && listed(&as_text())) { as_text() } else { value }
}

/// The place of what a JSON pointer names within a value, as far as the file
/// itself has it, and the pointer in words.
fn within(node: &Node, pointer: &str) -> (Option<(usize, usize)>, String) {
    let mut here = Some(node);
    let mut place = Some(node.at);
    let mut words = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        here = match here.map(|node| &node.kind) {
            Some(Kind::Map(entries)) => entries.iter().find(|(key, _)| key.text == step).map(|(_, value)| value),
            Some(Kind::List(items)) => step.parse().ok().and_then(|at: usize| items.get(at)),
            _ => None,
        };
        place = here.map(|node| node.at).or(place);
        match step.parse::<usize>() {
            Ok(at) => words.push_str(&format!("[{at}]")),
            Err(_) => words.push_str(&format!(".{step}")),
        }
    }
    // What is empty has no place of its own.
    let empty = node.text() == Some("");
    (place.filter(|_| !empty), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "
release: 1.0.0
groups:
  G:
    settings:
      DOMAIN: {description: Domain of the platform., schema: {type: string, format: hostname}}
      IP: {description: Address., schema: {type: string, format: ipv4}}
      URL: {schema: {type: string}, default: 'https://${DOMAIN}/'}
      VERSION: {schema: {type: string}, default: 1.10}
      SIZE: {schema: {type: integer, minimum: 1}, default: 20, overridable: true}
      RATIO: {schema: {type: number}, optional: true}
      HOSTS: {schema: {type: array, items: {type: string}}, default: []}
      ANY: {optional: true}
      KEY: {secret: {generate: {bytes: 32, encoding: hex}}}
";

    fn resolve_all(platform: &str) -> Result<Values, String> {
        let (settings, faults) = schema::read(SETTINGS);
        assert_eq!(faults, []);
        let (platform, mut faults) = Platform::read(platform, &settings, &["core-1"]);
        let (values, more) = platform.resolve(&settings, "core-1");
        faults.extend(more);
        crate::fault::Faults(faults).check().map_err(|faults| faults.to_string())?;
        Ok(values)
    }

    const GOOD: &str = "settings:\n  DOMAIN: example.com\n  IP: 192.0.2.1\n";

    #[test]
    fn layers_references_and_spelling() {
        let values = resolve_all(&format!(
            "{GOOD}  RATIO: 3.10\n  HOSTS: [1.10, '${{DOMAIN}}']\nmachines:\n  core-1: {{SIZE: 5}}\n"
        ))
        .unwrap();
        assert_eq!(values["URL"], "https://example.com/");
        assert_eq!(values["VERSION"], "1.10");
        assert_eq!(values["RATIO"].to_string(), "3.10");
        assert_eq!(values["SIZE"].to_string(), "5");
        assert_eq!(values["HOSTS"].to_string(), r#"["1.10","example.com"]"#);
        assert!(!values.contains_key("KEY"));
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let told = resolve_all("settings:\n  DOMIAN: x\n  SIZE: big\n  URL: ${KEY}\n  KEY: x\nmachines:\n  core1: {}\n  core-1: {URL: x}\n").unwrap_err();
        insta::assert_snapshot!(told);
    }

    #[test]
    fn circles_are_printed() {
        let told =
            resolve_all(&format!("{GOOD}  URL: ${{ANY}}\n  ANY: x${{VERSION}}\n  VERSION: ${{URL}}\n")).unwrap_err();
        insta::assert_snapshot!(told);
    }
}
