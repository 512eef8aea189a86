//! Settings through the real binary, with and without a leader.

use crate::harness::{Platform, text};
use lockstep_leader::config::Config;
use lockstep_leader::desk::{Desk, ValueSource, Wish};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

const SETTINGS: &str = "release: 1.0.0
groups:
  NET:
    title: Network
    settings:
      DOMAIN: {title: Domain, description: Domain of the platform., schema: {type: string, format: hostname}}
      URL: {title: Address, schema: {type: string, format: uri}, default: 'https://${DOMAIN}/'}
      TIMEOUT: {title: Time, schema: {type: string, format: duration}, default: 30s, overridable: true}
  LIMITS:
    title: Limits
    settings:
      SIZE: {title: Largest upload, schema: {type: integer, minimum: 1}, default: 20, overridable: true}
      HOSTS: {title: Hosts, schema: {type: array, items: {type: string, format: hostname}}, default: []}
      CPU: {title: Processors, schema: {type: object, additionalProperties: {type: number}}, optional: true}
      VERSION: {title: Version, schema: {type: string}, default: '1.0'}
      NOTE: {title: Note, optional: true}
      TOKEN: {title: Token, secret: {generate: {bytes: 32}}}
";

const PLATFORM: &str = "# ours\nsettings:\n  DOMAIN: example.com   # the domain\n  SIZE:   7\n\n# two of them\nmachines:\n  core-1: {SIZE: 5}\n";

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core"), ("core-2", "core")]);
    platform.template("settings.yml", SETTINGS);
    platform.template("core/nginx/conf/a.conf.hbs", "{{URL}} {{SIZE}} {{TOKEN}}\n");
    platform.template("core/nginx/conf/b.conf.hbs", "{{VERSION}} {{join HOSTS}}\n");
    platform.platform_yml(PLATFORM);
    platform
}

fn file(platform: &Platform) -> String {
    fs::read_to_string(platform.leader_root().join("platform.yml")).unwrap()
}

#[test]
fn what_is_printed() {
    let platform = platform();
    let mut all = String::new();
    for arguments in [
        &["settings", "list"][..],
        &["settings", "list", "--unused"],
        &["settings", "get", "URL"],
        &["settings", "get", "SIZE", "--machine", "core-1"],
        &["settings", "get", "SIZE", "--all-machines"],
        &["settings", "describe", "SIZE"],
        &["settings", "describe", "DOMAIN"],
        &["settings", "describe", "TOKEN"],
        &["settings", "uses", "DOMAIN"],
        &["settings", "uses", "--file", "nginx/conf/a.conf"],
        &["settings", "set", "SIZE", "30"],
        &["settings", "set", "HOSTS", "[a.example.com, b]"],
        &["settings", "set", "CPU", "{\"core\": 1.50}", "--json"],
        &["settings", "set", "NOTE", "a: b #c"],
        &["settings", "set", "VERSION", "1.10"],
        &["settings", "set", "SIZE", "8", "--machine", "core-2"],
        &["settings", "unset", "SIZE", "--machine", "core-1"],
        &["settings", "set", "SIZE", "30"],
        &["settings", "set", "SIZE", "0"],
        &["settings", "set", "SIZE", "1", "--was", "29"],
        &["settings", "set", "HOSTS", "[a, 'not a host']"],
        &["settings", "set", "URL", "${DOMIAN}/x"],
        &["settings", "set", "DOMAIN", "a.b", "--machine", "core-1"],
        &["settings", "set", "SIZE", "1", "--machine", "core1"],
        &["settings", "set", "TOKEN", "x"],
        &["settings", "set", "SIZ", "1"],
        &["settings", "unset", "DOMAIN"],
        &["settings", "uses", "--file", "a.conf"],
    ] {
        let output = platform.run(arguments);
        all += &format!("$ {}  [{}]\n", arguments.join(" "), output.status.code().unwrap());
        all += &text(&output.stdout);
        all += &text(&output.stderr).replace("no leader is running: this works on its files\n", "");
        all.push('\n');
    }
    all += &file(&platform);
    insta::assert_snapshot!(all);
    platform.good(&["validate"]);
}

