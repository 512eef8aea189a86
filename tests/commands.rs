//! The command line: exit codes, offline work, what is printed.

use crate::harness::{BINARY, Platform, Process, text, tree, until};
use lockstep_shared::Sha256;
use serde_json::Value;
use std::process::Command;

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core"), ("web-1", "web")]);
    platform.settings(&[("DOMAIN", "example.com"), ("OTHER", "1.10")]);
    platform.template("core/app/conf/a.conf.hbs", "{{DOMAIN}} {{machine.name}}\n");
    platform.template("web/nginx/conf/b.conf.hbs", "{{OTHER}}{{#each machines}} {{name}}{{/each}}\n");
    platform
}

#[test]
fn render_is_what_is_served() {
    let mut platform = platform();
    let out = platform.home.path().join("out");
    platform.good(&["render", "web", "--out", out.to_str().unwrap()]);
    assert_eq!(text(&tree(&out)["nginx/conf/b.conf"]), "1.10 core-1 web-1\n");
    let offline: Value = serde_json::from_str(&platform.good(&["render", "core", "--machine", "core-1"])).unwrap();
    platform.start_leader();
    let client = platform.client("core-1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let served =
        runtime.block_on(client.send(http::Method::GET, "/conf/core", &[], None, crate::harness::PATIENCE)).unwrap();
    let served: Value = serde_json::from_slice(&served.body).unwrap();
    assert_eq!((&offline["digest"], &offline["files"]), (&served["digest"], &served["files"]));
    assert!(platform.refused(&["render", "nope"]).contains("roles of this release: core, web"));
}

#[test]
fn plan_says_by_its_exit_code() {
    let mut platform = platform();
    assert_eq!(platform.run(&["plan"]).status.code(), Some(2), "nothing is published yet");
    platform.good(&["publish", "--yes"]);
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0));
    platform.start_leader();
    platform.platform_yml("settings: {DOMAIN: example.org}\n");
    let output = platform.run(&["plan"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stdout));
    let json: Value = serde_json::from_slice(&platform.run(&["plan", "--json"]).stdout).unwrap();
    assert_eq!(json["changes"][0]["machine"], "core-1");
    platform.platform_yml("settings: {DOMIAN: x}\n");
    assert_eq!(platform.run(&["plan"]).status.code(), Some(1));
}

#[test]
fn what_is_published_is_what_was_planned_or_nothing() {
    let mut platform = platform();
    platform.start_leader();
    platform.platform_yml("settings: {DOMAIN: example.org}\n");
    let plan =
        |platform: &Platform| -> Value { serde_json::from_slice(&platform.run(&["plan", "--json"]).stdout).unwrap() };
    let first = plan(&platform)["plan"].as_str().unwrap().to_owned();
    assert_eq!(plan(&platform)["plan"], first.as_str(), "the same plan has the same name");
    let said = platform.refused(&["publish"]);
    assert!(said.contains("there is no terminal") && said.contains(&format!("--plan {first} --yes")), "{said}");
    platform.platform_yml("settings: {DOMAIN: example.net}\n");
    let said = platform.refused(&["publish", "--plan", &first, "--yes"]);
    assert!(said.contains("nothing was published") && said.contains("lockstep plan"), "{said}");
    assert_eq!(platform.fleet().revision, 1);
    let second = plan(&platform)["plan"].as_str().unwrap().to_owned();
    platform.good(&["publish", "--plan", &second, "--yes", "-m", "a new name"]);
    assert_eq!(platform.fleet().revision, 2);
    let said = platform.refused(&["publish", "--plan", &second, "--yes"]);
    assert!(said.contains("nothing was published"), "a plan is published once: {said}");
}

