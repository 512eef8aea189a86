//! Which containers are touched, how, and what they then see: on the real engine.

use crate::harness::{Engine, Platform, Project, text};
use lockstep_shared::api::{Outcome, State};
use serde_json::{Value, json};
use std::fs;

const BUSYBOX: &str = "lockstep-test/busybox";

/// A role of three components, each with a file that has a setting of its own.
fn three() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one"), ("B", "one"), ("C", "one")]);
    for (component, setting) in [("alpha", "A"), ("beta", "B"), ("gamma", "C")] {
        platform.template(&format!("core/{component}/conf/x.conf.hbs"), format!("{{{{{setting}}}}}\n"));
    }
    platform
}

fn mounted(platform: &Platform, component: &str) -> String {
    format!("{}:/app/conf:ro", platform.data("core-1").join(component).join("conf").display())
}

#[test]
fn exactly_the_affected_containers_are_restarted() {
    let (project, other) = (Project::new("exact"), Project::new("other"));
    let mut platform = three();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let alpha = project.run("alpha", &["-v", &mounted(&platform, "alpha")], BUSYBOX, &[]);
    let beta = project.run("beta", &["-v", &mounted(&platform, "beta")], BUSYBOX, &[]);
    let both = project.run(
        "both",
        &[
            "-v",
            &mounted(&platform, "alpha"),
            "-v",
            &format!("{}:/b:ro", platform.data("core-1").join("beta").display()),
        ],
        BUSYBOX,
        &[],
    );
    let foreign = other.run("alpha", &["-v", &mounted(&platform, "alpha")], BUSYBOX, &[]);
    let unmounted = project.run("gamma", &[], BUSYBOX, &[]);
    let before = [&alpha, &beta, &both, &foreign, &unmounted].map(|name| Engine::started(name));

    platform.platform_yml("settings:\n  A: two\n  C: two\n");
    platform.publish();
    let after = [&alpha, &beta, &both, &foreign, &unmounted].map(|name| Engine::started(name));
    let touched: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(touched, [true, false, true, false, false]);
    assert_eq!(Engine::exec(&alpha, &["cat", "/app/conf/x.conf"]), "two");
    let apply = platform.status().last_change.unwrap();
    let mut left: Vec<&str> = apply.left_alone.iter().map(|left| left.service.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["beta", "gamma"]);
    assert!(apply.actions.iter().all(|action| action.outcome == Outcome::Proven && action.verb == "restart"));
}

#[test]
fn the_plan_foretells_what_the_follower_then_does() {
    let project = Project::new("plan");
    let mut platform = three();
    platform.template("core/role.yml", "files:\n  beta/**: {on_change: 'signal:HUP'}\n");
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    for service in ["alpha", "beta", "gamma"] {
        project.run(
            service,
            &["-v", &mounted(&platform, service)],
            BUSYBOX,
            &["sh", "-c", "trap '' HUP; sleep infinity"],
        );
    }
    // Containers that others start are in its next report: at its start, or within a minute.
    follower.stop();
    let _follower = platform.docker_follower("core-1", &project);
    platform.until("its containers are reported", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.containers.len() == 3)
    });
    platform.platform_yml("settings: {A: two, B: two}\n");
    let planned: Value = serde_json::from_slice(&platform.run(&["plan", "--json"]).stdout).unwrap();
    let foreseen = &planned["changes"][0]["containers"];
    let shown = text(&platform.run(&["plan"]).stdout);
    assert!(shown.contains("1. restart    alpha: alpha/conf/x.conf changed; short downtime"), "{shown}");
    assert!(shown.contains("1. signal:HUP beta: beta/conf/x.conf changed; no downtime"), "{shown}");
    platform.publish();
    let apply = platform.status().last_change.unwrap();
    let done: Vec<_> = apply.actions.iter().map(|action| json!([action.service, action.verb, action.why])).collect();
    let told = foreseen["actions"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|action| json!([action["service"], action["verb"], action["why"]])).collect();
    assert_eq!(told, done);
    assert_eq!(foreseen["left_alone"], serde_json::to_value(&apply.left_alone).unwrap());
    // Going back is foretold in the same way, before anybody is asked.
    let back = text(&platform.run(&["rollback", "1"]).stdout);
    assert!(back.contains("1. restart    alpha: alpha/conf/x.conf changed; short downtime"), "{back}");
}

