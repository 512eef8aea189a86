//! Files in named volumes whose layout changes, on the real engine: what is a
//! file becomes a folder and back, also by an undo, and what others have there stays.

use crate::harness::{Engine, Platform, Project, actions, text};
use lockstep_shared::api::{Outcome, State, Status, Undo};
use std::fs;

const BUSYBOX: &str = "lockstep-test/busybox";

/// A role whose files below `app/conf` go into the volume `conf`, which its one service mounts.
fn filled(command: &str) -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    let compose = format!(
        "version: '3.5'\nservices:\n  app:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    volumes: ['conf:/conf:ro']\n    command: [sh, -c, '{command}']\nvolumes: {{conf: {{}}}}\n"
    );
    platform.template("core/pryv.yml", compose);
    platform.template("core/role.yml", "files:\n  app/conf/**: {volume: conf}\n");
    platform
}

/// The role has this file now, and nothing else at its place.
fn becomes(platform: &Platform, gone: &str, path: &str, content: &str) {
    let conf = platform.leader_root().join("templates/core/app/conf");
    let gone = conf.join(gone);
    if gone.is_dir() {
        fs::remove_dir_all(gone).unwrap();
    } else {
        fs::remove_file(gone).unwrap();
    }
    platform.template(&format!("core/app/conf/{path}"), content);
}

fn shell(project: &Project, script: &str) -> String {
    let volume = format!("{}_conf:/v", project.name);
    Engine::docker(&["run", "--rm", "-v", &volume, BUSYBOX, "sh", "-c", script])
}

/// Everything in the volume, with owners and modes, and the bytes of every file.
fn layout(project: &Project) -> String {
    shell(
        project,
        "cd /v && busybox find . | busybox sort | while read at; do busybox stat -c '%n %F %a %u:%g' $at; test -d $at || cat $at; done",
    )
}

/// Publishes what is not applied; what the command said, and the report once all has been answered.
fn refused(platform: &Platform) -> (String, Status) {
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let fleet = platform.until("it is answered", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.is_some_and(|status| {
            status.state == State::Failed && status.failed.as_ref().is_none_or(|failed| failed.undo != Undo::Pending)
        })
    });
    (said, fleet.machines[0].status.clone().unwrap())
}

#[test]
fn a_file_in_a_volume_becomes_a_folder_and_back() {
    let project = Project::new("vollayout");
    let mut platform = filled("exec sleep infinity");
    platform.template("core/app/conf/site", "one file\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let first = layout(&project);
    for _ in 0..2 {
        becomes(&platform, "site", "site/a.conf", "a\n");
        platform.template("core/app/conf/site/more/b.conf", "b\n");
        platform.publish();
        let app = project.container("app");
        assert_eq!(Engine::exec(&app, &["cat", "/conf/site/a.conf", "/conf/site/more/b.conf"]), "a\nb");
        let apply = platform.change();
        assert_eq!(actions(&apply), ["fill volume conf", "restart app"]);
        assert!(apply.actions.iter().all(|action| action.outcome == Outcome::Proven), "{apply:?}");
        becomes(&platform, "site", "site", "one file\n");
        platform.publish();
        assert_eq!(Engine::exec(&app, &["cat", "/conf/site"]), "one file");
        assert_eq!(layout(&project), first);
    }
    assert_eq!(platform.status().state, State::Applied);
}

/// Publishes a layout that the container, which needs this file's, dies of; and sees the one before back.
fn goes_back(name: &str, needs: &str, path: &str, then: &str) {
    let project = Project::new(name);
    let mut platform = filled(&format!("{needs} && exec sleep infinity"));
    platform.template(&format!("core/app/conf/{path}"), "before\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let before = layout(&project);
    becomes(&platform, "site", then, "a\n");
    let (_, status) = refused(&platform);
    let failed = status.failed.unwrap();
    assert_eq!((failed.revision, failed.undo), (2, Undo::Done), "{failed:?}");
    assert!(failed.why.contains("died with exit code 1"), "{failed:?}");
    assert_eq!(status.running.map(|running| running.revision), Some(1));
    assert_eq!(layout(&project), before);
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &project.container("app")]), "true");
}

#[test]
fn a_file_in_a_volume_that_became_a_folder_is_a_file_again_after_the_undo() {
    goes_back("volundofile", "test -f /conf/site", "site", "site/more/a.conf");
}

#[test]
fn a_folder_in_a_volume_that_became_a_file_is_a_folder_again_after_the_undo() {
    goes_back("volundofolder", "test -d /conf/site", "site/x/y.conf", "site");
}

