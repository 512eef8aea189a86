//! What has to be right of a role's compose file, as it is rendered, before
//! anything is published: that machines can read it, and that it has the
//! services which `role.yml` names.

use crate::fault::{Fault, nearest};
use crate::memo::Memo;
use crate::parallel;
use crate::render::Machine;
use crate::source::{TEMPLATES, utf8};
use crate::templates::{Content, Role, RoleFile};
use crate::yaml::{self, Node};
use lockstep_plan::compose_file::{self, BadCompose};
use lockstep_shared::{Bundle, File, Name, SafePath, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The names of a compose file's services; `None` where not all of them stand in it.
pub type Services = Option<Arc<BTreeSet<String>>>;

/// What is wrong with the compose files of `bundles`, which were rendered for those in `wanted`.
pub fn faults(
    roles: &BTreeMap<Name, Role>,
    wanted: &[Machine],
    bundles: &BTreeMap<Name, Arc<Bundle>>,
    memo: &mut Memo,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, role) in roles {
        let machines: Vec<&Machine> = wanted.iter().filter(|machine| machine.role == *name).collect();
        let rendered: Vec<&Arc<Bundle>> = machines.iter().filter_map(|machine| bundles.get(&machine.name)).collect();
        let files: BTreeMap<Sha256, &File> =
            rendered.iter().filter_map(|bundle| bundle.compose_file()).map(|file| (file.sha256, file)).collect();
        let Some(path) = files.values().next().map(|file| &file.path) else { continue };
        let Some(template) = role.files.get(path).filter(|file| file.rule.validate != Some(false)) else { continue };
        // Machines may have different services, and role.yml names those of all:
        // only what none of them has is a mistake, so all of them have to be known.
        let mut known = (rendered.len() == machines.len()).then(BTreeSet::new);
        for read in read_all(template, &files, memo) {
            match read {
                Ok(Some(services)) => {
                    if let Some(known) = &mut known {
                        known.extend(services.iter().cloned());
                    }
                }
                Ok(None) => known = None,
                Err(fault) => {
                    known = None;
                    faults.push(fault);
                }
            }
        }
        if let Some(services) = known {
            faults.extend(strangers(&format!("{TEMPLATES}/{name}/role.yml"), role, path, &services));
        }
    }
    faults
}

fn read_all(template: &RoleFile, files: &BTreeMap<Sha256, &File>, memo: &mut Memo) -> Vec<Result<Services, Fault>> {
    let known: Vec<_> = files.iter().map(|(sha256, file)| (*sha256, *file, memo.services(sha256))).collect();
    let new: Vec<_> =
        known.iter().filter(|(.., known)| known.is_none()).map(|(sha256, file, _)| (*sha256, *file)).collect();
    let read = parallel::each(&new, |(_, file)| read(template, file));
    for ((sha256, _), read) in new.iter().zip(&read) {
        if let Ok(services) = read {
            memo.keep_services(*sha256, services.clone());
        }
    }
    known.into_iter().filter_map(|(.., known)| known).map(Ok).chain(read).collect()
}

/// The services of a compose file, or why machines can't use it.
fn read(template: &RoleFile, file: &File) -> Result<Services, Fault> {
    let wrong = |why: &str, (line, column): (usize, usize)| match template.content {
        Content::Verbatim(..) => Fault::new(&template.name, why).at((line, column)),
        // Its lines are not those of the template.
        Content::Template => {
            let what = format!("{why}; this is in line {line}, column {column} of {}, which this renders", file.path);
            Fault::new(&template.name, what)
        }
    };
    let compose = compose_file::read(&file.content).map_err(|bad| {
        let why = |why: &str| format!("the compose file can't be read: {why}");
        match bad {
            BadCompose::Yaml { line, column, why: it } => wrong(&why(&it), (line, column)),
            BadCompose::Deep(line) => wrong(&why(&bad.to_string()), (line, 1)),
            BadCompose::Text => {
                let place = utf8(&template.name, &file.content).err().and_then(|it| it.line.zip(it.column));
                wrong(&why(&bad.to_string()), place.unwrap_or((1, 1)))
            }
        }
    })?;
    // What only this reader refuses, for example a key that stands twice, may do for Compose.
    let documents = yaml::foreign(&template.name, &String::from_utf8_lossy(&file.content));
    let root = documents.as_ref().ok().and_then(|documents| documents.first());
    let several = documents.as_ref().map_or(!compose.services.is_empty(), |documents| documents.len() > 1);
    if several || root.is_some_and(|root| root.get("include").is_some()) {
        return Ok(None);
    }
    let listed = root.and_then(|root| root.get("services"));
    if compose.services.is_empty() && listed.and_then(Node::map).is_none() {
        let what = if listed.is_some() {
            "services: of the compose file is no mapping"
        } else {
            "the compose file has no services"
        };
        let what = format!("{what}: it needs an entry for each service, e.g. services: {{web: {{image: nginx}}}}");
        return Err(wrong(&what, listed.or(root).map_or((1, 1), |node| node.at)));
    }
    Ok(Some(Arc::new(compose.services.into_keys().collect())))
}

