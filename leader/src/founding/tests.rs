#![allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]

use super::*;
use crate::source::{PLATFORM, SourceFile};
use crate::store::{DATABASE, KEY, Store};
use crate::who::Actor;
use crate::{config, source};
use lockstep_shared::Name;
use serde_json::json;
use std::fs;
use std::path::Path;

const SETTINGS: &str = "release: 1.0.0
groups:
  G:
    settings:
      DOMAIN: {title: Domain, schema: {type: string}}
      IP: {title: Address, schema: {type: string, format: ipv4}, optional: true, propose: address}
      KEY: {title: Key, secret: true}
";

fn release() -> Source {
    let mut source = Source::default();
    for (name, text) in [
        ("templates/settings.yml", SETTINGS),
        ("templates/web/role.yml", "title: Web\n"),
        ("templates/web/conf/a.hbs", "{{DOMAIN}} {{IP}} {{KEY}}\n"),
        ("templates/cache/conf/b.hbs", "{{#if IP}}{{IP}}{{/if}}\n"),
    ] {
        source.files.insert(name.to_owned(), SourceFile::new(text.as_bytes(), false));
    }
    source
}

fn role(name: &str) -> Vec<Name> {
    vec![Name::new(name).unwrap()]
}

#[test]
fn a_role_needs_what_it_can_t_be_rendered_without() {
    let needs = |platform: &str, roles: &[Name], secrets: &[(String, String)]| {
        let survey = Survey::new(&release(), platform, roles, secrets);
        assert!(survey.faults.is_empty() && survey.doubts.is_empty(), "{:?} {:?}", survey.faults, survey.doubts);
        survey.needs.into_iter().map(|need| need.name).collect::<Vec<_>>()
    };
    assert_eq!(needs("settings: {}\n", &[], &[]), ["DOMAIN"]);
    let given = [("KEY".to_owned(), "a secret".to_owned())];
    assert_eq!(needs("settings: {DOMAIN: x}\n", &role("web"), &[]), ["KEY"]);
    assert_eq!(needs("settings: {DOMAIN: x}\n", &role("web"), &given), ["IP"]);
    assert!(needs("settings: {DOMAIN: x}\n", &role("cache"), &given).is_empty());
    assert!(needs("settings: {DOMAIN: x, IP: 192.0.2.1}\n", &role("web"), &given).is_empty());
}

#[test]
fn what_is_wrong_is_not_asked_for() {
    let survey = Survey::new(&release(), "settings: {DOMAIN: x, IP: here}\n", &role("web"), &[]);
    assert_eq!(survey.faults.len(), 1, "{:?}", survey.faults);
    assert_eq!(survey.faults[0].setting.as_deref(), Some("IP"));
}

fn founding() -> Founding {
    let mut source = release();
    source.files.insert(PLATFORM.to_owned(), SourceFile::new(&b"settings: {DOMAIN: x}\n"[..], false));
    let secrets = vec![("KEY".to_owned(), String::new(), "a secret".to_owned().into())];
    Founding { source, own_templates: false, config: json!({"http": {"tls": true}}), secrets }
}

fn whole(root: &Path) {
    assert_eq!(Standing::look(root).unwrap(), Standing::Platform);
    assert_eq!(fs::read_dir(root).unwrap().count(), 4, "nothing else is left");
    let store = Store::open(&root.join("state")).unwrap();
    assert_eq!(store.last_number().unwrap(), 1);
    assert_eq!(store.secret("KEY", "").unwrap().as_deref(), Some("a secret"));
    assert!(store.authority().unwrap().is_some());
    let source = source::Source::read(&root.join(PLATFORM), &root.join("templates")).unwrap();
    assert!(source == founding().source && source == store.latest().unwrap().unwrap().source);
}

fn going() -> Going {
    Going { roles: vec!["web".to_owned()], service: false, here: None }
}

/// Where it was killed before the mark, everything begins anew; after it, the next one goes on.
#[test]
fn whatever_is_interrupted_is_finished_by_the_next() {
    let actor = Actor::leader();
    let pieces = ["state/store.key", config::FILE, "templates", PLATFORM, "state/store.db"];
    let staged = tempfile::tempdir().unwrap();
    Site::open(staged.path()).unwrap().stage(&founding(), &going(), &actor).unwrap();
    for moved in 0..=pieces.len() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("home");
        let copied = std::process::Command::new("cp").arg("-a").arg(staged.path()).arg(&root).status().unwrap();
        assert!(copied.success());
        let room = root.join(".init-platform");
        for piece in &pieces[..moved] {
            fs::create_dir_all(root.join(piece).parent().unwrap()).unwrap();
            fs::rename(room.join(piece), root.join(piece)).unwrap();
        }
        assert_eq!(Standing::look(&root).unwrap(), Standing::Begun(going()));
        let state = root.join("state");
        if state.join(KEY).exists() && !state.join(DATABASE).exists() {
            assert!(Store::open(&state).is_err(), "no leader starts on half a home");
        }
        let site = Site::open(&root).unwrap();
        site.settle().unwrap();
        site.finish().unwrap();
        whole(&root);
    }
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).unwrap();
    site.stage(&founding(), &going(), &actor).unwrap();
    fs::remove_file(folder.path().join(".init-platform/going.json")).unwrap();
    assert_eq!(Standing::look(folder.path()).unwrap(), Standing::Free);
    site.stage(&founding(), &going(), &actor).unwrap();
    site.settle().unwrap();
    site.finish().unwrap();
    whole(folder.path());
}

#[test]
fn nobody_else_s_files_are_touched() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).unwrap();
    assert!(matches!(Site::open(folder.path()), Err(FoundingError::Busy(_))));
    site.stage(&founding(), &going(), &Actor::leader()).unwrap();
    fs::write(folder.path().join(PLATFORM), b"mine").unwrap();
    assert!(matches!(site.settle(), Err(FoundingError::Occupied(what)) if what == [folder.path().join(PLATFORM)]));
    assert_eq!(fs::read(folder.path().join(PLATFORM)).unwrap(), b"mine");
    assert!(matches!(Standing::look(folder.path()), Ok(Standing::Begun(_))));
}
