//! Recognisable values in every secret, through every route and command; then
//! everything that was ever printed, answered, logged or stored is searched for
//! them, in every form that they might have taken.

use crate::api::{admin, call, token};
use crate::harness::{BINARY, Platform, Process, text, tree};
use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

const ENVIRONMENT: &str = "canary-Env/+0123456789abcdef";
const GIVEN: &str = "canary-Given \"quoted\" \\ 9f8e7d6c5b4a";
const FILE: &str =
    "-----BEGIN CANARY-----\nMIIcanaryFileFirstLine00aa\nMIIcanaryFileSecondLine1bb\n-----END CANARY-----";
const MISFIT: &str = "canary-Misfit-000111222333444";
const ARGUMENT: &str = "canary-Argument-555666777";
const PLATFORM: &str = "canary-Platform-888999000";
const SHORT_OF_JSON: &str = "canary-Body-424242424242";

/// Everything that came out, each with where.
#[derive(Default)]
struct Seen(Mutex<Vec<(String, Vec<u8>)>>);

impl Seen {
    fn add(&self, from: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().push((from.into(), bytes.into()));
    }

    fn run(&self, platform: &Platform, arguments: &[&str]) {
        let output = platform.run(arguments);
        self.add(format!("lockstep {arguments:?}"), [output.stdout, output.stderr].concat());
    }

    /// The same, with a value on standard input.
    fn feed(&self, platform: &Platform, arguments: &[&str], value: &str) {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--root").arg(platform.leader_root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that wants no input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(!text(&output.stderr).contains("no leader"), "{}", text(&output.stderr));
        self.add(format!("lockstep {arguments:?} <"), [output.stdout, output.stderr].concat());
    }

    fn call(&self, url: &str, token: &str, method: &str, target: &str, body: Option<&str>) {
        let answer = call(url, Some(token), method, target, body);
        self.add(format!("{method} {target} headers"), format!("{:?}", answer.headers));
        self.add(format!("{method} {target}"), answer.body);
    }

    fn search(&self, canaries: &[(String, String)]) {
        let seen = self.0.lock().unwrap();
        assert!(seen.len() > 100, "only {} things were seen", seen.len());
        let forms: Vec<(&str, String)> = canaries
            .iter()
            .flat_map(|(name, value)| forms(value).into_iter().map(move |form| (&**name, form)))
            .collect();
        let every = AhoCorasick::new(forms.iter().map(|(_, form)| form)).unwrap();
        let mut leaks = BTreeSet::new();
        for (from, bytes) in seen.iter() {
            for found in every.find_iter(bytes) {
                let (name, form) = &forms[found.pattern().as_usize()];
                let (start, end) = (found.start().saturating_sub(150), (found.end() + 50).min(bytes.len()));
                leaks.insert(format!("{name} as {form:?} in {from}: {:?}", text(&bytes[start..end])));
            }
        }
        let leaks: Vec<String> = leaks.into_iter().collect();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// A value, and each of its lines, as it could be written.
fn forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    let lines: Vec<&str> = std::iter::once(value).chain(value.lines().filter(|line| line.len() > 12)).collect();
    for text in lines {
        forms.push(text.to_owned());
        forms.push(serde_json::to_string(text).unwrap().trim_matches('"').to_owned());
        forms.push(text.to_uppercase());
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([hex.to_uppercase(), hex]);
        forms.push(percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string());
        // Within a longer text there are three ways, by what stands before.
        for before in ["", "x", "xx"] {
            for engine in [&STANDARD, &URL_SAFE] {
                let encoded = engine.encode(format!("{before}{text}"));
                forms.push(encoded[4..encoded.len() - 4].to_owned());
            }
        }
    }
    forms.retain(|form| form.len() >= 12);
    forms
}

/// A leader that logs all there is to log.
fn platform() -> Platform {
    let mut platform = Platform::new(&[("core-1", "core"), ("core-2", "core")]);
    platform.template(
        "settings.yml",
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      V: {default: zero, overridable: true}\n      \
         ENVIRONMENT: {secret: {generate: {bytes: 24, encoding: base64}}}\n      \
         GIVEN: {secret: true, schema: {type: string, not: {pattern: Misfit}}}\n      \
         FILE: {secret: true}\n      \
         CERTIFICATE: {optional: true, certificate: {key: FILE}}\n      \
         MADE: {secret: {generate: {bytes: 32, encoding: base64url}}}\n      \
         EACH: {secret: {generate: {bytes: 32, encoding: hex}, scope: machine}}\n",
    );
    platform.template(
        "core/app/conf/all.conf.hbs",
        "{{V}}\n{{ENVIRONMENT}}\n{{GIVEN}}\n{{MADE}}\n{{EACH}}\n{{base64 GIVEN}}\n{{base64 (concat \"user:\" MADE)}}\n{{upper MADE}}\n{{base64url ENVIRONMENT}}\n",
    );
    platform.template(
        "core/app/conf/all.json.hbs",
        "{\"given\": {{json GIVEN}}, \"file\": {{json FILE}}, \"v\": {{json V}}}\n",
    );
    platform.template("core/app/conf/key.pem.hbs", "{{FILE}}\n");
    platform.env("LOCKSTEP_ADMIN__PORT", "0");
    platform.env("LOCKSTEP_SECRET_ENVIRONMENT", ENVIRONMENT);
    platform.env("MY_GIVEN", GIVEN);
    platform.env("MY_MISFIT", MISFIT);
    platform.env("LOCKSTEP_LOG", "trace");
    platform.env("LOCKSTEP_LOG_FORMAT", "json");
    platform
}

/// What machines have now in their rendered files: the made values.
fn made(platform: &Platform) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for machine in ["core-1", "core-2"] {
        let shown = platform.good(&["show", "--machine", machine, "--file", "app/conf/all.conf", "--reveal"]);
        let lines: Vec<&str> = shown.lines().collect();
        values.push(("MADE".to_owned(), lines[3].to_owned()));
        values.push((format!("EACH of {machine}"), lines[4].to_owned()));
    }
    values
}

