//! Every kind of mount, on the real engine: what is written how, and what the
//! container then sees.

use crate::harness::{BINARY, Engine, PATIENCE, Platform, Project, actions, text};
use lockstep_shared::api::{Outcome, State, Undo};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const BUSYBOX: &str = "lockstep-test/busybox";
const TRAP: [&str; 3] = ["sh", "-c", "trap '' HUP; while :; do sleep 0.05; done"];

/// A role with one file, `app/conf/x.conf`, that holds the setting A.
fn one() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    platform
}

fn host(platform: &Platform, path: &str) -> String {
    platform.data("core-1").join(path).display().to_string()
}

#[test]
fn a_folder_that_docker_made_in_place_of_a_file_makes_room_for_it() {
    let project = Project::new("folder");
    let mut platform = one();
    let compose = format!(
        "version: '3.5'\nservices:\n  app: {{image: {BUSYBOX}, volumes: ['./app/conf/x.conf:/x.conf:ro'], stop_grace_period: 1s}}\n"
    );
    platform.template("core/pryv.yml", &compose);
    platform.start_leader();
    // Somebody was faster than the follower: the file isn't there, and Docker makes a folder.
    let app = project.run("app", &["-v", &format!("{}:/x.conf:ro", host(&platform, "app/conf/x.conf"))], BUSYBOX, &[]);
    assert!(platform.data("core-1").join("app/conf/x.conf").is_dir());
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    assert_eq!(Engine::exec(&app, &["cat", "/x.conf"]), "one");
    let apply = platform.change();
    assert_eq!(actions(&apply), ["recreate app"]);
    assert!(apply.actions[0].why.contains("Docker made a folder"), "{apply:?}");
    // One with something in it is nobody's to remove.
    follower.stop();
    let file = platform.data("core-1").join("app/conf/y.conf");
    platform.template("core/app/conf/y.conf", "y\n");
    fs::create_dir_all(file.join("kept")).unwrap();
    let _follower = platform.docker_follower("core-1", &project);
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("is a folder where a file is needed"), "{said}");
    assert!(file.join("kept").is_dir());
}

#[test]
fn a_container_that_docker_run_made_over_a_missing_file_is_told_of_not_broken() {
    let project = Project::new("folderrun");
    let mut platform = one();
    platform.start_leader();
    let app = project.run("app", &["-v", &format!("{}:/x.conf:ro", host(&platform, "app/conf/x.conf"))], BUSYBOX, &[]);
    let before = Engine::started(&app);
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // Docker could not start it again with a file there.
    assert_eq!(Engine::started(&app), before);
    assert!(platform.change().left_alone[0].why.contains("docker rm -f"), "{:?}", platform.change());
    assert_eq!(fs::read_to_string(host(&platform, "app/conf/x.conf")).unwrap(), "one\n");
}

