//! Every name's value in lockstep: as a setting, with its default from the
//! template platform file, or as a secret. Each is checked to print what the
//! original printed, and made plainer until it does.

use crate::ImportError;
use crate::account::Account;
use crate::documents;
use crate::forms::{self, Form, References};
use crate::hbs::Print;
use crate::js::Js;
use crate::names;
use crate::old::Old;
use crate::table::{Table, Whence, unwrapped};
use crate::vars::Var;
use lockstep_leader::platform::{Platform, schema};
use lockstep_leader::yaml::{Node, spell};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What stands in a default that a person has to replace.
const PLACEHOLDER: &str = "REPLACE_ME";

/// One name's new life.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in lockstep.
    pub(crate) name: String,
    /// How templates print it.
    pub(crate) print: Print,
    /// Its schema, where its type is known.
    pub(crate) schema: Option<Value>,
    /// From the template platform file.
    pub(crate) default: Option<Node>,
    /// What this platform says; `None` where that is nothing or the default.
    pub(crate) given: Option<Node>,
    /// May be unset.
    pub(crate) optional: bool,
    /// Whether it is a secret.
    pub(crate) secret: bool,
    form: Form,
}

/// All names' new lives, and the texts that say so.
pub(crate) struct Values {
    /// By place in the table.
    pub(crate) settings: Vec<Setting>,
    /// `settings.yml`.
    pub(crate) settings_yml: String,
    /// `platform.yml`.
    pub(crate) platform_yml: String,
    /// Secrets' values by their names in lockstep.
    pub(crate) secrets: Vec<(String, String)>,
}

/// Finds them.
pub(crate) fn convert(old: &Old, table: &Table, account: &mut Account) -> Result<Values, ImportError> {
    let names = names::safe(table.entries().keys().map(String::as_str));
    for (old, new) in names.iter().filter(|(old, new)| old != new) {
        account.look(format!("{old:?} can't be a setting's name in lockstep: it is {new} now"));
    }
    let secrets = forms::secrets(table);
    let settings = table.entries().values().enumerate();
    let settings = settings.filter(|(index, entry)| {
        !secrets.contains(index) && !matches!(entry.value, None | Some(Js::Null)) && table.printed(*index).is_ok()
    });
    let references = References { table, names: &names, settings: settings.map(|(index, _)| index).collect() };
    let mut forms: Vec<Form> = table.entries().values().map(|entry| Form::first(entry.value.as_ref())).collect();
    loop {
        let settings = each(old, &references, &forms, &secrets);
        let unspelt = unspelt(&settings);
        if !unspelt.is_empty() {
            plainer(table, &mut forms, unspelt)?;
            continue;
        }
        let settings_yml = documents::settings(old, table, &settings)?;
        let platform_yml = documents::platform(old, table, &settings)?;
        let wrong = wrong(table, &settings, &settings_yml, &platform_yml)?;
        if wrong.is_empty() {
            tell(table, &settings, account);
            let value = |index: usize| {
                let text = table.printed(index).ok()?;
                Some((settings.get(index)?.name.clone(), text.to_string()))
            };
            let secrets = secrets.iter().filter_map(|index| value(*index)).collect();
            return Ok(Values { settings, settings_yml, platform_yml, secrets });
        }
        plainer(table, &mut forms, wrong)?;
    }
}

fn plainer(table: &Table, forms: &mut [Form], wrong: BTreeSet<usize>) -> Result<(), ImportError> {
    for index in wrong {
        if forms[index] == Form::Literal {
            let what = format!("the value of {} can't be written so that lockstep prints it alike", table.name(index));
            return Err(ImportError::Other(what));
        }
        forms[index] = forms[index].plainer();
    }
    Ok(())
}

/// Those whose value has no spelling in YAML.
fn unspelt(settings: &[Setting]) -> BTreeSet<usize> {
    let spelt = |node: &Option<Node>| node.as_ref().is_none_or(|node| spell::block(node, None, true).is_some());
    let all = settings.iter().enumerate();
    all.filter(|(_, it)| !spelt(&it.given) || !spelt(&it.default)).map(|(index, _)| index).collect()
}

fn each(old: &Old, references: &References<'_>, forms: &[Form], secrets: &BTreeSet<usize>) -> Vec<Setting> {
    let all = references.table.entries().iter().enumerate();
    all.map(|(index, (name, entry))| {
        let form = forms[index];
        let safe = references.names.get(name).cloned().unwrap_or_else(|| name.clone());
        let secret = secrets.contains(&index);
        let var = old.platform.setting(name);
        let template = old.template.as_ref().and_then(|template| template.setting(name));
        let nothing = matches!(entry.value, None | Some(Js::Null));
        let optional = [var, template].into_iter().flatten().any(|var| var.optional) || nothing;
        let value = entry.value.clone().unwrap_or(Js::Null);
        let default = template.filter(|_| !secret).and_then(default_of).filter(|default| suits(default, &value, form));
        let default_node = default.as_ref().map(|default| references.node(index, default, form));
        let node = entry.value.as_ref().map(|value| references.node(index, value, form));
        let given = node.filter(|node| match (&default_node, nothing) {
            (Some(default), _) => !default.same(node),
            (None, nothing) => !nothing,
        });
        Setting {
            print: if secret { Print { name: safe.clone(), json: false } } else { forms::print(&safe, &value, form) },
            name: safe,
            schema: if secret { None } else { forms::schema(&value, default.as_ref(), form) },
            default: default_node,
            given: given.filter(|_| !secret),
            // A secret has its value in the store, if it has one.
            optional: if secret { references.table.printed(index).is_err() } else { optional },
            secret,
            form,
        }
    })
    .collect()
}

