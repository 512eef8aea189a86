//! Files that somebody else changes on a machine: seen, told without secrets,
//! and written again or left.

use crate::harness::{Engine, Platform, Process, Project, text};
use lockstep_shared::api::{Drift, Fleet};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const SECRET: &str = "canary-of-drift-0123456789";

/// A machine with files of both policies, one of them with a secret.
fn platform() -> Platform {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template(
        "settings.yml",
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      V: {default: one}\n      GIVEN: {secret: true}\n",
    );
    platform.template("core/app/conf/kept.conf.hbs", "password {{GIVEN}}\nvalue {{V}}\na\nb\nc\nworkers 1\n");
    platform.template("core/app/conf/other.conf", "one\n");
    platform.template("core/tuning/by-hand.conf.hbs", "# {{V}}\nsize 1\n");
    platform.template("core/tuning/free.conf", "size 1\n");
    platform.template("core/role.yml", "files:\n  tuning/**: {drift: report}\n");
    platform.env("LOCKSTEP_SECRET_GIVEN", SECRET);
    platform
}

fn drift<'f>(fleet: &'f Fleet, path: &str) -> Option<&'f Drift> {
    fleet.machines[0].status.as_ref()?.drift.iter().find(|drift| drift.path.as_str() == path)
}

#[test]
fn what_somebody_changed_is_told_without_secrets_and_written_again() {
    let mut platform = platform();
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.publish();
    let kept = platform.data("core-1").join("app/conf/kept.conf");
    let right = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, right.replace("workers 1", "workers 4").replace(SECRET, "typed-by-hand")).unwrap();
    let fleet = platform.until("told and written again", |fleet| {
        drift(fleet, "app/conf/kept.conf").is_some() && fs::read_to_string(&kept).unwrap() == right
    });
    let told = drift(&fleet, "app/conf/kept.conf").unwrap();
    assert!(told.repaired && told.what == "changed" && told.found.is_none(), "{told:?}");
    assert!(told.diff.contains("-workers 1\n+workers 4\n") && told.diff.contains("-password ••••"), "{}", told.diff);
    let shown = text(&platform.run(&["status"]).stdout);
    assert!(shown.contains("app/conf/kept.conf") && shown.contains("+workers 4"), "{shown}");
    let local = local(&follower);
    assert_eq!(local["drift"][0]["path"], "app/conf/kept.conf");
    for (where_, said) in [("status", shown), ("the local status", local.to_string()), ("the log", follower.log())] {
        assert!(!said.contains(SECRET) && !said.contains("typed-by-hand"), "{where_}: {said}");
    }

    let other = platform.data("core-1").join("app/conf/other.conf");
    fs::remove_file(&other).unwrap();
    platform.until("there again", |fleet| drift(fleet, "app/conf/other.conf").is_some() && other.exists());
    let fleet = platform.fleet();
    assert_eq!(drift(&fleet, "app/conf/other.conf").unwrap().what, "removed");
}

/// What a follower says of itself on its machine.
fn local(follower: &Process) -> Value {
    let answer = crate::api::call(&follower.ready(), None, "GET", "/status", None);
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn what_the_role_leaves_is_left_until_a_publication_has_something_else_for_it() {
    let mut platform = platform();
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    let tuning = platform.data("core-1").join("tuning");
    let (by_hand, free) = (tuning.join("by-hand.conf"), tuning.join("free.conf"));
    fs::write(&by_hand, "# one\nsize 2\n").unwrap();
    fs::set_permissions(&free, fs::Permissions::from_mode(0o600)).unwrap();
    let fleet = platform.until("both told", |fleet| {
        drift(fleet, "tuning/by-hand.conf").is_some() && drift(fleet, "tuning/free.conf").is_some()
    });
    let told = drift(&fleet, "tuning/by-hand.conf").unwrap();
    assert!(!told.repaired && told.diff.contains("-size 1\n+size 2\n"), "{told:?}");
    assert_eq!(drift(&fleet, "tuning/free.conf").unwrap().what, "mode 0600 instead of 0644");

    // Another file changes: these are left.
    platform.template("core/app/conf/other.conf", "two\n");
    platform.publish();
    assert_eq!(fs::read_to_string(&by_hand).unwrap(), "# one\nsize 2\n");
    let apply = platform.fleet().machines[0].status.clone().unwrap().apply.unwrap();
    assert!(apply.notes.iter().any(|note| note.contains("tuning/by-hand.conf")), "{apply:?}");

    // This very file changes: what is published counts.
    platform.platform_yml("settings: {V: two}\n");
    platform.publish();
    assert_eq!(fs::read_to_string(&by_hand).unwrap(), "# two\nsize 1\n");
    assert_eq!(fs::metadata(&free).unwrap().permissions().mode() & 0o777, 0o600);
    platform.until("the one is told no more, the other still is", |fleet| {
        drift(fleet, "tuning/by-hand.conf").is_none() && drift(fleet, "tuning/free.conf").is_some()
    });
    fs::set_permissions(&free, fs::Permissions::from_mode(0o644)).unwrap();
    platform.until("nothing is told", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.drift.is_empty())
    });
}

