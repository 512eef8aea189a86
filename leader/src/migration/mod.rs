//! Releases and migrations: what has to change in `platform.yml` between one
//! release and the next, done on a copy, forwards and back. Pure: files in, a
//! new text out.

mod apply;
mod step;

use crate::fault::{Fault, Faults};
use crate::mask::Mask;
use crate::platform::edit::Draft;
use crate::platform::schema;
use crate::render::Machine;
use crate::snippet;
use crate::source::{PLATFORM, Source, TEMPLATES};
use crate::yaml::{self, Node};
use semver::Version;
use serde::{Deserialize, Serialize};
use step::{Bench, Step};
use utoipa::ToSchema;

pub use apply::Outcome;

/// One file of `templates/migrations/`.
#[derive(Debug)]
struct Migration {
    from: Version,
    to: Version,
    steps: Vec<Step>,
}

/// What migrating would make of `platform.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Migrated {
    /// The release that the file is of.
    pub from: String,
    /// The release that it would be of.
    pub to: String,
    /// The releases whose migrations are applied, or undone, in that order.
    pub releases: Vec<String>,
    /// What was done, a sentence each.
    pub done: Vec<String>,
    /// The new text. Stays here: a secret could stand in it by mistake.
    #[serde(skip)]
    pub text: String,
    /// A unified diff of the file, secrets masked.
    pub diff: String,
}

/// Whether `platform.yml` has to be migrated before it fits the release. One
/// without `release:` counts as of the release that was published last, or, on
/// a platform that never published, of the one on disk.
pub fn check(source: &Source, published: Option<&str>) -> Result<(), Faults> {
    if !concerns(source) {
        return Ok(());
    }
    let Releases { release, file, at } = releases(source, published)?;
    let due: Vec<String> = due(&load(source, &release)?, &file, &release).iter().map(|m| m.to.to_string()).collect();
    let fault = |what: String| {
        let fault = Fault::new(PLATFORM, what);
        let mut faults = [at.map_or(fault.clone(), |at| fault.at(at))];
        show(&mut faults, source);
        Err(Faults(faults.to_vec()))
    };
    if file > release {
        return fault(format!(
            "the file was migrated to release {file}, and templates/ is release {release}: put templates/ of {file} back, run lockstep migrate --to {release}, then put templates/ of {release} in place"
        ));
    }
    match due.len() {
        0 => Ok(()),
        1 => fault(format!("the file is of release {file} and has to be migrated to {}: lockstep migrate", due[0])),
        n => fault(format!(
            "the file is of release {file} and needs {n} migrations ({}): lockstep migrate",
            due.join(", ")
        )),
    }
}

/// Migrates a copy: to the release on disk, or another one that its migrations
/// lead to. `Ok(None)`: there is nothing to do.
pub fn migrate(
    source: &Source,
    published: Option<&str>,
    to: Option<&str>,
    machines: &[Machine],
) -> Result<Option<Migrated>, Faults> {
    let text = source.text(PLATFORM)?.unwrap_or_default();
    let (settings, faults) = schema::read(source.text(schema::FILE)?.unwrap_or_default());
    if settings.by_name.is_empty() && !faults.is_empty() {
        return Err(Faults(faults));
    }
    if !concerns(source) && to.is_none() {
        return Ok(None);
    }
    let Releases { release, file, .. } = releases(source, published)?;
    let all = load(source, &release)?;
    let target = match to {
        None => release.clone(),
        Some(to) => version(to).map_err(|what| Fault::new(PLATFORM, format!("--to: {what}")))?,
    };
    if target > release {
        let what = format!("templates/ is release {release} and knows no way to {target}: install that release first");
        return Err(Fault::new(schema::FILE, what).into());
    }
    let mut bench = Bench { draft: Draft::new(PLATFORM, text)?, machines, settings: &settings, done: Vec::new() };
    let mut releases = Vec::new();
    let new = if target >= file {
        for migration in due(&all, &file, &target) {
            migration.steps.iter().try_for_each(|step| step.forward(&mut bench))?;
            releases.push(migration.to.to_string());
        }
        // Where nothing was to be done the file may go on saying what it says.
        due(&all, &file, &target).last().map_or(file.clone(), |last| last.to.clone())
    } else {
        let mut undone = due(&all, &target, &file);
        undone.reverse();
        for migration in undone {
            migration.steps.iter().rev().try_for_each(|step| step.backward(&mut bench))?;
            releases.push(migration.to.to_string());
        }
        target
    };
    if new == file {
        return Ok(None);
    }
    bench.draft.set(&["release"], &Node::text_of(&new.to_string()))?;
    // A secret's value may stand under the name that a setting had when it was none.
    let mut secret = snippet::secret_values(text, &settings);
    secret.append(&mut snippet::secret_values(bench.draft.text(), &settings));
    let mask = Mask::new(&secret);
    let [before, after] = [text, bench.draft.text()].map(|text| mask.text(&snippet::masked(text, &settings)));
    let diff = similar::TextDiff::from_lines(&before, &after);
    let diff = diff.unified_diff().context_radius(2).header("a/platform.yml", "b/platform.yml").to_string();
    Ok(Some(Migrated {
        from: file.to_string(),
        to: new.to_string(),
        releases,
        done: bench.done.iter().map(|done| mask.text(done)).collect(),
        text: bench.draft.text().to_owned(),
        diff,
    }))
}

