//! One step of a migration: read from its file, done on a draft of
//! `platform.yml`, and undone again where that is possible.

use crate::fault::{Fault, nearest};
use crate::platform::edit::Draft;
use crate::platform::{Settings, wording, words};
use crate::render::Machine;
use crate::templates::Expression;
use crate::yaml::{Key, Node};
use serde_json::{Map, Value, json};

/// What a step does.
#[derive(Debug)]
pub(super) enum Deed {
    /// A setting has another name, in references too.
    Rename { to: String },
    /// The platform's value becomes each machine's own (of a role, if one is named).
    Out { role: Option<String> },
    /// The machines' value, if it is one and the same, becomes the platform's.
    In { role: Option<String> },
    /// The default changed; `keep`: platforms that relied on the old one say it from now on.
    Default { was: Node, keep: bool },
    /// The value is written otherwise.
    Convert { with: Expression, back: Option<Expression> },
    /// The setting is gone.
    Delete { back: Option<Node> },
    /// The value becomes several.
    Split { into: Vec<(String, Expression)>, back: Option<Expression> },
}

/// A step and where it stands.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) deed: Deed,
    file: String,
    at: (usize, usize),
}

/// What steps are done on.
pub(super) struct Bench<'b> {
    pub(super) draft: Draft,
    pub(super) machines: &'b [Machine],
    /// What the release that is migrated to knows; names of releases between are not in it.
    pub(super) settings: &'b Settings,
    /// What was done, a sentence each.
    pub(super) done: Vec<String>,
}

const VERBS: [&str; 6] = ["rename", "move", "default", "convert", "delete", "split"];

impl Step {
    pub(super) fn read(file: &str, node: &Node) -> Result<Self, Fault> {
        let fault = |at, what: String| Err(Fault::new(file, what).at(at));
        let Some(entries) = node.map() else {
            return fault(node.at, format!("a step is a mapping with one of {}", VERBS.join(", ")));
        };
        let Some((verb, name)) = entries.iter().find(|(key, _)| VERBS.contains(&key.text.as_str())) else {
            let near = entries.first().map(|(key, _)| nearest(&key.text, VERBS)).unwrap_or_default();
            return fault(node.at, format!("a step has one of {}{near}", VERBS.join(", ")));
        };
        let known: &[&str] = match verb.text.as_str() {
            "rename" => &["to"],
            "move" => &["to", "role"],
            "default" => &["was", "keep"],
            "convert" => &["with", "back"],
            "delete" => &["back"],
            _ => &["into", "back"],
        };
        if let Some((key, _)) =
            entries.iter().find(|(key, _)| key.text != verb.text && !known.contains(&key.text.as_str()))
        {
            let near = nearest(&key.text, known.iter().copied());
            return fault(key.at, format!("{} takes {}, not {}{near}", verb.text, known.join(" and "), key.text));
        }
        let Some(setting) = name.text().filter(|name| !name.is_empty()) else {
            return fault(name.at, format!("{} wants the name of a setting", verb.text));
        };
        let text = |key: &str| node.get(key).and_then(Node::text);
        let missing = |key: &str| Fault::new(file, format!("{} of {setting} wants {key}", verb.text)).at(verb.at);
        let expression = |key: &str, names: &[&str]| {
            node.get(key)
                .map(|node| Expression::compile(file, node.at, node.text().unwrap_or_default(), names))
                .transpose()
        };
        let deed = match verb.text.as_str() {
            "rename" => Deed::Rename { to: text("to").ok_or_else(|| missing("to:"))?.to_owned() },
            "move" => {
                let role = text("role").map(str::to_owned);
                match text("to") {
                    Some("machines") => Deed::Out { role },
                    Some("platform") => Deed::In { role },
                    _ => return fault(verb.at, format!("move of {setting} wants to: machines or to: platform")),
                }
            }
            "default" => Deed::Default {
                was: node.get("was").ok_or_else(|| missing("was:"))?.clone(),
                keep: match node.get("keep") {
                    None => false,
                    Some(keep) => match keep.bool() {
                        Some(keep) => keep,
                        None => return fault(keep.at, "keep has to be true or false".to_owned()),
                    },
                },
            },
            "convert" => Deed::Convert {
                with: expression("with", &["value"])?.ok_or_else(|| missing("with:"))?,
                back: expression("back", &["value"])?,
            },
            "delete" => Deed::Delete { back: node.get("back").cloned() },
            _ => {
                let Some(parts) = node.get("into").and_then(Node::map).filter(|parts| parts.len() > 1) else {
                    return Err(missing("into: with two or more new names, each with an expression"));
                };
                let part = |(key, node): &(Key, Node)| {
                    let text = node.text().unwrap_or_default();
                    Ok((key.text.clone(), Expression::compile(file, node.at, text, &["value"])?))
                };
                let names: Vec<&str> = parts.iter().map(|(key, _)| key.text.as_str()).collect();
                Deed::Split {
                    into: parts.iter().map(part).collect::<Result<_, Fault>>()?,
                    back: expression("back", &names)?,
                }
            }
        };
        Ok(Self { name: setting.to_owned(), deed, file: file.to_owned(), at: verb.at })
    }