fn drive(seen: &Seen, platform: &Platform) {
    for arguments in [
        &["plan"][..],
        &["plan", "--json"],
        &["validate"],
        &["validate", "--json"],
        &["publish", "--yes", "-m", "why"],
        &["publish", "--yes", "--json"],
        &["status"],
        &["status", "--json"],
        &["notify"],
        &["history"],
        &["history", "--json"],
        &["show"],
        &["show", "--json"],
        &["show", "--machine", "core-1"],
        &["show", "--machine", "core-1", "--file", "app/conf/all.conf"],
        &["show", "--machine", "core-1", "--file", "app/conf/all.json", "--json"],
        &["show", "--machine", "core-2", "--file", "app/conf/key.pem"],
        &["show", "--file", "platform.yml"],
        &["diff", "1", "2"],
        &["diff", "1", "2", "--json"],
        &["blame", "V"],
        &["blame", "GIVEN"],
        &["settings", "list"],
        &["settings", "list", "--json"],
        &["settings", "get", "GIVEN"],
        &["settings", "get", "GIVEN", "--json"],
        &["settings", "describe", "MADE"],
        &["settings", "uses", "MADE"],
        &["settings", "schema"],
        &["settings", "set", "GIVEN", "x"],
        &["secrets", "list"],
        &["secrets", "list", "--json"],
        &["secrets", "uses", "GIVEN"],
        &["secrets", "set", "GIVEN", ARGUMENT],
        &["secrets", "set", "GIVEN", "--", ARGUMENT],
        &["secrets", "set", "GIVEN", "--env", "MY_MISFIT"],
        &["secrets", "set", "ENVIRONMENT", "--env", "MY_GIVEN"],
        &["secrets", "set", "NOPE", "--env", "MY_GIVEN"],
        &["secrets", "rotate", "GIVEN", "--yes"],
        &["secrets", "discard", "MADE"],
        &["certificates", "show"],
        &["certificates", "show", "--json"],
        &["certificates", "expiring", "--json"],
        &["access", "list", "--json"],
        &["audit", "--limit", "1000"],
        &["audit", "--limit", "1000", "--json"],
        &["audit", "--verify", "--json"],
        &["rollback", "1", "--yes"],
        &["rollback", "99", "--yes"],
        &["publish", "--yes"],
    ] {
        seen.run(platform, arguments);
    }
    // No PEM, and in the wrong place as well.
    let file = platform.home.path().join("file.pem");
    let file = file.to_str().unwrap();
    seen.run(platform, &["certificates", "set", "--cert", file, "--key", file, "--yes"]);
}

