//! A change that breaks a container undoes itself: on the real engine.

use crate::harness::{Engine, Platform, Process, Project, text};
use lockstep_shared::api::{Fleet, Notify, Outcome, State, Status, Undo};
use std::fs;

const BUSYBOX: &str = "lockstep-test/busybox";

/// Ends at once with "bad" in its file, otherwise goes on.
const PICKY: &str = "echo start >> /count/starts; read word < /app/conf/x.conf; \
    if [ \"$word\" = bad ]; then echo \"x.conf: no such word: $word\"; exit 7; fi; exec sleep infinity";

fn of(fleet: &Fleet) -> &Status {
    fleet.machines[0].status.as_ref().unwrap()
}

/// One role with one file that has the setting A, and a second component with B.
fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one"), ("B", "one")]);
    platform.template("core/alpha/conf/x.conf.hbs", "{{A}}\n");
    platform.template("core/beta/conf/x.conf.hbs", "{{B}}\n");
    fs::create_dir_all(platform.home.path().join("count")).unwrap();
    platform
}

fn mounts(platform: &Platform, component: &str) -> [String; 2] {
    let conf = platform.data("core-1").join(component).join("conf");
    [format!("{}:/app/conf:ro", conf.display()), format!("{}:/count", platform.home.path().join("count").display())]
}

fn picky(platform: &Platform, project: &Project, service: &str, script: &str, options: &[&str]) -> String {
    let [conf, count] = mounts(platform, service);
    project.run(service, &[&["-v", &conf, "-v", &count], options].concat(), BUSYBOX, &["sh", "-c", script])
}

fn starts(platform: &Platform) -> usize {
    fs::read_to_string(platform.home.path().join("count/starts")).unwrap_or_default().lines().count()
}

fn file(platform: &Platform, component: &str) -> String {
    fs::read_to_string(platform.data("core-1").join(component).join("conf/x.conf")).unwrap()
}

/// Publishes what can't run, and waits until the machine has answered it.
fn poison(platform: &Platform) -> Status {
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    assert_eq!(output.status.code(), Some(3), "{}{}", text(&output.stdout), text(&output.stderr));
    let over = |status: &Status| status.failed.as_ref().is_some_and(|failed| failed.undo != Undo::Pending);
    of(&platform.until("the failure is answered", |fleet| over(of(fleet)) && of(fleet).state == State::Failed)).clone()
}

fn notify(platform: &Platform, follower: &Process, revision: u64) {
    let client = lockstep_edge::Client::new(&follower.ready(), "core-1", platform.key("core-1"), 1 << 16).unwrap();
    let body = serde_json::to_vec(&Notify { revision, services: None, leader: None }).unwrap();
    let sent = client.send(http::Method::POST, "/notify", &[], Some(body.into()), crate::harness::PATIENCE);
    assert_eq!(tokio::runtime::Runtime::new().unwrap().block_on(sent).unwrap().status, 202);
}

#[test]
fn what_ran_before_runs_again_and_the_failure_is_told_until_something_else_is_offered() {
    let project = Project::new("undo");
    let mut platform = platform();
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let alpha = picky(&platform, &project, "alpha", PICKY, &[]);
    let beta = picky(&platform, &project, "beta", PICKY, &[]);
    let untouched = Engine::started(&beta);
    platform.platform_yml("settings: {A: bad}\n");
    let told = poison(&platform);
    let failed = told.failed.clone().unwrap();
    assert_eq!((failed.revision, failed.undo, failed.advice), (2, Undo::Done, None));
    assert!(failed.why.contains("alpha") && failed.why.contains("exit code 7"), "{}", failed.why);
    assert!(failed.why.contains("no such word: bad"), "{}", failed.why);
    assert_eq!(told.running.as_ref().map(|running| running.revision), Some(1));
    let apply = told.last_change.unwrap();
    let error = apply.error.unwrap();
    assert!(error.starts_with("FAILED(2), RUNNING(1): alpha: "), "{error}");
    assert_eq!((apply.revision, apply.actions.len()), (2, 2));
    assert_eq!(
        apply.actions.iter().map(|action| action.outcome).collect::<Vec<_>>(),
        [Outcome::Failed, Outcome::Proven]
    );
    // The files and the container are as before, and nobody else was touched.
    assert_eq!(file(&platform, "alpha"), "one\n");
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &alpha]), "true");
    assert_eq!(Engine::started(&beta), untouched);

    // It isn't tried again by itself: not after a restart of the follower either.
    let before = starts(&platform);
    follower.stop();
    let follower = platform.docker_follower("core-1", &project);
    platform.until("it says so after its start", |fleet| {
        let status = of(fleet);
        status.leader_seen.is_some() && status.apply.is_none() && status.failed == told.failed
    });
    assert_eq!(starts(&platform), before);
    assert_eq!(platform.status().state, State::Failed);

    // Nor by a notification: it was taken back, and who asks for something is given what runs.
    notify(&platform, &follower, 2);
    platform.until("it was notified", |fleet| of(fleet).state == State::Applied && of(fleet).failed.is_none());
    assert_eq!((starts(&platform), file(&platform, "alpha").as_str()), (before, "one\n"));
    assert!(platform.good(&["status"]).contains("FAILED(2), RUNNING(1)"), "the leader remembers it");

    // Whoever wants it has it tried once more, and undone once more.
    platform.good(&["rollout", "resume"]);
    let again = platform.until("it was tried again", |fleet| {
        of(fleet).apply.as_ref().is_some_and(|apply| apply.error.is_some())
            && of(fleet).failed.as_ref().is_some_and(|failed| failed.undo == Undo::Done)
    });
    assert!(of(&again).apply.as_ref().unwrap().error.as_ref().unwrap().starts_with("FAILED(2), RUNNING(1)"));
    assert_eq!(starts(&platform), before + 2);

    // A correction ends it.
    platform.platform_yml("settings: {A: good}\n");
    platform.publish();
    let well = platform.status();
    assert_eq!(
        (well.state, well.failed, well.running.map(|running| running.revision)),
        (State::Applied, None, Some(3))
    );
    assert_eq!(file(&platform, "alpha"), "good\n");
}

