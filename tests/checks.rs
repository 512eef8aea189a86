//! Checks before the swap, in the image that will run the files.

use crate::harness::{Engine, Platform, Project, text};
use lockstep_shared::api::State;
use std::fs;

const NGINX: &str = "lockstep-test/nginx";
const BUSYBOX: &str = "lockstep-test/busybox";

fn throwaways(project: &Project) -> String {
    Engine::docker(&["ps", "-aq", "--filter", &format!("label=io.lockstep.throwaway={}", project.name)])
}

/// What failed is tried again, and may be looked at in just that moment.
fn none_left(platform: &Platform, project: &Project) {
    platform.until("no throwaway container is left", |_| throwaways(project).is_empty());
}

/// nginx with a site that has the setting A in it.
fn nginx(platform: &Platform, role: &str) {
    platform.settings(&[("A", "return 200 one;")]);
    platform.template(
        "core/nginx/conf/nginx.conf",
        "events {}\npid /tmp/pid;\nhttp { access_log off; include site-*.conf; }\n",
    );
    platform.template("core/nginx/conf/site-a.conf.hbs", "server { listen 80; location / { {{A}} } }\n");
    platform.template("core/role.yml", role);
    platform.template(
        "core/pryv.yml",
        format!(
            "version: '3.5'\nservices:\n  nginx: {{image: {NGINX}, stop_grace_period: 1s, volumes: ['./nginx/conf:/app/conf:ro']}}\n  api: {{image: {BUSYBOX}, stop_grace_period: 1s}}\n"
        ),
    );
}

const ROLE: &str = "files:\n  nginx/conf/*.conf:\n    on_change: signal:HUP\n    check: {in: nginx, command: [nginx, -t, -c, /app/conf/nginx.conf], seconds: 20}\n";

#[test]
fn nginx_itself_says_whether_it_would_take_the_files() {
    let project = Project::new("nginxt");
    let mut platform = Platform::new(&[("core-1", "core")]);
    nginx(&platform, ROLE);
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    // At the first start there is no container whose image could be used.
    assert!(platform.change().notes.iter().any(|note| note.contains("skipped: it has no container yet")));
    let name = project.container("nginx");
    let before = Engine::started(&name);
    let file = platform.data("core-1").join("nginx/conf/site-a.conf");
    let old = fs::read_to_string(&file).unwrap();

    platform.platform_yml("settings: {A: 'retrun 200 two;'}\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60", "--on-failure", "continue"]);
    assert_eq!(output.status.code(), Some(3));
    let error = platform.change().error.unwrap();
    assert!(error.starts_with("nothing was changed") && error.contains("unknown directive \"retrun\""), "{error}");
    assert!(error.contains("/app/conf/site-a.conf:1"), "{error}");
    assert!(error.contains("nginx.conf in nginx) failed") && !error.contains("sha256:"), "{error}");
    assert_eq!((fs::read_to_string(&file).unwrap(), Engine::started(&name)), (old, before.clone()));
    // Nothing is said of it while it is tried again.
    let action = format!("signal:HUP {name}: not begun (nginx/conf/site-a.conf changed)\n");
    let status = || platform.good(&["status"]);
    crate::harness::until("what was refused is not begun", || status().contains(&action), status);
    none_left(&platform, &project);

    // A good one passes: names of other services lead somewhere, and what others keep there comes along.
    fs::write(platform.data("core-1").join("nginx/conf/theirs.inc"), "return 200 theirs;\n").unwrap();
    platform.platform_yml("settings: {A: 'proxy_pass http://api:3000; } location /x { include theirs.inc;'}\n");
    platform.publish();
    assert_eq!(Engine::started(&name), before);
    assert_eq!(platform.status().state, State::Applied);
    assert!(platform.change().took_ms.iter().any(|(step, _)| step == "check"));
    none_left(&platform, &project);
}

#[test]
fn a_check_sees_its_file_where_the_service_mounts_it_and_ends_in_time() {
    let project = Project::new("checks");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    platform.template("core/app/secret/y.conf.hbs", "{{A}}\n");
    let check = |command: &str, seconds: &str| {
        format!("files:\n  app/*/*.conf: {{check: {{in: app, command: {command}{seconds}}}}}\n")
    };
    platform.template(
        "core/role.yml",
        check("[sh, -c, 'test \"$(cat $1)\" != bad && test -e {tree}/app/conf/x.conf', sh, '{file}']", ""),
    );
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mounts = [
        "-v",
        &format!("{}:/conf:ro", platform.data("core-1").join("app/conf").display()),
        "-v",
        &format!("{}:/etc/y.conf:ro", platform.data("core-1").join("app/secret/y.conf").display()),
        "-v",
        "/etc/hostname:/outside:ro",
        "--user=33:33",
    ];
    let app = project.run("app", &mounts, BUSYBOX, &[]);
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf", "/etc/y.conf"]), "two\ntwo");
    let failed = |platform: &Platform| {
        let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
        platform.change().error.unwrap()
    };
    platform.platform_yml("settings: {A: bad}\n");
    assert!(failed(&platform).contains("failed with exit code 1"));
    platform.template("core/role.yml", check("[sleep, infinity]", ", seconds: 1"));
    assert!(failed(&platform).contains("did not end within 1 s"));
    platform.template("core/role.yml", check("[/no/such/program]", ""));
    let error = failed(&platform);
    assert!(error.contains("could not be started") && error.contains("/no/such/program"), "{error}");
    assert_eq!(Engine::exec(&app, &["cat", "/conf/x.conf", "/etc/y.conf"]), "two\ntwo");
    none_left(&platform, &project);
}

#[test]
fn what_a_killed_follower_left_goes_at_the_next_start() {
    let project = Project::new("sweep");
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("A", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{A}}\n");
    platform.template("core/role.yml", "files:\n  '**': {check: {in: app, command: [sleep, infinity]}}\n");
    platform.start_leader();
    let follower = platform.docker_follower("core-1", &project);
    platform.publish();
    let mount = format!("{}:/conf:ro", platform.data("core-1").join("app/conf").display());
    project.run("app", &["-v", &mount], BUSYBOX, &[]);
    platform.platform_yml("settings: {A: two}\n");
    platform.good(&["publish", "--yes"]);
    platform.until("the check runs", |_| !throwaways(&project).is_empty());
    drop(follower);
    assert_ne!(throwaways(&project), "");
    platform.template("core/role.yml", "files: {}\n");
    let _follower = platform.docker_follower("core-1", &project);
    platform.publish();
    platform.until("it is gone", |_| throwaways(&project).is_empty());
}
