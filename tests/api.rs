//! People elsewhere: tokens and rights, the audit, and the document against the routes.

use crate::harness::{BINARY, Platform, text};
use lockstep_leader::audit::{Chained, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", text(&self.body)))
    }
}

/// A request to the admin listener.
pub(crate) fn call(url: &str, token: Option<&str>, method: &str, target: &str, body: Option<&str>) -> Answer {
    static CLIENT: OnceLock<(tokio::runtime::Runtime, reqwest::Client)> = OnceLock::new();
    let (runtime, client) = CLIENT.get_or_init(|| {
        let client = lockstep_edge::client::builder().tls_certs_only([]).build().unwrap();
        (tokio::runtime::Runtime::new().unwrap(), client)
    });
    runtime.block_on(async {
        let mut request = client.request(method.parse().unwrap(), format!("{url}{target}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    })
}

/// With a secret, a template that holds it, and an admin listener at a free port.
fn platform() -> Platform {
    let mut platform = Platform::new(&[("core-1", "core")]);
    platform.template(
        "settings.yml",
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      V: {default: zero}\n      KEY: {secret: {generate: {bytes: 16, encoding: hex}}}\n      \
         GIVEN: {optional: true, secret: true, schema: {type: string, maxLength: 20}}\n",
    );
    platform.template("core/app/conf/a.conf.hbs", "{{V}} {{KEY}}\n");
    platform.env("LOCKSTEP_ADMIN__PORT", "0");
    platform
}

/// The address of the admin listener, as the log says it.
pub(crate) fn admin(platform: &Platform) -> String {
    let log = || platform.leader().log();
    // What was logged before it was ready may be read after that.
    crate::harness::until("the admin listener", || log().contains("people with API tokens"), log);
    let log = log();
    let line = log.lines().find(|line| line.contains("people with API tokens")).expect("the admin listener");
    // Of both formats: url=http://..., and "url":"http://...".
    let address = line.split("url").nth(1).unwrap().trim_start_matches(['=', '"', ':']);
    address.split(['"', ' ']).next().unwrap().to_owned()
}

pub(crate) fn token(platform: &Platform, name: &str, rights: &[&str]) -> String {
    let mut arguments = vec!["access", "create", name];
    for right in rights {
        arguments.extend(["--right", right]);
    }
    platform.good(&arguments).trim().to_owned()
}

const ALL: [&str; 6] = ["read", "edit", "publish", "secrets", "followers", "users"];

#[test]
fn a_token_opens_what_its_rights_say_until_it_is_revoked() {
    let mut platform = platform();
    let reader = token(&platform, "reader", &["read"]);
    platform.start_leader();
    let url = admin(&platform);
    let get = |token: Option<&str>, target: &str| call(&url, token, "GET", target, None);
    for target in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(get(None, target).status, 200, "{target}");
    }
    let nobody = get(None, "/admin/plan");
    assert_eq!(
        (nobody.status, nobody.headers["www-authenticate"].to_str().unwrap()),
        (401, "Bearer realm=\"lockstep\"")
    );
    assert_eq!(nobody.headers["content-type"], "application/problem+json");
    assert_eq!(get(Some(&reader), "/admin/plan").status, 200);
    assert_eq!(get(Some(&reader), "/conf/core").status, 403, "rendered files hold secrets");
    assert_eq!(call(&url, Some(&reader), "POST", "/admin/publish", Some("{}")).status, 403);
    let admin = token(&platform, "admin", &["users", "read"]);
    let more = json!({"name": "more", "rights": ["secrets"]}).to_string();
    let answer = call(&url, Some(&admin), "POST", "/admin/access", Some(&more));
    assert_eq!(answer.status, 403, "nobody makes themselves more than they are");
    let slip = reader.replace(&reader[20..22], "zz");
    assert!(text(&get(Some(&slip), "/admin/plan").body).contains("not copied as a whole"));
    platform.good(&["access", "revoke", "reader"]);
    assert_eq!(get(Some(&reader), "/admin/plan").status, 401);
    // Wrong tokens are not tried without end; the right one isn't locked out.
    let statuses: BTreeSet<u16> = (0..70).map(|_| get(Some(&reader), "/admin/plan").status).collect();
    assert_eq!(statuses, BTreeSet::from([401, 429]));
    assert!(get(Some(&reader), "/admin/plan").headers.contains_key("retry-after"));
    assert_eq!(get(Some(&admin), "/admin/plan").status, 200);
    let records = platform.good(&["audit", "--json", "--limit", "1000"]);
    assert!(records.contains("bad-token") && records.lines().count() < 1500, "{records}");
    assert!(!records.contains(&reader) && !platform.leader().log().contains(&reader[9..]));
}

#[test]
fn the_command_works_from_elsewhere_with_a_token() {
    let mut platform = platform();
    let all = token(&platform, "boss", &ALL);
    platform.start_leader();
    let elsewhere = platform.home.path().join("elsewhere");
    let run = |arguments: &[&str], token: &str| -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--url", &admin(&platform), "--root"]).arg(&elsewhere).stdin(Stdio::null());
        command.env("LOCKSTEP_TOKEN", token).output().unwrap()
    };
    let status = run(&["status"], &all);
    assert!(status.status.success() && text(&status.stdout).contains("core-1"), "{}", text(&status.stderr));
    platform.platform_yml("settings: {V: one}\n");
    let published = run(&["publish", "--yes"], &all);
    assert!(text(&published.stdout).contains("published revision 2"), "{}", text(&published.stderr));
    assert!(text(&run(&["secrets", "list"], &all).stdout).contains("generated"));
    let refused = run(&["status"], "lockstep_nonsense");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not copied as a whole"), "{}", text(&refused.stderr));
    let own = run(&["validate"], &all);
    assert!(text(&own.stderr).contains("leave out --url"), "{}", text(&own.stderr));
    assert!(!elsewhere.exists(), "nothing is written here");
    let history = platform.good(&["history", "--json"]);
    assert!(history.contains("boss"), "{history}");
}

#[test]
fn the_audit_says_who_did_what_and_whether_it_is_whole() {
    let mut platform = platform();
    platform.good(&["publish", "--yes"]);
    platform.start_leader();
    platform.good(&["secrets", "rotate", "KEY", "--yes"]);
    assert!(platform.refused(&["secrets", "rotate", "GIVEN", "--yes"]).contains("lockstep secrets set GIVEN"));
    let evil = "x\n{\"number\":1}\u{1b}[2J";
    platform.run(&["access", "revoke", evil]);
    let records: Vec<Chained> = serde_json::from_str(&platform.good(&["audit", "--json"])).unwrap();
    let shown: Vec<(&str, Outcome)> = records
        .iter()
        .filter(|chained| chained.record.outcome != Outcome::Asked)
        .map(|chained| (chained.record.action.as_str(), chained.record.outcome))
        .collect();
    let expected = [
        ("publish", Outcome::Done),
        ("start", Outcome::Done),
        ("POST /admin/secrets/{name}/rotate", Outcome::Done),
        ("POST /admin/publish", Outcome::Done),
        ("POST /admin/secrets/{name}/rotate", Outcome::Refused),
        ("DELETE /admin/access/{name}", Outcome::Refused),
    ];
    assert_eq!(shown, expected);
    assert!(records[0].record.how.starts_with("offline, uid ") && records[3].record.how.starts_with("socket, uid "));
    let table = platform.good(&["audit"]);
    assert!(!table.contains('\u{1b}') && table.contains("\\u{1b}[2J"), "{table}");
    let whole = platform.good(&["audit", "--verify"]);
    let head = whole.trim().rsplit(' ').next().unwrap().to_owned();
    platform.good(&["audit", "--verify", "--known", &head]);
    platform.kill_leader();
    platform.good(&["audit", "--verify", "--known", &head]);
    let other = head.replace(&head[head.len() - 4..], "0000");
    assert!(
        platform.refused(&["audit", "--verify", "--known", &other]).contains("another one than the one that was noted")
    );
    let state = platform.leader_root().join("state/store.db");
    let store = rusqlite::Connection::open(state).unwrap();
    store.execute("UPDATE audit SET record = replace(record, 'socket', 'nobody') WHERE number = 4", []).unwrap();
    assert!(platform.refused(&["audit", "--verify"]).contains("record 4"));
}

#[test]
fn a_rotated_value_is_current_when_it_is_published_and_not_before() {
    let mut platform = platform();
    platform.start_leader();
    let file = || platform.good(&["show", "--machine", "core-1", "--file", "app/conf/a.conf", "--reveal"]);
    let before = file();
    // Nobody to ask: nothing is made.
    assert!(platform.refused(&["secrets", "rotate", "KEY"]).contains("--yes"));
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0));
    // A publication that is refused takes the next value with it.
    platform.template("core/app/conf/b.conf.hbs", "{{NOPE}}\n");
    let refused = platform.refused(&["secrets", "rotate", "KEY", "--yes"]);
    assert!(refused.contains("KEY stays as it is published"), "{refused}");
    fs::remove_file(platform.leader_root().join("templates/core/app/conf/b.conf.hbs")).unwrap();
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0));
    // What else waits to be published is said before it goes out.
    platform.template("core/app/conf/b.conf.hbs", "more\n");
    let output = platform.run(&["secrets", "rotate", "KEY", "--yes"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("KEY is not all that goes out"), "{said}");
    assert!(said.contains(": app/conf/b.conf"), "{said}");
    let printed = platform.good(&["secrets", "rotate", "KEY", "--yes"]);
    let after = file();
    assert!(before != after && printed.contains("only the value of a secret changes"), "{printed}");
    for held in [&before, &after] {
        assert!(!printed.contains(held.split(' ').nth(1).unwrap().trim()), "{printed}");
    }
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0), "what is served and what is kept agree");
    platform.kill_leader();
    assert_eq!(platform.run(&["plan"]).status.code(), Some(0));
}

