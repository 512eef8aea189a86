//! What the follower may do, and does: no call that isn't in the table, no
//! container but its project's, no user but the one it was given.

use crate::harness::{BINARY, Engine, PATIENCE, Platform, Process, Project, Proxy, repository, text};
use lockstep_shared::api::State;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

const BUSYBOX: &str = "lockstep-test/busybox";
const TRAP: [&str; 3] = ["sh", "-c", "trap '' HUP; while :; do sleep 0.05; done"];

/// The calls in `docs/security.md`, with identifiers as `{id}`.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("docs/security.md")).unwrap();
    let section = text.split("## Least privilege").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let calls =
        rows.flat_map(|row| row.split('|').nth(1).unwrap().split(',').map(|call| call.trim().trim_matches('`')));
    calls.map(|call| call.replace("{name}", "{id}")).collect()
}

fn follower(platform: &Platform, project: &Project, proxy: &Proxy) -> Process {
    let docker = json!({"project": project.name, "host": format!("unix://{}", proxy.path.display())});
    platform.write_follower_config("core-1", &platform.leader_url(), &docker);
    platform.start_follower("core-1")
}

#[test]
fn every_call_is_in_the_table_and_the_neighbours_are_left_alone() {
    let (project, other) = (Project::new("calls"), Project::new("twin"));
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    for component in ["restarted", "signalled", "told", "filled"] {
        platform.template(&format!("core/{component}/conf/x.conf.hbs"), "{{A}}\n");
    }
    platform.template("core/filled/conf/gone.conf", "x\n");
    platform.template(
        "core/role.yml",
        "files:\n  restarted/**: {check: {in: restarted, command: [cat, '{file}']}}\n  signalled/**: {on_change: 'signal:HUP'}\n  told/**: {on_change: 'exec:[touch, /tmp/told]'}\n  filled/conf/**: {volume: conf, on_change: none}\n",
    );
    let service = |name: &str, volumes: &str| {
        format!("  {name}: {{image: {BUSYBOX}, stop_grace_period: 1s, volumes: ['{volumes}']}}\n")
    };
    let compose = |leaving: &str| {
        format!(
            "version: '3.5'\nservices:\n{leaving}{}volumes: {{conf: {{}}}}\n",
            service("filled", "conf:/conf:ro") + &service("restarted", "./restarted/conf:/conf:ro")
        )
    };
    platform.template("core/pryv.yml", compose(&service("leaving", "./told:/x:ro")));
    let proxy = Proxy::new(platform.home.path());
    platform.start_leader();
    let _follower = follower(&platform, &project, &proxy);
    platform.publish();
    let mounted =
        |component: &str| format!("{}:/conf:ro", platform.data("core-1").join(component).join("conf").display());
    project.run("signalled", &["-v", &mounted("signalled")], BUSYBOX, &TRAP);
    let told = project.run("told", &["-v", &mounted("told")], BUSYBOX, &TRAP);
    let volume = format!("{}_conf:/volume", project.name);
    let twin = other.run("restarted", &["-v", &mounted("restarted"), "-v", &volume], BUSYBOX, &TRAP);
    let before = Engine::started(&twin);
    platform.template("core/pryv.yml", compose(""));
    fs::remove_file(platform.leader_root().join("templates/core/filled/conf/gone.conf")).unwrap();
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    let calls = proxy.calls();
    let documented = documented();
    let unknown: Vec<_> = calls.difference(&documented).collect();
    assert!(unknown.is_empty(), "not in docs/security.md: {unknown:?}");
    // These need a container outside the compose file, below.
    let outside =
        ["POST /containers/{id}/kill", "POST /containers/{id}/exec", "POST /exec/{id}/start", "GET /exec/{id}/json"];
    let unused: Vec<_> = documented.difference(&calls).filter(|call| !outside.contains(&call.as_str())).collect();
    assert!(unused.is_empty(), "in docs/security.md, but never called: {unused:?}");
    assert_eq!(Engine::started(&twin), before);
    let id = Engine::docker(&["inspect", "-f", "{{.Id}}", &twin]);
    let touched: Vec<String> =
        proxy.raw().into_iter().filter(|call| call.contains(&id) || call.contains(&twin)).collect();
    assert!(touched.is_empty(), "{touched:?}");
    assert!(Engine::exec(&told, &["ls", "/tmp"]).is_empty(), "it is not in the compose file");

    // A role without a compose file: whatever mounts a file is the role's.
    fs::remove_file(platform.leader_root().join("templates/core/pryv.yml")).unwrap();
    platform.platform_yml("settings: {A: three}\n");
    platform.publish();
    assert_eq!(Engine::exec(&told, &["ls", "/tmp"]), "told");
    let calls = proxy.calls();
    assert_eq!(calls, documented);
    assert_eq!(Engine::started(&twin), before);
    assert!(proxy.raw().iter().all(|call| !call.contains(&id) && !call.contains(&twin)));
}

