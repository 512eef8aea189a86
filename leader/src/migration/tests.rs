use super::*;
use crate::platform::Platform;
use crate::source::SourceFile;

/// What release 2.0.0 describes.
const SETTINGS: &str = "release: 2.0.0
groups:
  G:
    settings:
      DOMAIN: {schema: {type: string, format: hostname}}
      HOME: {schema: {type: string}, default: x}
      TIMEOUT: {schema: {type: string, format: duration}, default: 30s, overridable: true}
      UPLOAD: {schema: {type: integer}, default: 50, overridable: true}
      HOSTS: {schema: {type: array, items: {type: string}}, default: []}
      DB_HOST: {schema: {type: string}, default: db}
      DB_PORT: {schema: {type: integer}, default: 5432}
      WORKERS: {schema: {type: integer}, default: 1, overridable: true}
      LOG: {schema: {enum: [info, debug]}, default: info}
";

const TO_1_1: &str = "from: 1.0.0
to: 1.1.0
description: Names that say what they mean.
steps:
  - rename: NAME
    to: DOMAIN
  - default: UPLOAD
    was: 20
    keep: true
  - default: LOG
    was: debug
";

const TO_2_0: &str = "from: 1.1.0
to: 2.0.0
steps:
  - convert: TIMEOUT
    with: '{{concat value \"s\"}}'
    back: '{{replace value \"s\" \"\"}}'
  - convert: HOSTS
    with: '{{json (split value \",\")}}'
    back: '{{join value \",\"}}'
  - split: DB
    into:
      DB_HOST: '{{lookup (split value \":\") 0}}'
      DB_PORT: '{{lookup (split value \":\") 1}}'
    back: '{{DB_HOST}}:{{DB_PORT}}'
  - move: WORKERS
    to: machines
    role: core
  - delete: OLD
";

const PLATFORM_1_0: &str = "# ours
settings:
  NAME: example.com   # the domain
  HOME: https://${NAME}/ # and $${NAME} stays
  TIMEOUT: 10 # seconds

  # two of them
  HOSTS: a.${NAME},b
  DB: db.example.com:5433
  WORKERS: 4
  OLD: gone
machines:
  core-1: {TIMEOUT: 20}
";

fn source(platform: &str, migrations: &[(&str, &str)]) -> Source {
    let mut source = Source::default();
    let mut add = |name: String, text: &str| {
        source.files.insert(name, SourceFile::new(text.as_bytes(), false));
    };
    add(PLATFORM.to_owned(), platform);
    add(schema::FILE.to_owned(), SETTINGS);
    for (name, text) in migrations {
        add(format!("templates/migrations/{name}.yml"), text);
    }
    source
}

const ALL: &[(&str, &str)] = &[("two", TO_2_0), ("one", TO_1_1)];

fn machines() -> Vec<Machine> {
    let machine = |name: &str, role: &str| Machine {
        name: lockstep_shared::Name::new(name).unwrap(),
        role: lockstep_shared::Name::new(role).unwrap(),
        addresses: Vec::new(),
        url: None,
    };
    vec![machine("core-1", "core"), machine("core-2", "core"), machine("web-1", "web")]
}

fn told(platform: &str, migrations: &[(&str, &str)], to: Option<&str>) -> String {
    migrate(&source(platform, migrations), Some("1.0.0"), to, &machines()).unwrap_err().to_string()
}

#[test]
fn a_chain_forwards_and_back() {
    let there = migrate(&source(PLATFORM_1_0, ALL), Some("1.0.0"), None, &machines()).unwrap().unwrap();
    insta::assert_snapshot!(format!("{}\n\n{}", there.done.join("\n"), there.text));
    assert_eq!(there.releases, ["1.1.0", "2.0.0"]);
    // What comes out fits the release.
    let (settings, _) = schema::read(SETTINGS);
    let (platform, faults) = Platform::read(&there.text, &settings, &["core-1", "core-2", "web-1"]);
    assert_eq!(faults, []);
    assert_eq!(platform.wrong(&settings), []);
    let migrated = source(&there.text, ALL);
    check(&migrated, Some("1.0.0")).unwrap();
    assert_eq!(migrate(&migrated, Some("1.0.0"), None, &machines()).unwrap(), None, "once is enough");
    // One after the other is the same.
    let half = migrate(&source(PLATFORM_1_0, ALL), Some("1.0.0"), Some("1.1.0"), &machines()).unwrap().unwrap();
    assert_eq!(half.releases, ["1.1.0"]);
    let rest = migrate(&source(&half.text, ALL), None, None, &machines()).unwrap().unwrap();
    assert_eq!(rest.text.lines().collect::<std::collections::BTreeSet<_>>(), there.text.lines().collect());
    // Back: as it was, but for what was deleted, and the release.
    let back = migrate(&migrated, None, Some("1.0.0"), &machines()).unwrap().unwrap();
    assert_eq!(back.releases, ["2.0.0", "1.1.0"]);
    insta::assert_snapshot!(back.text);
}