#[test]
fn publishing_without_a_leader_waits_for_it() {
    let mut platform = platform();
    let output = platform.run(&["publish", "--yes"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("no leader is running"), "{}", text(&output.stderr));
    platform.platform_yml("settings: {DOMAIN: example.org}\n");
    let output = platform.run(&["publish", "--yes"]);
    assert!(text(&output.stderr).contains("what this means for containers is not known"), "{}", text(&output.stderr));
    platform.start_leader();
    assert_eq!(platform.fleet().revision, 2);
    assert!(platform.run(&["publish", "--yes"]).status.success(), "nothing to publish is no error");
    assert_eq!(platform.fleet().revision, 2);
    assert!(platform.refused(&["leader"]).contains("in use by another leader"));
}

#[test]
fn commands_that_need_a_leader_say_how_to_start_one() {
    let platform = platform();
    for command in [&["status"][..], &["notify"]] {
        let said = platform.refused(command);
        assert!(said.contains("no leader answers") && said.contains("lockstep leader"), "{said}");
    }
}

#[test]
fn a_leader_that_is_silent_is_told_of() {
    let mut platform = platform();
    platform.start_leader();
    let pid = platform.leader().pid().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, pid.as_str()]).status().unwrap().success());
    signal("-STOP");
    // What changes something is waited for: who gave it up couldn't say whether it was done.
    let mut publish = Command::new(BINARY);
    publish.args(["publish", "--yes", "--root"]).arg(platform.leader_root());
    let publish = Process::start(publish);
    let (status, wait, late) = std::thread::scope(|scope| {
        let wait = scope.spawn(|| platform.run(&["wait", "--applied", "latest"]));
        let late = scope.spawn(|| platform.run(&["wait", "--ready", "--timeout", "0"]));
        (platform.run(&["status"]), wait.join().unwrap(), late.join().unwrap())
    });
    let place = format!("the leader (pid {pid}, HOME/leader/state/leader.sock)");
    for asked in [status, wait] {
        let said = platform.anonymous(&text(&asked.stderr));
        assert_eq!(asked.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{place} takes the connection and doesn't answer")), "{said}");
        assert!(said.contains("lockstep logs leader") && said.contains("lockstep doctor"), "{said}");
    }
    assert_eq!(late.status.code(), Some(3), "{}", text(&late.stderr));
    let told = |log: &str| platform.anonymous(log).contains(&format!("{place} has not answered for 10 s"));
    until("publish says whom it waits for", || told(&publish.log()), || publish.log());
    signal("-CONT");
    let (code, log) = publish.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn secrets_are_rendered_kept_and_never_shown() {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template("settings.yml", "groups:\n  G:\n    settings:\n      TOKEN: {secret: {generate: {bytes: 32, encoding: hex}}}\n      GIVEN: {secret: true}\n");
    platform.template("core/app/conf/s.json.hbs", "{\"token\": \"{{TOKEN}}\", \"given\": \"{{GIVEN}}\"}\n");
    assert!(platform.refused(&["leader"]).contains("LOCKSTEP_SECRET_GIVEN"));
    platform.env("LOCKSTEP_SECRET_GIVEN", "canary-4711-canary");
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.publish();
    let written = text(&tree(&platform.data("core-1"))["app/conf/s.json"]);
    let token = serde_json::from_str::<Value>(&written).unwrap()["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    // The same after a restart; changes show that something changed, not what.
    platform.kill_leader();
    platform.env("LOCKSTEP_SECRET_GIVEN", "canary-0815-canary");
    platform.template("core/app/conf/s.json.hbs", "{\"token\": \"{{TOKEN}}\", \"given\": \"{{GIVEN}}\", \"x\": 1}\n");
    platform.start_leader();
    let plan = platform.run(&["plan"]);
    let shown = text(&plan.stdout) + &text(&plan.stderr) + &platform.leader().log() + &follower.log();
    assert!(shown.contains("s.json"), "{shown}");
    // One that is broken by a secret's value: the error doesn't hold it either.
    platform.template("core/app/conf/s.json.hbs", "{\"token\": {{TOKEN}}, \"given\": {{GIVEN}}}\n");
    let refused = platform.refused(&["publish", "--yes"]);
    let state = tree(&platform.leader_root().join("state"));
    for canary in ["canary-4711-canary", "canary-0815-canary", token.as_str()] {
        assert!(!shown.contains(canary) && !refused.contains(canary), "{shown}\n{refused}");
        for (file, bytes) in &state {
            assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{file}");
        }
    }
}

#[test]
fn the_digest_can_be_computed_by_the_page() {
    let platform = platform();
    let bundle: Value = serde_json::from_str(&platform.good(&["render", "core"])).unwrap();
    let field = |value: &str| format!("{}:{value},", value.len());
    let file = &bundle["files"][0];
    let form = [
        "lockstep-bundle-v1",
        "",
        file["path"].as_str().unwrap(),
        file["mode"].as_str().unwrap(),
        "",
        file["sha256"].as_str().unwrap(),
        "",
        "0",
        "0",
        "0",
    ]
    .map(field)
    .concat();
    assert_eq!(bundle["digest"].as_str().unwrap(), Sha256::of(form.as_bytes()).to_string());
}

#[test]
fn a_missing_secret_is_one_mistake() {
    let platform = platform();
    platform.template(
        "settings.yml",
        "release: 1.0.0\ngroups: {G: {settings: {DOMAIN: {default: a}, OTHER: {default: x}, KEY: {secret: true}}}}\n",
    );
    platform.template("core/app/conf/key.hbs", "{{KEY}} {{json KEY}}\n");
    let said = platform.refused(&["validate"]);
    assert!(said.contains("lockstep secrets set KEY") && said.contains("1 mistake;"), "{said}");
    assert!(!said.contains("does not exist here"), "{said}");
}

#[test]
fn what_works_on_these_files_only_refuses_a_leader_elsewhere() {
    let platform = platform();
    let file = platform.home.path().join("saved");
    let far = ["--url", "https://leader.example.com"];
    for command in [["backup", file.to_str().unwrap()], ["restore", file.to_str().unwrap()], ["secrets", "lock"]] {
        let said = platform.refused(&[&command[..], &far].concat());
        assert!(said.contains("leave out --url"), "{said}");
    }
    assert!(!file.exists());
}

#[test]
fn an_empty_history_says_how_to_begin() {
    let platform = platform();
    assert!(platform.refused(&["history"]).contains("nothing was ever published here"));
    platform.good(&["access", "list"]);
    let output = platform.run(&["history"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
    assert!(text(&output.stderr).contains("nothing is published yet: lockstep publish"), "{}", text(&output.stderr));
}

#[test]
fn waiting_ends_when_the_machines_have_it_or_will_not() {
    let mut platform = platform();
    let late = platform.run(&["wait", "--ready", "--timeout", "0"]);
    assert_eq!(late.status.code(), Some(3), "no leader runs: {}", text(&late.stderr));
    platform.start_leader();
    assert!(platform.good(&["wait", "--ready"]).contains("ready"));
    let _core = platform.follower("core-1");
    platform.good(&["wait", "--ready", "--role", "core"]);
    assert_eq!(
        platform.good(&["wait", "--applied", "latest", "--machine", "core-1"]),
        "1 of 1 machine run revision 1\n"
    );
    let late = platform.run(&["wait", "--applied", "1", "--timeout", "0", "--json"]);
    let said: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!((late.status.code(), &said["applied"]), (Some(3), &Value::Bool(false)), "web-1 is not there: {said}");
    let said = platform.refused(&["wait", "--applied", "1", "--machine", "nope"]);
    assert!(said.contains("there are core-1, web-1"), "{said}");
    let said = platform.refused(&["wait", "--applied", "1", "--role", "nope"]);
    assert!(said.contains("the roles are core, web"), "{said}");
    let said = platform.refused(&["wait", "--applied", "99"]);
    assert!(said.contains("no revision 99") && said.contains("the last is 1"), "{said}");
    // One that begins before the revision is there ends when it has come.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| platform.good(&["wait", "--applied", "2", "--role", "core", "--timeout", "60"]));
        platform.platform_yml("settings: {DOMAIN: example.org}\n");
        platform.good(&["publish", "--yes"]);
        waiting.join().unwrap()
    });
    assert!(waiting.contains("run revision 2"), "{waiting}");
    let said = platform.good(&["rollback", "1", "--yes", "--detach"]);
    assert!(said.contains("published revision 3"), "{said}");
    assert_eq!(platform.run(&["rollback", "2", "--yes", "--wait", "--timeout", "0"]).status.code(), Some(3));
}

#[test]
fn a_backup_is_in_the_audit() {
    let mut platform = platform();
    platform.start_leader();
    let nowhere = platform.home.path().join("no/such/saved");
    let said = platform.refused(&["backup", nowhere.to_str().unwrap()]);
    assert!(said.contains("HOME/no/such is no folder that is there: mkdir -p HOME/no/such"), "{said}");
    let file = platform.home.path().join("saved");
    platform.good(&["backup", file.to_str().unwrap()]);
    let audit = platform.good(&["audit"]);
    assert!(audit.contains("backup") && audit.contains("up to revision 1, with all keys, to"), "{audit}");
    platform.good(&["audit", "--verify"]);
}