#[test]
fn what_stands_in_a_files_place_is_neither_removed_nor_written_through() {
    let mut platform = platform();
    platform.start_leader();
    let _follower = platform.follower("core-1");
    platform.publish();
    let (conf, elsewhere) = (platform.data("core-1").join("app/conf"), platform.home.path().join("elsewhere"));
    fs::write(&elsewhere, "not mine\n").unwrap();
    fs::remove_file(conf.join("other.conf")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, conf.join("other.conf")).unwrap();
    let failed = |fleet: &Fleet, words: &str| {
        drift(fleet, "app/conf/other.conf").is_some_and(|drift| drift.what == words && !drift.repaired)
            && fleet.machines[0]
                .status
                .as_ref()
                .is_some_and(|status| status.apply.as_ref().is_some_and(|apply| apply.error.is_some()))
    };
    platform.until("the link is told", |fleet| failed(fleet, "replaced by a symlink"));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "not mine\n");
    fs::remove_file(conf.join("other.conf")).unwrap();
    platform.until("mended by itself", |_| conf.join("other.conf").is_file());
    assert_eq!(fs::read_to_string(conf.join("other.conf")).unwrap(), "one\n");
}

#[test]
fn its_own_writing_is_nobodys_drift() {
    let mut platform = platform();
    platform.start_leader();
    let follower = platform.follower("core-1");
    for number in 0..10 {
        platform.platform_yml(&format!("settings: {{V: v{number}}}\n"));
        platform.template("core/app/conf/other.conf", format!("{number}\n"));
        platform.publish();
    }
    let status = platform.fleet().machines[0].status.clone().unwrap();
    assert!(status.drift.is_empty() && !follower.log().contains("somebody else"), "{status:?}\n{}", follower.log());
}

#[test]
fn a_container_that_writes_its_own_file_is_restarted_for_it_once() {
    let project = Project::new("drift");
    let mut platform = platform();
    platform.start_leader();
    let docker = json!({"project": project.name, "settleSeconds": 0.1});
    platform.write_follower_config("core-1", &platform.leader_url(), &docker);
    let follower = platform.start_follower("core-1");
    platform.publish();
    let file = platform.data("core-1").join("app/conf/other.conf");
    let mount = format!("{}:/other.conf", file.display());
    let command = ["sh", "-c", "sleep 1; echo mine > /other.conf; exec sleep 1000"];
    let name = project.run("app", &["-v", &mount], "lockstep-test/busybox", &command);
    let first = Engine::started(&name);
    // It writes soon after each start: written again, restarted, written again by it, and then not at once.
    platform.until("restarted", |_| Engine::started(&name) != first);
    platform.until("its doing is seen again", |fleet| {
        drift(fleet, "app/conf/other.conf").is_some() && fs::read_to_string(&file).unwrap() == "mine\n"
    });
    let started = Engine::started(&name);
    // Meanwhile other things go on, and leave that file and its container alone.
    platform.platform_yml("settings: {V: two}\n");
    platform.publish();
    assert_eq!(Engine::started(&name), started, "{}", follower.log());
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
}

#[test]
fn a_machine_may_leave_all_that_its_role_says_nothing_of() {
    let mut platform = platform();
    platform.start_leader();
    let config = json!({"http": {"port": 0}, "docker": null, "drift": "report",
        "leader": {"url": platform.leader_url(), "name": "core-1", "key": platform.key_text("core-1")}});
    let path = platform.follower_root("core-1").join("config-follower/conf/config-follower.json");
    crate::harness::write(&path, config.to_string());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let _follower = platform.start_follower("core-1");
    platform.publish();
    let other = platform.data("core-1").join("app/conf/other.conf");
    fs::write(&other, "by hand\n").unwrap();
    platform.until("told", |fleet| drift(fleet, "app/conf/other.conf").is_some_and(|drift| !drift.repaired));
    platform.platform_yml("settings: {V: two}\n");
    platform.publish();
    assert_eq!(fs::read_to_string(&other).unwrap(), "by hand\n");
}