#[test]
fn going_back_to_what_runs_says_that_all_is_well() {
    let project = Project::new("undo-back");
    let mut platform = platform();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let alpha = picky(&platform, &project, "alpha", PICKY, &[]);
    platform.platform_yml("settings: {A: bad}\n");
    poison(&platform);
    let before = Engine::started(&alpha);
    platform.good(&["rollback", "1", "--yes"]);
    let fleet = platform.until("all is well", |fleet| of(fleet).state == State::Applied);
    assert_eq!(of(&fleet).failed, None);
    assert_eq!(Engine::started(&alpha), before, "it runs already");
}

#[test]
fn what_a_failure_kept_from_being_acted_on_is_left_alone() {
    let project = Project::new("undo-held");
    let mut platform = platform();
    platform.template("core/role.yml", "files:\n  alpha/**: {services: [alpha, beta]}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    picky(&platform, &project, "alpha", PICKY, &[]);
    let beta = picky(&platform, &project, "beta", PICKY, &["--label", "com.docker.compose.depends_on=alpha"]);
    let untouched = Engine::started(&beta);
    platform.platform_yml("settings: {A: bad}\n");
    let told = poison(&platform);
    assert_eq!(told.failed.unwrap().undo, Undo::Done);
    assert_eq!(Engine::started(&beta), untouched);
    assert!(told.last_change.unwrap().actions.iter().any(|action| action.detail.contains("depends on alpha")));
}

#[test]
fn an_undo_that_fails_too_stops_there_and_says_what_to_do() {
    let project = Project::new("undo-fails");
    let mut platform = platform();
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // Once it has seen "bad" it never comes up again.
    let script = PICKY.replace("exit 7", "echo spoilt > /count/spoilt; exit 7");
    let script =
        format!("if [ -e /count/spoilt ]; then echo start >> /count/starts; echo spoilt; exit 9; fi; {script}");
    let alpha = picky(&platform, &project, "alpha", &script, &[]);
    platform.platform_yml("settings: {A: bad}\n");
    let told = poison(&platform);
    let failed = told.failed.unwrap();
    assert_eq!(failed.undo, Undo::Failed);
    assert!(failed.why.contains("exit code 7"), "{}", failed.why);
    let advice = failed.advice.unwrap();
    assert!(advice.contains("exit code 9") && advice.contains("docker logs"), "{advice}");
    assert_eq!(file(&platform, "alpha"), "one\n");
    // Neither by itself nor by its own restart is it started again.
    let before = starts(&platform);
    assert_eq!(before, 3);
    follower.stop();
    let follower = platform.docker_follower("core-1", &project);
    platform.until("it says so after its start", |fleet| of(fleet).apply.is_none() && of(fleet).leader_seen.is_some());
    assert_eq!(starts(&platform), before);
    // The cause is removed, and somebody says so.
    fs::remove_file(platform.home.path().join("count/spoilt")).unwrap();
    platform.good(&["rollback", "1", "--yes"]);
    let fleet = platform.until("all is well", |fleet| of(fleet).state == State::Applied);
    assert_eq!(of(&fleet).failed, None);
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &alpha]), "true");
    drop(follower);
}

