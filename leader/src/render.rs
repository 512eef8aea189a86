//! Values + templates + machine to a bundle: a pure function.

use crate::fault::Fault;
use crate::memo::{Ingredients, Memo};
use crate::parallel;
use crate::platform::values::{SecretValues, Values};
use crate::templates::{self, Content, Role, RoleFile, Templates};
use crate::yaml;
use handlebars::{Context, RenderError, RenderErrorReason};
use lockstep_shared::{Bundle, File, Name, SafePath, Sha256};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// A machine as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// Its addresses, as declared.
    pub addresses: Vec<String>,
    /// Where the leader reaches its follower.
    pub url: Option<String>,
}

/// What every machine of a revision sees alike.
#[derive(Debug, Clone, Copy)]
pub struct Common<'s> {
    /// All machines, by name.
    pub machines: &'s [Machine],
    /// The number the revision will have.
    pub revision: u64,
    /// The release of the templates.
    pub release: &'s str,
}

/// A template that nothing is remembered of for its inputs.
struct Missing<'t> {
    /// Which of the role's files it is.
    place: usize,
    /// The hash of its inputs.
    key: Sha256,
    /// What it becomes.
    path: &'t SafePath,
    file: &'t RoleFile,
    /// The settings that it names.
    uses: Option<&'t BTreeSet<String>>,
    /// Whether it takes all there is.
    everything: bool,
}

