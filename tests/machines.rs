//! Three machines with networks of their own, set up by the very lines of the
//! README: whoever follows it ends where these tests end.

mod network;

use crate::harness::{Process, repository, until, write};
use network::{Machine, Network};
use std::fs;

/// The lines between two marks of the README, without the frame around code.
fn readme(mark: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let begin = text.find(&format!("<!-- {mark} -->")).unwrap_or_else(|| panic!("README.md has no {mark}"));
    let end = text[begin..].find("<!-- end -->").expect("it ends") + begin;
    let lines = text[begin..end].lines().skip(1).filter(|line| !line.starts_with("```") && !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// A platform of three machines.
struct Fleet {
    first: Machine,
    others: Vec<Machine>,
    leader: Option<Process>,
    followers: Vec<Process>,
    network: Network,
}

/// What init-platform printed to be typed on the next machine of a role, for a machine without an engine.
fn line_for(said: &str, role: &str) -> String {
    let line = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("lockstep join-platform ") && line.ends_with(&format!(" --role {role}")));
    line.unwrap_or_else(|| panic!("no line for {role}: {said}")).to_owned()
}

impl Fleet {
    /// As the README says.
    fn new() -> Self {
        let network = Network::new();
        let (first, said) = begun(&network);
        let others = vec![network.machine("core-1", 2), network.machine("static-1", 3)];
        let leader = first.start("leader");
        let mut followers = Vec::new();
        for (machine, shown) in others.iter().zip(readme("next machines")) {
            let role = shown.rsplit(' ').next().unwrap();
            let line = line_for(&said, role);
            let token = line.split(' ').nth(2).unwrap();
            assert_eq!(line.replace(token, "TOKEN"), shown, "what the README shows is what is printed");
            let joined = machine.good(&format!("{line} --no-docker"));
            assert!(joined.contains(&fingerprint(&said)), "both ends show the same: {joined}");
            followers.push(machine.start("follower"));
        }
        Self { first, others, leader: Some(leader), followers, network }
    }

    fn log(&self) -> String {
        let logs = self.leader.iter().chain(&self.followers).map(Process::log);
        logs.collect::<Vec<_>>().join("\n---\n")
    }
}

/// The fingerprint that people compare.
fn fingerprint(said: &str) -> String {
    let groups = |word: &&str| word.len() == 19 && word.split('-').all(|group| group.len() == 4);
    said.split_whitespace().find(groups).expect("a fingerprint").to_owned()
}

fn has(machine: &Machine, path: &str, what: &str) -> bool {
    fs::read_to_string(machine.root.join("pryv").join(path)).is_ok_and(|text| text.contains(what))
}

#[test]
fn three_machines_from_the_readme_and_a_leader_that_moves() {
    let mut fleet = Fleet::new();
    fleet.first.good("lockstep publish --yes --wait --timeout 60");
    let [core, pages] = &fleet.others[..] else { panic!() };
    assert!(has(core, "nginx/conf/site-80.conf", "example.com"));
    assert!(has(pages, "nginx/conf/site-80.conf", "example.com"));
    let status = fleet.first.good("lockstep status");
    assert!(status.contains("core-1") && status.contains("static-1"), "{status}");

    // The leader moves: a backup, another machine with another address, and nobody says anything to the followers.
    let file = fleet.network.folder().join("leader.backup");
    fleet.first.good(&format!("lockstep backup {}", file.display()));
    let (code, log) = fleet.leader.take().unwrap().stop();
    assert_eq!(code, Some(0), "{log}");
    let new = fleet.network.machine("second", 9);
    new.good(&format!("lockstep restore {}", file.display()));
    new.good("sed -i s/198.18.0.1:/198.18.0.9:/ $LOCKSTEP_ROOT/config-leader/conf/config-leader.json");
    fleet.leader = Some(new.start("leader"));
    new.good("lockstep settings set DOMAIN moved.example.org");
    new.good("lockstep publish --yes --wait --timeout 60");
    assert!(fleet.others.iter().all(|machine| has(machine, "nginx/conf/site-80.conf", "moved.example.org")));
    // Each knows the new address for good.
    for (machine, follower) in fleet.others.iter().zip(std::mem::take(&mut fleet.followers)) {
        drop(follower);
        fleet.followers.push(machine.start("follower"));
    }
    new.good("lockstep settings set DOMAIN again.example.org");
    new.good("lockstep publish --yes --wait --timeout 60");
    assert!(fleet.others.iter().all(|machine| has(machine, "nginx/conf/site-80.conf", "again.example.org")));
}

#[test]
fn whoever_has_the_leader_s_address_but_not_its_key_learns_nothing() {
    let fleet = Fleet::new();
    fleet.first.good("lockstep publish --yes --wait --timeout 60");
    let said = fleet.first.good("lockstep tokens create --role core");
    let line = format!("{} --no-docker", line_for(&said, "core"));

    // Another platform's leader takes the address.
    let impostor = fleet.network.machine("impostor", 66);
    impostor.take(1);
    fleet.first.lose(1);
    let victim = fleet.network.machine("core-2", 4);
    for machine in fleet.others.iter().chain([&victim]) {
        machine.forget_neighbours();
    }
    impostor.good(&readme("first machine").join("\n"));
    let listening = impostor.start("leader");
    let refused = victim.refused(&line);
    assert!(refused.contains("fingerprint"), "{refused}");
    assert!(!victim.root.join("config-follower").exists(), "nothing is left of it");
    let asked = impostor.good("lockstep audit");
    assert!(!asked.contains("core-2"), "not a word was said to it: {asked}");
    drop(listening);

    // The token is as good as before, for the right one.
    impostor.lose(1);
    fleet.first.take(1);
    for machine in fleet.others.iter().chain([&victim]) {
        machine.forget_neighbours();
    }
    victim.good(&line);
    let _follower = victim.start("follower");
    fleet.first.good("lockstep settings set DOMAIN after.example.org");
    fleet.first.good("lockstep publish --yes --wait --timeout 60");
    let all = fleet.others.iter().chain([&victim]);
    assert!(all.clone().all(|machine| has(machine, "nginx/conf/site-80.conf", "after.example.org")), "{}", fleet.log());
}

/// A first machine, and the lines for the next ones.
fn begun(network: &Network) -> (Machine, String) {
    let first = network.machine("first", 1);
    let said = first.good(&readme("first machine").join("\n"));
    (first, said)
}

#[test]
fn clocks_twenty_minutes_apart() {
    let network = Network::new();
    let (first, said) = begun(&network);
    let _leader = first.start("leader");
    let (late, early) = (network.machine("core-1", 2), network.machine("static-1", 3));
    late.ahead.set(-20 * 60);
    early.ahead.set(20 * 60);
    let mut followers = Vec::new();
    for (machine, role) in [(&late, "core"), (&early, "static")] {
        machine.good(&format!("{} --no-docker", line_for(&said, role)));
        followers.push(machine.start("follower"));
    }
    first.good("lockstep publish --yes --wait --timeout 60");
    assert!([&late, &early].iter().all(|machine| has(machine, "nginx/conf/site-80.conf", "example.com")));
    // They say so, and go on with the leader's time.
    assert!(followers.iter().all(|follower| follower.log().contains("clock")));
}

#[test]
fn certificates_that_end_are_renewed_and_nobody_is_interrupted() {
    let network = Network::new();
    let (first, said) = begun(&network);
    let config = first.root.join("config-leader/conf/config-leader.json");
    let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let seconds = 6.0;
    value["authority"] = serde_json::json!({"days": seconds / 86_400.0});
    write(&config, value.to_string());
    let leader = first.start("leader");
    let machine = network.machine("core-1", 2);
    machine.good(&format!("{} --no-docker", line_for(&said, "core")));
    let follower = machine.start("follower");
    first.good("lockstep publish --yes --wait --timeout 60");
    let log = || format!("{}\n{}", leader.log(), follower.log());
    // Two certificates later the first one has ended, and nothing was restarted.
    let shown = || fs::read(machine.root.join("state/tls.pem")).unwrap();
    for round in 0..2 {
        let before = shown();
        until("there is a new certificate", || shown() != before, log);
        first.good(&format!("lockstep settings set DOMAIN round-{round}.example.org"));
        first.good("lockstep publish --yes --wait --timeout 60");
        assert!(has(&machine, "nginx/conf/site-80.conf", &format!("round-{round}.example.org")), "{}", log());
    }
}

#[test]
fn a_single_machine_joins_itself() {
    let network = Network::new();
    let machine = network.machine("alone", 1);
    let words = "lockstep init-platform --join-here static --no-docker --set DOMAIN=example.com --yes";
    let said = machine.good(words);
    assert!(said.contains("This machine has joined, as alone."), "{said}");
    assert!(said.contains("lockstep follower --root"), "{said}");
    let _leader = machine.start("leader");
    let _follower = machine.start("follower");
    machine.good("lockstep publish --yes --wait --timeout 60");
    assert!(has(&machine, "nginx/conf/site-80.conf", "example.com"));
    assert!(machine.good(words).contains("is a platform already; nothing was changed"));
}

#[test]
fn every_command_of_the_tutorial_works() {
    let text = fs::read_to_string(repository().join("docs/tutorial.md")).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let script = blocks.collect::<Vec<_>>().join("\n");
    let network = Network::new();
    let machine = network.machine("laptop", 1);
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let output = machine.command(&["bash", "-c", &script]).current_dir(network.folder()).output().unwrap();
    let (said, log) = (crate::harness::text(&output.stdout), crate::harness::text(&output.stderr));
    assert!(output.status.success(), "{said}\n{log}");
    assert!(said.contains("refused, as it should be") && said.contains("drift: site/conf/site.conf"), "{said}\n{log}");
}
