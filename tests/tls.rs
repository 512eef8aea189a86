//! TLS of the platform's own: who is believed, certificates that end, an
//! authority that is replaced, a leader that moves.

use crate::harness::{Platform, Process, text, until};
use lockstep_edge::tls::{Certificate, Pins, identity};
use lockstep_edge::{Client, Trust};
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A port that nobody has.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn platform(names: &[&str]) -> (Platform, u16) {
    let followers: Vec<(&str, &str)> = names.iter().map(|name| (*name, "core")).collect();
    let platform = Platform::new(&followers);
    platform.settings(&[("V", "one")]);
    platform.template("core/app/conf/x.conf.hbs", "{{V}}\n");
    let port = port();
    configure(&platform, &json!({}), port);
    (platform, port)
}

/// A leader that speaks TLS at this port, and can push to these.
fn configure(platform: &Platform, urls: &Value, port: u16) {
    platform.write_leader_config(urls);
    let address = format!("https://127.0.0.1:{port}");
    set_leader(platform, &[("http", json!({"port": port, "tls": true})), ("addresses", json!([address]))]);
}

fn set_leader(platform: &Platform, values: &[(&str, Value)]) {
    let path = platform.leader_root().join("config-leader/conf/config-leader.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in values {
        config[*name] = value.clone();
    }
    fs::write(&path, config.to_string()).unwrap();
}

/// Has followers report at once, whoever of them is there.
fn wake(platform: &Platform) {
    platform.run(&["notify"]);
}

/// A follower of the running leader that speaks TLS at this port and pins what the leader shows.
fn follower(platform: &Platform, name: &str, at: u16, leader: &str) -> Process {
    let root = platform.follower_root(name);
    let config = json!({
        "http": {"port": at, "tls": true},
        "leader": {"url": leader, "name": name, "key": platform.key_text(name), "ca": "config-follower/conf/ca.pem"},
        "docker": null,
    });
    let path = root.join("config-follower/conf/config-follower.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, config.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(root.join("config-follower/conf/ca.pem"), platform.good(&["ca", "show", "--pem"])).unwrap();
    platform.start_follower(name)
}

fn ca(platform: &Platform) -> Value {
    serde_json::from_str(&platform.good(&["ca", "show", "--json"])).unwrap()
}

fn fingerprints(ca: &Value) -> Vec<String> {
    let all = ca["authorities"].as_array().unwrap();
    all.iter().map(|authority| authority["fingerprint"].as_str().unwrap().to_owned()).collect()
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap()
}

/// A client of this follower's that pins what the leader shows now.
fn client(platform: &Platform, name: &str, url: &str) -> (Client, Arc<Pins>) {
    let authorities = Certificate::read_all(&platform.good(&["ca", "show", "--pem"])).unwrap();
    let pins = Arc::new(Pins::new("the test", authorities));
    let trust = Trust::Pinned { pins: pins.clone(), identity: identity::LEADER.to_owned() };
    (Client::trusting(&[url.to_owned()], name, platform.key(name), 64 << 20, &trust).unwrap(), pins)
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What a server that speaks TLS with a certificate of its own receives within it.
fn middle(identity: &lockstep_edge::tls::Identity) -> (String, Arc<AtomicUsize>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let received = Arc::new(AtomicUsize::new(0));
    let acceptor = Arc::new(lockstep_edge::tls::Acceptor::new(identity).unwrap());
    let counted = received.clone();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let limits = Arc::new(lockstep_edge::Limits::default());
        lockstep_edge::server::serve(listener, Some(acceptor), limits, stopping, move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { lockstep_edge::gate::reply(&lockstep_shared::Problem::new(500, "x", "x", "x")) }
        })
        .await;
    });
    (url, received, runtime)
}

