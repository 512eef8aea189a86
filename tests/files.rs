//! From an edit to the files on a machine without an engine.

use crate::harness::{Platform, Process, text, tree, write};
use http::{HeaderName, HeaderValue, Method};
use lockstep_shared::Bundle;
use lockstep_shared::api::State;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A role with every kind of file, one follower that runs it.
fn small() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("DOMAIN", "example.com")]);
    platform.template("core/nginx/conf/site.conf.hbs", "server_name {{DOMAIN}};\n");
    platform.template("core/nginx/conf/plain.txt", "{{DOMAIN}} stays\n");
    platform.template("core/app/conf/logo.png", [0x89, b'P', 0, 0xff, 0xfe]);
    platform.template("core/app/data/.gitkeep", "");
    platform.template("core/app/log/.gitkeep", "");
    platform.template("core/app/backup/.gitkeep", "");
    platform.template("core/role.yml", "files:\n  app/conf/*.png: {mode: '0640'}\n");
    platform
}

fn publish_to(platform: &Platform, _follower: &Process) {
    platform.publish();
}

#[test]
fn the_first_revision_is_published_at_start_and_pulled() {
    let mut platform = small();
    platform.start_leader();
    let follower = platform.follower("core-1");
    publish_to(&platform, &follower);
    let data = platform.data("core-1");
    let files = tree(&data);
    assert_eq!(text(&files["nginx/conf/site.conf"]), "server_name example.com;\n");
    assert_eq!(text(&files["nginx/conf/plain.txt"]), "{{DOMAIN}} stays\n");
    assert_eq!(files["app/conf/logo.png"], [0x89, b'P', 0, 0xff, 0xfe]);
    assert_eq!(data.join("app/conf/logo.png").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(data.join("nginx/conf/site.conf").metadata().unwrap().permissions().mode() & 0o777, 0o644);
    for folder in ["app/data", "app/log"] {
        assert_eq!(fs::read_dir(data.join(folder)).unwrap().count(), 0, "{folder} is there and empty");
    }
    assert!(data.join("app/backup").is_dir());
    assert_eq!(follower.stop().0, Some(0));
}

#[test]
fn an_edit_changes_what_it_touches_and_removes_what_is_gone() {
    let mut platform = small();
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    let data = platform.data("core-1");
    write(&data.join("app/data/db"), "precious");
    write(&data.join("nginx/conf/by-hand.conf"), "not ours");
    let before = data.join("nginx/conf/plain.txt").metadata().unwrap().modified().unwrap();
    platform.platform_yml("settings:\n  DOMAIN: example.org\n");
    fs::remove_file(platform.leader_root().join("templates/core/app/conf/logo.png")).unwrap();
    platform.template("core/app/conf/new.json.hbs", "{\"domain\": {{json DOMAIN}}}\n");
    let shown = platform.publish();
    assert!(shown.contains("-server_name example.com;") && shown.contains("+server_name example.org;"), "{shown}");
    assert!(shown.contains("removed app/conf/logo.png") && shown.contains("added   app/conf/new.json"), "{shown}");
    let files = tree(&data);
    assert_eq!(text(&files["nginx/conf/site.conf"]), "server_name example.org;\n");
    assert_eq!(text(&files["app/conf/new.json"]), "{\"domain\": \"example.org\"}\n");
    assert!(!files.contains_key("app/conf/logo.png"));
    assert_eq!(text(&files["app/data/db"]), "precious");
    assert_eq!(text(&files["nginx/conf/by-hand.conf"]), "not ours");
    assert_eq!(data.join("nginx/conf/plain.txt").metadata().unwrap().modified().unwrap(), before, "not written again");
}

#[test]
fn what_was_changed_by_hand_is_put_right_by_a_notification() {
    let mut platform = small();
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.publish();
    let url = follower.ready();
    platform.kill_leader();
    platform.write_leader_config(&json!({"core-1": url}));
    drop(follower);
    // The follower's own port is the system's choice: a new one, declared anew.
    let leader = platform.start_leader();
    platform.write_follower_config("core-1", &leader, &serde_json::Value::Null);
    let follower = platform.start_follower("core-1");
    follower.ready();
    let site = platform.data("core-1").join("nginx/conf/site.conf");
    write(&site, "by hand");
    drop(follower);
    let _follower = platform.start_follower("core-1");
    platform.until("repaired", |_| fs::read_to_string(&site).unwrap() == "server_name example.com;\n");
}

#[test]
fn the_same_content_has_the_same_digest_in_any_revision() {
    let mut platform = small();
    platform.start_leader();
    let first = platform.fleet().machines[0].wanted;
    platform.platform_yml("settings:\n  DOMAIN: other.example.com\n");
    platform.good(&["publish", "--yes"]);
    assert_ne!(platform.fleet().machines[0].wanted, first);
    platform.platform_yml("settings: {}\n");
    platform.good(&["publish", "--yes"]);
    assert_eq!((platform.fleet().revision, platform.fleet().machines[0].wanted), (3, first));
}

#[test]
fn a_restarted_leader_serves_what_was_published_and_not_an_edit() {
    let mut platform = small();
    platform.start_leader();
    let wanted = platform.fleet().machines[0].wanted;
    platform.kill_leader();
    platform.platform_yml("settings:\n  DOMAIN: edited.example.com\n");
    platform.start_leader();
    assert_eq!(platform.fleet().machines[0].wanted, wanted);
    assert!(platform.leader().log().contains("differ from what is published"));
    platform.kill_leader();
    platform.platform_yml("settings: [broken\n");
    platform.start_leader();
    assert_eq!(platform.fleet().machines[0].wanted, wanted);
}

#[test]
fn a_follower_without_its_leader_keeps_what_it_has_and_comes_back() {
    let mut platform = small();
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.publish();
    platform.kill_leader();
    drop(follower);
    let follower = platform.start_follower("core-1");
    follower.ready();
    assert_eq!(text(&tree(&platform.data("core-1"))["nginx/conf/site.conf"]), "server_name example.com;\n");
    platform.platform_yml("settings:\n  DOMAIN: later.example.com\n");
    let leader = platform.start_leader();
    platform.good(&["publish", "--yes"]);
    drop(follower);
    platform.write_follower_config("core-1", &leader, &serde_json::Value::Null);
    let _follower = platform.start_follower("core-1");
    platform.publish();
    assert_eq!(text(&tree(&platform.data("core-1"))["nginx/conf/site.conf"]), "server_name later.example.com;\n");
}

#[test]
fn two_followers_cannot_share_a_root() {
    let mut platform = small();
    platform.start_leader();
    let first = platform.follower("core-1");
    first.ready();
    let (code, log) = platform.start_follower("core-1").ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("in use by another follower; stop that one first"), "{log}");
    drop(first);
    platform.start_follower("core-1").ready();
}