#[test]
fn with_a_leader_it_is_the_same() {
    let mut platform = platform();
    let offline = platform.good(&["settings", "list", "--json"]);
    platform.start_leader();
    assert_eq!(platform.good(&["settings", "list", "--json"]), offline);
    let output = platform.run(&["settings", "set", "SIZE", "9"]);
    assert_eq!(text(&output.stdout), "SIZE: 7 -> 9  (platform.yml:4)\n");
    assert!(!text(&output.stderr).contains("no leader"));
    assert_eq!(file(&platform), PLATFORM.replace("SIZE:   7", "SIZE:   9"));
    assert!(platform.refused(&["settings", "set", "SIZE", "big"]).contains("SIZE:   big\n"));
    platform.good(&["settings", "unset", "SIZE"]);
    assert_eq!(file(&platform), PLATFORM.replace("  SIZE:   7\n", ""));
    let schema: Value = serde_json::from_str(&platform.good(&["settings", "schema"])).unwrap();
    assert_eq!(schema["properties"]["settings"]["properties"]["SIZE"]["default"].to_string(), "20");
    assert!(schema["properties"]["settings"]["properties"].get("TOKEN").is_none());
    let describe: Value = serde_json::from_str(&platform.good(&["settings", "describe", "SIZE", "--json"])).unwrap();
    assert_eq!(describe["uses"]["files"][0]["path"], "nginx/conf/a.conf");
}

#[test]
fn words_survive_exactly() {
    let platform = platform();
    for words in [
        "1.10",
        "yes",
        "010",
        "~",
        "a: b",
        " #",
        "x #y",
        "- a",
        "[a]",
        "${DOMAIN}/x",
        "a\nb\n",
        "a\n\n b",
        "'",
        "\"",
        "null",
        "ü\u{7}",
    ] {
        let from = platform.home.path().join("words");
        fs::write(&from, words).unwrap();
        let by_file = ["settings", "set", "VERSION", "--file", from.to_str().unwrap()];
        let plain = ["settings", "set", "VERSION", words];
        platform.good(if words.starts_with('-') { &by_file[..] } else { &plain[..] });
        let state: Value = serde_json::from_str(&platform.good(&["settings", "get", "VERSION", "--json"])).unwrap();
        assert_eq!(state["value"], words.replace("${DOMAIN}", "example.com"), "{}", file(&platform));
        platform.good(&["settings", "unset", "VERSION"]);
        assert_eq!(file(&platform), PLATFORM);
    }
    let from = platform.home.path().join("value");
    fs::write(&from, "one line\n").unwrap();
    platform.good(&["settings", "set", "VERSION", "--file", from.to_str().unwrap()]);
    assert_eq!(platform.good(&["settings", "get", "VERSION"]), "one line\n");
    platform.good(&["settings", "set", "SIZE", "99999999999999999999999"]);
    assert_eq!(platform.good(&["settings", "get", "SIZE"]), "99999999999999999999999\n");
}

#[test]
fn the_file_stays_whose_it_is() {
    let platform = platform();
    let path = platform.leader_root().join("platform.yml");
    let elsewhere = platform.home.path().join("elsewhere.yml");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o640)).unwrap();
    let root = elsewhere.metadata().unwrap().uid() == 0;
    if root {
        std::os::unix::fs::chown(&elsewhere, Some(1234), Some(4321)).unwrap();
    }
    platform.good(&["settings", "set", "SIZE", "8"]);
    assert!(path.symlink_metadata().unwrap().is_symlink());
    let meta = elsewhere.metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert!(!root || (meta.uid(), meta.gid()) == (1234, 4321));
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("SIZE:   8"));
    fs::remove_file(&elsewhere).unwrap();
    assert!(platform.refused(&["settings", "set", "SIZE", "9"]).contains("platform.yml"));
}