#[test]
fn what_hides_a_file_is_said_and_nothing_is_done() {
    let project = Project::new("hidden");
    let mut platform = one();
    platform.template("core/other/conf/o.conf.hbs", "{{A}}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let folder = format!("{}:/app:ro", host(&platform, "app"));
    let temporary = project.run("app", &["-v", &folder, "--tmpfs", "/app/conf"], BUSYBOX, &[]);
    let image = project.run("other", &[], BUSYBOX, &[]);
    let before = [&temporary, &image].map(|name| Engine::started(name));
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert_eq!([&temporary, &image].map(|name| Engine::started(name)), before);
    let notes = platform.change().notes.join("\n");
    assert!(
        notes.contains(&format!("app/conf/x.conf is hidden from {temporary} by the tmpfs at /app/conf")),
        "{notes}"
    );
    assert!(
        notes.contains(&format!("no container mounts other/conf/o.conf; {image} has only what its image holds")),
        "{notes}"
    );
}

#[test]
fn several_containers_share_a_file_and_one_gets_one_action_for_several() {
    let project = Project::new("share");
    let mut platform = one();
    platform.template("core/app/conf/y.conf.hbs", "{{A}}\n");
    platform.template("core/role.yml", "files:\n  app/conf/y.conf: {on_change: 'signal:HUP'}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{}:/conf:ro", host(&platform, "app/conf"));
    let names = ["a", "b", "c"].map(|service| project.run(service, &["-v", &mount], BUSYBOX, &TRAP));
    let single = format!("{}:/y.conf", host(&platform, "app/conf/y.conf"));
    let signalled = project.run("d", &["-v", &single], BUSYBOX, &TRAP);
    let before = Engine::started(&signalled);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    let apply = platform.change();
    assert_eq!(actions(&apply), ["restart a", "restart b", "restart c", "signal:HUP d"]);
    assert!(apply.actions.iter().all(|action| action.outcome == Outcome::Proven), "{apply:?}");
    assert!(apply.actions[0].detail.contains("all 2 files"), "{apply:?}");
    for name in &names {
        assert_eq!(Engine::exec(name, &["cat", "/conf/x.conf", "/conf/y.conf"]), "two\ntwo");
    }
    assert_eq!(
        (Engine::started(&signalled), Engine::exec(&signalled, &["cat", "/y.conf"])),
        (before, "two".to_owned())
    );
}

#[test]
fn a_volume_that_is_bound_to_a_folder_is_that_folder() {
    let project = Project::new("bound");
    let mut platform = one();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let volume = format!("{}_conf", project.name);
    let device = format!("device={}", host(&platform, "app/conf"));
    let label = format!("com.docker.compose.project={}", project.name);
    Engine::docker(&["volume", "create", "--label", &label, "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
    let app = project.run("app", &["-v", &format!("{volume}:/conf:ro")], BUSYBOX, &[]);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    let apply = platform.change();
    assert_eq!(actions(&apply), ["restart app"]);
    assert!(apply.actions[0].detail.contains("it sees the file as written"), "{apply:?}");
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf"]), "two");
}

/// A role whose files go into the volume `conf`, and a compose file that mounts it.
fn filled() -> Platform {
    let platform = one();
    let compose = format!(
        "version: '3.5'\nservices:\n  app:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    volumes: ['conf:/app/conf:ro']\nvolumes: {{conf: {{}}}}\n"
    );
    platform.template("core/pryv.yml", &compose);
    platform.template("core/app/conf/deep/er/y.conf.hbs", "{{A}}\n");
    platform.template(
        "core/role.yml",
        "files:\n  app/conf/**: {volume: conf}\n  app/conf/deep/**: {mode: '0640', owner: '33:44'}\n",
    );
    platform
}

fn in_volume(project: &Project, command: &[&str]) -> String {
    let volume = format!("{}_conf:/v", project.name);
    Engine::docker(&[&["run", "--rm", "-v", &volume, BUSYBOX], command].concat())
}

#[test]
fn files_go_into_a_named_volume_with_owner_and_mode() {
    let project = Project::new("volume");
    let mut platform = filled();
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let app = project.container("app");
    // At the first start the volume is filled before its container runs.
    assert_eq!(Engine::exec(&app, &["cat", "/app/conf/x.conf", "/app/conf/deep/er/y.conf"]), "one\none");
    let first = platform.change();
    assert_eq!(actions(&first), ["fill volume conf", "create app"]);
    assert!(first.actions.iter().all(|action| action.outcome == Outcome::Proven), "{first:?}");
    let listed = in_volume(&project, &["ls", "-ln", "/v/deep/er", "/v/deep"]);
    assert!(listed.contains("-rw-r-----    1 33       44"), "{listed}");
    assert!(listed.contains("drwxr-xr-x"), "{listed}");
    assert!(!platform.data("core-1").join("app/conf/x.conf").exists());

    // A change: told beforehand, written, acted on.
    platform.platform_yml("settings: {A: two}\n");
    follower.stop();
    let _follower = platform.docker_follower("core-1", &project);
    platform.until("it reports its container's volume", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.is_some_and(|status| {
            status.containers.iter().any(|app| app.mounts.iter().any(|mount| mount.volume.as_deref() == Some("conf")))
        })
    });
    let planned: Value = serde_json::from_slice(&platform.run(&["plan", "--json"]).stdout).unwrap();
    let told = planned["changes"][0]["containers"]["actions"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|action| json!([action["service"], action["verb"], action["why"]])).collect();
    let before = Engine::started(&app);
    platform.publish();
    let second = platform.change();
    let done: Vec<_> = second.actions.iter().map(|action| json!([action.service, action.verb, action.why])).collect();
    assert_eq!(told, done);
    assert_eq!(actions(&second), ["fill volume conf", "restart app"]);
    assert_ne!(Engine::started(&app), before);
    assert_eq!(Engine::exec(&app, &["cat", "/app/conf/x.conf", "/app/conf/deep/er/y.conf"]), "two\ntwo");

    // Gone from the bundle is gone from the volume; what others put there stays.
    in_volume(&project, &["touch", "/v/theirs"]);
    fs::remove_file(platform.leader_root().join("templates/core/app/conf/x.conf.hbs")).unwrap();
    platform.publish();
    assert_eq!(in_volume(&project, &["ls", "/v"]), "deep\ntheirs");
    let third = platform.change();
    assert!(third.files.iter().any(|file| file.path.as_str() == "app/conf/x.conf"), "{third:?}");
    let left = Engine::docker(&["ps", "-aq", "--filter", &format!("label=io.lockstep.throwaway={}", project.name)]);
    assert_eq!(left, "");
}

#[test]
fn what_somebody_changed_in_a_volume_is_written_again() {
    let project = Project::new("voldrift");
    let mut platform = filled();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    in_volume(&project, &["sh", "-c", "echo theirs > /v/x.conf"]);
    // The next apply looks into the volume, whatever it is about.
    platform.template("core/app/conf/new.conf", "new\n");
    platform.publish();
    let app = project.container("app");
    assert_eq!(Engine::exec(&app, &["cat", "/app/conf/x.conf", "/app/conf/new.conf"]), "one\nnew");
    assert_eq!(platform.change().files.len(), 2);
}

#[test]
fn a_file_that_moves_into_a_volume_leaves_its_old_place() {
    let project = Project::new("moves");
    let mut platform = filled();
    let role = "files:\n  app/conf/deep/**: {volume: 'conf:deep'}\n";
    platform.template("core/role.yml", role);
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    assert!(platform.data("core-1").join("app/conf/x.conf").exists());
    platform.template("core/role.yml", format!("{role}  app/conf/x.conf: {{volume: conf}}\n"));
    platform.publish();
    assert!(!platform.data("core-1").join("app/conf/x.conf").exists());
    assert_eq!(in_volume(&project, &["cat", "/v/x.conf", "/v/deep/er/y.conf"]), "one\none");
    platform.template("core/role.yml", role);
    platform.publish();
    assert_eq!(fs::metadata(platform.data("core-1").join("app/conf/x.conf")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(in_volume(&project, &["ls", "/v"]), "deep");
    assert_eq!(platform.status().state, State::Applied);
}

/// A follower in a container, with its home at another path than on the machine.
#[test]
fn a_follower_in_a_container_knows_where_its_files_are_outside() {
    let (project, own) = (Project::new("inside"), Project::new("self"));
    let mut platform = one();
    platform.settings(&[("A", "one"), ("B", "one")]);
    platform.template("core/app.env.hbs", "B={{env_quote B}}\n");
    platform.template("core/pryv.yml", format!(
        "version: '3.5'\nservices:\n  app: {{image: {BUSYBOX}, env_file: [app.env], volumes: ['./app/conf:/conf:ro'], stop_grace_period: 1s}}\n"
    ));
    platform.template("core/role.yml", "files:\n  app/**: {check: {in: app, command: [test, -s, '{file}']}}\n");
    let leader = platform.start_leader();
    platform.write_follower_config("core-1", &leader, &json!({"project": project.name}));
    // The program and the Compose tool are the machine's; only the home is elsewhere.
    let mut options =
        vec!["--network=host".to_owned(), "-v".to_owned(), "/var/run/docker.sock:/var/run/docker.sock".to_owned()];
    for folder in ["/usr", "/lib", "/lib64", "/bin"].iter().filter(|folder| fs::metadata(folder).is_ok()) {
        options.extend(["-v".to_owned(), format!("{folder}:{folder}:ro")]);
    }
    options.extend(["-v".to_owned(), format!("{BINARY}:/lockstep:ro")]);
    options.extend(["-v".to_owned(), format!("{}:/inside", platform.follower_root("core-1").display())]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let follower = own.run("follower", &options, BUSYBOX, &["/lockstep", "follower", "--root", "/inside"]);
    platform.publish();
    let app = project.container("app");
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf"]), "one");
    let data = platform.data("core-1").display().to_string();
    assert_eq!(platform.status().data_folder, Some(data.clone()));
    let source = Engine::docker(&["inspect", "-f", "{{range .Mounts}}{{.Source}}{{end}}", &app]);
    assert_eq!(source, format!("{data}/app/conf"));
    let shown = {
        platform.platform_yml("settings: {A: two}\n");
        text(&platform.run(&["plan"]).stdout)
    };
    assert!(shown.contains("restart    app"), "{shown}");
    platform.publish();
    let apply = platform.change();
    assert_eq!(actions(&apply), ["restart app"], "{}", Engine::docker(&["logs", &follower]));
    assert!(apply.actions[0].detail.contains("as far as the archive API shows"), "{apply:?}");
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf"]), "two");
    // An env file is read by Compose, in the follower's container.
    platform.platform_yml("settings: {A: two, B: two}\n");
    platform.publish();
    assert_eq!(actions(&platform.change()), ["recreate app"]);
    assert!(Engine::docker(&["inspect", "-f", "{{.Config.Env}}", &app]).contains("B=two"));
}

#[test]
fn a_volume_goes_back_with_the_bundle() {
    let project = Project::new("volundo");
    let mut platform = filled();
    let compose = format!(
        "version: '3.5'\nservices:\n  app:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    volumes: ['conf:/app/conf:ro']\n    command: [sh, -c, 'test \"$$(cat /app/conf/x.conf)\" != bad && exec sleep infinity']\nvolumes: {{conf: {{}}}}\n"
    );
    platform.template("core/pryv.yml", compose);
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    platform.platform_yml("settings: {A: bad}\n");
    platform.template("core/app/conf/new.conf", "new\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    let undone = platform.until("it is undone", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.and_then(|status| status.failed.as_ref()).is_some_and(|failed| failed.undo == Undo::Done)
    });
    let failed = undone.machines[0].status.as_ref().unwrap().failed.clone().unwrap();
    assert!(failed.why.contains("died with exit code 1"), "{failed:?}");
    assert_eq!(in_volume(&project, &["cat", "/v/x.conf"]), "one");
    assert_eq!(in_volume(&project, &["ls", "/v"]), "deep\nx.conf");
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &project.container("app")]), "true");
}

#[test]
fn a_volume_is_filled_after_a_crash_even_without_the_leader() {
    let project = Project::new("volcrash");
    let mut platform = filled();
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    follower.stop();
    // Committed, and killed before the first action, which is the volume's.
    let follower = platform.start_follower_with("core-1", &[("FAILPOINTS", "act=return(kill)")]);
    platform.platform_yml("settings: {A: two}\n");
    platform.good(&["publish", "--yes"]);
    follower.ended();
    let app = project.container("app");
    let before = Engine::started(&app);
    assert_eq!(in_volume(&project, &["cat", "/v/x.conf"]), "one");
    platform.stop_leader();
    let _follower = platform.start_follower("core-1");
    let start = std::time::Instant::now();
    while Engine::started(&app) == before {
        assert!(start.elapsed() < PATIENCE, "what was committed was never finished");
    }
    assert_eq!(in_volume(&project, &["cat", "/v/x.conf", "/v/deep/er/y.conf"]), "two\ntwo");
}