#[test]
fn a_call_that_the_socket_denies_is_named_and_done_once_it_is_allowed() {
    let project = Project::new("denied");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    let proxy = Proxy::new(platform.home.path());
    platform.start_leader();
    let _follower = follower(&platform, &project, &proxy);
    platform.publish();
    let mount = format!("{}:/conf:ro", platform.data("core-1").join("app/conf").display());
    let app = project.run("app", &["-v", &mount], BUSYBOX, &TRAP);
    let before = Engine::started(&app);
    proxy.deny("POST /containers/{id}/restart");
    platform.platform_yml("settings: {A: two}\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("POST /containers/{id}/restart") && said.contains("docs/security.md"), "{said}");
    assert_eq!(Engine::started(&app), before);
    proxy.allow("POST /containers/{id}/restart");
    platform.until("the restart is done", |_| Engine::started(&app) != before);
    platform.until("it is proven", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Applied)
    });
    proxy.deny("GET /containers/json");
    platform.platform_yml("settings: {A: three}\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    let said = text(&output.stdout);
    assert!(said.contains("nothing was changed") && said.contains("GET /containers/json"), "{said}");
}

/// Follows as somebody who owns the home and may use the engine's socket, and nothing more.
#[test]
fn it_runs_as_a_user_of_its_own() {
    const USER: u32 = 61_234;
    if rustix::process::geteuid().as_raw() != 0 {
        return; // Then all other tests show this.
    }
    let project = Project::new("user");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    platform.template("core/pryv.yml", format!("version: '3.5'\nservices:\n  app: {{image: {BUSYBOX}, stop_grace_period: 1s, volumes: ['./app/conf:/conf:ro']}}\n"));
    platform.start_leader();
    let docker = json!({"project": project.name});
    platform.write_follower_config("core-1", &platform.leader_url(), &docker);
    let root = platform.follower_root("core-1");
    let binary = platform.home.path().join("lockstep");
    fs::hard_link(BINARY, &binary).or_else(|_| fs::copy(BINARY, &binary).map(|_| ())).unwrap();
    fs::set_permissions(platform.home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let owned = Command::new("chown").arg("-R").arg(USER.to_string()).arg(&root).status().unwrap();
    assert!(owned.success());
    let socket = fs::metadata("/var/run/docker.sock").unwrap().gid();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={USER}")).arg(format!("--regid={USER}")).arg(format!("--groups={socket}"));
    command.arg("--inh-caps=-all").arg("--bounding-set=-all").arg(&binary).arg("follower").arg("--root").arg(&root);
    command.env("HOME", &root);
    let follower = Process::start(command);
    platform.publish();
    let app = project.container("app");
    let before = Engine::started(&app);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert_ne!(Engine::started(&app), before);
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf"]), "two");
    let detail = platform.status().last_change.unwrap().actions[0].detail.clone();
    assert!(detail.contains("as far as the archive API shows"), "{detail}");
    assert_eq!(fs::metadata(platform.data("core-1").join("app/conf/x.conf")).unwrap().uid(), USER);
    // What it can't do it says, before anything is changed.
    platform.template("core/role.yml", "files:\n  app/conf/x.conf: {owner: '0:0'}\n");
    platform.good(&["publish", "--yes"]);
    let refused = platform.until("it refuses", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Failed)
    });
    let error = refused.machines[0].status.as_ref().unwrap().apply.as_ref().unwrap().error.clone().unwrap();
    assert!(
        error.contains("nothing was changed") && error.contains("x.conf") && error.contains("run as root"),
        "{error}"
    );
    let _ = (follower.stop(), PATIENCE);
}