#[test]
fn the_first_bundle_has_nothing_to_go_back_to_and_is_not_started_again_and_again() {
    let project = Project::new("undo-first");
    let mut platform = platform();
    platform.settings(&[("A", "bad"), ("B", "one")]);
    let count = platform.home.path().join("count");
    let compose = format!(
        "version: '3.5'\nservices:\n  alpha:\n    image: {BUSYBOX}\n    command: ['sh', '-c', '{}']\n    volumes: ['./alpha/conf:/app/conf:ro', '{}:/count']\n",
        PICKY.replace('$', "$$"),
        count.display()
    );
    platform.template("core/pryv.yml", compose);
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    let fleet = platform.until("it failed", |fleet| of_first(fleet).is_some_and(|status| status.failed.is_some()));
    let failed = of(&fleet).failed.clone().unwrap();
    assert_eq!(failed.undo, Undo::Nothing);
    assert!(failed.why.contains("exit code 7"), "{}", failed.why);
    assert!(failed.advice.unwrap().contains("first bundle"));
    assert_eq!((file(&platform, "alpha").as_str(), starts(&platform)), ("bad\n", 1));
    follower.stop();
    let _follower = platform.docker_follower("core-1", &project);
    platform.until("it says so after its start", |fleet| of(fleet).apply.is_none() && of(fleet).leader_seen.is_some());
    assert_eq!(starts(&platform), 1);
    platform.platform_yml("settings: {A: good}\n");
    platform.publish();
    assert_eq!((platform.status().failed, starts(&platform)), (None, 2));
}

fn of_first(fleet: &Fleet) -> Option<&Status> {
    fleet.machines[0].status.as_ref()
}

#[test]
fn health_that_turns_bad_after_the_change_is_undone() {
    let project = Project::new("undo-health");
    let mut platform = platform();
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let health = "--health-cmd=read word < /app/conf/x.conf; test \"$word\" != bad";
    let options = [health, "--health-interval=200ms", "--health-retries=2", "--health-timeout=5s"];
    let alpha = picky(&platform, &project, "alpha", "exec sleep infinity", &options);
    platform.platform_yml("settings: {A: bad}\n");
    let told = poison(&platform);
    let failed = told.failed.unwrap();
    assert_eq!(failed.undo, Undo::Done);
    assert!(failed.why.contains("unhealthy"), "{}", failed.why);
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Health.Status}}", &alpha]), "healthy");
}

#[test]
fn a_compose_file_that_cannot_be_brought_up_is_undone() {
    let project = Project::new("undo-compose");
    let mut platform = platform();
    let compose = |image: &str| {
        format!(
            "version: '3.5'\nservices:\n  alpha:\n    image: {image}\n    volumes: ['./alpha/conf:/app/conf:ro']\n  beta:\n    image: {BUSYBOX}\n    volumes: ['./beta/conf:/app/conf:ro']\n"
        )
    };
    platform.template("core/pryv.yml", compose(BUSYBOX));
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let beta = Engine::started(&project.container("beta"));
    platform.template("core/pryv.yml", compose("lockstep-test/no-such-image:1"));
    let told = poison(&platform);
    let failed = told.failed.unwrap();
    assert_eq!(failed.undo, Undo::Done, "{failed:?}");
    assert!(failed.why.contains("no-such-image"), "{}", failed.why);
    let alpha = project.container("alpha");
    assert_eq!(
        Engine::docker(&["inspect", "-f", "{{.State.Running}} {{.Config.Image}}", &alpha]),
        format!("true {BUSYBOX}")
    );
    assert_eq!(Engine::started(&project.container("beta")), beta);
    let written = fs::read_to_string(platform.data("core-1").join("pryv.yml")).unwrap();
    assert_eq!(written, compose(BUSYBOX));
}

#[test]
fn an_nginx_that_rejects_its_configuration_serves_the_old_one() {
    let project = Project::new("undo-nginx");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one"), ("EXTRA", "''")]);
    let conf = "events {}\nhttp { server { listen 80; location / { return 200 \"{{A}}\"; } {{EXTRA}} } }\n";
    platform.template("core/nginx/conf/nginx.conf.hbs", conf);
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{}:/app/conf:ro", platform.data("core-1").join("nginx/conf").display());
    let nginx = project.run("nginx", &["-v", &mount], "lockstep-test/nginx", &[]);
    platform.platform_yml("settings: {A: two, EXTRA: 'no_such_directive on;'}\n");
    let told = poison(&platform);
    let failed = told.failed.unwrap();
    assert_eq!(failed.undo, Undo::Done);
    assert!(failed.why.contains("unknown directive \"no_such_directive\""), "{}", failed.why);
    assert_eq!(Engine::exec(&nginx, &["wget", "-q", "-O", "-", "http://127.0.0.1/"]), "one");
}