#[test]
fn leader_and_follower_speak_tls_and_only_1_3() {
    let (mut platform, here) = platform(&["core-1"]);
    let at = port();
    configure(&platform, &json!({"core-1": format!("https://127.0.0.1:{at}")}), here);
    let url = platform.start_leader();
    assert!(url.starts_with("https://"), "{url}");
    let follower = follower(&platform, "core-1", at, &url);
    assert_eq!(follower.ready(), format!("https://127.0.0.1:{at}"));
    platform.publish();
    let key = platform.follower_root("core-1").join("state/tls.pem");
    until("it has a certificate", || key.exists(), || follower.log());
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // The push goes over TLS, and believes this follower only.
    let told = platform.good(&["notify"]);
    assert!(told.contains("core-1 told apply"), "{told}{}", platform.leader().log());

    let pem = platform.home.path().join("ca.pem");
    fs::write(&pem, platform.good(&["ca", "show", "--pem"])).unwrap();
    let pem = pem.to_str().unwrap();
    for target in [&url, &follower.ready()] {
        // Other programs find the leader by its address, a follower by its fixed name: its certificate has no more.
        let named = target.replace(&format!("127.0.0.1:{at}"), &format!("core-1.follower.lockstep.internal:{at}"));
        let there = format!("::127.0.0.1:{}", target.rsplit(':').next().unwrap());
        let answer = curl(&["--cacert", pem, "--connect-to", &there, &format!("{named}/healthz")]);
        assert_eq!(text(&answer.stdout), "ok\n", "{}", text(&answer.stderr));
        assert_eq!(curl(&[&format!("{target}/healthz")]).status.code(), Some(60), "no system trusts it");
        let plain = curl(&[&format!("{}/healthz", target.replace("https:", "http:"))]);
        assert!(text(&plain.stdout).contains("use https://"), "{plain:?}");
        let host = target.trim_start_matches("https://");
        for (version, good) in [("-tls1_3", true), ("-tls1_2", false), ("-tls1_1", false)] {
            let mut openssl = Command::new("openssl");
            openssl.args(["s_client", "-connect", host, version, "-CAfile", pem]).stdin(Stdio::null());
            let tried = openssl.output().unwrap();
            assert_eq!(tried.status.success(), good, "{host} {version}: {}", text(&tried.stdout));
            let verified = text(&tried.stdout).contains("Verify return code: 0 (ok)");
            assert!(verified || !good, "{}", text(&tried.stdout));
        }
    }
    let script = crate::harness::repository().join("scripts/curl-conf");
    let fetched = Command::new(script).arg("core").arg("--root").arg(platform.follower_root("core-1")).output();
    let fetched = fetched.unwrap();
    assert!(text(&fetched.stdout).contains("\"machine\":\"core-1\""), "{fetched:?}");
    // What others can see of the store has no key in it.
    for file in fs::read_dir(platform.leader_root().join("state")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = Vec::new();
        if fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).is_ok() {
            assert!(!text(&bytes).contains("PRIVATE KEY"), "{}", path.display());
        }
    }
}

#[test]
fn whoever_stands_in_between_is_sent_nothing() {
    let (mut platform, _) = platform(&["core-1"]);
    let url = platform.start_leader();
    let theirs = lockstep_leader::authority::Ca::make(lockstep_edge::clock::now()).unwrap();
    let issued = theirs.for_leader(&["127.0.0.1".to_owned()], lockstep_edge::clock::now(), 3600).unwrap();
    let forged = lockstep_edge::tls::Identity::from_pem(&issued.chain, &issued.key).unwrap();
    let (elsewhere, received, _runtime) = middle(&forged);
    let process = follower(&platform, "core-1", 0, &elsewhere);
    let (ours, shown) = (ca(&platform), theirs.read().unwrap());
    let ours = ours["authorities"][0]["short"].as_str().unwrap();
    let other = lockstep_edge::tls::short(&shown.fingerprint);
    until("it says so", || process.log().contains("another authority"), || process.log());
    let log = process.log();
    assert!(log.contains(ours) && log.contains(&other) && log.contains("ca.pem"), "{log}");
    assert_eq!(received.load(Ordering::Relaxed), 0);
    process.stop();
    // With the right one among its further addresses it finds it.
    let path = platform.follower_root("core-1").join("config-follower/conf/config-follower.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["leader"]["others"] = json!([url]);
    fs::write(&path, config.to_string()).unwrap();
    let process = platform.start_follower("core-1");
    platform
        .until("it follows", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.running.is_some()));
    assert_eq!(received.load(Ordering::Relaxed), 0, "{}", process.log());
}

