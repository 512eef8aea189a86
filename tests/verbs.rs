//! What is done to which container, and in which order: on the real engine.

use crate::harness::{Engine, Platform, Project, actions};
use lockstep_shared::api::Outcome;
use std::fmt::Write as _;

const BUSYBOX: &str = "lockstep-test/busybox";

fn compose(services: &[&str]) -> String {
    let mut text = "version: '3.5'\nservices:\n".to_owned();
    for service in services {
        let _ = writeln!(text, "  {service}: {{image: {BUSYBOX}, stop_grace_period: 1s, volumes: ['data:/data']}}");
    }
    text + "volumes: {data: {}}\n"
}

#[test]
fn a_service_that_leaves_goes_if_lockstep_created_it() {
    let project = Project::new("leaves");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template("core/pryv.yml", compose(&["kept", "ours"]));
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // One that somebody else made, which the compose file only takes over.
    let theirs = project.run("theirs", &["--label=com.docker.compose.version=1.29.2"], BUSYBOX, &[]);
    platform.template("core/pryv.yml", compose(&["kept", "ours", "theirs"]));
    platform.publish();
    // What it created it remembers across its own restarts.
    follower.stop();
    let _follower = platform.docker_follower("core-1", &project);
    let kept = Engine::started(&project.container("kept"));
    platform.template("core/pryv.yml", compose(&["kept"]));
    platform.until("it has reported", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.is_some_and(|status| status.containers.iter().any(|container| container.ours))
    });
    let shown = crate::harness::text(&platform.run(&["plan"]).stdout);
    assert!(shown.contains("remove") && shown.contains("its volumes stay"), "{shown}");
    platform.publish();
    assert_eq!(project.containers(), [project.container("kept"), theirs.clone()]);
    assert_eq!(Engine::started(&project.container("kept")), kept);
    let apply = platform.change();
    assert_eq!(actions(&apply), ["remove ours"]);
    assert_eq!(apply.actions[0].outcome, Outcome::Proven);
    assert!(apply.notes.iter().any(|note| note.contains(&theirs) && note.contains("docker rm -f")), "{apply:?}");
    let volume = format!("{}_data", project.name);
    assert_eq!(Engine::docker(&["volume", "inspect", "-f", "{{.Name}}", &volume]), volume);
}

#[test]
fn a_renamed_service_gets_the_old_ones_name() {
    let project = Project::new("renamed");
    let mut platform = Platform::new(&[("core-1", "core")]);
    let named = |service: &str| {
        format!(
            "version: '3.5'\nservices:\n  {service}: {{image: {BUSYBOX}, stop_grace_period: 1s, container_name: {}-web}}\n",
            project.name
        )
    };
    platform.template("core/pryv.yml", named("old"));
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    platform.template("core/pryv.yml", named("new"));
    platform.publish();
    assert_eq!(actions(&platform.change()), ["create new", "remove old"]);
    assert_eq!(project.containers(), [format!("{}-web", project.name)]);
}

#[test]
fn dependants_wait_until_what_they_need_is_healthy() {
    let project = Project::new("healthy");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/db/conf/x.conf.hbs", "{{A}}\n");
    let folder = platform.data("core-1").join("db/conf").display().to_string();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{folder}:/conf:ro");
    // Healthy only some while after its start, and the other needs that.
    let slow = "sleep 1; touch /tmp/up; exec sleep infinity";
    let health = ["-v", &mount, "--health-cmd=test -e /tmp/up", "--health-interval=200ms", "--health-retries=50"];
    let db = project.run("db", &health, BUSYBOX, &["sh", "-c", slow]);
    let label = "--label=com.docker.compose.depends_on=db:service_healthy:false";
    let web = project.run("web", &["-v", &mount, label], BUSYBOX, &[]);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert_eq!(actions(&platform.change()), ["restart db", "restart web"]);
    let time = |name: &str, what: &str| Engine::docker(&["inspect", "-f", what, name]);
    let healthy = time(&db, "{{(index .State.Health.Log 0).Start.UnixNano}} {{.State.Health.Status}}");
    assert!(healthy.ends_with("healthy"), "{healthy}");
    let apply = platform.change();
    assert!(apply.actions[0].detail.contains("it is healthy"), "{apply:?}");
    // The first look comes after the interval, the first good one after the second of sleep.
    let started = |name: &str| time(name, "{{.State.StartedAt}}");
    assert!(started(&db) < started(&web), "{} {}", started(&db), started(&web));
    assert!(apply.actions[0].took_ms > 900.0, "{apply:?}");
}

#[test]
fn independent_restarts_are_one_wave() {
    let project = Project::new("eight");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{}:/conf:ro", platform.data("core-1").join("app/conf").display());
    // Each takes a second to stop: one after the other they would take eight.
    let script = ["sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.05; done"];
    for number in 0..8 {
        project.run(&format!("s{number}"), &["-v", &mount, "--stop-timeout=5"], BUSYBOX, &script);
    }
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    let apply = platform.change();
    assert_eq!(apply.actions.len(), 8);
    let act = apply.took_ms.iter().find(|(step, _)| step == "act").unwrap().1;
    let sum: f64 = apply.actions.iter().map(|action| action.took_ms).sum();
    assert!(act * 2.0 < sum, "{act} of {sum}");
}