#[test]
fn verbs_of_role_yml() {
    let project = Project::new("verbs");
    let mut platform = three();
    platform.template(
        "core/role.yml",
        "files:\n  alpha/**: {on_change: 'signal:HUP'}\n  beta/**: {on_change: none}\n  gamma/**: {on_change: 'exec:[touch, /tmp/told]'}\n",
    );
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let trap = ["sh", "-c", "trap 'touch /tmp/hup' HUP; while :; do sleep 0.05; done"];
    let names = ["alpha", "beta", "gamma"]
        .map(|service| project.run(service, &["-v", &mounted(&platform, service)], BUSYBOX, &trap));
    let before = names.each_ref().map(|name| Engine::started(name));
    platform.platform_yml("settings: {A: two, B: two, C: two}\n");
    platform.publish();
    assert_eq!(names.each_ref().map(|name| Engine::started(name)), before, "nothing was restarted");
    let start = std::time::Instant::now();
    while std::process::Command::new("docker")
        .args(["exec", &names[0], "test", "-e", "/tmp/hup"])
        .status()
        .is_ok_and(|status| !status.success())
    {
        assert!(start.elapsed() < crate::harness::PATIENCE, "no HUP came");
    }
    assert_eq!(Engine::exec(&names[2], &["ls", "/tmp"]), "told");
    assert_eq!(Engine::exec(&names[1], &["cat", "/app/conf/x.conf"]), "two");
}

#[test]
fn a_mounted_single_file_is_seen_anew_whatever_the_verb() {
    let project = Project::new("single");
    let mut platform = three();
    platform.template("core/role.yml", "files:\n  alpha/**: {on_change: 'signal:HUP'}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let file = |component: &str| {
        format!("{}:/x.conf:ro", platform.data("core-1").join(component).join("conf/x.conf").display())
    };
    let alpha = project.run(
        "alpha",
        &["-v", &file("alpha")],
        BUSYBOX,
        &["sh", "-c", "trap '' HUP; while :; do sleep 0.05; done"],
    );
    let beta = project.run("beta", &["-v", &file("beta")], BUSYBOX, &[]);
    platform.platform_yml("settings: {A: 'a longer value', B: two}\n");
    platform.publish();
    assert_eq!(Engine::exec(&alpha, &["cat", "/x.conf"]), "a longer value");
    assert_eq!(Engine::exec(&beta, &["cat", "/x.conf"]), "two");
    assert!(
        platform.status().last_change.unwrap().notes.iter().any(|note| note.contains("in place")),
        "{:?}",
        platform.status().apply
    );
}

#[test]
fn a_container_that_dies_of_the_change_is_told_with_its_last_words() {
    let project = Project::new("dies");
    let mut platform = three();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let script = "if grep -q bad /app/conf/x.conf; then echo 'x.conf: bad value'; exit 7; fi; exec sleep infinity";
    let script = script.replace("grep -q bad /app/conf/x.conf", "test \"$(cat /app/conf/x.conf)\" = bad");
    project.run("alpha", &["-v", &mounted(&platform, "alpha")], BUSYBOX, &["sh", "-c", &script]);
    platform.platform_yml("settings: {A: bad}\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stdout);
    assert!(said.contains("FAILED") && said.contains("bad value") && said.contains('7'), "{said}");
    assert_eq!(platform.status().state, State::Failed);
    platform.platform_yml("settings: {A: good}\n");
    platform.publish();
    assert_eq!(platform.status().state, State::Applied);
}

#[test]
fn a_stopped_container_stays_stopped() {
    let project = Project::new("stopped");
    let mut platform = three();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let alpha = project.run("alpha", &["-v", &mounted(&platform, "alpha")], BUSYBOX, &[]);
    Engine::docker(&["stop", "-t", "0", &alpha]);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &alpha]), "false");
    assert!(
        platform
            .status()
            .apply
            .unwrap()
            .left_alone
            .iter()
            .any(|left| left.service == "alpha" && left.why.contains("stopped"))
    );
}

