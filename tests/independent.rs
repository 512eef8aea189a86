//! An implementation of docs/protocol.md that shares no code with ours, run
//! against both ends (tests/independent, Python's standard library only).

use crate::harness::{BINARY, Platform, repository, text};
use std::process::Command;

fn python(script: &str, arguments: &[&str]) {
    let output = Command::new("python3")
        .arg(repository().join("tests/independent").join(script))
        .args(arguments)
        .output()
        .expect("there is no python3 here: apt-get install python3, or run scripts/test");
    let said = text(&output.stdout);
    let bad: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(output.status.success(), "{}\n{}", bad.join("\n"), text(&output.stderr));
    assert!(bad.last().is_some_and(|line| line.ends_with(" 0 failed")), "{said}");
}

#[test]
fn agrees_with_itself() {
    python("selftest.py", &[]);
}

#[test]
fn agrees_with_the_leader() {
    let mut platform = Platform::new(&[("core-1", "core"), ("web-1", "web")]);
    platform.settings(&[("DOMAIN", "example.com")]);
    platform.template("core/app/conf/a.conf.hbs", "{{DOMAIN}}\n".repeat(400));
    platform.template("core/app/conf/a b.yml", "x: 1\n");
    platform.template("core/app/conf/c.bin", [0, 255, 1]);
    platform.template("core/app/data/.gitkeep", "");
    platform.template("core/role.yml", "files:\n  app/conf/c.bin: {owner: '0:7', mode: '0600'}\n");
    platform.template("web/nginx/conf/b.json.hbs", "{{json DOMAIN}}\n");
    platform.env("LOCKSTEP_LIMITS__HEADER_SECONDS", "2");
    platform.env("LOCKSTEP_LIMITS__BODY_SECONDS", "2");
    let url = platform.start_leader();
    let report = platform.home.path().join("report.json");
    let status = lockstep_shared::api::Status { version: "1".to_owned(), ..lockstep_shared::api::Status::default() };
    std::fs::write(&report, serde_json::to_vec(&status).unwrap()).unwrap();
    let report = report.to_str().unwrap();
    against(&platform, &url, &["--header-seconds", "2", "--body-seconds", "2", "--status-body", report]);
}

#[test]
fn agrees_with_the_leader_over_tls() {
    let mut platform = Platform::new(&[("core-1", "core"), ("web-1", "web")]);
    platform.settings(&[("DOMAIN", "example.com")]);
    platform.template("core/app/conf/a.conf.hbs", "{{DOMAIN}}\n".repeat(400));
    platform.template("web/nginx/conf/b.json.hbs", "{{json DOMAIN}}\n");
    platform.env("LOCKSTEP_HTTP__TLS", "true");
    let url = platform.start_leader();
    let authority = platform.home.path().join("ca.pem");
    std::fs::write(&authority, platform.good(&["ca", "show", "--pem"])).unwrap();
    against(&platform, &url, &["--authority", authority.to_str().unwrap(), "--only", "GET /conf"]);
}

/// As core-1, beside web-1.
fn against(platform: &Platform, url: &str, more: &[&str]) {
    // A key in one word with its option: it may begin with a dash.
    let key = |option: &str, name| format!("--{option}={}", platform.key_text(name));
    let (core, web) = (key("key", "core-1"), key("other-key", "web-1"));
    let both = ["--url", url, "--follower", "core-1", "--role", "core", &core];
    let other = ["--other-follower", "web-1", "--other-role", "web", &web];
    python("leader.py", &[&both, &other[..], more].concat());
}

#[test]
fn agrees_with_the_follower() {
    python("follower.py", &["--bin", BINARY]);
}