#[test]
fn what_others_have_in_the_way_in_a_volume_is_refused_and_stays() {
    let project = Project::new("volforeign");
    let mut platform = filled("exec sleep infinity");
    platform.template("core/app/conf/site/a.conf", "a\n");
    platform.template("core/app/conf/other.conf", "other\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // A folder of lockstep's with something in it that is not.
    shell(&project, "echo theirs > /v/site/theirs");
    let before = layout(&project);
    becomes(&platform, "site", "site", "one file\n");
    let (said, _) = refused(&platform);
    assert!(said.contains("in the volume conf") && said.contains("\"site/theirs\""), "{said}");
    assert_eq!(layout(&project), before);
    // A folder that was replaced by a link to another one: nothing is written through it.
    shell(&project, "cd /v && busybox rm -r site && busybox mkdir real && busybox ln -s real site");
    becomes(&platform, "site", "site/a.conf", "new\n");
    let (said, _) = refused(&platform);
    assert!(said.contains("in the volume conf") && said.contains("\"site\" is a symlink"), "{said}");
    assert_eq!(shell(&project, "ls /v/real"), "");
    // A file of somebody else's where a folder is needed.
    shell(&project, "busybox rm /v/site; echo theirs > /v/site");
    platform.template("core/app/conf/other.conf", "changed\n");
    let (said, _) = refused(&platform);
    assert!(said.contains("\"site\" is a file where a folder is needed"), "{said}");
    assert_eq!(shell(&project, "cat /v/site /v/other.conf"), "theirs\nother");
    // Once it is gone, all is as it should be.
    shell(&project, "busybox rm /v/site");
    platform.template("core/app/conf/other.conf", "changed again\n");
    platform.publish();
    assert_eq!(shell(&project, "cat /v/site/a.conf /v/other.conf"), "new\nchanged again");
}

#[test]
fn a_volume_has_the_new_layout_after_a_crash() {
    let project = Project::new("vollaycrash");
    let mut platform = filled("exec sleep infinity");
    platform.template("core/app/conf/site/a.conf", "a\n");
    platform.template("core/app/conf/gone.conf", "gone\n");
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    follower.stop();
    // Committed, and killed before the volume is filled: what was there before is known from the journal alone.
    let follower = platform.start_follower_with("core-1", &[("FAILPOINTS", "act=return(kill)")]);
    becomes(&platform, "site", "site", "one file\n");
    fs::remove_file(platform.leader_root().join("templates/core/app/conf/gone.conf")).unwrap();
    platform.good(&["publish", "--yes"]);
    follower.ended();
    let _follower = platform.start_follower("core-1");
    platform.until("it is applied", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.is_some_and(|status| {
            status.state == State::Applied && status.running.as_ref().is_some_and(|running| running.revision == 2)
        })
    });
    assert_eq!(shell(&project, "cd /v && ls && cat site"), "site\none file");
}

#[test]
fn a_mounted_file_comes_back_where_docker_made_a_folder_beside_a_volume() {
    let project = Project::new("volbeside");
    let mut platform = Platform::new(&[("core-1", "core")]);
    let compose = format!(
        "version: '3.5'\nservices:\n  app:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    volumes: ['conf:/conf', './a/single.txt:/single.txt:ro']\n    command: [sh, -c, 'trap \"\" HUP; while :; do sleep 0.05; done']\nvolumes: {{conf: {{}}}}\n"
    );
    platform.template("core/pryv.yml", compose);
    platform.template("core/app/conf/x.conf", "x\n");
    platform.template("core/a/single.txt", "single\n");
    platform.template(
        "core/role.yml",
        "files:\n  app/conf/**: {volume: conf, on_change: none}\n  a/single.txt: {on_change: 'signal:HUP'}\n",
    );
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let app = project.container("app");
    let (single, template) =
        (platform.data("core-1").join("a/single.txt"), platform.leader_root().join("templates/core/a/single.txt"));
    fs::remove_file(&template).unwrap();
    platform.publish();
    // Looking into the volume must not have Docker mount, and so make, what is missing.
    platform.template("core/app/conf/y.conf", "y\n");
    platform.publish();
    assert!(!single.exists());
    // Docker makes a folder of it and can't start the container on it.
    let restarts = || std::process::Command::new("docker").args(["restart", &app]).output().unwrap().status.success();
    assert!(!restarts() && single.is_dir());
    // Nothing of this keeps other files from the machine.
    platform.template("core/app/conf/x.conf", "changed\n");
    platform.publish();
    assert_eq!(shell(&project, "cat /v/x.conf"), "changed");
    platform.template("core/a/single.txt", "back\n");
    platform.publish();
    assert_eq!(fs::read_to_string(&single).unwrap(), "back\n");
    let apply = platform.change();
    let left: Vec<_> = apply.left_alone.iter().map(|left| left.why.as_str()).collect();
    assert!(left.iter().any(|why| why.contains("scripts/run-pryv app")), "{apply:?}");
    Engine::docker(&["start", &app]);
    assert_eq!(Engine::exec(&app, &["cat", "/single.txt"]), "back");
    // The same by hand, while nobody repairs it; the doctor's advice is a notification.
    follower.stop();
    fs::remove_file(&single).unwrap();
    assert!(!restarts() && single.is_dir());
    let _follower = platform.docker_follower("core-1", &project);
    platform.good(&["notify", "--service", "app"]);
    platform.until("the file is there again", |_| single.is_file());
    Engine::docker(&["start", &app]);
    assert_eq!(Engine::exec(&app, &["cat", "/single.txt"]), "back");
}
