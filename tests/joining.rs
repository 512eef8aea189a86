//! Machines that come and go: joining with tokens, being put out, new keys.

use crate::harness::{BINARY, PATIENCE, Platform, Process, text, tree, until};
use http::{HeaderName, Method, StatusCode};
use lockstep_edge::tls::{Joining, Pins, Requested, authorities, identity};
use lockstep_edge::{Client, Trust};
use lockstep_shared::Key;
use lockstep_shared::api::{Status, StatusAnswer};
use lockstep_shared::join::{JoinRequest, JoinToken, Joined, Pin, TokenId};
use lockstep_shared::{Name, Problem};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

/// A platform whose leader speaks TLS and lets machines join.
fn platform(followers: &[(&str, &str)]) -> Platform {
    let platform = Platform::new(followers);
    platform.template("core/own.conf.hbs", "I am {{machine.name}}\n");
    platform.template("web/own.conf.hbs", "I am {{machine.name}} of the web\n");
    configure(&platform, &json!({}));
    platform
}

/// Lays `more` over the leader's configuration, beside TLS.
fn configure(platform: &Platform, more: &Value) {
    let path = platform.leader_root().join("config-leader/conf/config-leader.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["http"] = json!({"port": 0, "tls": true});
    // Tests look at the port that the system chose: nobody is here.
    config["addresses"] = json!(["https://127.0.0.1:1"]);
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    fs::write(&path, config.to_string()).unwrap();
}

/// A token of the running leader, with the address that it really has.
fn token(platform: &Platform, arguments: &[&str]) -> JoinToken {
    let made = platform.good(&[&["tokens", "create", "--json"], arguments].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let token = JoinToken::parse(made["token"].as_str().unwrap()).unwrap();
    JoinToken { addresses: vec![platform.leader_url()], ..token }
}

fn command(platform: &Platform, home: &str, token: &JoinToken, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["join-platform", "--no-listen", "--no-docker", "--no-service", "--root"]);
    command.arg(platform.follower_root(home)).args(arguments).stdin(Stdio::null());
    command.env("LOCKSTEP_JOIN_TOKEN", token.reveal().as_str());
    command
}

fn join(platform: &Platform, home: &str, token: &JoinToken, arguments: &[&str]) -> Output {
    command(platform, home, token, arguments).output().unwrap()
}

fn joined(platform: &Platform, name: &str) -> JoinToken {
    let token = token(platform, &["--role", "core"]);
    let output = join(platform, name, &token, &["--role", "core", "--name", name]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    token
}

/// What a join is refused with.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn key_file(platform: &Platform, name: &str) -> PathBuf {
    platform.follower_root(name).join("config-follower/conf/follower.key")
}

fn key_of(platform: &Platform, name: &str) -> Key {
    Key::parse(&fs::read_to_string(key_file(platform, name)).unwrap()).unwrap()
}

/// A client that signs as a machine whose home has joined.
fn client(platform: &Platform, name: &str) -> Client {
    let ca = fs::read_to_string(platform.follower_root(name).join("config-follower/conf/ca.pem")).unwrap();
    let pins = Arc::new(Pins::new("the test", authorities(&ca).unwrap()));
    let trust = Trust::Pinned { pins, identity: identity::LEADER.to_owned() };
    Client::trusting(&[platform.leader_url()], name, key_of(platform, name), 1 << 20, &trust).unwrap()
}

/// Starts a machine that has joined, wherever the leader is now.
fn start(platform: &Platform, name: &str) -> Process {
    let path = platform.follower_root(name).join("config-follower/conf/config-follower.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["leader"]["url"] = platform.leader_url().into();
    fs::write(&path, config.to_string()).unwrap();
    platform.start_follower_with(name, &[("LOCKSTEP_HTTP__PORT", "0")])
}

fn follower(platform: &Platform, name: &str) -> Value {
    serde_json::from_str(&platform.good(&["followers", "show", name, "--json"])).unwrap()
}

async fn get(client: &Client, target: &str, known: Option<&str>) -> (StatusCode, Option<Problem>, String) {
    let headers: Vec<(HeaderName, String)> =
        known.map(|tag| (http::header::IF_NONE_MATCH, tag.to_owned())).into_iter().collect();
    let answer = client.send(Method::GET, target, &headers, None, PATIENCE).await.unwrap();
    let tag = answer.headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status, answer.problem(), tag)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_machine_joins_follows_and_sees_nothing_of_anothers() {
    let mut platform = platform(&[("core-1", "core")]);
    platform.start_leader();
    let token = joined(&platform, "core-2");
    // The home as it has to be: nothing left of the join, keys for their owner alone.
    let files = tree(&platform.follower_root("core-2"));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "config-follower/conf/ca.pem",
            "config-follower/conf/config-follower.json",
            "config-follower/conf/follower.key",
            "state/tls.pem"
        ]
    );
    for secret in ["config-follower/conf/config-follower.json", "config-follower/conf/follower.key", "state/tls.pem"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = platform.follower_root("core-2").join(secret).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let running = start(&platform, "core-2");
    let own = platform.data("core-2").join("own.conf");
    until("it has its file", || fs::read_to_string(&own).is_ok_and(|text| text == "I am core-2\n"), || running.log());

    // Nothing of another machine's, whatever it asks for.
    runtime().block_on(async {
        let client = client(&platform, "core-2");
        let (status, _, _) = get(&client, "/conf", None).await;
        assert_eq!(status, StatusCode::OK);
        for target in ["/conf?machine=core-1", "/conf/web", "/conf/web/own.conf"] {
            assert_eq!(get(&client, target, None).await.0, StatusCode::FORBIDDEN, "{target}");
        }
    });

    // Again on the same home: nothing changes, whatever became of the token.
    let own = platform.follower_root("core-2").join("config-follower");
    let before = tree(&own);
    let again = join(&platform, "core-2", &token, &["--role", "core", "--name", "core-2"]);
    assert!(again.status.success() && text(&again.stdout).contains("nothing was changed"), "{}", text(&again.stderr));
    assert!(tree(&own) == before);
    let other = refused(&join(&platform, "core-2", &token, &["--role", "core", "--name", "core-9"]));
    assert!(other.contains("not of core-9"), "{other}");

    // Both ends show the same fingerprints.
    let shown = follower(&platform, "core-2");
    assert!(text(&again.stdout).contains(shown["key"].as_str().unwrap()), "{shown}");
    assert_eq!((shown["origin"].as_str(), shown["key_state"].as_str()), (Some("token"), Some("used")));
    assert!(shown["certificate_ends"].as_i64() > shown["joined"].as_i64());

    // It is there after a restart of the leader, and its name is nobody else's.
    platform.stop_leader();
    platform.start_leader();
    assert_eq!(follower(&platform, "core-2")["role"], "core");
    let taken = platform.refused(&["tokens", "create", "--role", "core", "--name", "core-2"]);
    assert!(taken.contains("core-2 is taken"), "{taken}");
    let audit = platform.good(&["audit", "--json"]);
    assert!(audit.contains("with token") && !audit.contains(token.reveal().as_str()));
    platform.stop_leader();

    // One namespace over both kinds.
    configure(
        &platform,
        &json!({"followers": {"core-2": {"role": "core", "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}}),
    );
    let clash = platform.refused(&["leader"]);
    assert!(clash.contains("followers remove core-2"), "{clash}");
    platform.good(&["followers", "remove", "core-2", "--yes"]);
    platform.start_leader();
    assert_eq!(follower(&platform, "core-2")["origin"], "file");
}

#[test]
fn a_token_lets_in_one_machine_and_says_why_no_other() {
    let mut platform = platform(&[("core-1", "core")]);
    platform.start_leader();
    let words = |home: &str, token: &JoinToken, arguments: &[&str]| refused(&join(&platform, home, token, arguments));
    let open = token(&platform, &["--role", "core"]);
    for (arguments, wanted) in [
        (["--role", "web", "--name", "a"], "say --role core"),
        (["--role", "core", "--name", "core-1"], "declared in config-leader/conf/config-leader.json"),
    ] {
        let why = words("a", &open, &arguments);
        assert!(why.contains(wanted), "{why}");
    }
    let bound = token(&platform, &["--role", "core", "--name", "core-7"]);
    let why = words("a", &bound, &["--role", "core", "--name", "a"]);
    assert!(why.contains("--name core-7"), "{why}");
    platform.good(&["tokens", "revoke", &bound.id.to_string()]);
    let why = words("a", &bound, &["--role", "core", "--name", "core-7"]);
    assert!(why.contains("taken back"), "{why}");
    let unknown = JoinToken { id: TokenId([9; 6]), ..open.clone() };
    let why = words("a", &unknown, &["--role", "core", "--name", "a"]);
    assert!(why.contains("another leader"), "{why}");

    // Somebody in between, with another CA: nothing of the token leaves this machine.
    let elsewhere = JoinToken { pin: Pin::Authority(lockstep_shared::Sha256([7; 32])), ..open.clone() };
    let why = words("a", &elsewhere, &["--role", "core", "--name", "a"]);
    assert!(why.contains("another authority") && why.contains("Nothing was sent"), "{why}");
    let nobody = JoinToken { addresses: vec!["https://127.0.0.1:1".to_owned()], ..open.clone() };
    let why = words("a", &nobody, &["--role", "core", "--name", "a"]);
    assert!(why.contains("nobody listens there") && why.contains("TCP port 1 of 127.0.0.1"), "{why}");
    let plain = JoinToken { addresses: vec![platform.leader_url().replace("https", "http")], ..open.clone() };
    let why = words("a", &plain, &["--role", "core", "--name", "a"]);
    assert!(why.contains("no TLS"), "{why}");
    let system = JoinToken { pin: Pin::Proxy, ..open.clone() };
    assert!(!words("a", &system, &["--role", "core", "--name", "a"]).is_empty());

    // Two machines at the same moment: one joins, and the other one hears which.
    let both = ["b", "c"].map(|name| {
        command(&platform, name, &open, &["--role", "core", "--name", name])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let ends = both.map(|child| child.wait_with_output().unwrap());
    let (good, bad): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.status.success());
    assert_eq!((good.len(), bad.len()), (1, 1));
    let why = text(&bad[0].stderr);
    assert!(why.contains("joined with it at") && why.contains("127.0.0.1"), "{why}");
    let followers = platform.good(&["followers", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&followers).unwrap().as_array().unwrap().len(), 2);
    let revoke = platform.refused(&["tokens", "revoke", &open.id.to_string()]);
    assert!(revoke.contains("lockstep followers disable"), "{revoke}");

    // The leader shows another authority: a token of before lets nobody in, and isn't shown as if it did.
    let old = token(&platform, &["--role", "core"]);
    platform.good(&["ca", "rotate", "--yes"]);
    platform.good(&["ca", "rotate", "--finish", "--yes"]);
    let fresh = token(&platform, &["--role", "core"]);
    let tokens: Vec<Value> = serde_json::from_str(&platform.good(&["tokens", "list", "--json"])).unwrap();
    let state = |token: &JoinToken| {
        let id = token.id.to_string();
        tokens.iter().find(|shown| shown["id"] == id.as_str()).unwrap()["state"].clone()
    };
    assert_eq!([&open, &bound, &old, &fresh].map(state), ["used", "revoked", "outdated", "open"]);
    assert!(platform.good(&["tokens", "list"]).contains("of the authority before"));
    let why = words("d", &old, &["--role", "core", "--name", "d"]);
    assert!(why.contains("another authority"), "{why}");
    assert!(join(&platform, "d", &fresh, &["--role", "core", "--name", "d"]).status.success());
}

/// What `POST /join` answers, as a client of nobody's making.
async fn post(url: &str, token: &JoinToken, body: &JoinRequest) -> (u16, Vec<u8>) {
    let Pin::Authority(hash) = token.pin else { panic!("a token with a hash") };
    let tls = Joining::new(hash).client().unwrap();
    let http = lockstep_edge::client::builder().tls_backend_preconfigured(tls).build().unwrap();
    let answer = http.post(format!("{url}/join")).body(serde_json::to_vec(body).unwrap()).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[test]
fn an_answer_that_was_lost_comes_again_until_it_was_used() {
    use base64::Engine as _;
    let mut platform = platform(&[]);
    let url = platform.start_leader();
    let token = token(&platform, &["--role", "core"]);
    let name = Name::new("core-5").unwrap();
    let requested = Requested::new("core-5").unwrap();
    let body = JoinRequest {
        id: token.id.to_string(),
        secret: base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.secret.as_slice()).into(),
        name: name.clone(),
        role: Name::new("core").unwrap(),
        csr: requested.csr.clone(),
        url: None,
        addresses: Vec::new(),
        version: String::new(),
    };
    let runtime = runtime();
    let ask = |body: &JoinRequest| runtime.block_on(post(&url, &token, body));
    let kind = |answer: (u16, Vec<u8>)| serde_json::from_slice::<Problem>(&answer.1).unwrap().short_kind().to_owned();
    assert_eq!(kind(ask(&JoinRequest { csr: "no".to_owned(), ..body.clone() })), "join-bad-csr");
    let (status, lost) = ask(&body);
    assert_eq!(status, 200, "{}", text(&lost));
    let lost: Joined = serde_json::from_slice(&lost).unwrap();
    let other = JoinRequest { csr: Requested::new("core-5").unwrap().csr, ..body.clone() };
    assert_eq!(kind(ask(&other)), "join-token-used");

    // The machine was killed before it wrote the answer down: it goes on from what it kept.
    let kept = json!({"token": body.id, "name": name, "role": "core", "key": *requested.key, "csr": requested.csr});
    let state = platform.follower_root("core-5").join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("joining.json"), kept.to_string()).unwrap();
    let output = join(&platform, "core-5", &token, &["--role", "core", "--name", "core-5"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(*key_of(&platform, "core-5").reveal(), *lost.key);
    assert!(!state.join("joining.json").exists());

    // From its first signed request on the token is used up.
    let client = client(&platform, "core-5");
    assert_eq!(runtime.block_on(get(&client, "/conf", None)).0, StatusCode::OK);
    assert_eq!(kind(ask(&body)), "join-token-used");
}

#[test]
fn a_follower_that_is_put_out_is_out_at_once() {
    let mut platform = platform(&[("core-1", "core")]);
    platform.settings(&[("V", "usual")]);
    platform.start_leader();
    joined(&platform, "core-2");
    // What platform.yml says of it holds up nobody when it has left.
    platform.platform_yml("settings: {}\nmachines:\n  core-2: {V: own}\n");
    platform.good(&["publish", "--yes"]);
    let runtime = runtime();
    let client = Arc::new(client(&platform, "core-2"));
    let (_, _, tag) = runtime.block_on(get(&client, "/conf", None));
    let hold = |client: &Arc<Client>| {
        let (client, tag) = (client.clone(), tag.clone());
        runtime.spawn(async move { get(&client, "/conf?wait=60s", Some(&tag)).await })
    };
    // Held, or about to be: it ends either way.
    let held = hold(&client);
    platform.good(&["followers", "disable", "core-2"]);
    let (status, problem, _) = runtime.block_on(held).unwrap();
    let problem = problem.unwrap();
    // The client takes only what is signed.
    assert_eq!((status, problem.short_kind()), (StatusCode::FORBIDDEN, "disabled"));
    assert!(problem.detail.contains("followers enable core-2"), "{}", problem.detail);
    assert_eq!(runtime.block_on(get(&client, "/conf", None)).0, StatusCode::FORBIDDEN);
    assert!(platform.fleet().machines.iter().all(|machine| machine.name.as_str() != "core-2"));
    platform.good(&["validate"]);
    let again = platform.refused(&["followers", "disable", "core-2"]);
    assert!(again.contains("disabled already"), "{again}");

    // After a restart too; and in again.
    platform.stop_leader();
    platform.start_leader();
    let client = Arc::new(self::client(&platform, "core-2"));
    assert_eq!(runtime.block_on(get(&client, "/conf", None)).0, StatusCode::FORBIDDEN);
    platform.good(&["followers", "enable", "core-2"]);
    assert_eq!(runtime.block_on(get(&client, "/conf", None)).0, StatusCode::OK);

    let held = hold(&client);
    let asks = platform.refused(&["followers", "remove", "core-2"]);
    assert!(asks.contains("--yes") && asks.contains("containers run on"), "{asks}");
    platform.good(&["followers", "remove", "core-2", "--yes"]);
    assert_eq!(runtime.block_on(held).unwrap().1.unwrap().short_kind(), "removed");
    assert_eq!(runtime.block_on(get(&client, "/conf", None)).1.unwrap().short_kind(), "removed");
    let slip = platform.refused(&["validate"]);
    assert!(slip.contains("no machine is called core-2"), "{slip}");
    platform.stop_leader();
    platform.start_leader();
    // Its name is free.
    fs::remove_dir_all(platform.follower_root("core-2")).unwrap();
    joined(&platform, "core-2");
    assert_eq!(runtime.block_on(get(&self::client(&platform, "core-2"), "/conf", None)).0, StatusCode::OK);

    // Those of the file are not touched by commands.
    for arguments in [vec!["disable", "core-1"], vec!["remove", "core-1", "--yes"], vec!["rotate-key", "core-1"]] {
        let why = platform.refused(&[&["followers"], &arguments[..]].concat());
        assert!(why.contains("edit its entry there"), "{why}");
    }
    let why = platform.refused(&["followers", "disable", "nobody"]);
    assert!(why.contains("lockstep followers list"), "{why}");
}

#[test]
fn a_key_is_replaced_without_a_moment_in_which_none_is_taken() {
    let mut platform = platform(&[]);
    platform.start_leader();
    joined(&platform, "core-2");
    let runtime = runtime();
    let old = client(&platform, "core-2");
    assert_eq!(runtime.block_on(get(&old, "/conf", None)).0, StatusCode::OK);
    platform.good(&["followers", "rotate-key", "core-2"]);
    assert_eq!(follower(&platform, "core-2")["key_state"], "rotating");
    let told = || {
        let body = serde_json::to_vec(&Status::default()).unwrap();
        let answer = runtime.block_on(old.send(Method::POST, "/status", &[], Some(body.into()), PATIENCE)).unwrap();
        serde_json::from_slice::<StatusAnswer>(&answer.body).unwrap().told.key.unwrap()
    };
    let next = told();
    // The leader is killed after it told: it tells the same again, and the old one is still taken.
    platform.kill_leader();
    platform.start_leader();
    old.look_at(&[platform.leader_url()]).unwrap();
    assert_eq!(told().as_str(), next.as_str());
    // The follower is killed after it wrote, before it used: it begins with the new one.
    let state = platform.follower_root("core-2").join("state");
    fs::write(state.join("key.before"), fs::read(key_file(&platform, "core-2")).unwrap()).unwrap();
    fs::write(key_file(&platform, "core-2"), next.as_bytes()).unwrap();
    let running = start(&platform, "core-2");
    until("the new key is used", || follower(&platform, "core-2")["key_state"] == "used", || running.log());
    until("the old one is forgotten", || !state.join("key.before").exists(), || running.log());
    let refused = runtime.block_on(old.send(Method::GET, "/conf", &[], None, PATIENCE));
    assert!(refused.is_err(), "the old key opens nothing any more");

    // All of it by itself, while the follower runs.
    assert_eq!(*key_of(&platform, "core-2").reveal(), *next);
    platform.good(&["followers", "rotate-key", "--all", "--wait"]);
    assert_ne!(*key_of(&platform, "core-2").reveal(), *next);
    assert_eq!(running.stop().0, Some(0));

    // The leader never heard of the new one (it was restored): the follower goes back.
    let known = key_of(&platform, "core-2").reveal();
    fs::write(state.join("key.before"), known.as_bytes()).unwrap();
    fs::write(key_file(&platform, "core-2"), next.as_bytes()).unwrap();
    let running = start(&platform, "core-2");
    until("it goes back", || !state.join("key.before").exists(), || running.log());
    assert_eq!(*key_of(&platform, "core-2").reveal(), *known);
}

#[test]
fn a_machine_joins_while_a_rollout_goes_on() {
    let mut platform = platform(&[("core-1", "core"), ("core-2", "core")]);
    configure(&platform, &json!({"rollout": {"waves": [1, "100%"], "patienceSeconds": 600}}));
    platform.start_leader();
    // Nobody takes the first wave: the rollout stands.
    platform.template("core/own.conf.hbs", "I am {{machine.name}}, later\n");
    platform.good(&["publish", "--yes", "--detach"]);
    platform.template("core/own.conf.hbs", "an edit that nobody published\n");
    joined(&platform, "core-9");
    let running = start(&platform, "core-9");
    let own = platform.data("core-9").join("own.conf");
    until(
        "it has its file",
        || fs::read_to_string(&own).is_ok_and(|text| text == "I am core-9, later\n"),
        || running.log(),
    );
    let rollout: Value = serde_json::from_str(&platform.good(&["rollout", "--json"])).unwrap();
    assert_eq!(rollout["revision"], 3);
    platform.good(&["followers", "remove", "core-9", "--yes"]);
    assert!(platform.fleet().machines.iter().all(|machine| machine.name.as_str() != "core-9"));
}