    fn fault(&self, what: String) -> Fault {
        Fault::new(&self.file, what).at(self.at).about(&self.name)
    }

    /// Does it; what platforms don't say is left alone.
    pub(super) fn forward(&self, bench: &mut Bench<'_>) -> Result<(), Fault> {
        let name = self.name.as_str();
        match &self.deed {
            Deed::Rename { to } => self.rename(bench, name, to),
            Deed::Out { role } => self.spread(bench, role.as_deref()),
            Deed::In { role } => self.gather(bench, role.as_deref()),
            Deed::Default { keep: false, .. } => Ok(()),
            Deed::Default { was, keep: true } => {
                if bench.draft.get(&["settings", name]).is_none() {
                    bench.draft.set(&["settings", name], was)?;
                    bench.done.push(format!("{name} keeps {}, which was the default", wording::shown(&was.to_json())));
                }
                Ok(())
            }
            Deed::Convert { with, .. } => self.convert(bench, with, Way::Forward),
            Deed::Delete { .. } => {
                for scope in scopes(&bench.draft) {
                    if let Some(old) = scope.get(&bench.draft, name) {
                        bench.draft.remove(&scope.path(name))?;
                        scope.prune(&mut bench.draft)?;
                        let was = if bench.settings.hides(name) {
                            "••••••••".to_owned()
                        } else {
                            wording::shown(&old.to_json())
                        };
                        bench.done.push(format!("{name} removed{scope}; it was {was}"));
                    }
                }
                Ok(())
            }
            Deed::Split { into, .. } => {
                for scope in scopes(&bench.draft) {
                    let Some(old) = scope.get(&bench.draft, name) else { continue };
                    for (part, expression) in into {
                        let value = self.value(
                            expression,
                            &json!({"value": old.to_json()}),
                            part,
                            bench.settings,
                            Way::Forward,
                        )?;
                        self.free(bench, &scope, part)?;
                        bench.draft.set(&scope.path(part), &value)?;
                    }
                    bench.draft.remove(&scope.path(name))?;
                    let parts: Vec<&str> = into.iter().map(|(part, _)| part.as_str()).collect();
                    bench.done.push(format!("{name} split into {}{scope}", parts.join(", ")));
                }
                Ok(())
            }
        }
    }