/// Renders one machine's bundle, or says everything that is wrong with it.
/// `ingredients` are the hashes of the other arguments.
#[allow(clippy::too_many_arguments, reason = "these are all the inputs there are, and they are of seven kinds")]
pub fn bundle(
    templates: &Templates,
    role: &Role,
    machine: &Machine,
    values: &Values,
    secrets: &SecretValues,
    all: Common<'_>,
    ingredients: &Ingredients,
    memo: &mut Memo,
) -> Result<Bundle, Vec<Fault>> {
    let mut known = Vec::with_capacity(role.files.len());
    let mut missing = Vec::new();
    for (path, file) in &role.files {
        let content = match &file.content {
            Content::Verbatim(bytes, sha256) => Some((bytes.clone(), *sha256)),
            Content::Template => match (templates.takes.get(&file.name), templates.hashes.get(&file.name)) {
                (Some(takes), Some(hash)) => {
                    let uses = templates.uses.get(&file.name);
                    // A text that was rendered without being checked is another one.
                    let unchecked = format!("\0{path}");
                    let checked = file.rule.validate != Some(false);
                    let target = if checked { path.as_str() } else { &unchecked };
                    let key = ingredients.key(target, *hash, uses, takes);
                    let content = memo.known(&key);
                    if content.is_none() {
                        missing.push(Missing {
                            place: known.len(),
                            key,
                            path,
                            file,
                            uses,
                            everything: takes.everything,
                        });
                    }
                    content
                }
                // One that didn't compile: its fault is known.
                _ => continue,
            },
        };
        known.push((path, file, content));
    }
    let whole = OnceLock::new();
    let rendered = parallel::each(&missing, |missing| {
        let text = if missing.everything {
            // Whoever takes all there is (`{{json this}}`) gets the secrets that it names, no others.
            let named = |(name, _): &(&String, &String)| missing.uses.is_some_and(|uses| uses.contains(*name));
            let named = secrets.iter().filter(named).map(|(name, value)| (name.clone(), value.clone()));
            let context = Context::from(context(machine, values, &named.collect(), all));
            text(templates, missing.file, missing.path.as_str(), &context)
        } else {
            let whole = whole.get_or_init(|| Context::from(context(machine, values, secrets, all)));
            text(templates, missing.file, missing.path.as_str(), whole)
        };
        text.map(|text| (Sha256::of(text.as_bytes()), Arc::<[u8]>::from(text.into_bytes())))
    });
    let mut faults = Vec::new();
    for (missing, rendered) in missing.iter().zip(rendered) {
        match rendered {
            Ok((sha256, content)) => {
                memo.keep(missing.key, content.clone(), sha256);
                known[missing.place].2 = Some((content, sha256));
            }
            Err(fault) => faults.push(fault),
        }
    }
    let mut files = Vec::with_capacity(known.len());
    for (path, file, content) in known {
        // Without content it has a fault.
        let Some((content, sha256)) = content else { continue };
        files.push(File {
            path: path.clone(),
            mode: file.rule.mode.unwrap_or_default(),
            owner: file.rule.owner,
            sha256,
            content,
            on_change: file.rule.on_change.clone(),
            services: file.rule.services.iter().map(|named| named.service.clone()).collect(),
            containers: file.rule.containers.clone(),
            check: file.rule.check.clone(),
            on_drift: file.rule.on_drift,
            check_in: file.rule.check_in.as_ref().map(|named| named.service.clone()),
            check_seconds: file.rule.check_seconds,
            volume: file.rule.volume.clone(),
        });
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Bundle::new(machine.role.clone(), machine.name.clone(), role.compose.clone(), files)
        .map_err(|bad| vec![Fault::new(format!("templates/{}", machine.role), bad.to_string())])
}

fn context(machine: &Machine, values: &Values, secrets: &SecretValues, all: Common<'_>) -> Value {
    let json = |machine: &Machine| serde_json::to_value(machine).unwrap_or_default();
    let mut context: Map<String, Value> = values.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    context.extend(secrets.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
    context.insert("machine".to_owned(), json(machine));
    context.insert("machines".to_owned(), all.machines.iter().map(json).collect());
    context.insert("revision".to_owned(), all.revision.into());
    context.insert("release".to_owned(), all.release.into());
    Value::Object(context)
}

fn text(templates: &Templates, file: &RoleFile, path: &str, context: &Context) -> Result<String, Fault> {
    let text =
        templates.registry.render_with_context(&file.name, context).map_err(|error| fault_of(&file.name, &error))?;
    let wrong = if file.rule.validate == Some(false) { None } else { wrong_for_extension(path, &text) };
    match wrong {
        None => Ok(text),
        Some((kind, line, column, why)) => {
            let what =
                format!("what this renders is not valid {kind}, in line {line}, column {column} of {path}: {why}");
            Err(Fault::new(&file.name, what))
        }
    }
}

fn fault_of(name: &str, error: &RenderError) -> Fault {
    let why = match error.reason() {
        RenderErrorReason::MissingVariable(Some(name)) => {
            format!(
                "{name} does not exist here (inside {{{{#each}}}} and {{{{#with}}}}, outer names are ../NAME or @root.NAME)"
            )
        }
        RenderErrorReason::NestedError(inner) => inner.to_string(),
        reason => reason.to_string(),
    };
    let unset = templates::unset(&why).map(str::to_owned);
    let mut fault = Fault::new(Templates::file_of(error.template_name.as_deref().unwrap_or(name)), why);
    fault.setting = unset;
    match (error.line_no, error.column_no) {
        (Some(line), Some(column)) => fault.at((line, column)),
        _ => fault,
    }
}

/// Whether a text is what the extension of its path promises.
pub fn is_valid(path: &str, text: &str) -> bool {
    wrong_for_extension(path, text).is_none()
}

/// A rendered text that its own extension promises something else of: the
/// language, line, column and reason. The text itself is never repeated, since
/// secrets may stand in it.
fn wrong_for_extension(path: &str, text: &str) -> Option<(&'static str, usize, usize, String)> {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension)?;
    match extension {
        "json" => {
            let error = serde_json::from_str::<serde::de::IgnoredAny>(text).err()?;
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            Some(("JSON", error.line(), error.column(), why))
        }
        "yml" | "yaml" => {
            let fault = yaml::check(path, text).err()?;
            Some(("YAML", fault.line.unwrap_or(1), fault.column.unwrap_or(1), fault.what))
        }
        "toml" => {
            let error = toml::from_str::<toml::Table>(text).err()?;
            let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Some(("TOML", line, column, error.message().to_owned()))
        }
        _ => None,
    }
}
