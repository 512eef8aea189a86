//! The scripts an operator types, against the real binary.

use crate::harness::{BINARY, Platform, repository, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn script(name: &str, root: &Path, arguments: &[&str]) -> Output {
    Command::new(repository().join("scripts").join(name))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env("LOCKSTEP_BIN", BINARY)
        .env_remove("LOCKSTEP_ROOT")
        .output()
        .unwrap()
}

fn good(name: &str, root: &Path, arguments: &[&str]) -> String {
    let output = script(name, root, arguments);
    assert!(output.status.success(), "{name} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

/// Stops what a failing test would leave running.
struct Running<'r>(&'static str, &'r Path);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        script(self.0, self.1, &["--force"]);
    }
}

#[test]
fn leader_and_follower_run_stop_and_may_be_told_twice() {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.template("core/app/conf/a.conf", "x\n");
    let leader = platform.leader_root();
    let _leader = Running("stop-config-leader", &leader);
    let first = good("run-config-leader", &leader, &[]);
    assert!(good("run-config-leader", &leader, &[]).contains("already running"));
    let url = first
        .split_whitespace()
        .find_map(|word| word.strip_suffix(',').filter(|word| word.starts_with("http://")))
        .unwrap();
    platform.write_follower_config("core-1", url, &Value::Null);
    let root = platform.follower_root("core-1");
    let _follower = Running("stop-config-follower", &root);
    good("run-config-follower", &root, &[]);
    platform.publish();
    assert_eq!(fs::read_to_string(root.join("pryv/app/conf/a.conf")).unwrap(), "x\n");
    good("stop-config-follower", &root, &[]);
    good("stop-config-follower", &root, &[]);
    good("restart-config-leader", &leader, &[]);
    good("stop-config-leader", &leader, &[]);
}

#[test]
fn curl_conf_speaks_the_protocol() {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template("core/app/conf/a b.conf", "x\n");
    let url = platform.start_leader();
    platform.write_follower_config("core-1", &url, &Value::Null);
    let root = platform.follower_root("core-1");
    let bundle: Value = serde_json::from_str(&good("curl-conf", &root, &["core"])).unwrap();
    assert_eq!(bundle["files"][0]["path"], "app/conf/a b.conf");
    assert_eq!(good("curl-conf", &root, &["core", "app/conf/a b.conf"]), "x\n");
    let refused = script("curl-conf", &root, &["other"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("403"), "{}", text(&refused.stderr));
    // With a wrong key it is told so, and not believed blindly.
    let config = root.join("config-follower/conf/config-follower.json");
    let mut value: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    value["leader"]["key"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    fs::write(&config, value.to_string()).unwrap();
    let refused = script("curl-conf", &root, &["core"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("401"), "{}", text(&refused.stderr));
}

#[test]
fn the_demo_is_true() {
    let output = Command::new(repository().join("scripts/demo")).env("LOCKSTEP_BIN", BINARY).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