    /// Undoes it.
    pub(super) fn backward(&self, bench: &mut Bench<'_>) -> Result<(), Fault> {
        let name = self.name.as_str();
        let no_way = |what: &str| Err(self.fault(format!("{name} was {what}, and this step has no way back (back:)")));
        match &self.deed {
            Deed::Rename { to } => self.rename(bench, to, name),
            Deed::Out { role } => self.gather(bench, role.as_deref()),
            Deed::In { role } => self.spread(bench, role.as_deref()),
            Deed::Default { was, keep } => {
                if *keep && bench.draft.get(&["settings", name]).is_some_and(|now| now.same(was)) {
                    bench.draft.remove(&["settings", name])?;
                    bench.done.push(format!("{name} is the default again"));
                }
                Ok(())
            }
            Deed::Convert { back: Some(back), .. } => self.convert(bench, back, Way::Back),
            Deed::Convert { back: None, .. }
                if scopes(&bench.draft).iter().all(|scope| scope.get(&bench.draft, name).is_none()) =>
            {
                Ok(())
            }
            Deed::Convert { back: None, .. } => no_way("converted"),
            Deed::Delete { back } => {
                if let Some(value) = back
                    && bench.draft.get(&["settings", name]).is_none()
                {
                    bench.draft.set(&["settings", name], value)?;
                    bench.done.push(format!("{name} is there again, with {}", wording::shown(&value.to_json())));
                }
                Ok(())
            }
            Deed::Split { into, back } => {
                for scope in scopes(&bench.draft) {
                    let mut values = Map::new();
                    for (part, _) in into {
                        if let Some(value) = scope.get(&bench.draft, part) {
                            values.insert(part.clone(), value.to_json());
                        }
                    }
                    if values.is_empty() {
                        continue;
                    }
                    let Some(back) = back else { return no_way("split") };
                    if let Some((part, _)) = into.iter().find(|(part, _)| !values.contains_key(part)) {
                        return Err(self.fault(format!(
                            "{part} is not set{scope}, and {name} can't be put together without it: set it first (lockstep settings set {part} VALUE)"
                        )));
                    }
                    let value = self.value(back, &Value::Object(values), name, bench.settings, Way::Back)?;
                    bench.draft.set(&scope.path(name), &value)?;
                    for (part, _) in into {
                        bench.draft.remove(&scope.path(part))?;
                    }
                    bench.done.push(format!("{name} put together again{scope}"));
                }
                Ok(())
            }
        }
    }

    fn rename(&self, bench: &mut Bench<'_>, from: &str, to: &str) -> Result<(), Fault> {
        for scope in scopes(&bench.draft) {
            if scope.get(&bench.draft, from).is_some() {
                self.free(bench, &scope, to)?;
                bench.draft.rename(&scope.path(from), to)?;
                bench.done.push(format!("{from} is called {to}{scope}"));
            }
        }
        let changed = bench.draft.rename_references(from, to)?;
        if changed > 0 {
            bench.done.push(format!(
                "${{{from}}} is ${{{to}}} in {changed} {}",
                if changed == 1 { "place" } else { "places" }
            ));
        }
        Ok(())
    }

    fn convert(&self, bench: &mut Bench<'_>, with: &Expression, way: Way) -> Result<(), Fault> {
        for scope in scopes(&bench.draft) {
            let Some(old) = scope.get(&bench.draft, &self.name) else { continue };
            let value = self.value(with, &json!({"value": old.to_json()}), &self.name, bench.settings, way)?;
            bench.draft.set(&scope.path(&self.name), &value)?;
            let (old, new) = (wording::shown(&old.to_json()), wording::shown(&value.to_json()));
            let how = if bench.settings.hides(&self.name) { String::new() } else { format!(": {old} -> {new}") };
            bench.done.push(format!("{} converted{scope}{how}", self.name));
        }
        Ok(())
    }

    /// The platform's value to the machines that have none of their own.
    fn spread(&self, bench: &mut Bench<'_>, role: Option<&str>) -> Result<(), Fault> {
        let name = self.name.as_str();
        let Some(value) = bench.draft.get(&["settings", name]) else { return Ok(()) };
        let fits = |machine: &&Machine| role.is_none_or(|role| machine.role.as_str() == role);
        let wanted: Vec<&Machine> = bench.machines.iter().filter(fits).collect();
        if wanted.is_empty() {
            let of = role.map(|role| format!(" with role {role}")).unwrap_or_default();
            return Err(self.fault(format!(
                "{name} is to become a value of each machine{of}, but none is declared: declare one in config-leader.json, or unset {name}"
            )));
        }
        for machine in &wanted {
            let path = ["machines", machine.name.as_str(), name];
            if bench.draft.get(&path).is_none() {
                bench.draft.set(&path, &value)?;
            }
        }
        bench.draft.remove(&["settings", name])?;
        let names: Vec<&str> = wanted.iter().map(|machine| machine.name.as_str()).collect();
        bench.done.push(format!("{name} moved to {}", names.join(", ")));
        Ok(())
    }