#[test]
fn a_given_value_comes_from_input_and_never_from_an_argument() {
    let mut platform = platform();
    platform.start_leader();
    let error = platform.refused(&["secrets", "set", "GIVEN", "canary-argument"]);
    assert!(error.contains("can be read by every user") && !error.contains("canary"), "{error}");
    platform.env("MY_VALUE", "canary-much-too-long-for-its-schema");
    let error = platform.refused(&["secrets", "set", "GIVEN", "--env", "MY_VALUE"]);
    assert!(error.contains("GIVEN was not set") && !error.contains("canary"), "{error}");
    let file = platform.home.path().join("value");
    fs::write(&file, "fits\n").unwrap();
    platform.good(&["secrets", "set", "GIVEN", "--file", file.to_str().unwrap()]);
    assert!(platform.good(&["secrets", "list"]).contains("a next one waits"));
    platform.good(&["secrets", "discard", "GIVEN"]);
    assert!(!platform.good(&["secrets", "list"]).contains("waits"));
}

/// Every route that is documented answers as documented, also to what makes no sense.
/// What the document says that a good answer looks like, where it is JSON.
fn shape(document: &Value, answer: &Value) -> Option<jsonschema::Validator> {
    let mut schema = answer["content"]["application/json"]["schema"].clone();
    schema.as_object_mut()?.insert("components".to_owned(), document["components"].clone());
    Some(jsonschema::draft202012::new(&schema).unwrap())
}