#[test]
fn what_dies_of_a_signal_only_a_moment_later_is_undone_too() {
    let project = Project::new("undo-late");
    let mut platform = platform();
    platform.template("core/role.yml", "files:\n  alpha/**: {on_change: 'signal:HUP'}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // It goes on for a moment after the signal, so it is proven at first.
    let script = "trap 'read word < /app/conf/x.conf; if [ \"$word\" = bad ]; then sleep 0.5; echo cannot; exit 7; fi' HUP; \
        while :; do sleep 0.05; done";
    let alpha = picky(&platform, &project, "alpha", script, &[]);
    platform.platform_yml("settings: {A: bad}\n");
    platform.good(&["publish", "--yes"]);
    let undone = |status: &Status| status.failed.as_ref().is_some_and(|failed| failed.undo == Undo::Done);
    let fleet = platform.until("it is undone", |fleet| undone(of(fleet)));
    let told = of(&fleet);
    let why = &told.failed.as_ref().unwrap().why;
    assert!(why.contains("shortly after it was proven, with exit code 7") && why.contains("cannot"), "{why}");
    let shown: Vec<_> = told.apply.as_ref().unwrap().actions.iter().map(|action| action.verb.as_str()).collect();
    assert_eq!(shown, ["signal:HUP", "restart"], "a signal does not reach what is dead");
    assert_eq!((told.running.as_ref().map(|running| running.revision), told.state), (Some(1), State::Failed));
    assert_eq!(file(&platform, "alpha"), "one\n");
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &alpha]), "true");
}

#[test]
fn health_that_a_signal_turns_bad_is_waited_for_and_undone() {
    let project = Project::new("undo-sick");
    let mut platform = platform();
    platform.template("core/role.yml", "files:\n  alpha/**: {on_change: 'signal:HUP'}\n");
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let script =
        "cat /app/conf/x.conf > /tmp/word; trap 'cat /app/conf/x.conf > /tmp/word' HUP; while :; do sleep 0.05; done";
    let health = "--health-cmd=read word < /tmp/word; test \"$word\" != bad";
    let options = [health, "--health-interval=200ms", "--health-retries=2", "--health-timeout=5s"];
    let alpha = picky(&platform, &project, "alpha", script, &options);
    platform.until("healthy", |_| Engine::docker(&["inspect", "-f", "{{.State.Health.Status}}", &alpha]) == "healthy");
    platform.platform_yml("settings: {A: good}\n");
    platform.publish();
    let detail = platform.status().last_change.unwrap().actions.remove(0).detail;
    assert!(detail.starts_with("it goes on running and is healthy"), "{detail}");
    platform.platform_yml("settings: {A: bad}\n");
    let told = poison(&platform);
    let failed = told.failed.unwrap();
    assert!(failed.why.contains("unhealthy"), "{}", failed.why);
    assert_eq!((failed.undo, told.running.map(|running| running.revision)), (Undo::Done, Some(2)));
}

/// A compose file with one service whose command is the setting A.
fn composed(platform: &Platform, grace: &str, options: &str) {
    let service =
        format!("image: {BUSYBOX}, command: {{{{A}}}}, stop_grace_period: {grace}, environment: {{B: '{{{{B}}}}'}}");
    platform.template("core/pryv.yml.hbs", format!("version: '3.5'\nservices:\n  web: {{{service}{options}}}\n"));
}

#[test]
fn what_compose_cannot_start_leaves_the_one_container_that_there_was() {
    let project = Project::new("undo-start");
    let mut platform = platform();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    composed(&platform, "0s", &format!(", ports: ['127.0.0.1:{port}:80']"));
    let good = "['sleep', 'infinity']";
    platform.settings(&[("A", good), ("B", "one")]);
    platform.platform_yml(&format!("settings: {{A: \"{good}\"}}\n"));
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // Each time the next attempt finds what the one before left.
    for round in 1..3 {
        platform.platform_yml(&format!("settings: {{A: \"['/no/such/program', '{round}']\"}}\n"));
        let told = poison(&platform);
        let failed = told.failed.unwrap();
        assert_eq!(failed.undo, Undo::Done, "{failed:?}");
        assert_eq!(project.containers(), [project.container("web")]);
        let up = Engine::docker(&["inspect", "-f", "{{.State.Running}}", &project.container("web")]);
        assert_eq!(up, "true");
    }
}

