//! A release's templates: every role's tree, compiled and checked as far as
//! that goes without values.

mod analyse;
mod expression;
mod helpers;
mod role;

use crate::fault::Fault;
use crate::source::{Source, SourceFile, TEMPLATES, utf8};
use analyse::Analysis;
use handlebars::{Handlebars, Template};
use lockstep_shared::{Mode, Name, SafePath, Sha256};
use role::Manifest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use analyse::Takes;
pub use expression::Expression;
pub use helpers::{is_known as is_helper, unset};
pub use role::{Named, Rule};

/// The folder with templates that others take in; not a role.
const PARTIALS: &str = "partials";
/// Folders of `templates/` that are no roles.
const NO_ROLES: [&str; 2] = [PARTIALS, "migrations"];

/// All roles of a release.
#[derive(Default)]
pub struct Templates {
    /// Renders by a file's name within the source.
    pub registry: Handlebars<'static>,
    /// By name.
    pub roles: BTreeMap<Name, Role>,
    /// For each template: the settings it names, its partials' included.
    pub uses: BTreeMap<String, BTreeSet<String>>,
    /// For each template: what else its output depends on.
    pub takes: BTreeMap<String, Takes>,
    /// For each template: the hash of its text and of all that it takes in.
    pub hashes: BTreeMap<String, Sha256>,
}

/// One role's tree.
#[derive(Debug, Default)]
pub struct Role {
    /// What `role.yml` calls it, for people; empty: nothing.
    pub title: String,
    /// What `role.yml` says it is, in sentences; empty: nothing.
    pub description: String,
    /// The compose file, where `role.yml` names one.
    pub compose: Option<SafePath>,
    /// By target path.
    pub files: BTreeMap<SafePath, RoleFile>,
    /// What is not wrong in `role.yml` and should be known, in words.
    pub remarks: Vec<String>,
}

/// One file of a role.
#[derive(Debug)]
pub struct RoleFile {
    /// Its name within the source.
    pub name: String,
    /// Rendered, or sent byte for byte.
    pub content: Content,
    /// What `role.yml` says of it, over the file's own mode.
    pub rule: Rule,
}

/// Where a file's bytes come from.
#[derive(Debug)]
pub enum Content {
    /// From the template of the same name.
    Template,
    /// These bytes.
    Verbatim(Arc<[u8]>, Sha256),
}

impl Templates {
    /// Compiles everything in `source`. `settings` are the names a template may use.
    pub fn load(source: &Source, settings: &BTreeSet<&str>) -> (Self, Vec<Fault>) {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        helpers::register(&mut registry);
        let mut loaded = Self { registry, roles: BTreeMap::new(), ..Self::default() };
        let mut faults = Vec::new();
        let mut analysis = Analysis::new(settings);
        let mut by_role: BTreeMap<&str, Vec<(&str, &str, &SourceFile)>> = BTreeMap::new();
        for (name, file) in &source.files {
            let Some((folder, rest)) = name
                .strip_prefix(TEMPLATES)
                .and_then(|rest| rest.strip_prefix('/'))
                .and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            match folder {
                PARTIALS => {
                    if let Some(partial) = rest.strip_suffix(".hbs") {
                        loaded.compile(name, partial, file, &mut analysis, &mut faults);
                    }
                }
                _ if NO_ROLES.contains(&folder) => {}
                role => by_role.entry(role).or_default().push((name, rest, file)),
            }
        }
        for (name, files) in by_role {
            match Name::new(name) {
                Ok(role) => {
                    let tree = loaded.role(name, &files, source, &mut analysis, &mut faults);
                    loaded.roles.insert(role, tree);
                }
                Err(bad) => faults.push(Fault::new(format!("{TEMPLATES}/{name}"), bad.to_string())),
            }
        }
        loaded.takes = analysis.takes();
        loaded.hashes = loaded.takes.iter().map(|(name, takes)| (name.clone(), hash(source, takes))).collect();
        let (uses, more) = analysis.finish();
        loaded.uses = uses;
        faults.extend(more);
        (loaded, faults)
    }

