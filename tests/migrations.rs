//! Three invented releases, one after the other and back, through the real binary.

use crate::harness::{Platform, text};
use serde_json::Value;
use std::fs;

/// The settings of a release, and a template that uses them all.
const RELEASES: [(&str, &str, &str); 3] = [
    (
        "1.0.0",
        "NAME: {schema: {type: string}}\n      TIMEOUT: {schema: {type: integer}, default: 10}\n      DB: {schema: {type: string}, default: 'db:5432'}\n      WORKERS: {schema: {type: integer}, default: 1, overridable: true}",
        "{{NAME}} {{TIMEOUT}}s {{DB}} {{WORKERS}}\n",
    ),
    (
        "1.1.0",
        "DOMAIN: {schema: {type: string, format: hostname}}\n      TIMEOUT: {schema: {type: string, format: duration}, default: 10s}\n      DB: {schema: {type: string}, default: 'db:5432'}\n      WORKERS: {schema: {type: integer}, default: 1, overridable: true}",
        "{{DOMAIN}} {{TIMEOUT}} {{DB}} {{WORKERS}}\n",
    ),
    (
        "2.0.0",
        "DOMAIN: {schema: {type: string, format: hostname}}\n      TIMEOUT: {schema: {type: string, format: duration}, default: 30s}\n      DB_HOST: {schema: {type: string}, default: db}\n      DB_PORT: {schema: {type: integer, minimum: 1024}, default: 5432}\n      WORKERS: {schema: {type: integer}, default: 1, overridable: true}",
        "{{DOMAIN}} {{TIMEOUT}} {{DB_HOST}}:{{DB_PORT}} {{WORKERS}}\n",
    ),
];

const MIGRATIONS: [(&str, &str); 2] = [
    (
        "1.1.0",
        "from: 1.0.0\nto: 1.1.0\nsteps:\n  - rename: NAME\n    to: DOMAIN\n  - convert: TIMEOUT\n    with: '{{concat value \"s\"}}'\n    back: '{{replace value \"s\" \"\"}}'\n",
    ),
    (
        "2.0.0",
        "from: 1.1.0\nto: 2.0.0\nsteps:\n  - split: DB\n    into:\n      DB_HOST: '{{lookup (split value \":\") 0}}'\n      DB_PORT: '{{lookup (split value \":\") 1}}'\n    back: '{{DB_HOST}}:{{DB_PORT}}'\n  - default: TIMEOUT\n    was: 10s\n    keep: true\n  - move: WORKERS\n    to: machines\n",
    ),
];

const PLATFORM: &str = "# ours\nsettings:\n  NAME: example.com   # the domain\n  DB: 'db.${NAME}:5433'\n  WORKERS: 4\n";

fn install(platform: &Platform, number: usize) {
    let (release, settings, template) = RELEASES[number];
    platform.template("settings.yml", format!("release: {release}\ngroups:\n  G:\n    settings:\n      {settings}\n"));
    platform.template("core/app/conf/a.conf.hbs", template);
    for (to, text) in &MIGRATIONS[..number] {
        platform.template(&format!("migrations/{to}.yml"), text);
    }
}

fn file(platform: &Platform) -> String {
    fs::read_to_string(platform.leader_root().join("platform.yml")).unwrap()
}

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core"), ("core-2", "core")]);
    install(&platform, 0);
    platform.platform_yml(PLATFORM);
    platform
}

#[test]
fn an_upgrade_over_several_releases_chains() {
    let mut platform = platform();
    platform.good(&["validate"]);
    platform.start_leader();
    install(&platform, 2);
    let mut all = String::new();
    let mut told = |arguments: &[&str]| {
        let output = platform.run(arguments);
        all += &format!("$ {}  [{}]\n", arguments.join(" "), output.status.code().unwrap());
        all += &text(&output.stdout);
        all += &text(&output.stderr);
        all.push('\n');
    };
    told(&["publish", "--yes"]);
    told(&["plan"]);
    told(&["validate"]);
    told(&["migrate"]);
    assert_eq!(file(&platform), PLATFORM, "nothing without a yes");
    told(&["migrate", "--yes"]);
    told(&["migrate"]);
    told(&["publish", "--yes"]);
    insta::assert_snapshot!(all + &file(&platform));
    assert_eq!(platform.fleet().revision, 2);
    // Back, while the newer templates are still there: they know the way.
    platform.good(&["migrate", "--to", "1.0.0", "--yes"]);
    assert!(platform.refused(&["publish", "--yes"]).contains("lockstep migrate"));
    fs::remove_dir_all(platform.leader_root().join("templates")).unwrap();
    install(&platform, 0);
    platform.good(&["publish", "--yes"]);
    let bundle: Value = serde_json::from_str(&platform.good(&["render", "core"])).unwrap();
    assert_eq!(bundle["files"][0]["content"], "example.com 10s db.example.com:5433 4\n");
}

#[test]
fn without_a_leader_and_one_by_one() {
    let platform = platform();
    platform.good(&["publish", "--yes"]);
    for number in [1, 2] {
        install(&platform, number);
        assert!(platform.refused(&["publish", "--yes"]).contains("lockstep migrate"));
        let dry = platform.run(&["migrate", "--dry-run", "--json"]);
        assert_eq!(dry.status.code(), Some(2));
        let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
        assert_eq!(dry["migrated"]["to"], RELEASES[number].0);
        platform.good(&["migrate", "--yes"]);
        platform.good(&["publish", "--yes"]);
    }
    assert!(file(&platform).contains("\nrelease: 2.0.0\n"));
    assert!(platform.good(&["history"]).contains("2.0.0"));
    platform.good(&["settings", "set", "DOMAIN", "elsewhere.example"]);
    // What is done to the files while no leader runs is in the audit as well.
    let audit = platform.good(&["audit", "--json", "--limit", "100"]);
    let audit: Vec<lockstep_leader::audit::Chained> = serde_json::from_str(&audit).unwrap();
    let told = |action: &str, detail: &str| {
        audit.iter().map(|chained| &chained.record).any(|record| {
            record.how.starts_with("offline") && record.action == action && record.detail.contains(detail)
        })
    };
    for (action, detail) in [
        ("publish", "revision 1"),
        ("POST /admin/migration", "release 1.1.0 to 2.0.0"),
        ("publish", "revision 3"),
        ("PUT /admin/settings/{name}", ""),
    ] {
        assert!(told(action, detail), "{action} {detail}: {audit:#?}");
    }
}

#[test]
fn a_value_that_would_not_fit_stops_it() {
    let platform = platform();
    platform.platform_yml(&PLATFORM.replace("5433", "80"));
    platform.good(&["publish", "--yes"]);
    install(&platform, 2);
    let before = file(&platform);
    let said = platform.refused(&["migrate", "--yes"]);
    assert!(
        said.contains("80 is too small: it has to be at least 1024") && said.contains("nothing was written"),
        "{said}"
    );
    assert_eq!(file(&platform), before);
    // A new platform is of the release that is there.
    let fresh = Platform::new(&[("core-1", "core")]);
    install(&fresh, 2);
    fresh.platform_yml("settings: {DOMAIN: example.com}\n");
    fresh.good(&["validate"]);
    fresh.good(&["publish", "--yes"]);
}