#[test]
fn a_follower_that_is_killed_while_compose_recreates_waits_for_it_and_makes_no_second_container() {
    let project = Project::new("undo-orphan");
    let mut platform = platform();
    composed(&platform, "3s", "");
    // It takes its three seconds to stop.
    platform.platform_yml("settings: {A: \"['sh', '-c', 'trap : TERM; while :; do sleep 0.1; done']\"}\n");
    platform.start_leader();
    let mut follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let calls = |follower: &Process| follower.log().matches("compose brings services up").count();
    for round in 2..4 {
        platform.platform_yml(&format!(
            "settings: {{A: \"['sh', '-c', 'trap : TERM; while :; do sleep 0.1; done']\", B: round-{round}}}\n"
        ));
        let before = calls(&follower);
        platform.good(&["publish", "--yes"]);
        crate::harness::until("compose is at it", || calls(&follower) > before, || follower.log());
        drop(follower);
        follower = platform.start_follower("core-1");
        platform.until("it is through", |fleet| of(fleet).running.as_ref().is_some_and(|it| it.revision == round));
        assert!(follower.log().contains("waits for compose, which the follower before"), "{}", follower.log());
        assert_eq!(project.containers(), [project.container("web")], "{}", follower.log());
        let environment = Engine::docker(&["inspect", "-f", "{{.Config.Env}}", &project.container("web")]);
        assert!(environment.contains(&format!("B=round-{round}")), "{environment}");
    }
}

#[test]
fn health_that_turns_bad_only_after_its_proof_is_undone_too() {
    let project = Project::new("undo-turn");
    let mut platform = platform();
    platform.start_leader();
    let docker = serde_json::json!({"project": project.name, "settleSeconds": 3});
    platform.write_follower_config("core-1", &platform.leader_url(), &docker);
    let _follower = platform.start_follower("core-1");
    platform.publish();
    let health = "--health-cmd=read word < /app/conf/x.conf; test \"$word\" != bad || ! test -e /count/turned";
    let options = [health, "--health-interval=200ms", "--health-retries=2", "--health-timeout=5s"];
    picky(&platform, &project, "alpha", "exec sleep infinity", &options);
    platform.platform_yml("settings: {A: bad}\n");
    platform.good(&["publish", "--yes"]);
    platform.until("it is proven", |fleet| of(fleet).running.as_ref().is_some_and(|running| running.revision == 2));
    fs::write(platform.home.path().join("count/turned"), "").unwrap();
    let undone = |status: &Status| status.failed.as_ref().is_some_and(|failed| failed.undo == Undo::Done);
    let fleet = platform.until("it is undone", |fleet| undone(of(fleet)));
    let told = of(&fleet);
    let why = &told.failed.as_ref().unwrap().why;
    assert!(why.contains("became unhealthy shortly after it was proven"), "{why}");
    assert_eq!(told.running.as_ref().map(|running| running.revision), Some(1));
    assert_eq!(file(&platform, "alpha"), "one\n");
}

#[test]
fn what_somebody_brings_up_by_hand_is_seen() {
    let project = Project::new("undo-hand");
    let mut platform = platform();
    let leader = platform.start_leader();
    let docker = serde_json::json!({"project": project.name, "settleSeconds": 0.1});
    platform.write_follower_config("core-1", &leader, &docker);
    let follower = platform.start_follower("core-1");
    platform.publish();
    let script = PICKY.replace("exit 7", "echo spoilt > /count/spoilt; exit 7");
    let script = format!("if [ -e /count/spoilt ]; then exit 9; fi; {script}");
    let alpha = picky(&platform, &project, "alpha", &script, &[]);
    platform.platform_yml("settings: {A: bad}\n");
    assert_eq!(poison(&platform).failed.unwrap().undo, Undo::Failed);
    fs::remove_file(platform.home.path().join("count/spoilt")).unwrap();
    Engine::docker(&["start", &alpha]);
    Engine::exec(&alpha, &["sleep", "2"]);
    // A leader that stops lets go of the held request, and the follower looks.
    platform.stop_leader();
    let start = std::time::Instant::now();
    let seen = || crate::faults::local_status(&follower).unwrap();
    while seen().failed.is_none_or(|failed| failed.undo != Undo::Done) {
        assert!(start.elapsed() < crate::harness::PATIENCE, "{}", follower.log());
    }
    assert_eq!(seen().running.map(|running| running.revision), Some(1));
}