#[test]
fn the_first_boot_brings_the_stack_up_and_later_only_what_changed_is_made_anew() {
    let project = Project::new("compose");
    let mut platform = three();
    let compose = |image_env: &str| {
        format!(
            "version: '3.5'\nservices:\n  alpha:\n    image: {BUSYBOX}\n    env_file: [alpha.env]\n    volumes: ['./alpha/conf:/app/conf:ro']\n  beta:\n    image: {BUSYBOX}\n    environment: {{X: '{image_env}'}}\n    volumes: ['./beta/conf:/app/conf:ro']\n    depends_on: [alpha]\n"
        )
    };
    platform.template("core/pryv.yml", compose("1"));
    platform.template("core/alpha.env.hbs", "C={{env_quote C}}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let (alpha, beta) = (project.container("alpha"), project.container("beta"));
    assert_eq!(project.containers(), [alpha.clone(), beta.clone()]);
    assert_eq!(Engine::exec(&alpha, &["cat", "/app/conf/x.conf"]), "one");

    // The compose definition of one service: that one is made anew.
    let before = [&alpha, &beta].map(|name| Engine::started(name));
    platform.template("core/pryv.yml", compose("2"));
    platform.publish();
    let now = [&alpha, &beta].map(|name| Engine::started(name));
    assert_eq!((before[0] == now[0], before[1] == now[1]), (true, false));
    assert_eq!(
        Engine::docker(&["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", &beta]).lines().next(),
        Some("X=2")
    );

    // An env_file: its service is made anew, since a restart would never read it.
    platform.platform_yml("settings: {C: two}\n");
    platform.publish();
    let later = [&alpha, &beta].map(|name| Engine::started(name));
    assert_eq!((now[0] == later[0], now[1] == later[1]), (false, true));
    assert!(Engine::docker(&["inspect", "-f", "{{.Config.Env}}", &alpha]).contains("C=two"));
}

#[test]
fn without_an_engine_nothing_is_written() {
    let mut platform = three();
    let leader = platform.start_leader();
    let docker = serde_json::json!({"project": "x", "host": "unix:///nonexistent/docker.sock"});
    platform.write_follower_config("core-1", &leader, &docker);
    let _follower = platform.start_follower("core-1");
    let fleet = platform
        .until("failed", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Failed));
    let error = fleet.machines[0].status.as_ref().unwrap().apply.as_ref().unwrap().error.clone().unwrap();
    assert!(error.contains("/nonexistent/docker.sock"), "{error}");
    assert!(fs::read_dir(platform.data("core-1")).map_or(0, Iterator::count) == 0);
}

#[test]
fn notify_for_one_service_acts_on_that_one() {
    let project = Project::new("service");
    let mut platform = three();
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let alpha = project.run("alpha", &["-v", &mounted(&platform, "alpha")], BUSYBOX, &[]);
    let beta = project.run("beta", &["-v", &mounted(&platform, "beta")], BUSYBOX, &[]);
    let before = [&alpha, &beta].map(|name| Engine::started(name));
    // The leader learns the follower's address only now; the test stands in for it.
    let client = lockstep_edge::Client::new(&follower.ready(), "core-1", platform.key("core-1"), 1 << 16).unwrap();
    let notify = lockstep_shared::api::Notify { revision: 1, services: Some(vec!["alpha".to_owned()]), leader: None };
    let body = serde_json::to_vec(&notify).unwrap();
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(client.send(
        http::Method::POST,
        "/notify",
        &[],
        Some(body.into()),
        crate::harness::PATIENCE,
    ));
    assert_eq!(answer.unwrap().status, 202);
    platform.until("alpha restarted", |_| Engine::started(&alpha) != before[0]);
    platform
        .until("done", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.state == State::Applied));
    assert_eq!(Engine::started(&beta), before[1]);
}