/// The value that the template platform file has, where it is one.
fn default_of(var: &Var) -> Option<Js> {
    let value = unwrapped(var.value.clone())?;
    (!value.json().contains(PLACEHOLDER)).then_some(value)
}

/// Whether a default may stand beside a value: of the same type, printed alike.
fn suits(default: &Js, value: &Js, form: Form) -> bool {
    let number = |kind| if kind == Some("integer") { Some("number") } else { kind };
    match (form, value) {
        (Form::Literal, _) | (_, Js::Date(_)) => false,
        _ if Form::first(Some(default)) > form => false,
        (Form::Natural, Js::Null) => !matches!(default, Js::Text(_) | Js::Date(_) | Js::Null),
        _ => {
            number(forms::kind(default, form)) == number(forms::kind(value, form))
                && matches!(default, Js::Text(_)) == matches!(value, Js::Text(_))
        }
    }
}

/// The names that lockstep would not print as the original did.
fn wrong(
    table: &Table,
    settings: &[Setting],
    settings_yml: &str,
    platform_yml: &str,
) -> Result<BTreeSet<usize>, ImportError> {
    let (known, mut faults) = schema::read(settings_yml);
    let (platform, more) = Platform::read(platform_yml, &known, &[]);
    faults.extend(more);
    let (values, more) = platform.resolve(&known, "");
    faults.extend(more);
    let mut wrong = BTreeSet::new();
    let by_name: BTreeMap<&str, usize> =
        settings.iter().enumerate().map(|(index, it)| (it.name.as_str(), index)).collect();
    for fault in faults {
        match fault.setting.as_deref().and_then(|name| by_name.get(name)) {
            Some(index) => {
                wrong.insert(*index);
            }
            None => return Err(fault.into()),
        }
    }
    for (index, setting) in settings.iter().enumerate().filter(|(_, setting)| !setting.secret) {
        let Ok(expected) = table.printed(index) else { continue };
        let printed = values.get(&setting.name).and_then(|value| forms::prints(value, &setting.print));
        if printed.as_deref() != Some(&*expected) {
            wrong.insert(index);
        }
    }
    Ok(wrong)
}

fn tell(table: &Table, settings: &[Setting], account: &mut Account) {
    for (index, (name, entry)) in table.entries().iter().enumerate() {
        let setting = &settings[index];
        let Some(value) = &entry.value else {
            account.look(format!("{name} has no value: it is optional and unset"));
            continue;
        };
        let text = value.printed();
        if let Err(why) = table.printed(index) {
            account.look(format!("{name}: {why}; no file uses it, and its text was taken over as it stands"));
            continue;
        }
        if entry.whence == Whence::Platform && text.contains(PLACEHOLDER) {
            account.look(format!("{name} still holds {PLACEHOLDER}: lockstep settings set {}", setting.name));
        }
        let names_others = !table.reached(index).is_empty();
        if setting.secret {
            if names_others {
                account.look(format!(
                    "the secret {} was put together from other names, and doesn't follow them from now on: when one of them changes, lockstep secrets set {}",
                    setting.name, setting.name
                ));
            }
            if (1..4).contains(&table.printed(index).map_or(0, |text| text.chars().count())) {
                account.look(format!(
                    "the secret {} is so short that it can't be masked where files are shown",
                    setting.name
                ));
            }
        } else if setting.form == Form::Literal && names_others {
            account.look(format!(
                "{} named other settings in a way that has no reference in lockstep: it is plain text now, and doesn't follow them",
                setting.name
            ));
        } else if setting.form != Form::Natural && !matches!(value, Js::Text(_)) {
            account
                .look(format!("{} is kept as a text that holds JSON, since only so it prints as before", setting.name));
        }
        if !setting.secret && may_be_secret(name, value) {
            account.maybe_secret(&setting.name);
        }
    }
}

/// Whether a value is likely not meant for everybody's eyes.
fn may_be_secret(name: &str, value: &Js) -> bool {
    let last = name.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit()).rsplit('_').next().unwrap_or_default();
    let telling = ["KEY", "SECRET", "PASS", "PASSWORD", "TOKEN"].contains(&last.to_uppercase().as_str());
    match value {
        Js::Text(_) => telling,
        Js::Map(entries) => entries.iter().any(|(name, value)| may_be_secret(name, value)),
        Js::List(items) => items.iter().any(|item| matches!(item, Js::Map(_)) && may_be_secret("", item)),
        _ => false,
    }
}