#[test]
fn every_route_answers_as_the_document_says() {
    let mut platform = platform();
    platform.good(&["publish", "--yes"]);
    platform.good(&["settings", "set", "V", "one"]);
    platform.good(&["publish", "--yes"]);
    let tokens = [Some(token(&platform, "all", &ALL)), Some(token(&platform, "reader", &["read"])), None];
    platform.start_leader();
    let url = admin(&platform);
    let document = call(&url, None, "GET", "/openapi.json", None).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut names = BTreeSet::new();
    let (mut tried, mut read) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            let shape = shape(&document, &operation["responses"]["200"]);
            let documented: BTreeSet<&str> =
                operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
            for number in ["1", "9223372036854775808", "nothing", "%00", "..%2f..%2fetc"] {
                let mut target = String::new();
                for (index, piece) in path.split('{').enumerate() {
                    target += &match piece.split_once('}') {
                        Some((_, rest)) if index > 0 => format!("{number}{rest}"),
                        _ => piece.to_owned(),
                    };
                }
                for query in ["", "?to=1&from=1&limit=1", "?limit=x&to=x&from=-1&at=soon&known=1&wait=0s&after=-1"] {
                    for body in [None, Some("{}"), Some("["), Some("{\"name\": 5, \"value\": {}, \"to\": 1e400}")] {
                        for token in &tokens {
                            let verb = method.to_uppercase();
                            let answer = call(&url, token.as_deref(), &verb, &format!("{target}{query}"), body);
                            tried += 1;
                            let told =
                                format!("{verb} {target}{query} {body:?}: {} {}", answer.status, text(&answer.body));
                            assert!(documented.contains(answer.status.to_string().as_str()), "{told}");
                            assert_ne!(answer.status, 500, "{told}");
                            if let Some(shape) = shape.as_ref().filter(|_| answer.status == 200) {
                                let wrong: Vec<String> =
                                    shape.iter_errors(&answer.json()).map(|error| error.to_string()).collect();
                                assert!(wrong.is_empty(), "{wrong:?}: {told}");
                                read += 1;
                            }
                            if answer.status >= 400 {
                                assert_eq!(answer.headers["content-type"], "application/problem+json", "{told}");
                                assert_eq!(answer.json()["status"], answer.status, "{told}");
                            }
                        }
                    }
                }
            }
            let others = ["GET", "POST", "PUT", "DELETE", "PATCH"];
            let unknown = others.iter().find(|verb| item.get(verb.to_lowercase()).is_none()).unwrap();
            let target = path.replace(['{', '}'], "");
            let answer = call(&url, tokens[0].as_deref(), unknown, &target, None);
            assert!(
                answer.status == 405 && answer.headers.contains_key("allow"),
                "{unknown} {target}: {}",
                answer.status
            );
        }
    }
    assert!(tried > 1000 && read > 100, "{tried} {read}");
    assert_eq!(call(&url, tokens[0].as_deref(), "GET", "/admin/nothing", None).status, 404);
    // Routes are added with their description, or not at all.
    let routes = include_str!("../leader/src/http/admin/mod.rs");
    assert!(!routes.contains(".route(") && !routes.contains(".nest("));
}

