//! kill -9, full disks and folders that aren't as they should be.

use crate::harness::{BINARY, Engine, Platform, Process, text, tree, write};
use lockstep_shared::api::State;
use std::fs;
use std::process::Command;

/// Twenty files that change together: a mixture of two revisions shows.
fn many() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("V", "'0'")]);
    for index in 0..20 {
        platform.template(&format!("core/part{}/conf/f{index}.conf.hbs", index % 4), "value {{V}}\n".repeat(200));
    }
    platform
}

fn versions(platform: &Platform) -> Vec<String> {
    let mut versions: Vec<String> = tree(&platform.data("core-1"))
        .into_iter()
        .filter(|(path, _)| path.contains("/conf/"))
        .map(|(path, bytes)| {
            let text = text(&bytes);
            let first = text.lines().next().unwrap_or_default().to_owned();
            assert_eq!(text, format!("{first}\n").repeat(200), "{path} is a mixture");
            first
        })
        .collect();
    assert!(versions.is_empty() || versions.len() == 20, "{versions:?}");
    versions.dedup();
    versions
}

#[test]
fn a_killed_follower_leaves_the_old_or_the_new_and_ends_at_the_new() {
    let mut platform = many();
    platform.start_leader();
    drop(platform.follower("core-1"));
    for round in 1..=30u32 {
        platform.platform_yml(&format!("settings:\n  V: 'v{round}'\n"));
        platform.good(&["publish", "--yes"]);
        let follower = platform.start_follower("core-1");
        follower.ready();
        // Killed at a moment that is different each time: after so many turns of looking.
        for _ in 0..(round * 7 % 50) {
            let _ = fs::metadata(platform.data("core-1").join("part0/conf/f0.conf"));
        }
        drop(follower);
        let follower = platform.start_follower("core-1");
        follower.ready();
        if round % 5 == 0 {
            platform.publish();
            assert_eq!(versions(&platform), [format!("value v{round}")], "round {round}");
        }
    }
    let left: Vec<String> =
        tree(&platform.data("core-1")).into_keys().filter(|path| path.contains("lockstep-new")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_leader_serves_a_whole_revision_again() {
    let mut platform = many();
    platform.start_leader();
    for round in 1..=5u32 {
        platform.platform_yml(&format!("settings:\n  V: 'v{round}'\n"));
        let root = platform.leader_root();
        let mut publish =
            Command::new(crate::harness::BINARY).args(["publish", "--yes", "--root"]).arg(root).spawn().unwrap();
        if round % 2 == 0 {
            publish.wait().unwrap();
        }
        platform.kill_leader();
        let _ = publish.wait();
        platform.start_leader();
        let fleet = platform.fleet();
        assert!(fleet.revision >= 1 && fleet.machines.len() == 1);
    }
    let _follower = platform.follower("core-1");
    platform.publish();
    assert_eq!(versions(&platform), ["value v5"]);
}

#[test]
fn a_full_disk_changes_nothing_and_is_told() {
    let mut platform = many();
    platform.start_leader();
    let data = platform.data("core-1");
    fs::create_dir_all(&data).unwrap();
    let small = Mount::new(&data, "120k");
    let follower = platform.follower("core-1");
    platform
        .until("first", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Applied));
    assert_eq!(versions(&platform), ["value 0"]);
    let before = tree(&data);
    platform.template("core/part0/conf/huge.bin", vec![7; 200_000]);
    platform.platform_yml("settings:\n  V: 'v1'\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "30"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("No space left"), "{}", text(&output.stdout));
    assert_eq!(tree(&data), before);
    drop(follower);
    drop(small);
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let mut platform = many();
    let mute = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full"];
    let mut leader = Command::new(mute[0]);
    leader.args(&mute[1..]).arg(BINARY).arg("leader").arg("--root").arg(platform.leader_root());
    platform.lead(Process::start(leader));
    platform.write_follower_config("core-1", &platform.leader_url(), &serde_json::Value::Null);
    let follower = platform.start_follower_in("core-1", &mute);
    platform.publish();
    platform.platform_yml("settings: {V: 'v1'}\n");
    platform.publish();
    assert_eq!(versions(&platform), ["value v1"]);
    let told = platform.good(&["status", "--bad"]);
    assert!(told.contains("machines: 1, all well"), "nothing bad is not nobody there: {told}");
    assert_eq!((follower.log().as_str(), platform.leader().log().as_str()), ("", ""), "nothing of it was told");
}

/// A tmpfs of its own size, unmounted when dropped.
pub(crate) struct Mount<'p>(&'p std::path::Path);

impl<'p> Mount<'p> {
    pub(crate) fn new(path: &'p std::path::Path, size: &str) -> Self {
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status().unwrap();
        assert!(status.success(), "mounting a tmpfs needs root: run the tests as root");
        Self(path)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_link_or_a_folder_in_the_way_is_refused_before_anything_is_written() {
    for (theme, prepare) in [
        (
            "link",
            (|data| {
                fs::create_dir_all(data).unwrap();
                std::os::unix::fs::symlink("/tmp", data.join("part1")).unwrap();
            }) as fn(&std::path::Path),
        ),
        ("folder", |data| fs::create_dir_all(data.join("part1/conf/f1.conf")).unwrap()),
        ("file", |data| write(&data.join("part1/conf"), "a file")),
    ] {
        let mut platform = many();
        platform.start_leader();
        prepare(&platform.data("core-1"));
        let before = tree(&platform.data("core-1"));
        let _follower = platform.follower("core-1");
        let fleet = platform.until(theme, |fleet| {
            fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Failed)
        });
        let error = fleet.machines[0].status.as_ref().unwrap().apply.as_ref().unwrap().error.clone().unwrap();
        assert!(error.contains("part1"), "{theme}: {error}");
        assert_eq!(tree(&platform.data("core-1")), before, "{theme}");
    }
}

#[test]
fn owed_restarts_are_done_after_a_crash() {
    let project = crate::harness::Project::new("owed");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("V", "one")]);
    platform.template("core/app/conf/a.conf.hbs", "{{V}}\n");
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{}:/app/conf:ro", platform.data("core-1").join("app/conf").display());
    let app = project.run("app", &["-v", &mount], "lockstep-test/busybox", &["sleep", "infinity"]);
    let mut follower = Some(follower);
    for round in 0..6u32 {
        let before = Engine::started(&app);
        platform.platform_yml(&format!("settings:\n  V: v{round}\n"));
        platform.good(&["publish", "--yes"]);
        let file = platform.data("core-1").join("app/conf/a.conf");
        // Killed as soon as the new file is seen: the restart is owed, or under way.
        let start = std::time::Instant::now();
        while fs::read_to_string(&file).unwrap() != format!("v{round}\n") {
            assert!(start.elapsed() < crate::harness::PATIENCE, "round {round}: never written");
        }
        drop(follower.take());
        follower = Some(platform.start_follower("core-1"));
        platform.publish();
        assert_ne!(Engine::started(&app), before, "round {round}: never restarted");
    }
}