/// Whether releases matter here: there are migrations, or the file says its release.
fn concerns(source: &Source) -> bool {
    source.files.keys().any(|name| is_migration(name)) || written(source).is_some()
}

fn is_migration(name: &str) -> bool {
    let inner = name.strip_prefix(TEMPLATES).and_then(|name| name.strip_prefix("/migrations/"));
    inner.is_some_and(|name| name.ends_with(".yml") || name.ends_with(".yaml"))
}

fn written(source: &Source) -> Option<Node> {
    let text = source.text(PLATFORM).ok().flatten()?;
    yaml::parse(PLATFORM, text).ok()?.get("release").filter(|node| !node.is_null()).cloned()
}

/// The release on disk, and that of the file.
struct Releases {
    release: Version,
    file: Version,
    /// Where the file says it.
    at: Option<(usize, usize)>,
}

/// The lines under faults; settings are read for that alone.
fn show(faults: &mut [Fault], source: &Source) {
    if faults.is_empty() {
        return;
    }
    let (settings, _) = schema::read(source.text(schema::FILE).ok().flatten().unwrap_or_default());
    snippet::show(faults, |file| source.text(file).ok().flatten().map(str::to_owned), &settings);
}

fn releases(source: &Source, published: Option<&str>) -> Result<Releases, Fault> {
    let settings = yaml::parse(schema::FILE, source.text(schema::FILE)?.unwrap_or_default())?;
    let release = settings.get("release").and_then(Node::text).unwrap_or_default();
    let release = version(release).map_err(|what| Fault::new(schema::FILE, format!("release: {what}")))?;
    let Some(node) = written(source) else {
        let file = published.and_then(|published| version(published).ok()).unwrap_or_else(|| release.clone());
        return Ok(Releases { release, file, at: None });
    };
    let file = version(node.text().unwrap_or_default());
    let file = file.map_err(|what| Fault::new(PLATFORM, format!("release: {what}")).at(node.at))?;
    Ok(Releases { release, file, at: Some(node.at) })
}

/// Whether a text is a release as platform files can name it.
pub fn is_release(text: &str) -> bool {
    version(text).is_ok()
}

fn version(text: &str) -> Result<Version, String> {
    Version::parse(text).map_err(|error| format!("{text:?} is not a release ({error}): write it like 1.4.0"))
}

/// The migrations on the way from one release to a later one.
fn due<'m>(all: &'m [Migration], from: &Version, to: &Version) -> Vec<&'m Migration> {
    all.iter().filter(|migration| migration.to > *from && migration.to <= *to).collect()
}

/// All migrations, in the order of their releases; every mistake in them at once.
fn load(source: &Source, release: &Version) -> Result<Vec<Migration>, Faults> {
    let mut faults = Vec::new();
    let mut all: Vec<(String, Migration)> = Vec::new();
    for name in source.files.keys().filter(|name| is_migration(name)) {
        match source.text(name).map(Option::unwrap_or_default).and_then(|text| yaml::parse(name, text)) {
            Ok(node) => {
                if let Some(migration) = read(name, &node, &mut faults) {
                    all.push((name.clone(), migration));
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    all.sort_by(|(_, a), (_, b)| a.to.cmp(&b.to));
    for pair in all.windows(2) {
        let ((first, one), (second, two)) = (&pair[0], &pair[1]);
        if two.from < one.to {
            let what = format!("from {} to {} overlaps {first} (from {} to {})", two.from, two.to, one.from, one.to);
            faults.push(Fault::new(second, what));
        }
    }
    if let Some((name, last)) = all.last().filter(|(_, last)| last.to > *release) {
        faults.push(Fault::new(name, format!("leads to {}, past this release ({release} in settings.yml)", last.to)));
    }
    show(&mut faults, source);
    Faults(faults).check()?;
    Ok(all.into_iter().map(|(_, migration)| migration).collect())
}

fn read(file: &str, node: &Node, faults: &mut Vec<Fault>) -> Option<Migration> {
    let before = faults.len();
    for (key, _) in node.map().unwrap_or_default() {
        if !["from", "to", "steps", "description"].contains(&key.text.as_str()) {
            let what = format!("unknown key {}: a migration has from, to, steps and, if wanted, description", key.text);
            faults.push(Fault::new(file, what).at(key.at));
        }
    }
    let release =
        |key: &str| match node.get(key) {
            None => Err(Fault::new(file, format!("{key}: is missing: a migration leads from one release to another"))
                .at((1, 1))),
            Some(node) => version(node.text().unwrap_or_default()).map_err(|what| Fault::new(file, what).at(node.at)),
        };
    let ends: Vec<Version> = [release("from"), release("to")]
        .into_iter()
        .filter_map(|end| end.map_err(|fault| faults.push(fault)).ok())
        .collect();
    let mut steps = Vec::new();
    match node.get("steps").map(|steps| (steps, steps.list())) {
        Some((_, Some(items))) => {
            for item in items {
                match Step::read(file, item) {
                    Ok(step) => steps.push(step),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        Some((steps, None)) => faults.push(Fault::new(file, "steps has to be a list").at(steps.at)),
        None => faults.push(Fault::new(file, "steps: is missing").at((1, 1))),
    }
    let [from, to] = <[Version; 2]>::try_from(ends).ok()?;
    if to <= from {
        faults.push(Fault::new(file, format!("to {to} has to be later than from {from}")).at((1, 1)));
    }
    (faults.len() == before).then_some(Migration { from, to, steps })
}

#[cfg(test)]
mod tests;