/// Somebody edits files with secrets on the machine: shuffles and repeats lines, cuts values, takes a mode away.
fn changed_by_hand(seen: &Seen, platform: &Platform, follower: &Process) {
    let conf = platform.data("core-1").join("app/conf");
    let until = |what: &str, so: &dyn Fn() -> bool| crate::harness::until(what, so, || follower.log());
    until("it has its files", &|| conf.join("key.pem").is_file() && conf.join("all.conf").is_file());
    for name in ["all.conf", "all.json", "key.pem"] {
        let right = fs::read_to_string(conf.join(name)).unwrap();
        let lines: Vec<&str> = right.lines().rev().collect();
        let cut: Vec<&str> = right.lines().map(|line| line.get(..line.len() * 3 / 4).unwrap_or(line)).collect();
        for wrong in [format!("# {right}{right}"), lines.join("\n"), cut.join("\n")] {
            fs::write(conf.join(name), format!("{wrong}\n")).unwrap();
            let shown = |out: &str| out.contains(&format!("drift: app/conf/{name}"));
            until(&format!("{name} is told"), &|| shown(&text(&platform.run(&["status"]).stdout)));
            for arguments in [&["status"][..], &["status", "--json"]] {
                seen.run(platform, arguments);
            }
            for target in ["/status", "/metrics"] {
                seen.add(target, call(&follower.ready(), None, "GET", target, None).body);
            }
        }
    }
}