#[test]
fn the_stores_key_goes_under_a_passphrase_and_back() {
    let mut platform = platform();
    platform.start_leader();
    let served =
        |platform: &Platform| platform.good(&["show", "--machine", "core-1", "--file", "app/conf/a.conf", "--reveal"]);
    let before = served(&platform);
    platform.env("LOCKSTEP_STORE_PASSPHRASE", "canary horse battery staple");
    assert!(platform.refused(&["secrets", "lock"]).contains("in use by another leader"));
    platform.kill_leader();
    platform.good(&["secrets", "lock"]);
    assert!(platform.refused(&["secrets", "lock"]).contains("already"));
    assert_eq!(served(&platform), before);
    platform.env("LOCKSTEP_STORE_PASSPHRASE", "another one altogether");
    let told = platform.refused(&["secrets", "list"]);
    assert!(told.contains("is not the passphrase") && !told.contains("another one"), "{told}");
    platform.env("LOCKSTEP_STORE_PASSPHRASE", "");
    assert!(platform.refused(&["leader"]).contains("set LOCKSTEP_STORE_PASSPHRASE"));
    platform.env("LOCKSTEP_STORE_PASSPHRASE", "canary horse battery staple");
    platform.start_leader();
    assert_eq!(served(&platform), before);
    platform.kill_leader();
    platform.good(&["secrets", "unlock"]);
    platform.env("LOCKSTEP_STORE_PASSPHRASE", "");
    assert_eq!(served(&platform), before);
}

#[test]
fn an_open_admin_listener_is_refused() {
    let mut platform = platform();
    platform.env("LOCKSTEP_ADMIN__IP", "0.0.0.0");
    let error = platform.refused(&["leader"]);
    assert!(error.contains("behindProxy"), "{error}");
}