#[test]
fn a_list_that_became_text_is_a_list_again() {
    let step = "from: 1.1.0\nto: 2.0.0\nsteps:\n  - convert: HOME\n    with: '{{join value \",\"}}'\n    back: '{{json (split value \",\")}}'\n";
    let listed = "settings:\n  HOME: [a, b]\nrelease: 1.1.0\n";
    let there = migrate(&source(listed, &[("two", step)]), None, None, &machines()).unwrap().unwrap();
    assert_eq!(there.text, "settings:\n  HOME: a,b\nrelease: 2.0.0\n");
    let back = migrate(&source(&there.text, &[("two", step)]), None, Some("1.1.0"), &machines()).unwrap().unwrap();
    assert_eq!(back.text, "settings:\n  HOME:\n    - a\n    - b\nrelease: 1.1.0\n");
}

#[test]
fn a_file_that_is_behind_or_ahead_is_refused() {
    let refused =
        |platform: &str, published: Option<&str>| check(&source(platform, ALL), published).unwrap_err().to_string();
    let mut all = refused(PLATFORM_1_0, Some("1.0.0"));
    all = format!("{all}\n{}", refused(PLATFORM_1_0, Some("1.1.0")));
    all = format!("{all}\n{}", refused("settings:\nrelease: 1.0.5\n", None));
    all = format!("{all}\n{}", refused("release: 3.0.0\n", Some("1.0.0")));
    all = format!("{all}\n{}", refused("release: new\n", Some("1.0.0")));
    insta::assert_snapshot!(all);
    // A new platform, and releases without migrations, need none.
    check(&source(PLATFORM_1_0, ALL), None).unwrap();
    check(&source(PLATFORM_1_0, &[]), Some("1.0.0")).unwrap();
    check(&source("release: 2.0.0\n", &[]), Some("1.0.0")).unwrap();
}

#[test]
fn what_cannot_be_done_is_told_and_nothing_is_done() {
    let one_way = TO_2_0.replace("    back: '{{replace value \"s\" \"\"}}'\n", "");
    let ahead = migrate(&source(PLATFORM_1_0, &[("one", TO_1_1), ("two", &one_way)]), Some("1.0.0"), None, &machines());
    let ahead = ahead.unwrap().unwrap().text;
    let mut all = vec![told(&ahead, &[("one", TO_1_1), ("two", &one_way)], Some("1.0.0"))];
    let differing = "release: 2.0.0\nmachines:\n  core-1: {WORKERS: 1}\n  core-2: {WORKERS: 2}\n";
    all.push(told(differing, ALL, Some("1.1.0")));
    all.push(told("settings: {NAME: a, DOMAIN: b}\n", ALL, None));
    all.push(told("settings: {HOSTS: [a]}\nrelease: 1.1.0\n", ALL, None));
    all.push(told("settings: {DB: x}\nrelease: 1.1.0\n", ALL, None));
    all.push(told("release: 2.0.0\nsettings: {DB_HOST: x}\n", ALL, Some("1.0.0")));
    all.push(told("settings: {}\n", ALL, Some("4.0.0")));
    all.push(told("settings: {}\n", ALL, Some("next")));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_value_that_becomes_a_secret_is_shown_under_neither_name() {
    let step = "from: 1.0.0\nto: 2.0.0\nsteps:\n  - rename: PASSWORD_TEXT\n    to: TOKEN\n";
    let mut source = source("settings:\n  PASSWORD_TEXT: canary\n", &[("step", step)]);
    let settings = format!("{SETTINGS}      TOKEN: {{secret: true}}\n");
    source.files.insert(schema::FILE.to_owned(), SourceFile::new(settings.as_bytes(), false));
    let migrated = migrate(&source, Some("1.0.0"), None, &machines()).unwrap().unwrap();
    assert!(migrated.text.contains("TOKEN: canary"));
    assert!(
        migrated.diff.contains("-  PASSWORD_TEXT: \u{2022}") && !migrated.diff.contains("canary"),
        "{}",
        migrated.diff
    );
}

#[test]
fn mistakes_in_migrations_are_told_all_at_once() {
    let wrong = "from: 1.0.0
to: 0.9
stepps: []
steps:
  - renam: A
  - rename: A
  - rename: A
    too: B
  - move: A
    to: elsewhere
  - convert: A
    with: '{{valu}}'
  - split: A
    into: {B: x}
  - delete: []
  - default: A
    was: 1
    keep: perhaps
";
    let overlapping = "from: 1.0.5\nto: 1.5.0\nsteps: []\n";
    let past = "from: 2.0.0\nto: 3.0.0\nsteps: []\n";
    let told = [
        told(PLATFORM_1_0, &[("wrong", wrong)], None),
        told(PLATFORM_1_0, &[("a", TO_1_1), ("b", overlapping), ("c", past)], None),
    ];
    insta::assert_snapshot!(told.join("\n"));
}