#[test]
fn certificates_renew_under_load_and_no_request_is_dropped() {
    let (mut platform, _) = platform(&["core-1", "web-1"]);
    // Eight seconds, so that both ends renew within the test.
    platform.env("LOCKSTEP_AUTHORITY__DAYS", "0.0001");
    let url = platform.start_leader();
    let process = follower(&platform, "core-1", 0, &url);
    let own = platform.follower_root("core-1").join("state/tls.pem");
    until("it has a certificate", || own.exists(), || process.log());
    let first = fs::read_to_string(&own).unwrap();
    let (polling, _) = client(&platform, "web-1", &url);
    let polled = block(async {
        let mut polled = 0;
        while platform.leader().log().matches("the leader's certificate was renewed").count() < 1
            || process.log().matches("this follower has a new certificate").count() < 2
        {
            let answer = polling.send(http::Method::GET, "/conf", &[], None, Duration::from_secs(20)).await;
            assert_eq!(answer.expect("every request is answered").status, 200);
            // A connection of its own each time: every handshake counts.
            let (fresh, _) = client(&platform, "web-1", &url);
            let answer = fresh.send(http::Method::GET, "/conf", &[], None, Duration::from_secs(20)).await;
            assert_eq!(answer.expect("every request is answered").status, 200);
            polled += 2;
        }
        polled
    });
    assert!(polled > 10, "{polled}");
    assert!(!process.log().contains("WARN"), "{}", process.log());
    // One whose certificate ended while it was off asks for another, with its signature.
    process.stop();
    fs::write(&own, &first).unwrap();
    let ends = Certificate::read_all(&first).unwrap()[0].ends;
    until("its certificate ended", || lockstep_edge::clock::now() > ends, String::new);
    let process = platform.start_follower("core-1");
    until("it has another", || fs::read_to_string(&own).is_ok_and(|now| now != first), || process.log());
}

