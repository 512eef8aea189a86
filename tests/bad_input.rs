//! What a person gets wrong: each a clear error, and nothing published.

use crate::harness::{Platform, text, write};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// Files that are wrong, each in its own way, laid over a platform that is right.
type Case = (&'static str, fn(&Platform));

const CASES: &[Case] = &[
    ("unknown setting", |p| p.platform_yml("settings:\n  DOMIAN: x\n  DOMAIN: example.com\n")),
    ("missing settings, all of them", |p| p.platform_yml("settings: {}\n")),
    ("wrong type", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  SIZE: big\n")),
    ("wrong format", |p| p.platform_yml("settings:\n  DOMAIN: not a host\n")),
    ("quoted number", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  SIZE: '5'\n")),
    ("reference cycle", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  A: ${B}\n  B: x${C}\n  C: ${A}\n")),
    ("unknown reference", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  A: ${DOMAN}\n")),
    ("a secret pulled in", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  A: ${TOKEN}\n")),
    ("duplicate key", |p| p.platform_yml("settings:\n  DOMAIN: example.com\n  DOMAIN: example.org\n")),
    ("not YAML", |p| p.platform_yml("settings:\n  DOMAIN: \"example.com\n")),
    ("unknown machine", |p| p.platform_yml("settings:\n  DOMAIN: example.com\nmachines:\n  core1: {SIZE: 3}\n")),
    ("not overridable", |p| p.platform_yml("settings:\n  DOMAIN: example.com\nmachines:\n  core-1: {DOMAIN: x.com}\n")),
    ("unknown helper", |p| p.template("core/x.conf.hbs", "ok\n{{uper DOMAIN}}\n")),
    ("unknown name", |p| p.template("core/x.conf.hbs", "{{DOMAINS}}\n")),
    ("unknown name within if", |p| p.template("core/x.conf.hbs", "{{#if NOPE}}x{{/if}}\n")),
    ("unknown name in a branch not taken", |p| p.template("core/x.conf.hbs", "{{#if OPT}}{{NOPE}}{{/if}}\n")),
    ("unset optional printed", |p| p.template("core/x.conf.hbs", "{{OPT}}\n")),
    ("list printed", |p| p.template("core/x.conf.hbs", "{{LIST}}\n")),
    ("outer name within each", |p| p.template("core/x.conf.hbs", "{{#each LIST}}{{DOMAIN}}{{/each}}\n")),
    ("not a template", |p| p.template("core/x.conf.hbs", "{{#if DOMAIN}}\nno end\n")),
    ("a block that nothing ends, in one line", |p| p.template("core/x.conf.hbs", "a {{#if DOMAIN}} b\n\n")),
    ("a name that breaks lines", |p| p.template("core/x\ny.conf", "ok\n")),
    ("partials in a circle", |p| {
        p.template("partials/a.hbs", "{{> b}}");
        p.template("partials/b.hbs", "{{> a}}");
        p.template("core/x.conf.hbs", "{{> a}}\n");
    }),
    ("unknown partial", |p| p.template("core/x.conf.hbs", "{{> nope}}\n")),
    ("renders to invalid JSON", |p| p.template("core/x.json.hbs", "{\"a\": {{DOMAIN}}}\n")),
    ("renders to invalid YAML", |p| p.template("core/x.yml.hbs", "a: {{DOMAIN}}\na: 2\n")),
    ("renders to invalid TOML", |p| p.template("core/x.toml.hbs", "a = {{DOMAIN}}\n")),
    ("template that is not UTF-8", |p| p.template("core/x.conf.hbs", b"ab\n\xff\xfe")),
    ("two files with one target", |p| {
        p.template("core/x.conf", "x");
        p.template("core/x.conf.hbs", "x");
    }),
    ("a link out of the tree", |p| symlink("/etc/passwd", p.leader_root().join("templates/core/x")).unwrap()),
    ("a fifo", |p| {
        let path = p.leader_root().join("templates/core/pipe");
        std::process::Command::new("mkfifo").arg(path).status().unwrap();
    }),
    ("role without templates", |p| fs::remove_dir_all(p.leader_root().join("templates/core")).unwrap()),
    ("role.yml with slips", |p| p.template("core/role.yml", "files:\n  '**': {mode: 777, on_chang: restart}\n")),
    ("settings.yml with a bad schema", |p| {
        p.template("settings.yml", "groups:\n  G:\n    settings:\n      X: {schema: {type: nonsense}}\n");
    }),
    ("no platform.yml", |p| fs::remove_file(p.leader_root().join("platform.yml")).unwrap()),
];

const SETTINGS: &str = "release: 1.0.0
groups:
  G:
    title: All
    settings:
      DOMAIN: {title: Domain, description: Domain of the platform., schema: {type: string, format: hostname}}
      SIZE: {title: Size, schema: {type: integer, minimum: 1}, default: 20, overridable: true}
      A: {title: A, default: a}
      B: {title: B, default: b}
      C: {title: C, default: c}
      OPT: {title: Optional, schema: {type: string}, optional: true}
      LIST: {title: List, schema: {type: array}, default: [1, 2]}
      TOKEN: {title: Token, secret: {generate: {bytes: 32, encoding: hex}}}
";

fn right() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.template("settings.yml", SETTINGS);
    platform.template("core/nginx/conf/nginx.conf.hbs", "{{DOMAIN}} {{TOKEN}}\n");
    platform.platform_yml("settings:\n  DOMAIN: example.com\n");
    platform
}

#[test]
fn every_mistake_has_its_words() {
    let mut all = String::new();
    for (name, spoil) in CASES {
        let platform = right();
        spoil(&platform);
        let said = platform.refused(&["validate"]);
        let _ = writeln!(all, "--- {name}\n{said}");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_compose_file_that_machines_would_not_take_is_not_published() {
    let mut platform = right();
    platform.template("core/pryv.yml", "services:\n  nginx: {image: nginx}\n");
    platform.start_leader();
    let before = platform.fleet();
    let refused = |what: &str| {
        for command in [&["validate"][..], &["plan"], &["publish", "--yes"]] {
            let said = platform.refused(command);
            assert!(said.contains(what), "{command:?}: {said}");
        }
        assert_eq!(platform.fleet().revision, before.revision);
    };
    platform.template("core/role.yml", "files:\n  nginx/**: {check: {in: ngnix, command: [nginx, -t]}}\n");
    refused(
        "core/role.yml:2:26: check of nginx/conf/nginx.conf: pryv.yml has no service ngnix; services there: nginx; did you mean nginx?",
    );
    platform.template("core/role.yml", "files:\n  nginx/**: {services: [nginx]}\n");
    platform.template("core/pryv.yml", "services: [\n");
    refused("core/pryv.yml:2:1: the compose file can't be read: ");
    platform.template("core/pryv.yml", "volumes: {}\n");
    refused("core/pryv.yml:1:1: the compose file has no services: ");
    platform.template("core/role.yml", "files:\n  pryv.yml: {validate: false}\n");
    platform.good(&["validate"]);
}

#[test]
fn a_rule_that_is_for_no_file_is_said() {
    let mut platform = right();
    platform.start_leader();
    platform.template("core/role.yml", "files:\n  '**': {mode: '0640'}\n  nginx/cnf/*.conf: {check: [nginx, -t]}\n");
    let said = "core/role.yml:3:3: nginx/cnf/*.conf matches no file of the role, so this rule does nothing; did you mean nginx/conf/nginx.conf?";
    for command in ["validate", "plan"] {
        let told = text(&platform.run(&[command]).stderr);
        assert!(told.contains(said), "{command}: {told}");
        assert_eq!(told.matches("matches no file").count(), 1, "{command}: {told}");
    }
}

#[test]
fn an_invalid_edit_publishes_nothing() {
    let mut platform = right();
    platform.start_leader();
    let before = platform.fleet();
    for (name, spoil) in CASES.iter().take(12) {
        spoil(&platform);
        let said = platform.refused(&["publish", "--yes"]);
        assert!(!said.is_empty(), "{name}");
        let after = platform.fleet();
        assert_eq!(
            (before.revision, &before.machines[0].wanted),
            (after.revision, &after.machines[0].wanted),
            "{name}"
        );
    }
    let wrong_elsewhere = platform.run(&["plan"]);
    assert_eq!(wrong_elsewhere.status.code(), Some(1));
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let platform = right();
    let mut bomb = "settings:\n  DOMAIN: example.com\n  A: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in [("B", "a"), ("C", "b"), ("OPT", "c"), ("LIST", "d"), ("SIZE", "e")] {
        let anchor = char::from(before.as_bytes()[0] + 1);
        let _ = writeln!(bomb, "  {name}: &{anchor} [{}]", vec![format!("*{before}"); 20].join(", "));
    }
    platform.platform_yml(&bomb);
    assert!(platform.refused(&["validate"]).contains("aliases expanded"));
}

#[test]
fn a_file_with_keys_that_others_can_read_is_refused() {
    let platform = right();
    let config = platform.leader_root().join("config-leader/conf/config-leader.json");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let said = platform.refused(&["leader"]);
    assert!(said.contains("others can read it") && said.contains("chmod 600"), "{said}");
    assert!(!said.contains(platform.key_text("core-1")));
}

#[test]
fn a_taken_port_is_told() {
    let platform = right();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = std::process::Command::new(crate::harness::BINARY)
        .args(["leader", "--root"])
        .arg(platform.leader_root())
        .env("LOCKSTEP_HTTP__PORT", &port)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&port) && said.contains("ss -ltnp"), "{said}");
}

#[test]
fn configuration_slips_are_named() {
    let key = right().key_text("core-1").to_owned();
    let url = format!(r#"{{"followers": {{"core-1": {{"role": "core", "key": "{key}", "url": "127.0.0.1:6000"}}}}}}"#);
    for (wrong, wanted) in [
        (url.as_str(), "followers.core-1.url: \"127.0.0.1:6000\" is not an http:// or https:// address"),
        (r#"{"http": {"port": 7001}, "admin": {}}"#, "http.port and admin.port are both 7001"),
        (r#"{"http": {"prot": 1}}"#, "http.prot: unknown field"),
        (r#"{"http": {"port": "x"}}"#, "http.port: invalid type"),
        (r#"{"followers": {"a b": {"role": "core", "key": "x"}}}"#, "not a usable name"),
        (r#"{"followers": {"a": {"role": "core"}}}"#, "exactly one of \"key\" and \"keyFile\""),
        (r#"{"followers": {"a": {"role": "core", "key": "short"}}}"#, "43 characters of base64url"),
        ("{", "not valid JSON"),
    ] {
        let platform = right();
        let config = platform.leader_root().join("config-leader/conf/config-leader.json");
        write(&config, wrong);
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        for command in ["leader", "validate"] {
            let said = platform.refused(&[command]);
            assert!(said.contains(wanted), "{command}: {wrong}: {said}");
        }
    }
}

#[test]
fn two_followers_at_one_address_are_noted() {
    let platform = Platform::new(&[("core-1", "core"), ("core-2", "core")]);
    platform.template("core/app/conf/a.conf", "a\n");
    platform.write_leader_config(
        &serde_json::json!({"core-1": "http://192.0.2.1:6000", "core-2": "http://192.0.2.1:6000/"}),
    );
    let output = platform.run(&["validate"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: core-1 and core-2 have one url, http://192.0.2.1:6000: "), "{said}");
}