/// Where `role.yml` names a service: line and column, under which key, and the name.
type Place<'r> = ((usize, usize), &'r str, &'r str);

/// The services that `role.yml` names for the role's files and that no machine has.
fn strangers(manifest: &str, role: &Role, path: &SafePath, services: &BTreeSet<String>) -> Vec<Fault> {
    let mut found: BTreeMap<Place<'_>, Vec<&SafePath>> = BTreeMap::new();
    for (file, RoleFile { rule, .. }) in &role.files {
        let checked = rule.check_in.iter().map(|named| ("check", named));
        for (key, named) in checked.chain(rule.services.iter().map(|named| ("services", named))) {
            if !services.contains(&named.service) {
                found.entry((named.at, key, &named.service)).or_default().push(file);
            }
        }
    }
    let listed: Vec<&str> = services.iter().map(String::as_str).collect();
    let there =
        if listed.is_empty() { "it has none".to_owned() } else { format!("services there: {}", listed.join(", ")) };
    let fault = |((at, key, service), files): (Place<'_>, Vec<&SafePath>)| {
        let more = match files.len() - 1 {
            0 => String::new(),
            1 => " and 1 more file".to_owned(),
            more => format!(" and {more} more files"),
        };
        let near = nearest(service, listed.iter().copied());
        let what = format!("{key} of {}{more}: {path} has no service {service}; {there}{near}", files[0]);
        Fault::new(manifest, what).at(at)
    };
    found.into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use crate::fault::Faults;
    use crate::memo::Memo;
    use crate::release::{Release, RenderError};
    use crate::render::Machine;
    use crate::secrets::{Drafts, Secrets};
    use crate::source::{PLATFORM, Source, SourceFile};
    use lockstep_shared::Name;

    const SETTINGS: &str = "groups: {G: {settings: {A: {default: [], overridable: true}}}}\n";
    const COMPOSE: &str = "services:\n  nginx: {image: n}\n  api: {image: a}\n";

    fn release(files: &[(&str, &str)]) -> (Release, Vec<Machine>) {
        let mut source = Source::default();
        let all = [(PLATFORM, "machines: {core-2: {A: [worker]}}"), ("templates/settings.yml", SETTINGS)];
        for (name, text) in all.iter().chain(files) {
            source.files.insert((*name).to_owned(), SourceFile::new(text.as_bytes(), false));
        }
        let name = |name: &str| Name::new(name).unwrap();
        let machine = |it| Machine { name: name(it), role: name("core"), addresses: Vec::new(), url: None };
        let machines: Vec<Machine> = ["core-1", "core-2"].map(machine).into();
        (Release::compile(&source, &machines, &mut Memo::default()), machines)
    }

    /// What is wrong with these files of the role core; twice, with a memory.
    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(name, text)| (format!("templates/core/{name}"), *text)).collect();
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let (release, machines) = release(&files);
        let mut memo = Memo::default();
        let mut told = || {
            let mut secrets = Secrets::new([], None, Drafts::Ignored);
            match release.render(&machines, &machines, &mut secrets, 1, &mut memo) {
                Ok(_) => Vec::new(),
                Err(RenderError::Faults(Faults(faults))) => {
                    faults.into_iter().map(|fault| crate::fault::Fault { snippet: None, ..fault }.to_string()).collect()
                }
                Err(other) => vec![other.to_string()],
            }
        };
        let first = told();
        assert_eq!(first, told());
        first
    }

    #[test]
    fn a_service_that_no_machine_has_is_a_mistake() {
        let role =
            "files:\n  nginx/**:\n    check: {in: ngnix, command: [nginx, -t]}\n  app:\n    services: [api, wrker]\n";
        let files = [("role.yml", role), ("nginx/a", ""), ("nginx/b", ""), ("app", "")];
        assert_eq!(wrong(&files), [""; 0], "without a compose file nobody knows");
        let told = [
            "templates/core/role.yml:3:17: check of nginx/a and 1 more file: pryv.yml has no service ngnix; \
             services there: api, nginx; did you mean nginx?",
            "templates/core/role.yml:5:21: services of app: pryv.yml has no service wrker; services there: api, nginx",
        ];
        let with = |compose: &'static str, text: &'static str| wrong(&[&files[..], &[(compose, text)]].concat());
        assert_eq!(with("pryv.yml", COMPOSE), told);
        assert_eq!(with("pryv.yml", "services: {}\n").len(), 3);
        assert_eq!(with("pryv.yml", "include: [other.yml]\n"), [""; 0], "services may come from there");
        assert_eq!(with("pryv.yml", "services: {a: {}}\n---\nservices: {b: {}}\n"), [""; 0]);
    }

    #[test]
    fn services_are_those_that_are_rendered_for_any_machine() {
        let role = "files:\n  app: {check: {in: worker, command: ['true']}, services: [nginx, worker]}\n  b: {services: [worker]}\n  b*: {services: [nginx]}\n  none: {services: [no]}\n";
        let compose = "services:\n  nginx: {image: n}\n{{#each A}}  {{this}}: {image: w}\n{{/each}}";
        let files = |compose| wrong(&[("role.yml", role), ("app", ""), ("b", ""), ("pryv.yml.hbs", compose)]);
        assert_eq!(files(compose), [""; 0]);
        let told = files("services:\n  nginx: {image: n}\n");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("templates/core/role.yml:2:21: check of app: pryv.yml has no service worker"));
    }

    #[test]
    fn a_compose_file_that_no_machine_can_use_is_a_mistake() {
        let verbatim = |text| wrong(&[("compose.yaml", text)]).join("\n");
        let unread = verbatim("a: 1\nservices: [\n");
        assert!(unread.starts_with("templates/core/compose.yaml:3:1: the compose file can't be read: "), "{unread}");
        let example = "it needs an entry for each service, e.g. services: {web: {image: nginx}}";
        let none = format!("the compose file has no services: {example}");
        for (text, at, what) in [
            ("", "1:1", &none),
            ("- a\n", "1:1", &none),
            ("\nversion: '3.5'\n", "2:1", &none),
            ("a: 1\nservices: [a]\n", "2:11", &format!("services: of the compose file is no mapping: {example}")),
        ] {
            assert_eq!(verbatim(text), format!("templates/core/compose.yaml:{at}: {what}"));
        }
        let file = super::File::plain(super::SafePath::new("pryv.yml").unwrap(), &b"services:\n  a: {x: \xe9}\n"[..]);
        let content = super::Content::Verbatim(file.content.clone(), file.sha256);
        let latin =
            super::RoleFile { name: "compose.yaml".to_owned(), content, rule: crate::templates::Rule::default() };
        assert!(
            super::read(&latin, &file)
                .unwrap_err()
                .to_string()
                .starts_with("compose.yaml:2:10: the compose file can't be read: it is not UTF-8")
        );
        assert!(verbatim("services:\n").contains("is no mapping"));
        assert_eq!(verbatim("x-all: &all {web: {image: w}}\nservices: {<<: *all}\n"), "");
        assert_eq!(verbatim("services: {web: !reset {image: w}, web: {image: x}}\n"), "", "Compose says what it takes");
        assert_eq!(
            wrong(&[("pryv.yml.hbs", "version: '3'\n{{#if A}}services: {a: {}}\n{{/if}}")]),
            [format!(
                "templates/core/pryv.yml.hbs: {none}; this is in line 1, column 1 of pryv.yml, which this renders"
            )]
        );
        let role = ("role.yml", "compose: own\nfiles: {x: {services: [no]}}\n");
        assert!(wrong(&[role, ("own.hbs", "services: [\n"), ("x", "")])[0].contains("in line 2, column 1 of own"));
    }

    #[test]
    fn what_need_not_be_valid_and_what_is_published_already_is_not_judged() {
        let free = "files: {pryv.yml: {validate: false}, x: {services: [no]}}\n";
        assert_eq!(wrong(&[("role.yml", free), ("pryv.yml", "services: [\n"), ("x", "")]), [""; 0]);
        let (release, machines) = release(&[("templates/core/pryv.yml", "services: [\n")]);
        let mut secrets = Secrets::new([], None, Drafts::Ignored);
        let rendered = release.as_published().render(&machines, &machines, &mut secrets, 1, &mut Memo::default());
        assert_eq!(rendered.unwrap().len(), 2);
    }
}