#[test]
fn an_authority_is_replaced_while_everybody_goes_on() {
    let (mut platform, here) = platform(&["a-1", "b-1", "c-1"]);
    let (at_a, at_b) = (port(), port());
    let urls = json!({"a-1": format!("https://127.0.0.1:{at_a}"), "b-1": format!("https://127.0.0.1:{at_b}")});
    configure(&platform, &urls, here);
    let url = platform.start_leader();
    let (a, b) = (follower(&platform, "a-1", at_a, &url), follower(&platform, "b-1", at_b, &url));
    let shown = |name: &str| platform.follower_root(name).join("state/tls.pem").exists();
    until("both have certificates", || shown("a-1") && shown("b-1"), || a.log() + &b.log());
    let before = fingerprints(&ca(&platform));
    // Somebody polls all the while, by the signature and pins that were there before, and takes what is told.
    let (polling, pins) = client(&platform, "c-1", &url);
    let (over, polled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let poller = std::thread::spawn({
        let (over, polled) = (over.clone(), polled.clone());
        move || {
            block(async {
                while !over.load(Ordering::Relaxed) {
                    let answer = polling.send(http::Method::GET, "/conf", &[], None, Duration::from_secs(20)).await;
                    assert_eq!(answer.expect("every request is answered").status, 200);
                    polled.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    until("it polls", || polled.load(Ordering::Relaxed) > 0, String::new);

    // One is away: it is waited for, over a restart of the leader too.
    b.stop();
    let begun = platform.good(&["ca", "rotate", "--yes"]);
    assert!(begun.contains("is told to followers") && begun.contains("waits for"), "{begun}");
    assert!(platform.refused(&["ca", "rotate", "--yes"]).contains("being replaced already"));
    let missing = |ca: &Value| -> Vec<String> {
        let all = ca["followers"].as_array().unwrap().iter().filter(|follower| follower["missing"] == true);
        all.map(|follower| follower["name"].as_str().unwrap().to_owned()).collect()
    };
    pins.replace(Certificate::read_all(&platform.good(&["ca", "show", "--pem"])).unwrap());
    wake(&platform);
    until("the other trusts both", || missing(&ca(&platform)) == ["b-1"], || a.log());
    let telling = ca(&platform);
    assert_eq!((&telling["stage"], fingerprints(&telling).len()), (&json!("telling"), 2));
    assert_eq!(fingerprints(&telling)[0], before[0]);

    // It comes back, is told, and all goes on by itself to the end.
    let b = platform.start_follower("b-1");
    let told = |told: &str| {
        until(
            told,
            || {
                wake(&platform);
                ca(&platform)["stage"] == "settled"
            },
            || format!("{}\n{}\n{}", platform.leader().log(), a.log(), b.log()),
        );
    };
    told("the old one is forgotten");
    let after = ca(&platform);
    assert_eq!(fingerprints(&after), [fingerprints(&telling)[1].clone()]);
    assert_eq!(missing(&after), Vec::<String>::new());
    for name in ["a-1", "b-1"] {
        let own = fs::read_to_string(platform.follower_root(name).join("state/tls.pem")).unwrap();
        let issuer = Certificate::read_all(&own).unwrap()[1].fingerprint.to_string();
        assert_eq!(issuer, fingerprints(&after)[0]);
    }
    over.store(true, Ordering::Relaxed);
    poller.join().unwrap();
    assert!(!a.log().contains("WARN"), "{}", a.log());

    // Started anew, both ends know what was told: the file that was pinned first is not gone by any more.
    a.stop();
    let a = platform.start_follower("a-1");
    platform.platform_yml("settings: {V: two}\n");
    platform.good(&["publish", "--yes"]);
    let file = platform.data("a-1").join("app/conf/x.conf");
    until("it follows", || fs::read_to_string(&file).is_ok_and(|now| now == "two\n"), || a.log());

    // One that never comes back is left behind, and says what is wrong when it does.
    b.stop();
    platform.good(&["ca", "rotate", "--yes"]);
    let words = platform.refused(&["ca", "rotate", "--finish"]);
    assert!(words.contains("b-1") && words.contains("--yes"), "{words}");
    until(
        "only one is missing",
        || {
            wake(&platform);
            missing(&ca(&platform)) == ["b-1"]
        },
        || a.log(),
    );
    platform.good(&["ca", "rotate", "--finish", "--yes"]);
    until(
        "it goes on without it",
        || {
            wake(&platform);
            ca(&platform)["stage"] == "settled"
        },
        || a.log(),
    );
    let b = platform.start_follower("b-1");
    until("it says so", || b.log().contains("another authority"), || b.log());
    b.stop();
    // The authority by hand is as good as joining again.
    let pem = platform.follower_root("b-1").join("config-follower/conf/ca.pem");
    fs::write(pem, platform.good(&["ca", "show", "--pem"])).unwrap();
    let b = platform.start_follower("b-1");
    until("it is back", || b.log().contains("the leader answers"), || b.log());
}

#[test]
fn a_leader_that_moves_is_found_with_no_new_certificate() {
    let (mut platform, here) = platform(&["a-1", "b-1"]);
    let at = port();
    configure(&platform, &json!({"a-1": format!("https://127.0.0.1:{at}")}), here);
    let url = platform.start_leader();
    let a = follower(&platform, "a-1", at, &url);
    let elsewhere = port();
    let moved = format!("https://127.0.0.1:{elsewhere}");
    let b = follower(&platform, "b-1", 0, &url);
    platform.publish();
    let backup = platform.home.path().join("backup");
    let backup = backup.to_str().unwrap();
    platform.good(&["backup", backup]);
    platform.stop_leader();

    // Restored on another machine, with another address. The one it reaches hears of it at once.
    platform.good(&["restore", backup, "--replace"]);
    configure(&platform, &json!({"a-1": format!("https://127.0.0.1:{at}")}), elsewhere);
    platform.start_leader();
    until("it was told", || a.log().contains(&format!("reached addresses=\"{moved}, {url}\"")), || a.log());
    // The other polls the old address only: a person says the new one.
    b.stop();
    let path = platform.follower_root("b-1").join("config-follower/conf/config-follower.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["leader"]["url"] = json!(moved);
    fs::write(&path, config.to_string()).unwrap();
    let b = platform.start_follower("b-1");
    platform.platform_yml("settings: {V: two}\n");
    platform.publish();
    for (name, process) in [("a-1", &a), ("b-1", &b)] {
        let file = platform.data(name).join("app/conf/x.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "two\n", "{}", process.log());
    }
    let said = fs::read_to_string(platform.follower_root("a-1").join("state/told.json")).unwrap();
    assert!(said.contains(&moved), "{said}");
}

#[test]
fn what_contradicts_itself_is_refused_with_words() {
    let (mut platform, port) = platform(&["core-1"]);
    let cases = [
        ("http", json!({"tls": true, "behindProxy": true}), "either this leader speaks TLS, or a proxy"),
        ("addresses", json!(["http://127.0.0.1:1"]), "write https://"),
        ("addresses", json!(["127.0.0.1"]), "HOST:PORT"),
        ("authority", json!({"days": 0}), "from a second to 825 days"),
    ];
    for (name, value, wanted) in cases {
        configure(&platform, &json!({}), port);
        set_leader(&platform, &[(name, value)]);
        let mut command = Command::new(crate::harness::BINARY);
        command.arg("leader").arg("--root").arg(platform.leader_root());
        let (code, log) = Process::start(command).ended();
        assert_eq!(code, Some(1), "{name}: {log}");
        assert!(log.contains(wanted), "{name}: {log}");
    }
    configure(&platform, &json!({}), port);
    let refused = platform_without_tls().refused(&["ca", "show"]);
    assert!(refused.contains("\"http\": {\"tls\": true}"), "{refused}");
    // TLS is as good as a proxy for the listener that takes tokens.
    platform.env("LOCKSTEP_ADMIN__IP", "0.0.0.0");
    platform.env("LOCKSTEP_ADMIN__PORT", "0");
    platform.env("LOCKSTEP_ADMIN__TLS", "true");
    platform.start_leader();
    let log = platform.leader().log();
    let at = log.lines().find_map(|line| line.split_once("url=https://0.0.0.0:")).expect(&log).1.to_owned();
    let pem = platform.home.path().join("ca.pem");
    fs::write(&pem, platform.good(&["ca", "show", "--pem"])).unwrap();
    let answer = curl(&["--cacert", pem.to_str().unwrap(), &format!("https://127.0.0.1:{at}/readyz")]);
    assert_eq!(text(&answer.stdout), "ok\n", "{} {port}", text(&answer.stderr));
    let token = platform.good(&["access", "create", "ci", "--right", "read"]);
    let (url, token) = (format!("https://127.0.0.1:{at}"), token.trim());
    let seen = from_elsewhere(&url, token, pem.to_str());
    assert!(text(&seen.stdout).contains("core-1"), "{seen:?}");
    let refused = from_elsewhere(&url, token, None);
    assert_eq!(refused.status.code(), Some(1), "no authority of the system's is believed to be this leader's");
    let missing = from_elsewhere(&url, token, Some("/none.pem"));
    assert!(text(&missing.stderr).contains("lockstep ca show --pem"), "{missing:?}");
}

/// `lockstep status` from elsewhere, with what the command needs to know.
fn from_elsewhere(url: &str, token: &str, ca: Option<&str>) -> Output {
    let mut command = Command::new(crate::harness::BINARY);
    command.args(["status", "--url", url]).env("LOCKSTEP_TOKEN", token);
    if let Some(ca) = ca {
        command.env("LOCKSTEP_CA", ca);
    }
    command.output().unwrap()
}

fn platform_without_tls() -> Platform {
    Platform::new(&[("core-1", "core")])
}