#[test]
fn a_new_follower_gets_what_was_published() {
    let mut platform = small();
    platform.start_leader();
    platform.kill_leader();
    platform.platform_yml("settings:\n  DOMAIN: unpublished.example.com\n");
    // Declared by hand beside the first, with a key of its own.
    let config = platform.leader_root().join("config-leader/conf/config-leader.json");
    let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    value["followers"]["core-2"] = json!({"role": "core", "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
    fs::write(&config, value.to_string()).unwrap();
    platform.start_leader();
    let fleet = platform.fleet();
    assert_eq!((fleet.revision, fleet.machines.len()), (2, 2));
    assert_eq!(fleet.machines[0].wanted, fleet.machines[1].wanted);
}

#[test]
fn a_follower_that_hangs_holds_up_nobody() {
    let mut platform = Platform::new(&[("a-1", "core"), ("b-1", "core")]);
    platform.template("core/conf/x", "x");
    // Takes connections, by its backlog, and never answers one.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hung_url = format!("http://{}", hung.local_addr().unwrap());
    platform.write_leader_config(&json!({"a-1": hung_url}));
    platform.env("LOCKSTEP_NOTIFY__TIMEOUT_SECONDS", "1");
    platform.start_leader();
    let _follower = platform.follower("b-1");
    platform.template("core/conf/x", "y");
    let told = platform.good(&["publish", "--yes"]);
    assert!(told.contains("a-1") && told.contains("not reached"), "{told}");
    platform.until("b-1 follows", |fleet| {
        fleet.machines[1].status.as_ref().is_some_and(|status| status.state == State::Applied)
            && fs::read_to_string(platform.data("b-1").join("conf/x")).is_ok_and(|text| text == "y")
    });
}

#[test]
fn a_check_that_says_no_changes_nothing() {
    let mut platform = small();
    platform.template(
        "core/role.yml",
        "files:\n  nginx/conf/*.conf: {check: [sh, -c, 'grep -q example $1 || { echo no example in $1; exit 4; }', sh, '{file}']}\n",
    );
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    let before = tree(&platform.data("core-1"));
    platform.platform_yml("settings:\n  DOMAIN: another.org\n");
    platform.template("core/nginx/conf/plain.txt", "changed too\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "30"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stdout);
    assert!(
        said.contains("nothing was changed: the check of nginx/conf/site.conf")
            && said.contains("no example in nginx/conf/site.conf"),
        "{said}"
    );
    assert_eq!(tree(&platform.data("core-1")), before);
    platform.platform_yml("settings:\n  DOMAIN: another.example.org\n");
    platform.publish();
    assert_eq!(text(&tree(&platform.data("core-1"))["nginx/conf/plain.txt"]), "changed too\n");
}

#[test]
fn a_given_secret_is_published_when_it_changes() {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template("settings.yml", "groups:\n  G:\n    settings:\n      TOKEN: {secret: true}\n");
    platform.template("core/app/conf/t.hbs", "{{TOKEN}} of {{revision}}\n");
    platform.env("LOCKSTEP_SECRET_TOKEN", "first-value");
    platform.start_leader();
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0), "a printed revision is no difference");
    platform.kill_leader();
    platform.env("LOCKSTEP_SECRET_TOKEN", "second-value");
    platform.start_leader();
    assert_eq!(platform.run(&["plan"]).status.code(), Some(2));
    let _follower = platform.follower("core-1");
    platform.publish();
    assert_eq!(text(&tree(&platform.data("core-1"))["app/conf/t"]), "second-value of 2\n");
}

#[test]
fn a_restarted_leader_soon_knows_its_followers_again() {
    let mut platform = small();
    // One port for both lives of the leader, so that the follower finds it again.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    platform.env("LOCKSTEP_HTTP__PORT", &port.to_string());
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    platform.kill_leader();
    platform.start_leader();
    platform.until("reported again", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Applied)
    });
}