    /// The machines' common value to the platform.
    fn gather(&self, bench: &mut Bench<'_>, role: Option<&str>) -> Result<(), Fault> {
        let name = self.name.as_str();
        let of_role = |scope: &Scope| {
            role.is_none_or(|role| {
                bench.machines.iter().any(|machine| scope.is(machine.name.as_str()) && machine.role.as_str() == role)
            })
        };
        let scopes: Vec<Scope> =
            scopes(&bench.draft).into_iter().filter(|scope| scope.machine.is_some() && of_role(scope)).collect();
        let found: Vec<(&Scope, Node)> =
            scopes.iter().filter_map(|scope| Some((scope, scope.get(&bench.draft, name)?))).collect();
        let Some((first, value)) = found.first() else { return Ok(()) };
        if let Some((other, _)) = found.iter().find(|(_, node)| !node.same(value)) {
            return Err(self.fault(format!(
                "{name} differs{first} and{other}, but has to be one value for the platform: make them the same first (lockstep settings set {name} VALUE --machine NAME)"
            )));
        }
        if bench.draft.get(&["settings", name]).is_none() {
            bench.draft.set(&["settings", name], value)?;
        }
        for (scope, _) in &found {
            bench.draft.remove(&scope.path(name))?;
            scope.prune(&mut bench.draft)?;
        }
        bench.done.push(format!("{name} moved from {} machines to the platform", found.len()));
        Ok(())
    }

    fn value(
        &self,
        expression: &Expression,
        values: &Value,
        name: &str,
        settings: &Settings,
        way: Way,
    ) -> Result<Node, Fault> {
        let any = Value::Object(Map::new());
        let schema = settings.by_name.get(name).map_or(&any, |setting| &setting.schema);
        let words = expression
            .evaluate(values)
            .map_err(|why| self.fault(format!("{name} can't be made from {values}: {why}")))?;
        // What the earlier release asks for doesn't stand in templates/: a list or mapping is one there too.
        let schema = match serde_json::from_str(&words) {
            Ok(Value::Array(_) | Value::Object(_)) if matches!(way, Way::Back) => &any,
            _ => schema,
        };
        words::read(&words, schema).map_err(|why| self.fault(format!("{name} can't be {words:?}: {why}")))
    }

    fn free(&self, bench: &Bench<'_>, scope: &Scope, name: &str) -> Result<(), Fault> {
        if scope.get(&bench.draft, name).is_none() {
            return Ok(());
        }
        Err(self
            .fault(format!("both {} and {name} are set{scope}: remove one of them from platform.yml first", self.name)))
    }
}

/// Whether a step is done or undone.
#[derive(Clone, Copy)]
enum Way {
    Forward,
    Back,
}

/// Where values stand: for the platform, or for one machine.
struct Scope {
    machine: Option<String>,
}

impl Scope {
    fn path<'p>(&'p self, name: &'p str) -> Vec<&'p str> {
        match &self.machine {
            None => vec!["settings", name],
            Some(machine) => vec!["machines", machine, name],
        }
    }

    fn is(&self, machine: &str) -> bool {
        self.machine.as_deref() == Some(machine)
    }

    fn get(&self, draft: &Draft, name: &str) -> Option<Node> {
        draft.get(&self.path(name))
    }

    /// A machine's section that has become empty goes.
    fn prune(&self, draft: &mut Draft) -> Result<(), Fault> {
        if let Some(machine) = &self.machine {
            draft.prune(&["machines", machine])?;
            draft.prune(&["machines"])?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.machine.as_ref().map_or(Ok(()), |machine| write!(f, " for {machine}"))
    }
}

fn scopes(draft: &Draft) -> Vec<Scope> {
    let machines = draft.get(&["machines"]);
    let names = machines.as_ref().and_then(Node::map).unwrap_or_default();
    let own = names.iter().map(|(key, _)| Scope { machine: Some(key.text.clone()) });
    std::iter::once(Scope { machine: None }).chain(own).collect()
}
