//! The command line as a whole: doctor, contexts, logs, help, references.

use crate::harness::{BINARY, Platform, repository, text, write};
use lockstep_edge::clock;
use lockstep_shared::api::{State, Status};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.template("core/app/conf/a.conf", "a\n");
    platform
}

/// The configuration of the leader with something changed.
fn configure(platform: &Platform, change: impl FnOnce(&mut Value)) {
    let file = platform.leader_root().join("config-leader/conf/config-leader.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
}

fn lockstep(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_references_are_what_the_program_says() {
    let settings = repository().join("templates/settings.yml");
    for (file, arguments) in
        [("docs/commands.md", &["reference"][..]), ("docs/settings.md", &["reference", settings.to_str().unwrap()])]
    {
        let output = lockstep(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let written = fs::read_to_string(repository().join(file)).unwrap_or_default();
        assert!(written == text(&output.stdout), "{file} is not what the program says: run scripts/reference");
    }
}

/// What a configuration may hold at a place, as its own error says it.
fn keys(side: &str, file: &Path, config: &Value) -> Vec<String> {
    fs::write(file, config.to_string()).unwrap();
    let root = file.ancestors().nth(3).unwrap().to_str().unwrap();
    let output = lockstep(&[side, "--root", root]);
    let said = text(&output.stderr);
    let expected = said.split("expected").nth(1).unwrap_or_else(|| panic!("{config}: {said}"));
    let names = expected.lines().next().unwrap().split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_configuration_files_is_described() {
    let described: String = ["files.md", "protocol.md", "rollouts.md"]
        .map(|page| fs::read_to_string(repository().join("docs").join(page)).unwrap())
        .concat();
    let home = tempfile::tempdir().unwrap();
    let mut all = 0;
    let follower = json!({"url": "http://127.0.0.1:1", "name": "a", "key": "k"});
    for (side, places) in [
        ("leader", &["", "/http", "/admin", "/paths", "/limits", "/notify", "/rollout", "/followers/x"][..]),
        ("follower", &["", "/http", "/leader", "/paths", "/docker", "/limits"]),
    ] {
        let file = home.path().join(format!("config-{side}/conf/config-{side}.json"));
        write(&file, "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for place in places {
            let mut config = if side == "follower" {
                json!({"leader": follower})
            } else {
                json!({"followers": {"x": {"role": "r"}}})
            };
            let mut at = &mut config;
            for part in place.split('/').skip(1) {
                at = &mut at[part];
            }
            at["noSuchKey"] = json!(1);
            for key in keys(side, &file, &config) {
                all += 1;
                assert!(described.contains(&key), "config-{side}.json: {place}/{key} is nowhere in docs/files.md");
            }
        }
    }
    assert!(all > 30, "only {all} keys were looked at");
}

#[test]
fn help_finds_its_way_and_slips_are_told() {
    let help = text(&lockstep(&["--help"]).stdout);
    let place = |words: &str| help.find(words).unwrap_or_else(|| panic!("{words}: {help}"));
    assert!(place("Set up:") < place("Every day:") && place("Every day:") < place("This program:"), "{help}");
    assert!(text(&lockstep(&["help", "exit-codes"]).stdout).contains("3  the fleet didn't follow"));
    assert!(text(&lockstep(&["publish", "--help"]).stdout).contains("Examples:"));
    let slip = lockstep(&["help", "pulbish"]);
    assert_eq!(slip.status.code(), Some(1));
    let slip = lockstep(&["publsh"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(text(&slip.stderr).contains("'publish'"), "{}", text(&slip.stderr));
    let version: Value = serde_json::from_slice(&lockstep(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

/// The findings of one side.
fn findings(output: &Output, side: &str) -> Vec<Value> {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let findings = said["sides"][side].as_array().unwrap().clone();
    for finding in findings.iter().filter(|finding| finding["level"] != "fine") {
        assert_ne!(finding["fix"], "", "{finding}");
    }
    findings
}

fn broken<'f>(findings: &'f [Value], check: &str) -> Option<&'f str> {
    let found = findings.iter().find(|finding| finding["level"] == "broken" && finding["check"] == check);
    found.map(|finding| finding["what"].as_str().unwrap())
}

#[test]
fn the_doctor_finds_what_is_broken_and_nothing_else() {
    let mut platform = platform();
    let nowhere = lockstep(&["doctor", "--root", "/nonexistent"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("init-platform"), "{}", text(&nowhere.stderr));
    // Nothing runs, and another program has the port.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    configure(&platform, |config| config["http"]["port"] = port.into());
    let ill = platform.run(&["doctor", "--json"]);
    assert_eq!(ill.status.code(), Some(1));
    let found = findings(&ill, "leader");
    assert!(broken(&found, "service").unwrap().contains("doesn't run"), "{found:#?}");
    assert!(broken(&found, "ports").unwrap().contains(&port.to_string()), "{found:#?}");
    drop(other);
    configure(&platform, |config| config["http"]["port"] = 0.into());
    platform.start_leader();
    let well = platform.run(&["doctor", "--json"]);
    assert_eq!(well.status.code(), Some(0), "{}", text(&well.stdout));
    assert!(text(&well.stdout).contains("no backup was ever made"));
    platform.good(&["backup", platform.home.path().join("saved").to_str().unwrap()]);
    assert!(platform.good(&["doctor", "--all"]).contains("the last backup is 0 days old"));
    let key = platform.leader_root().join("state/store.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = platform.run(&["doctor"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stdout).contains(&format!("chmod 600 {}", key.display())), "{}", text(&shown.stdout));
}

#[test]
fn the_doctor_looks_at_a_follower_its_leader_and_docker() {
    let mut platform = platform();
    platform.start_leader();
    let root = platform.follower_root("core-1");
    let doctor = || lockstep(&["doctor", "--json", "--root", root.to_str().unwrap()]);
    platform.write_follower_config("core-1", &platform.leader_url(), &json!({"project": "lockstep-doctor-none"}));
    let found = findings(&doctor(), "follower");
    assert_eq!(broken(&found, "leader"), None, "{found:#?}");
    assert_eq!(broken(&found, "docker"), None, "{found:#?}");
    assert!(broken(&found, "service").is_some(), "{found:#?}");
    let docker = json!({"host": "unix:///nonexistent/docker.sock"});
    platform.write_follower_config("core-1", "http://no-such-host.invalid:1", &docker);
    let found = findings(&doctor(), "follower");
    for check in ["leader", "names", "docker", "service"] {
        assert!(broken(&found, check).is_some(), "{check}: {found:#?}");
    }
    let follower = platform.follower("core-1");
    platform.good(&["wait", "--applied", "latest"]);
    let well = doctor();
    assert_eq!(well.status.code(), Some(0), "{}\n{}", text(&well.stdout), follower.log());
}

#[test]
fn a_clock_that_is_off_is_told() {
    let mut platform = platform();
    platform.start_leader();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = Status { state: State::New, clock: Some(clock::now() - 1200), ..Status::default() };
    let body = serde_json::to_vec(&status).unwrap().into();
    let client = platform.client("core-1");
    let send = client.send(http::Method::POST, "/status", &[], Some(body), crate::harness::PATIENCE);
    assert!(runtime.block_on(send).unwrap().status.is_success());
    let shown = platform.good(&["status"]);
    assert!(shown.contains("20 min behind of the leader's") && shown.contains("timedatectl"), "{shown}");
    let ahead = platform.fleet().machines[0].clock_ahead.unwrap();
    assert!((-1210..=-1195).contains(&ahead), "{ahead}");
}

/// A person's own folder, and commands typed there.
struct Person {
    home: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn types(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).env("XDG_CONFIG_HOME", self.home.path()).env_remove("LOCKSTEP_TOKEN");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn good(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.types(arguments, stdin);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn refused(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.types(arguments, stdin);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

#[test]
fn one_person_steers_several_leaders_by_name() {
    let mut platform = platform();
    configure(&platform, |config| config["admin"] = json!({"port": 0}));
    platform.start_leader();
    let url = crate::api::admin(&platform);
    let token = crate::api::token(&platform, "zoe", &["read"]);
    let zoe = Person::new();
    assert!(zoe.refused(&["context", "add", "prod", &url], "").contains("a token is needed"));
    assert!(zoe.refused(&["context", "add", "prod", &url], "lockstep_wrong").contains("nothing was added"));
    let other = zoe.refused(&["context", "add", "prod", &platform.leader_url()], &token);
    assert!(other.contains("listener for followers") && other.contains("nothing was added"), "{other}");
    zoe.good(&["context", "add", "prod", &url], &token);
    let file = zoe.home.path().join("lockstep/contexts.toml");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = zoe.good(&["context", "list"], "") + &zoe.good(&["context", "list", "--json"], "");
    assert!(listed.contains(&url) && !listed.contains(&token), "{listed}");
    assert!(zoe.good(&["--context", "prod", "status"], "").contains("core-1"));
    assert!(zoe.refused(&["--context", "test", "status"], "").contains("there are prod"));
    zoe.good(&["context", "use", "prod"], "");
    assert!(zoe.good(&["status"], "").contains("core-1"));
    assert!(zoe.good(&["context", "show"], "").contains("it answers"));
    // Who says --root means this machine.
    let root = zoe.home.path().to_str().unwrap();
    assert!(zoe.refused(&["status", "--root", root], "").contains("no leader answers"));
    assert!(zoe.refused(&["--context", "prod", "backup", "x"], "").contains("leave out"));
    zoe.good(&["context", "remove", "prod"], "");
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));
    let kept = zoe.home.path().join("token");
    write(&kept, &token);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    zoe.good(&["context", "add", "prod", &url, "--token-file", kept.to_str().unwrap()], "");
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));
    assert!(zoe.good(&["--context", "prod", "history"], "").contains("revision"));
}

#[test]
fn a_leaders_own_authority_is_compared_once_and_pinned() {
    let mut platform = platform();
    configure(&platform, |config| config["admin"] = json!({"port": 0, "tls": true}));
    platform.start_leader();
    let url = crate::api::admin(&platform);
    assert!(url.starts_with("https://"), "{url}");
    let token = crate::api::token(&platform, "zoe", &["read"]);
    let zoe = Person::new();
    let said = zoe.refused(&["context", "add", "prod", &url], &token);
    assert!(said.contains("--ca-fingerprint") && said.contains("lockstep ca show"), "{said}");
    let fingerprint = said.split("authority ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let said = zoe.refused(&["context", "add", "prod", &url, "--ca-fingerprint", "0000-0000-0000-0000"], &token);
    assert!(said.contains("Nothing was sent"), "{said}");
    zoe.good(&["context", "add", "prod", &url, "--ca-fingerprint", &fingerprint], &token);
    assert!(zoe.good(&["--context", "prod", "status"], "").contains("core-1"));
    assert!(zoe.good(&["context", "list"], "").contains(&fingerprint));
    // Another platform's leader at the same address is not believed.
    let port = url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    platform.stop_leader();
    let mut other = self::platform();
    configure(&other, |config| config["admin"] = json!({"port": port, "tls": true}));
    other.start_leader();
    let said = zoe.refused(&["--context", "prod", "status"], "");
    assert!(said.contains("another authority"), "{said}");
}

#[test]
fn logs_are_read_where_they_are_and_known_of_elsewhere() {
    let mut platform = platform();
    let said = platform.refused(&["logs", "nginx"]);
    assert!(said.contains("containers run on followers' machines"), "{said}");
    let log = platform.leader_root().join("config-leader/log/config-leader.log");
    write(&log, "2026-01-01T00:00:00Z  INFO old\n2026-01-01T00:00:01Z  INFO new\n");
    assert_eq!(platform.good(&["logs", "-n", "1"]), "2026-01-01T00:00:01Z  INFO new\n");
    assert_eq!(platform.good(&["logs", "leader", "--since", "1h"]), "");
    platform.start_leader();
    let _core = platform.follower("core-1");
    platform.good(&["wait", "--applied", "latest"]);
    let known = platform.run(&["logs", "--machine", "core-1"]);
    assert!(text(&known.stderr).contains("on core-1: lockstep logs follower"), "{}", text(&known.stderr));
    assert!(platform.refused(&["logs", "--machine", "nope"]).contains("there are core-1"));
}

#[test]
fn what_prints_a_table_prints_json() {
    let mut platform = platform();
    platform.start_leader();
    let _core = platform.follower("core-1");
    platform.publish();
    for command in [
        &["status"][..],
        &["plan"],
        &["history"],
        &["show", "1"],
        &["blame", "X"],
        &["rollout"],
        &["settings", "list"],
        &["secrets", "list"],
        &["access", "list"],
        &["tokens", "list"],
        &["followers", "list"],
        &["audit"],
        &["audit", "--verify"],
        &["doctor"],
        &["upgrade"],
        &["validate"],
        &["notify"],
        &["wait", "--applied", "latest"],
        &["wait", "--ready"],
        &["publish", "--yes"],
    ] {
        let output = platform.run(&[command, &["--json"]].concat());
        if output.status.success() {
            let document: Result<Value, _> = serde_json::from_slice(&output.stdout);
            assert!(document.is_ok(), "{command:?}: {}", text(&output.stdout));
        } else {
            assert!(output.stdout.is_empty() && output.status.code() == Some(1), "{command:?}");
        }
    }
    let upgrade: Value = serde_json::from_str(&platform.good(&["upgrade", "--json"])).unwrap();
    assert_eq!((&upgrade["last_run"], &upgrade["steps"]), (&upgrade["version"], &json!([])));
}