#[test]
fn no_secret_is_ever_said_or_stored() {
    let mut platform = platform();
    let seen = Seen::default();
    let mut canaries: Vec<(String, String)> = [
        ("environment", ENVIRONMENT),
        ("given", GIVEN),
        ("file", FILE),
        ("misfit", MISFIT),
        ("argument", ARGUMENT),
        ("in platform.yml", PLATFORM),
        ("in a body", SHORT_OF_JSON),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for machine in ["core-1", "core-2"] {
        canaries.push((format!("the key of {machine}"), platform.key_text(machine).to_owned()));
    }
    // Offline first: nothing is published, values are missing.
    seen.run(&platform, &["validate"]);
    seen.run(&platform, &["publish", "--yes"]);
    let file = platform.home.path().join("file.pem");
    fs::write(&file, format!("{FILE}\n")).unwrap();
    seen.run(&platform, &["secrets", "set", "FILE", "--file", file.to_str().unwrap()]);
    seen.run(&platform, &["secrets", "set", "GIVEN", "--env", "MY_GIVEN"]);
    seen.run(&platform, &["plan"]);
    platform.good(&["publish", "--yes"]);
    let all = token(&platform, "all", &["read", "edit", "publish", "secrets", "followers", "users"]);
    let revoked = token(&platform, "revoked", &["read"]);
    canaries.push(("a token".to_owned(), all.clone()));
    canaries.push(("a revoked token".to_owned(), revoked.clone()));
    canaries.extend(made(&platform));

    platform.start_leader();
    let limits = fs::read_to_string(format!("/proc/{}/limits", platform.leader().pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let follower = platform.follower("core-1");
    changed_by_hand(&seen, &platform, &follower);
    platform.platform_yml("settings: {V: one}\n");
    drive(&seen, &platform);
    seen.feed(&platform, &["secrets", "set", "GIVEN"], &format!("{GIVEN}\n"));
    seen.feed(&platform, &["secrets", "set", "GIVEN"], MISFIT);
    for name in ["MADE", "EACH"] {
        seen.run(&platform, &["secrets", "rotate", name, "--yes"]);
    }
    // The old ones stay hidden beside the new ones.
    canaries.extend(made(&platform));
    // Values where they don't belong, and files that are wrong.
    for wrong in [
        format!("settings: {{GIVEN: {PLATFORM}}}\n"),
        format!("settings:\n  V: one\n  GIVEN: {{a: [{PLATFORM}\n"),
        format!("settings: {{V: '${{GIVEN}}'}}\nmachines: {{core-1: {{GIVEN: {PLATFORM}}}}}\n"),
    ] {
        platform.platform_yml(&wrong);
        drive(&seen, &platform);
    }
    platform.platform_yml("settings: {V: two}\n");
    platform.template("core/app/conf/broken.json.hbs", "{\"a\": {{GIVEN}} {{MADE}}\n");
    drive(&seen, &platform);
    platform.template(
        "core/app/conf/broken.json.hbs",
        "{{#each GIVEN}}{{this}}{{/each}}{{env_quote FILE}}{{len GIVEN}}{{join MADE}}\n",
    );
    drive(&seen, &platform);
    fs::remove_file(platform.leader_root().join("templates/core/app/conf/broken.json.hbs")).unwrap();
    drive(&seen, &platform);

    let url = admin(&platform);
    platform.good(&["access", "revoke", "revoked"]);
    for token in [&revoked[..], &all[..all.len() - 1], &format!("{all}x"), &all.replace('_', "-")] {
        seen.call(&url, token, "GET", "/admin/plan", None);
    }
    let document: Value = serde_json::from_slice(&call(&url, None, "GET", "/openapi.json", None).body).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        // These are the signed rendered files themselves.
        if path.starts_with("/conf") {
            continue;
        }
        for method in item.as_object().unwrap().keys() {
            let verb = method.to_uppercase();
            let bodies = [
                None,
                Some(format!("{{\"value\": \"{SHORT_OF_JSON}\"")),
                Some(format!("\"{SHORT_OF_JSON}\"")),
                Some(format!("{{\"value\": {{\"{SHORT_OF_JSON}\": 1}}}}")),
                Some(format!("{{\"value\": \"{MISFIT}\"}}")),
                Some(format!("{{\"certificate\": \"x\", \"key\": \"{MISFIT}\"}}")),
                Some("{}".to_owned()),
            ];
            for name in ["GIVEN", "MADE", "1", "core-1"] {
                let target = path.replace("{name}", name).replace("{number}", "2").replace("{machine}", "core-1");
                let query =
                    "?machine=core-1&file=app/conf/all.conf&path=app/conf/all.conf&from=1&to=2&setting=V&limit=100";
                // What is sent where no secret belongs is the sender's; here only what comes back is looked at.
                let secret = path.starts_with("/admin/secrets") || path == "/admin/certificates";
                for body in bodies.iter().filter(|body| secret || body.as_deref().is_none_or(|body| body == "{}")) {
                    seen.call(&url, &all, &verb, &target, body.as_deref());
                    seen.call(&url, &all, &verb, &format!("{target}{query}"), body.as_deref());
                }
            }
        }
    }
    seen.add("the follower's log", follower.log());
    let (_, log) = follower.stop();
    seen.add("the follower's log at the end", log);
    canaries.extend(made(&platform));
    finish(&seen, &mut platform, canaries);
}

#[test]
fn a_template_gets_the_secrets_that_it_names() {
    let mut platform = platform();
    platform.env("LOCKSTEP_SECRET_GIVEN", GIVEN);
    platform.env("LOCKSTEP_SECRET_FILE", FILE);
    platform.template("core/app/conf/whole.hbs", "{{json this}}\n");
    platform.template("core/app/conf/named.hbs", "{{json this}}{{ENVIRONMENT}}\n");
    let out = platform.home.path().join("out");
    platform.good(&["render", "core", "--machine", "core-1", "--out", out.to_str().unwrap()]);
    let whole = fs::read_to_string(out.join("app/conf/whole")).unwrap();
    assert!(whole.contains("zero") && !whole.contains("anary"), "{whole}");
    let named = fs::read_to_string(out.join("app/conf/named")).unwrap();
    assert!(named.matches(ENVIRONMENT).count() == 2 && !named.contains("canary-Given"), "{named}");
}

fn finish(seen: &Seen, platform: &mut Platform, mut canaries: Vec<(String, String)>) {
    let state = platform.leader_root().join("state");
    // Also what the write-ahead log holds while the leader runs.
    for (name, bytes) in tree(&state) {
        if name == "store.key" {
            canaries.push(("store.key in hex".to_owned(), bytes.iter().map(|byte| format!("{byte:02x}")).collect()));
            canaries.push(("store.key in base64".to_owned(), STANDARD.encode(&bytes)));
        } else {
            seen.add(format!("state/{name} while it ran"), bytes);
        }
    }
    let running: Process = platform.take_leader();
    let (_, log) = running.stop();
    assert!(log.contains("INFO"), "{log}");
    seen.add("the leader's log", log);
    for (name, bytes) in tree(&state).into_iter().filter(|(name, _)| name != "store.key") {
        seen.add(format!("state/{name}"), bytes);
    }
    seen.search(&canaries);
}
