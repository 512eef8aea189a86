//! `lockstep init-platform`: a platform from nothing, gone on with, left alone.

use crate::harness::{BINARY, Process, text, tree, write};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const SETTINGS: &str = "release: 1.2.0
groups:
  G:
    settings:
      DOMAIN: {title: Domain, description: Where it is., schema: {type: string, format: hostname}}
      HOSTS: {title: Hosts, schema: {type: array, items: {type: string}}, default: []}
      IP: {title: Address, schema: {type: string, format: ipv4}, optional: true}
      TOKEN: {title: Token, secret: true, optional: true}
      KEY: {title: Key, secret: {generate: {bytes: 32}}}
";

/// A folder, and in it the home that is to be made, with a small release in place.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = Self { folder, port };
        write(&place.root().join("templates/settings.yml"), SETTINGS);
        write(&place.root().join("templates/web/conf/site.hbs"), "{{DOMAIN}} {{IP}} {{join HOSTS}} {{KEY}}\n");
        write(&place.root().join("templates/cache/conf/a.hbs"), "{{DOMAIN}}{{#if TOKEN}} {{TOKEN}}{{/if}}\n");
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--root").arg(self.root()).stdin(Stdio::null());
        command
    }

    fn init(&self, words: &[&str]) -> Output {
        let listen = self.listen();
        let mut all = vec!["init-platform", "--no-service", "--yes", "--listen", &listen];
        all.extend(words);
        self.command(&all).output().unwrap()
    }

    fn made(&self, words: &[&str]) -> String {
        let output = self.init(words);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.init(words);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr).replace(self.folder.path().to_str().unwrap(), "HOME")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_platform_is_made_that_a_leader_serves_with_tls() {
    let place = Place::new();
    let said =
        place.made(&["--role", "web", "--set", "DOMAIN=example.com", "--set", "IP=192.0.2.1", "--set", "HOSTS=[a, b]"]);
    assert!(said.contains(" is a platform, and revision 1 is published."), "{said}");
    assert!(said.contains("lockstep join-platform ") && said.contains(" --role web"), "{said}");
    let yml = place.read("platform.yml");
    assert!(
        yml.contains("release: 1.2.0\n") && yml.contains("  # Domain: Where it is.\n  DOMAIN: example.com\n"),
        "{yml}"
    );
    let config: Value = serde_json::from_str(&place.read("config-leader/conf/config-leader.json")).unwrap();
    let url = format!("https://{}", place.listen());
    assert_eq!(config, json!({"http": {"ip": "127.0.0.1", "port": place.port, "tls": true}, "addresses": [url]}));
    for (path, wanted) in [
        ("platform.yml", 0o644),
        ("config-leader/conf", 0o700),
        ("config-leader/conf/config-leader.json", 0o600),
        ("state", 0o700),
        ("state/store.db", 0o600),
        ("state/store.key", 0o600),
    ] {
        assert_eq!(mode(&place.root().join(path)), wanted, "{path}");
    }
    assert!(place.command(&["validate"]).output().unwrap().status.success());

    let leader = Process::start(place.command(&["leader"]));
    assert_eq!(leader.ready(), url);
    let made = place.command(&["tokens", "create", "--role", "web", "--json"]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let short = made["fingerprint"].as_str().unwrap();
    assert!(said.contains(short), "people compare this: {short}");
}

#[test]
fn a_platform_that_is_there_is_left_alone() {
    let place = Place::new();
    place.made(&["--set", "DOMAIN=example.com"]);
    let before = tree(&place.root());
    let said = place.made(&["--set", "DOMAIN=other.com", "--role", "web"]);
    assert!(said.contains("is a platform already; nothing was changed"), "{said}");
    assert!(tree(&place.root()) == before);
}

#[test]
fn looking_writes_nothing() {
    let place = Place::new();
    let before = tree(place.folder.path());
    let said = place.made(&["--role", "cache", "--set", "DOMAIN=example.com", "--dry-run"]);
    assert!(said.contains("A new platform in ") && said.contains("  DOMAIN: example.com"), "{said}");
    assert!(tree(place.folder.path()) == before);
    let nowhere = place.folder.path().join("nowhere");
    let mut command = Command::new(BINARY);
    command.args(["init-platform", "--dry-run", "--set", "DOMAIN=example.com", "--listen", &place.listen(), "--root"]);
    let output = command.arg(&nowhere).output().unwrap();
    assert!(output.status.success() && !nowhere.exists(), "{}", text(&output.stderr));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_is_made() {
    let place = Place::new();
    let before = tree(place.folder.path());
    let mut command = place.command(&[
        "init-platform",
        "--no-service",
        "--yes",
        "--listen",
        "127.0.0.1:0",
        "--role",
        "wbe",
        "--role",
        "web",
        "--set",
        "HOSTS=[a",
        "--set",
        "DOMAIN=no domain",
        "--set",
        "TOKEN=typed-secret",
        "--set",
        "DOMIAN=x",
        "--set",
        "IP",
        "--address",
        "http://192.0.2.1",
    ]);
    let output = command.env("LOCKSTEP_SECRET_TOKEN", "abc").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(text(&output.stderr));
    assert!(tree(place.folder.path()) == before);
    // Without a terminal nobody is asked.
    let output = place.command(&["init-platform", "--set", "DOMAIN=example.com"]).output().unwrap();
    assert!(text(&output.stderr).contains("--yes"), "{}", text(&output.stderr));
    let missing = place.refused(&["--role", "web"]);
    assert!(missing.contains("DOMAIN (Domain) is missing: --set DOMAIN=VALUE"), "{missing}");
    let missing = place.refused(&["--role", "web", "--set", "DOMAIN=example.com"]);
    assert!(missing.contains("IP (Address) is missing: --set IP=VALUE"), "{missing}");
    assert!(tree(place.folder.path()) == before);
    let _taken = TcpListener::bind(place.listen()).unwrap();
    let said = place.refused(&["--set", "DOMAIN=example.com"]);
    assert!(said.contains("another program has the port"), "{said}");
}

#[test]
fn values_come_from_flags_files_and_the_environment() {
    let place = Place::new();
    let file = |name: &str, text: &str| {
        let path = place.folder.path().join(name);
        write(&path, text);
        path.to_str().unwrap().to_owned()
    };
    let answers =
        file("answers.yml", "roles: [cache]\nsettings:\n  DOMAIN: from-file.example.com\n  HOSTS: [x, 1.10]\n");
    let (ip, token) = (file("ip", "192.0.2.7\n"), file("token", "a secret from a file\n"));
    let mut command = place.command(&[
        "init-platform",
        "--no-service",
        "--yes",
        "--json",
        "--listen",
        &place.listen(),
        "--answers",
        &answers,
    ]);
    command.args(["--set-file", &format!("IP={ip}"), "--set-file", &format!("TOKEN={token}")]);
    command.env("LOCKSTEP_SETTING_HOSTS", "[never]").env("LOCKSTEP_SETTING_IP", "192.0.2.8");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["new"], &said["next"][0]["role"]), (&json!(true), &json!("cache")));
    let yml = place.read("platform.yml");
    assert!(yml.contains("DOMAIN: from-file.example.com") && yml.contains("IP: 192.0.2.7\n"), "{yml}");
    assert!(yml.contains("    - x\n    - 1.10\n") && !yml.contains("TOKEN") && !yml.contains("never"), "{yml}");
    let listed = place.command(&["secrets", "list", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let token = listed.as_array().unwrap().iter().find(|secret| secret["name"] == "TOKEN").unwrap();
    assert_eq!(token["values"][0]["whence"], "given");
    assert!(!text(&output.stdout).contains("a secret") && !text(&output.stderr).contains("a secret"));
}

#[test]
fn somebody_else_s_files_are_not_overwritten() {
    let place = Place::new();
    write(&place.root().join("platform.yml"), "settings: {}\n");
    let before = tree(&place.root());
    let said = place.refused(&["--set", "DOMAIN=example.com"]);
    assert!(said.contains("there is HOME/home/platform.yml already"), "{said}");
    assert!(tree(&place.root()) == before);
}
