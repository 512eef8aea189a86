//! Rollouts over their real edges: how many machines a bad change reaches, who
//! restarts when, and a leader that is killed in the middle.

use crate::harness::{Engine, PATIENCE, Platform, Process, Project, text};
use lockstep_shared::api::{Fleet, Lease, LeaseRequest, Running, State, Status, Verdict};
use lockstep_shared::rollout::{MemberState, Phase, Rollout};
use lockstep_shared::{Name, Sha256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

const BUSYBOX: &str = "lockstep-test/busybox";
/// Says what it starts with, and dies of what is bad; ends at once when told to.
const SERVICE: &str =
    "cat /app/conf/x.conf; grep -q bad /app/conf/x.conf && exit 3; trap 'exit 0' TERM; sleep infinity & wait";

/// So many machines of each of three roles, each role with one file that has the setting A.
fn platform(each: usize) -> (Platform, Vec<String>) {
    platform_of(&["core", "reg", "web"], each)
}

/// The same with these roles.
fn platform_of(roles: &[&str], each: usize) -> (Platform, Vec<String>) {
    let machines: Vec<(String, &str)> =
        roles.iter().flat_map(|role| (1..=each).map(move |number| (format!("{role}-{number}"), *role))).collect();
    let named: Vec<(&str, &str)> = machines.iter().map(|(name, role)| (name.as_str(), *role)).collect();
    let mut platform = Platform::new(&named);
    platform.settings(&[("A", "one")]);
    for role in roles {
        platform.template(&format!("{role}/app/conf/x.conf.hbs"), "{{A}}\n");
    }
    platform.start_leader();
    stay(&platform);
    (platform, machines.into_iter().map(|(name, _)| name).collect())
}

/// The leader's address is the same after its next start.
fn stay(platform: &Platform) {
    at(platform, &platform.leader_url());
}

/// The leader's address is this one after its next start.
fn at(platform: &Platform, url: &str) {
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let path = platform.leader_root().join("config-leader/conf/config-leader.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["http"]["port"] = json!(port);
    fs::write(&path, config.to_string()).unwrap();
}

/// Followers without an engine, all of which run what is published.
fn files_only(platform: &Platform, machines: &[String]) -> Vec<Process> {
    let followers = machines.iter().map(|name| platform.follower(name)).collect();
    platform.until("all run the first revision", |fleet| {
        fleet.machines.iter().filter(|machine| runs(machine, 1)).count() == machines.len()
    });
    followers
}

/// Followers of all of these machines, which run what is published, each with a container that reads the file;
/// `options` are more of `docker run`. The containers come with them.
fn with_containers(
    platform: &Platform,
    machines: &[String],
    projects: &[Project],
    options: &[&str],
) -> (Vec<String>, Vec<Process>) {
    drop(files_only(platform, machines));
    let begin = |(machine, project): (&String, &Project)| {
        let mount = format!("{}:/app/conf:ro", platform.data(machine).join("app/conf").display());
        let options = [options, &["-v", &mount]].concat();
        let container = project.run("app", &options, BUSYBOX, &["sh", "-c", SERVICE]);
        let docker = json!({"project": project.name, "settleSeconds": 0.3});
        platform.write_follower_config(machine, &platform.leader_url(), &docker);
        (container, platform.start_follower(machine))
    };
    let begun = machines.iter().zip(projects).map(begin).unzip();
    all_with_containers(platform);
    begun
}

fn all_with_containers(platform: &Platform) {
    platform.until("all are there with their containers", |fleet| {
        let there = |status: &Status| status.engine && status.containers.len() == 1;
        fleet.machines.iter().all(|machine| machine.status.as_ref().is_some_and(there))
    });
}

fn runs(machine: &lockstep_shared::api::Machine, revision: u64) -> bool {
    let running = machine.status.as_ref().filter(|status| status.state == State::Applied);
    running.and_then(|status| status.running.as_ref()).is_some_and(|running| running.revision == revision)
}

fn rollout(platform: &Platform) -> Rollout {
    serde_json::from_str(&platform.good(&["rollout", "--json"])).unwrap()
}

fn state(fleet: &Fleet, machine: &str) -> Option<MemberState> {
    let rollout = fleet.rollout.as_ref()?;
    rollout.machines.iter().find(|member| member.name.as_str() == machine).map(|member| member.state)
}

fn phase(fleet: &Fleet) -> Option<Phase> {
    fleet.rollout.as_ref().map(|rollout| rollout.phase)
}

fn served(fleet: &Fleet) -> BTreeMap<&str, u64> {
    fleet.machines.iter().map(|machine| (machine.name.as_str(), machine.offered)).collect()
}

fn content(platform: &Platform, machine: &str) -> String {
    fs::read_to_string(platform.data(machine).join("app/conf/x.conf")).unwrap()
}

#[test]
fn a_bad_change_reaches_one_machine_of_twelve_and_a_good_one_all_in_turn() {
    let (platform, machines) = platform(4);
    let projects: Vec<Project> = machines.iter().map(|name| Project::new(name)).collect();
    let (containers, mut followers) = with_containers(&platform, &machines, &projects, &[]);

    // No follower has an address: they learn of it by polling, all at once.
    platform.platform_yml("settings: {A: bad}\n");
    let output = platform.run(&["publish", "--yes", "--wait", "--timeout", "60"]);
    assert_eq!(output.status.code(), Some(3), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("returned to revision 1: revision 2 failed at "), "{}", text(&output.stdout));
    let fleet = platform.until("it is over", |fleet| {
        fleet.machines.iter().filter(|machine| runs(machine, 1)).count() == 11 && phase(fleet) == Some(Phase::Returned)
    });
    let ran_it = || -> Vec<bool> {
        containers.iter().map(|container| Engine::docker(&["logs", container]).contains("bad")).collect()
    };
    assert_eq!(ran_it().iter().filter(|ran| **ran).count(), 1, "{fleet:#?}");
    assert!(machines.iter().all(|machine| content(&platform, machine) == "one\n"));
    let failed = fleet.rollout.as_ref().unwrap().stopped_at.clone().unwrap();
    let told = platform.good(&["status"]);
    assert!(told.contains("FAILED(2), RUNNING(1)") && told.contains("RETURNED to revision 1"), "{told}");
    assert!(platform.good(&["audit"]).contains("rollout returned"));
    assert!(platform.good(&["history"]).contains("returned"), "{}", platform.good(&["history"]));
    assert_eq!(state(&fleet, failed.as_str()), Some(MemberState::Failed));

    // Neither a notification nor a new disk has it run there again.
    let bad_runs = || containers.iter().map(|it| Engine::docker(&["logs", it]).matches("bad").count()).sum::<usize>();
    let before = bad_runs();
    platform.run(&["notify", "--service", "app"]);
    let index = machines.iter().position(|name| name == failed.as_str()).unwrap();
    followers.remove(index).stop();
    fs::remove_dir_all(platform.follower_root(failed.as_str()).join("state")).unwrap();
    fs::remove_file(platform.data(failed.as_str()).join("app/conf/x.conf")).unwrap();
    followers.insert(index, platform.start_follower(failed.as_str()));
    let back = |fleet: &Fleet| fleet.machines.iter().all(|machine| runs(machine, 1));
    platform.until("the new one has what all have", back);
    assert_eq!((content(&platform, failed.as_str()).as_str(), bad_runs()), ("one\n", before));

    // With a canary it is the canary.
    platform.platform_yml("settings: {A: bad indeed}\n");
    let canary = if failed.as_str() == "web-3" { "web-4" } else { "web-3" };
    let output = platform.run(&["publish", "--yes", &format!("--canary={canary}")]);
    assert_eq!(output.status.code(), Some(3), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(ran_it().iter().filter(|ran| **ran).count(), 2);
    assert!(
        Engine::docker(&["logs", &containers[machines.iter().position(|name| name == canary).unwrap()]])
            .contains("bad indeed")
    );

    // A good one reaches everybody, and no two of a role were down together.
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert!(machines.iter().all(|machine| content(&platform, machine) == "two\n"));
    let mut down: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (machine, container) in machines.iter().zip(&containers) {
        let times = Engine::docker(&["inspect", "-f", "{{.State.FinishedAt}} {{.State.StartedAt}}", container]);
        let (from, to) = times.split_once(' ').unwrap();
        down.entry(machine.split('-').next().unwrap()).or_default().push((from.to_owned(), to.to_owned()));
    }
    for (role, mut spans) in down {
        spans.sort();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{role}: {spans:#?}");
    }
}

#[test]
fn who_is_notified_restarts_as_soon_as_the_one_before_is_through() {
    let (mut platform, machines) = platform_of(&["web"], 3);
    let projects: Vec<Project> = machines.iter().map(|name| Project::new(name)).collect();
    let (_, followers) = with_containers(&platform, &machines, &projects, &[]);
    let urls: BTreeMap<&String, String> = machines.iter().zip(followers.iter().map(Process::ready)).collect();
    let running = platform.leader_url();
    platform.kill_leader();
    platform.write_leader_config(&json!(urls));
    at(&platform, &running);
    platform.start_leader();
    all_with_containers(&platform);
    // Each poll brings it, and each notification asks for it once more: two applies, one right after the other. Where
    // the leader missed that the first is through, it would wait for the next report of each, a minute later.
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    assert!(machines.iter().all(|machine| content(&platform, machine) == "two\n"));
}

#[test]
fn a_canary_that_gets_unhealthy_in_the_pause_is_the_last_that_had_it() {
    let (platform, machines) = platform_of(&["web"], 2);
    let projects: Vec<Project> = machines.iter().map(|name| Project::new(name)).collect();
    let health = "--health-cmd=grep one /app/conf/x.conf || ! test -e /tmp/sick";
    let options = [health, "--health-interval=200ms", "--health-retries=2"];
    let (containers, _followers) = with_containers(&platform, &machines, &projects, &options);
    platform.until("all are healthy", |_| {
        let health = |container| Engine::docker(&["inspect", "-f", "{{.State.Health.Status}}", container]);
        containers.iter().all(|container| health(container) == "healthy")
    });
    platform.platform_yml("settings: {A: two}\n");
    platform.good(&["publish", "--yes", "--detach", "--canary=web-1", "--pause", "10m"]);
    platform.until("the canary has it", |fleet| phase(fleet) == Some(Phase::Pausing));
    assert_eq!(content(&platform, "web-1"), "two\n");
    Engine::docker(&["exec", &containers[0], "touch", "/tmp/sick"]);
    let fleet = platform.until("it is taken back", |fleet| {
        phase(fleet) == Some(Phase::Returned) && fleet.machines.iter().all(|machine| runs(machine, 1))
    });
    assert!(machines.iter().all(|machine| content(&platform, machine) == "one\n"));
    assert!(!Engine::docker(&["logs", &containers[1]]).contains("two"), "it never got there");
    let told = format!("{:?}", fleet.rollout);
    assert!(told.contains("became unhealthy after it was proven"), "{told}");
}

#[test]
fn a_leader_that_is_killed_between_two_waves_goes_on_where_it_was() {
    let (mut platform, machines) = platform(2);
    let followers = files_only(&platform, &machines[..5]);
    platform.platform_yml("settings: {A: two}\n");
    platform.good(&["publish", "--yes", "--detach", "--waves", "1,50%", "--pause", "1h"]);
    platform.until("the first wave is through", |fleet| phase(fleet) == Some(Phase::Pausing));
    let expected = |fleet: &Fleet| served(fleet).values().filter(|offered| **offered == 2).count();
    platform.kill_leader();
    platform.start_leader();
    let fleet = platform
        .until("they are back", |fleet| fleet.machines.iter().filter(|machine| machine.status.is_some()).count() == 5);
    assert_eq!((phase(&fleet), expected(&fleet)), (Some(Phase::Pausing), 1));
    assert_eq!(
        machines.iter().filter(|name| platform.data(name).exists() && content(&platform, name) == "two\n").count(),
        1
    );
    // Who doesn't want to wait says so; what wasn't heard from yet holds nobody up.
    platform.good(&["rollout", "resume"]);
    platform.until("the second wave is through", |fleet| phase(fleet) == Some(Phase::Pausing) && expected(fleet) == 3);
    assert!(platform.good(&["status"]).contains("pausing: wave 2 of 3"), "{}", platform.good(&["status"]));

    // Stopped by hand nobody else gets it; taken back nobody keeps it.
    platform.good(&["rollout", "stop"]);
    assert!(platform.refused(&["rollout", "stop"]).contains("is stopped already: lockstep rollout resume"));
    assert_eq!(expected(&platform.fleet()), 3);
    platform.good(&["rollout", "abort"]);
    platform.until("all are back", |fleet| {
        expected(fleet) == 0 && fleet.machines.iter().filter(|machine| runs(machine, 1)).count() == 5
    });
    assert!(machines[..5].iter().all(|machine| content(&platform, machine) == "one\n"));
    assert!(platform.refused(&["rollout", "abort"]).contains("is taken back already"));

    // All over again, and now to the end; the one that was never there gets it when it comes.
    platform.good(&["rollout", "resume"]);
    for _ in 0..2 {
        platform.until("a wave is through", |fleet| phase(fleet) == Some(Phase::Pausing));
        platform.good(&["rollout", "resume"]);
    }
    platform.until("it is through", |fleet| phase(fleet) == Some(Phase::Done));
    assert!(machines[..5].iter().all(|machine| content(&platform, machine) == "two\n"));
    let _late = platform.follower(&machines[5]);
    platform.until("the late one has it", |fleet| state(fleet, &machines[5]) == Some(MemberState::Done));
    drop(followers);
}

#[test]
fn leases_are_given_in_turn_and_outlive_a_killed_leader() {
    let (mut platform, machines) = platform(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let digest = platform.fleet().machines[0].wanted;
    let ask = |platform: &Platform, machine: &str, digest: Sha256| {
        let client = platform.client(machine);
        let request =
            LeaseRequest { apply: format!("apply-{machine}"), revision: 1, digest, services: vec!["nginx".to_owned()] };
        runtime.spawn(async move {
            let body = serde_json::to_vec(&request).unwrap();
            let answer = client.send(http::Method::POST, "/lease", &[], Some(body.into()), PATIENCE * 2).await;
            answer.map(|answer| serde_json::from_slice::<Lease>(&answer.body).unwrap())
        })
    };
    let report = |platform: &Platform, machine: &str| {
        let client = platform.client(machine);
        let mut status = Status { state: State::Applied, ..Status::default() };
        status.running = Some(Running { revision: 1, digest, since: 1 });
        status.apply = Some(
            serde_json::from_value(json!({"id": format!("apply-{machine}"), "revision": 1, "digest": null,
            "files": [], "actions": [], "left_alone": [], "notes": [], "error": null, "took_ms": []}))
            .unwrap(),
        );
        let body = serde_json::to_vec(&status).unwrap();
        let sent = client.send(http::Method::POST, "/status", &[], Some(body.into()), PATIENCE);
        assert!(runtime.block_on(sent).unwrap().status.is_success());
    };
    let queued = |platform: &Platform, machine: &str| {
        platform.until("it waits", |fleet| state(fleet, machine) == Some(MemberState::Queued));
    };
    let given =
        |lease: Result<Lease, _>| lease.map_err(|error: lockstep_edge::CallError| error.to_string()).unwrap().verdict;
    let [first, second, other] = [&machines[0], &machines[1], &machines[2]];

    assert_eq!(given(runtime.block_on(ask(&platform, first, digest)).unwrap()), Verdict::Granted);
    let waits = ask(&platform, second, digest);
    queued(&platform, second);
    // The very first is alone in the fleet, over roles.
    let far = ask(&platform, other, digest);
    queued(&platform, other);
    platform.kill_leader();
    assert!(runtime.block_on(waits).unwrap().is_err());
    let _ = runtime.block_on(far);
    platform.start_leader();
    let again = ask(&platform, second, digest);
    queued(&platform, second);
    let why = rollout(&platform).machines.into_iter().find(|member| member.name.as_str() == second).unwrap().why;
    assert!(why.contains(first.as_str()), "{why}");
    // The holder may ask again: it holds it still.
    assert_eq!(given(runtime.block_on(ask(&platform, first, digest)).unwrap()), Verdict::Granted);
    report(&platform, first);
    assert_eq!(given(runtime.block_on(again).unwrap()), Verdict::Granted);
    report(&platform, second);
    // What isn't served gets none.
    let foreign = Sha256::of(b"something else");
    assert_eq!(given(runtime.block_on(ask(&platform, second, foreign)).unwrap()), Verdict::Stopped);
}

#[test]
fn what_happens_is_heard_as_it_happens() {
    let (platform, machines) = platform(1);
    let _followers = files_only(&platform, &machines);
    let listen = |last: Option<&str>| {
        let mut stream = UnixStream::connect(platform.leader_root().join("state/leader.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
        write!(stream, "GET /admin/rollout/events HTTP/1.1\r\nhost: leader\r\naccept: text/event-stream\r\n{last}\r\n")
            .unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let mut events = listen(None);
    let mut next = |wanted: &str| loop {
        let (name, value) = events.next().expect("the stream goes on");
        if name == wanted {
            break value;
        }
    };
    assert_eq!(next("event"), "snapshot");
    let first: String = next("id");
    platform.platform_yml("settings: {A: two}\n");
    platform.publish();
    // A new rollout begins with the whole of it; then each machine, then the end.
    assert_eq!(next("event"), "snapshot");
    let begun = next("id");
    loop {
        if next("event") == "rollout" {
            let head: Rollout = serde_json::from_str(&next("data")).unwrap();
            if head.phase == Phase::Done {
                assert_eq!(head.revision, 2);
                break;
            }
        }
    }
    // Who comes again with a number misses nothing; one of long ago gets the whole.
    let kinds = |last: &str| -> String {
        let mut events = listen(Some(last));
        events.find(|(name, _)| name == "event").unwrap().1
    };
    assert!(["machine", "rollout"].contains(&kinds(&begun).as_str()));
    assert_eq!(kinds(&first), "snapshot");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_published() {
    let (platform, _machines) = platform(1);
    platform.platform_yml("settings: {A: two}\n");
    let refused = |arguments: &[&str]| platform.refused(&[&["publish", "--yes"], arguments].concat());
    assert!(refused(&["--canary=nobody"]).contains("nobody, wanted as a canary, is not a follower"));
    assert!(refused(&["--waves", "50%,10%"]).contains("doesn't grow from 50% to 10%"));
    let said = refused(&["--pause", "5"]);
    assert!(said.contains("a pause is between waves, and there are none: add waves (--waves 1,25%,100%)"), "{said}");
    let usage = |arguments: &[&str]| {
        let output = platform.run(&[&["publish", "--yes"], arguments].concat());
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    assert!(usage(&["--waves", "0"]).contains("is no number of machines"));
    assert!(usage(&["--pause", "soon"]).contains("is no span of time"));
    assert!(usage(&["--all-at-once", "--canary"]).contains("cannot be used with"));
    assert_eq!(rollout(&platform).revision, 1);
    assert_eq!(platform.fleet().revision, 1);
    let name = Name::new("core-1").unwrap();
    assert!(platform.fleet().machines.iter().any(|machine| machine.name == name && machine.offered == 1));
}
