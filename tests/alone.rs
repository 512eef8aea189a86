//! A follower whose leader doesn't answer: it goes on with what it has, says
//! so, and finds the leader again.

use crate::api::call;
use crate::harness::{Platform, Process, text};
use lockstep_shared::api::Notify;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core")]);
    platform.settings(&[("V", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{V}}\n");
    platform
}

fn local(follower: &Process) -> Value {
    serde_json::from_slice(&call(&follower.ready(), None, "GET", "/status", None).body).unwrap()
}

fn metric(follower: &Process, name: &str) -> i64 {
    let metrics = text(&call(&follower.ready(), None, "GET", "/metrics", None).body);
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The leader's port stays the same over its restarts.
fn keep_port(platform: &mut Platform) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    platform.env("LOCKSTEP_HTTP__PORT", &port.to_string());
}

/// Tells the follower as its leader does; the apply that it promises.
fn notify(platform: &Platform, follower: &Process) -> String {
    let client = lockstep_edge::Client::new(&follower.ready(), "core-1", platform.key("core-1"), 1 << 16).unwrap();
    let body = serde_json::to_vec(&Notify { revision: 1, services: None, leader: None }).unwrap();
    let sent = client.send(http::Method::POST, "/notify", &[], Some(body.into()), crate::harness::PATIENCE);
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(sent).unwrap();
    serde_json::from_slice::<Value>(&answer.body).unwrap()["apply"].as_str().unwrap().to_owned()
}

#[test]
fn without_its_leader_a_follower_says_so_and_keeps_its_files_as_they_were() {
    let mut platform = platform();
    keep_port(&mut platform);
    platform.start_leader();
    let follower = platform.follower("core-1");
    platform.publish();
    assert_eq!((local(&follower).get("alone"), metric(&follower, "lockstep_leader_away_seconds ")), (None, 0));
    platform.kill_leader();
    crate::harness::until("it says that it is alone", || local(&follower).get("alone").is_some(), || follower.log());
    let said = local(&follower)["alone"]["words"].as_str().unwrap().to_owned();
    assert!(said.starts_with("it last answered ") && said.contains("revision 1, proven "), "{said}");
    assert_eq!(local(&follower)["state"], "applied", "an absent leader is no failure of what runs");
    // Nobody needs a leader to put right what somebody changed; not after a start without one either.
    let file = platform.data("core-1").join("app/conf/x.conf");
    let right = |follower: &Process| {
        crate::harness::until(
            "put right",
            || fs::read_to_string(&file).is_ok_and(|it| it == "one\n"),
            || follower.log(),
        );
    };
    fs::write(&file, "by hand\n").unwrap();
    right(&follower);
    follower.stop();
    fs::write(&file, "by hand\n").unwrap();
    let follower = platform.start_follower("core-1");
    right(&follower);
    crate::harness::until("alone from its start", || local(&follower).get("alone").is_some(), || follower.log());
    let said = local(&follower)["alone"]["words"].as_str().unwrap().to_owned();
    assert!(said.starts_with("it has not answered since this start"), "{said}");

    let id = notify(&platform, &follower);
    let waits = "the apply waits for the leader: no bundle from the leader: http://";
    let said = |log: &str| log.lines().any(|line| line.contains(waits) && line.contains(&id));
    crate::harness::until("what it was told waits", || said(&follower.log()), || follower.log());
    assert!(!follower.log().contains("the apply failed"), "{}", follower.log());

    platform.platform_yml("settings: {V: later}\n");
    platform.start_leader();
    platform.publish();
    assert_eq!(fs::read_to_string(&file).unwrap(), "later\n");
    assert_eq!(local(&follower).get("alone"), None);
    assert!(follower.log().contains("the leader answers"), "{}", follower.log());
}

#[test]
fn a_proxy_without_its_leader_is_an_absent_leader() {
    let platform = platform();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut stream, mut buffer) = (stream, [0; 4096]);
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n");
        }
    });
    platform.write_follower_config("core-1", &url, &Value::Null);
    let follower = platform.start_follower("core-1");
    crate::harness::until("it is alone", || local(&follower).get("alone").is_some(), || follower.log());
    assert_eq!(local(&follower)["state"], "new");
    assert!(!follower.log().contains("ERROR"), "{}", follower.log());
}

