//! For those who watch: metrics that Prometheus takes, readiness that means
//! it, and one name for what one command set off.

use crate::api::{admin, call};
use crate::harness::{Platform, Process, repository, text, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

fn platform(followers: &[(&str, &str)]) -> Platform {
    let mut platform = Platform::new(followers);
    platform.settings(&[("V", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{V}}\n");
    platform.env("LOCKSTEP_ADMIN__PORT", "0");
    platform
}

/// A page of metrics, once Prometheus' own tool has nothing to say of it.
pub(crate) fn scrape(url: &str) -> String {
    let answer = call(url, None, "GET", "/metrics", None);
    assert_eq!(
        (answer.status, answer.headers["content-type"].to_str().unwrap()),
        (200, lockstep_edge::metrics::CONTENT_TYPE)
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let (page, said) = (text(&answer.body), (said.status.code(), text(&said.stdout) + &text(&said.stderr)));
    assert_eq!(said, (Some(0), String::new()), "{page}");
    page
}

/// The value of one line, by its name and labels.
pub(crate) fn value(page: &str, sample: &str) -> i64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{page}")).parse().unwrap()
}

#[test]
fn metrics_say_what_happened_in_the_form_that_prometheus_takes() {
    let mut platform = platform(&[("core-1", "core"), ("core-2", "core")]);
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.until("core-1 runs revision 1", |fleet| {
        fleet.machines[0].status.as_ref().is_some_and(|status| status.running.is_some())
    });
    platform.platform_yml("settings: {V: two}\n");
    platform.good(&["publish", "--yes"]);
    platform.until("core-1 runs revision 2", |fleet| {
        fleet.machines[0]
            .status
            .as_ref()
            .and_then(|status| status.running.as_ref())
            .is_some_and(|running| running.revision == 2)
    });
    assert_eq!(call(&platform.leader_url(), None, "GET", "/conf", None).status, 401);
    assert_eq!(call(&follower.ready(), None, "POST", "/notify", Some("{}")).status, 401);

    let anyone = scrape(&platform.leader_url());
    let person = scrape(&admin(&platform));
    for page in [&anyone, &person] {
        assert_eq!(value(page, "lockstep_published_revision"), 2);
        assert_eq!(value(page, "lockstep_publications_total"), 1);
        assert_eq!(value(page, "lockstep_followers{state=\"applied\"}"), 1);
        assert_eq!(value(page, "lockstep_followers{state=\"silent\"}"), 1);
        assert_eq!(value(page, "lockstep_followers_current"), 1);
        assert_eq!(value(page, "lockstep_signatures_refused_total{kind=\"unsigned\"}"), 1);
        assert_eq!(value(page, "lockstep_http_requests_total{method=\"GET\",route=\"/conf\",status=\"401\"}"), 1);
        assert!(value(page, "lockstep_store_size_bytes") > 4096);
        assert_eq!(value(page, "lockstep_last_backup_timestamp_seconds"), 0);
    }
    assert!(!anyone.contains("core-1"), "who reaches the followers' listener learns no machine's name\n{anyone}");
    let machine = |name: &str, of: &str| value(&person, &format!("{name}{{machine=\"{of}\",role=\"core\"}}"));
    assert_eq!(machine("lockstep_machine_applied_revision", "core-1"), 2);
    assert_eq!(machine("lockstep_machine_applied_revision", "core-2"), 0);
    assert_eq!(machine("lockstep_machine_current", "core-2"), 0);
    assert!(machine("lockstep_machine_last_seen_timestamp_seconds", "core-1") > 1_000_000_000);
    assert!(machine("lockstep_machine_clock_ahead_seconds", "core-1").abs() < 5, "one clock for both");
    assert!(!person.contains("clock_ahead_seconds{machine=\"core-2\""), "who never reported said nothing of its clock");

    let page = scrape(&follower.ready());
    assert_eq!(value(&page, "lockstep_applied_revision"), 2);
    assert_eq!(value(&page, "lockstep_signatures_refused_total{kind=\"unsigned\"}"), 1);
    assert!(value(&page, "lockstep_apply_duration_seconds_count") >= 2);
    assert_eq!(value(&page, "lockstep_leader_away_seconds"), 0);
}

#[test]
fn ready_means_that_it_can_do_its_work() {
    let mut platform = platform(&[("core-1", "core")]);
    platform.start_leader();
    let (anyone, person) = (platform.leader_url(), admin(&platform));
    for url in [&anyone, &person] {
        assert_eq!(text(&call(url, None, "GET", "/readyz", None).body), "ok\n");
    }
    // A follower that reaches no leader and never applied anything.
    platform.write_follower_config("core-1", "http://127.0.0.1:1", &Value::Null);
    let lost = platform.start_follower("core-1");
    let answer = call(&lost.ready(), None, "GET", "/readyz", None);
    assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (503, "application/problem+json"));
    assert!(text(&answer.body).contains("nothing was proven here yet"), "{}", text(&answer.body));
    assert_eq!(call(&lost.ready(), None, "GET", "/healthz", None).status, 200);
    drop(lost);
    let follower = platform.follower("core-1");
    let ready = |follower: &Process| call(&follower.ready(), None, "GET", "/readyz", None);
    until("the follower is ready", || ready(&follower).status == 200, || follower.log());
    assert_eq!(text(&ready(&follower).body), "ok\nrevision 1 runs\n");

    // Whatever a leader stores now is lost: it says so, and to people why.
    let database = platform.leader_root().join("state/store.db");
    fs::rename(&database, database.with_extension("away")).unwrap();
    let (told, said) = (call(&anyone, None, "GET", "/readyz", None), call(&person, None, "GET", "/readyz", None));
    assert_eq!((told.status, said.status), (503, 503));
    assert!(text(&said.body).contains("store.db") && !text(&told.body).contains("store.db"), "{}", text(&told.body));
    assert_eq!(call(&anyone, None, "GET", "/healthz", None).status, 200);
    platform.kill_leader();
    until(
        "it is stale, and ready",
        || text(&ready(&follower).body).contains("stale: the leader is away"),
        || follower.log(),
    );
    assert_eq!(ready(&follower).status, 200);
}

/// The lines of a JSON log in which this request is named.
fn lines(log: &str, request: &str) -> Vec<Value> {
    let all =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    all.filter(|line| line["request"] == request || line["span"]["request"] == request).collect()
}

fn says(lines: &[Value], message: &str) -> bool {
    lines.iter().any(|line| line["message"] == message)
}

#[test]
fn one_publication_has_one_name_on_every_machine() {
    let mut platform = platform(&[("polls", "core"), ("told", "core")]);
    platform.env("LOCKSTEP_LOG_FORMAT", "json");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    platform.write_leader_config(&json!({"told": format!("http://127.0.0.1:{port}")}));
    platform.start_leader();
    let followers = [("polls", 0), ("told", port)].map(|(name, port)| {
        platform.write_follower_config(name, &platform.leader_url(), &Value::Null);
        let port = port.to_string();
        platform.start_follower_with(name, &[("LOCKSTEP_LOG_FORMAT", "json"), ("LOCKSTEP_HTTP__PORT", &port)])
    });
    let run = |fleet: &lockstep_shared::api::Fleet, revision| {
        let running = |machine: &lockstep_shared::api::Machine| {
            machine.status.as_ref()?.running.as_ref().map(|running| running.revision)
        };
        fleet.machines.iter().all(|machine| running(machine) == Some(revision))
    };
    platform.until("both run revision 1", |fleet| run(fleet, 1));
    platform.platform_yml("settings: {V: two}\n");
    platform.env("LOCKSTEP_REQUEST_ID", "deploy-17");
    platform.publish();
    platform.env("LOCKSTEP_REQUEST_ID", "later");

    let audit = platform.good(&["audit", "--json", "--limit", "1000"]);
    assert!(audit.contains("\"request\": \"deploy-17\""), "{audit}");
    let log = platform.leader().log();
    let named = lines(&log, "deploy-17");
    assert!(says(&named, "published") && says(&named, "answered"), "{log}");
    for machine in ["polls", "told"] {
        let of = |line: &&Value| line["machine"] == machine && line["message"] == "a machine reports";
        until(
            "its report is named",
            || lines(&platform.leader().log(), "deploy-17").iter().filter(of).count() > 0,
            || platform.leader().log(),
        );
    }
    for follower in &followers {
        let named = lines(&follower.log(), "deploy-17");
        assert!(says(&named, "applied and proven"), "{}", follower.log());
    }
    assert!(says(&lines(&followers[1].log(), "deploy-17"), "notified"), "{}", followers[1].log());
}

/// Every name of a metric of ours in a text: of histograms the family's.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let ours = text.split(word).filter(|name| name.starts_with("lockstep_") || name.starts_with("process_"));
    let family = |name: &str| {
        ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    ours.map(family).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let deploy = repository().join("deploy");
    let read = |name: &str| fs::read_to_string(deploy.join(name)).unwrap();
    let promtool = |arguments: &[&str], folder: &std::path::Path| {
        let said = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
        assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
    };
    promtool(&["check", "rules", "alerts.yml"], &deploy);
    promtool(&["test", "rules", "alerts.test.yml"], &repository().join("tests/monitoring"));
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).unwrap();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for target in
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten()
    {
        asked.extend(names(target["expr"].as_str().unwrap()));
    }
    asked.extend(read("alerts.yml").lines().filter(|line| line.contains("expr:")).flat_map(names));
    assert!(asked.len() > 30, "{asked:?}");

    let mut platform = platform(&[("core-1", "core")]);
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.until("it runs", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.running.is_some()));
    let mut pages = scrape(&admin(&platform)) + &scrape(&follower.ready());
    // Some there are with TLS of our own alone.
    platform.stop_leader();
    platform.env("LOCKSTEP_HTTP__TLS", "true");
    platform.start_leader();
    pages += &scrape(&admin(&platform));
    let there: BTreeSet<String> =
        pages.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(asked.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new());
    // And each is explained.
    let explained = names(&fs::read_to_string(repository().join("docs/monitoring.md")).unwrap());
    assert_eq!(there.difference(&explained).collect::<Vec<_>>(), Vec::<&String>::new());
}