#[test]
fn whoever_has_the_bundle_before_is_sent_what_differs() {
    let mut platform = small();
    platform.start_leader();
    let client = platform.client("core-1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = |headers: &[(&'static str, String)]| {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())).collect();
        runtime.block_on(client.send(Method::GET, "/conf", &headers, None, Duration::from_secs(10))).unwrap()
    };
    let (base, _) = Bundle::from_json(&get(&[]).body).unwrap();
    let has = |tag: &str| [("if-none-match", format!("\"{tag}\"")), ("a-im", "lockstep".to_owned())];
    assert_eq!(get(&has(&base.digest.to_string())).status, 304);
    platform.platform_yml("settings:\n  DOMAIN: another.org\n");
    platform.good(&["publish", "--yes"]);
    let (whole, _) = Bundle::from_json(&get(&[]).body).unwrap();
    let delta = get(&has(&base.digest.to_string()));
    assert_eq!((delta.status.as_u16(), &delta.headers["im"]), (226, &HeaderValue::from_static("lockstep")));
    assert_eq!(Bundle::from_delta(&delta.body, &base).unwrap().0, whole);
    let unknown = get(&has(&"0".repeat(64)));
    assert_eq!(unknown.status, 200, "from a bundle that nobody knows there is no delta");
    assert_eq!(get(&has(&base.digest.to_string())[..1]).status, 200, "nobody gets a delta without asking");
}

#[test]
fn a_file_becomes_a_folder_and_back() {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template("core/app/conf/site", "one file\n");
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    let site = platform.data("core-1").join("app/conf/site");
    let template = platform.leader_root().join("templates/core/app/conf/site");
    for _ in 0..2 {
        fs::remove_file(&template).unwrap();
        platform.template("core/app/conf/site/a.conf", "a\n");
        platform.template("core/app/conf/site/more/b.conf", "b\n");
        platform.publish();
        assert_eq!(fs::read_to_string(site.join("more/b.conf")).unwrap(), "b\n");
        fs::remove_dir_all(&template).unwrap();
        platform.template("core/app/conf/site", "one file\n");
        platform.publish();
        assert_eq!(fs::read_to_string(&site).unwrap(), "one file\n");
    }
    assert_eq!(tree(&platform.data("core-1")).len(), 1);
}