/// A network of its own for one machine, and its wire to this one.
struct Net {
    name: String,
    wire: String,
    prefix: String,
}

impl Net {
    fn new() -> Self {
        let unique = u32::from_le_bytes(lockstep_edge::random::bytes());
        let name = format!("lstest-{unique:08x}");
        let prefix = format!("10.{}.{}", unique >> 24, (unique >> 16) & 255);
        let net = Self { wire: format!("ls{unique:08x}"), name, prefix };
        let (wire, inside) = (&net.wire, format!("{}p", net.wire));
        fs::create_dir_all(net.etc()).unwrap();
        net.ip(&["netns", "add", &net.name]);
        net.ip(&["link", "add", wire, "type", "veth", "peer", "name", &inside, "netns", &net.name]);
        net.ip(&["addr", "add", &format!("{}.1/29", net.prefix), "dev", wire]);
        net.ip(&["addr", "add", &format!("{}.2/29", net.prefix), "dev", wire]);
        net.ip(&["link", "set", wire, "up"]);
        net.ip(&["-n", &net.name, "addr", "add", &format!("{}.5/29", net.prefix), "dev", &inside]);
        net.ip(&["-n", &net.name, "link", "set", &inside, "up"]);
        net.ip(&["-n", &net.name, "link", "set", "lo", "up"]);
        net
    }

    fn etc(&self) -> String {
        format!("/etc/netns/{}", self.name)
    }

    fn ip(&self, arguments: &[&str]) {
        let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
        assert!(output.status.success(), "ip {arguments:?} ({}): {}", self.name, text(&output.stderr));
    }

    /// What the leader's name means in there.
    fn name_leader(&self, host: u8) {
        fs::write(format!("{}/hosts", self.etc()), format!("{}.{host} leader.test\n", self.prefix)).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.wire]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
        let _ = fs::remove_dir_all(self.etc());
    }
}

#[test]
fn over_a_cut_network_and_to_a_new_address_the_follower_finds_its_leader() {
    let net = Net::new();
    net.name_leader(1);
    let mut platform = platform();
    platform.env("LOCKSTEP_HTTP__IP", "0.0.0.0");
    keep_port(&mut platform);
    let leader = platform.start_leader();
    let port = leader.rsplit(':').next().unwrap();
    platform.write_follower_config("core-1", &format!("http://leader.test:{port}"), &Value::Null);
    let _follower = platform.start_follower_in("core-1", &["ip", "netns", "exec", &net.name]);
    platform.publish();
    let file = platform.data("core-1").join("app/conf/x.conf");

    // What is published while the wire is cut arrives when it is whole again.
    net.ip(&["link", "set", &net.wire, "down"]);
    platform.platform_yml("settings: {V: two}\n");
    platform.good(&["publish", "--yes"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
    net.ip(&["link", "set", &net.wire, "up"]);
    platform.until("it has what was published meanwhile", |_| fs::read_to_string(&file).unwrap() == "two\n");

    // A leader that is elsewhere when it comes back is asked for anew by its name.
    platform.stop_leader();
    net.name_leader(2);
    net.ip(&["addr", "del", &format!("{}.1/29", net.prefix), "dev", &net.wire]);
    net.ip(&["addr", "replace", &format!("{}.2/29", net.prefix), "dev", &net.wire]);
    platform.platform_yml("settings: {V: three}\n");
    platform.start_leader();
    platform.publish();
    assert_eq!(fs::read_to_string(&file).unwrap(), "three\n");
}