    fn role(
        &mut self,
        role: &str,
        files: &[(&str, &str, &SourceFile)],
        source: &Source,
        analysis: &mut Analysis<'_>,
        faults: &mut Vec<Fault>,
    ) -> Role {
        let manifest_name = format!("{TEMPLATES}/{role}/role.yml");
        let manifest = match source.text(&manifest_name) {
            Ok(Some(text)) => Manifest::read(&manifest_name, text, faults),
            Ok(None) => Manifest::default(),
            Err(fault) => {
                faults.push(fault);
                Manifest::default()
            }
        };
        let Manifest { title, description, compose, .. } = &manifest;
        let mut tree = Role {
            title: title.clone(),
            description: description.clone(),
            compose: compose.clone(),
            ..Role::default()
        };
        for (name, rest, file) in files.iter().filter(|(_, rest, _)| *rest != "role.yml") {
            let target = match SafePath::new(rest.strip_suffix(".hbs").unwrap_or(rest)) {
                Ok(target) => target,
                Err(bad) => {
                    faults.push(Fault::new(*name, bad.to_string()));
                    continue;
                }
            };
            let content = if rest.ends_with(".hbs") {
                self.compile(name, name, file, analysis, faults);
                Content::Template
            } else {
                Content::Verbatim(file.bytes.clone(), file.sha256)
            };
            let mut rule = manifest.rule(&target);
            if file.executable {
                rule.mode = rule.mode.or(Mode::try_from("0755".to_owned()).ok());
            }
            if let Some(other) = tree.files.get(&target) {
                let what = format!("{} and {name} both become {target}: remove one of them", other.name);
                faults.push(Fault::new(*name, what));
                continue;
            }
            tree.files.insert(target, RoleFile { name: (*name).to_owned(), content, rule });
        }
        if let Some(compose) = &tree.compose
            && !tree.files.contains_key(compose)
        {
            faults.push(Fault::new(&manifest_name, format!("compose: {compose} is not among the role's files")));
        }
        tree.remarks = manifest.idle(&manifest_name, &tree.files);
        tree
    }

    /// Compiles a template under the name that `{{> ...}}` or rendering uses.
    fn compile(
        &mut self,
        file: &str,
        name: &str,
        source: &SourceFile,
        analysis: &mut Analysis<'_>,
        faults: &mut Vec<Fault>,
    ) {
        let text = match utf8(file, &source.bytes) {
            Ok(text) => text,
            Err(fault) => return faults.push(fault),
        };
        match Template::compile_with_name(text, name.to_owned()) {
            Ok(mut template) => {
                analysis.template(file, name, &mut template);
                self.registry.register_template(name, template);
            }
            Err(error) => {
                let fault =
                    Fault::new(file, format!("not a Handlebars template: {}", syntax(&error.reason().to_string())));
                faults.push(match error.pos() {
                    Some(at) => fault.at(within(text, at)),
                    None => fault,
                });
            }
        }
    }

    /// The file that a compiled template's name stands for.
    pub fn file_of(name: &str) -> String {
        if name.starts_with("templates/") { name.to_owned() } else { format!("{TEMPLATES}/{PARTIALS}/{name}.hbs") }
    }
}

fn hash(source: &Source, takes: &Takes) -> Sha256 {
    let files = takes.templates.iter().filter_map(|name| source.files.get(&Templates::file_of(name)));
    let hashes: Vec<u8> = files.flat_map(|file| file.sha256.0).collect();
    Sha256::of(&hashes)
}

/// A place in a text: what is missed at its very end is told where its last words stand.
fn within(text: &str, at: (usize, usize)) -> (usize, usize) {
    let text = text.trim_end();
    let (lines, last) = (text.lines().count().max(1), text.lines().last().unwrap_or_default());
    if at.0 > lines { (lines, last.chars().count().max(1)) } else { at }
}

/// What the parser would have taken is a list of its own rule names: said in words instead.
fn syntax(reason: &str) -> String {
    match reason.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(last) if !last.contains("expected") => last.trim_start_matches("= ").to_owned(),
        _ => "a {{#block}} that is not closed, or a tag that is not complete".to_owned(),
    }
}