/// Two writers at once, in two processes: nothing is lost, and the file is never half.
#[test]
fn two_writers_lose_nothing() {
    const EDITS: usize = 100;
    /// Settings of each writer.
    const OWN: usize = 10;
    let mut platform = platform();
    let mut settings = SETTINGS.to_owned();
    for n in 0..2 * OWN {
        settings += &format!("      S{n}: {{title: S, default: none, overridable: true}}\n");
    }
    platform.template("settings.yml", &settings);
    platform.start_leader();
    let path = platform.leader_root().join("platform.yml");
    let socket = platform.leader_root().join("state/leader.sock");
    // One through the API, one as a second program that edits the file by itself.
    let config = Config::load(&platform.leader_root(), []).unwrap();
    let edit = |writer: usize, n: usize| {
        let name = format!("S{}", writer * OWN + (n * 7) % OWN);
        (name, n.is_multiple_of(3).then_some("core-2"), format!("[{n}, 'a: {n}']"))
    };
    let through_the_leader = |n: usize| {
        let (name, machine, words) = edit(0, n);
        let query = machine.map(|machine| format!("?machine={machine}")).unwrap_or_default();
        let body = serde_json::json!({"words": words}).to_string();
        let answer = request(&socket, "PUT", &format!("/admin/settings/{name}{query}"), "", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let directly = |n: usize| {
        let (name, machine, words) = edit(1, n);
        Desk::new(config.clone()).edit(&name, machine, &Wish::Words(words), None, None).unwrap();
    };
    let whole = || {
        let now = fs::read_to_string(&path).unwrap();
        assert!(now.starts_with("# ours\nsettings:\n") && now.contains("SIZE: 5"), "{now}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..EDITS).for_each(|n| {
                through_the_leader(n);
                whole();
            });
        });
        (0..EDITS).for_each(directly);
    });
    // What is there is what each writer wrote last.
    let mut wanted = std::collections::BTreeMap::new();
    for (name, machine, words) in (0..EDITS).flat_map(|n| [edit(0, n), edit(1, n)]) {
        wanted.insert((name, machine), words);
    }
    assert!(wanted.len() > 2 * OWN);
    for ((name, machine), words) in wanted {
        let state = Desk::new(config.clone()).get(&name, machine).unwrap();
        assert_eq!(state.value.unwrap().to_string(), words.replace('\'', "\"").replace(", ", ","));
        assert_eq!(state.source, machine.map_or(ValueSource::Platform, |_| ValueSource::Machine));
    }
    platform.good(&["validate"]);
}

#[test]
fn who_looked_before_a_change_is_told() {
    let mut platform = platform();
    platform.start_leader();
    let socket = platform.leader_root().join("state/leader.sock");
    let seen = request(&socket, "GET", "/admin/settings/SIZE", "", "");
    let tag = seen.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let other = request(&socket, "GET", "/admin/settings/SIZE?machine=core-1", "", "");
    assert!(!other.contains(&tag), "{other}");
    let set = |value: u32, tag: &str| {
        request(
            &socket,
            "PUT",
            "/admin/settings/SIZE",
            &format!("If-Match: {tag}\r\n"),
            &format!("{{\"value\": {value}, \"seen\": 7}}"),
        )
    };
    assert!(set(8, &tag).starts_with("HTTP/1.1 200"));
    let refused = set(9, &tag);
    assert!(refused.starts_with("HTTP/1.1 412"), "{refused}");
    let problem: Value = serde_json::from_str(refused.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((problem["now"].to_string(), problem["seen"].to_string()), ("8".to_owned(), "7".to_owned()));
    assert!(problem["detail"].as_str().unwrap().contains("it was 7 and is 8 now (platform.yml:4)"), "{problem}");
    let deleted = request(&socket, "DELETE", "/admin/settings/SIZE", &format!("If-Match: {tag}\r\n"), "");
    assert!(deleted.starts_with("HTTP/1.1 412"), "{deleted}");
    for (method, target, body, status) in [
        ("GET", "/admin/settings/NOPE", "", "404"),
        ("GET", "/admin/settings/SIZE?machine=x", "", "404"),
        ("GET", "/admin/settings?nope=x", "", "400"),
        ("PUT", "/admin/settings/SIZE", "{}", "400"),
        ("PUT", "/admin/settings/SIZE", "{\"value\": \"x\"}", "422"),
        ("PUT", "/admin/settings/TOKEN", "{\"value\": \"x\"}", "422"),
        ("DELETE", "/admin/settings/DOMAIN", "", "422"),
    ] {
        let answer = request(&socket, method, target, "", body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {target}: {answer}");
    }
    assert_eq!(file(&platform), PLATFORM.replace("SIZE:   7", "SIZE:   8"));
}

/// One request over the leader's socket.
fn request(socket: &std::path::Path, method: &str, target: &str, headers: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: leader\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
