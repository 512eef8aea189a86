//! Odd platforms, made at random, imported, and compared byte for byte with a
//! model of the original that runs in Node: lockstep's own model of it is not
//! asked.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test: what it lays out need not be durable")]

use lockstep_pryv::{Answers, Draft, Old, Root};
use lockstep_shared::Name;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Names of which some are within others, and odd ones.
const NAMES: [&str; 16] = [
    "DOMAIN",
    "DOMAIN_NAME",
    "SUBDOMAIN",
    "IP",
    "IP_2",
    "X-Y",
    "A.B",
    "Größe",
    "k$y",
    "back\\slash",
    "br{ace",
    "quo\"te",
    "json",
    "this",
    "1ST",
    "KEY",
];

/// What values and templates are made of.
const PIECES: [&str; 36] = [
    "",
    " ",
    "\n",
    "\r\n",
    "\u{feff}",
    "$",
    "$$",
    "$&",
    "$1",
    "$`",
    "${",
    "${OTHER}",
    "}",
    "{",
    "{{",
    "}}",
    "{{{",
    "{{!x}}",
    "{{#if",
    "\\",
    "\\\\",
    "\"",
    "'",
    "#",
    ": ",
    "- ",
    "äöü",
    "\u{1f511}",
    "\t",
    "\u{7f}",
    "\u{2028}",
    "null",
    "0",
    "text",
    "~",
    "\u{1}",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
        3 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9_ ]{1,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..8).prop_map(|pieces| pieces.concat())
}

/// JSON texts: their spelling counts.
fn value(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => prop::sample::select(names).prop_map(str::to_owned),
        4 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
    ];
    let text = prop::collection::vec(piece, 0..5).prop_map(|pieces| Value::String(pieces.concat()).to_string());
    let number = prop::sample::select(vec![
        "0",
        "-0",
        "1.50",
        "20",
        "9007199254740993",
        "123456789012345678901234567890",
        "1e21",
        "1E-7",
        "0.000001",
        "-1.25e-9",
        "1e400",
    ]);
    let leaf = prop_oneof![
        text.boxed(),
        number.prop_map(str::to_owned).boxed(),
        prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned).boxed(),
    ];
    leaf.prop_recursive(4, 12, 4, move |inner| {
        let key = prop::sample::select(vec!["value", "b", "10", "2", "a b", names[0], "", "ä\"", "__x__"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key, inner), 0..4).prop_map(|mut entries| {
                entries.sort_by(|a, b| b.0.cmp(a.0));
                entries.dedup_by(|a, b| a.0 == b.0);
                let entries =
                    entries.into_iter().map(|(key, value)| format!("{}:{value}", Value::String(key.to_owned())));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

#[derive(Debug, Clone)]
struct Odd {
    settings: Vec<(String, String)>,
    internals: Vec<(String, String)>,
    texts: Vec<String>,
}

/// A name's value names only those that come after it: no circles.
fn odd() -> impl Strategy<Value = Odd> {
    let values: Vec<_> = (0..NAMES.len()).map(|at| value(after(at)).boxed()).collect();
    let places = prop::collection::vec(0u8..4, NAMES.len());
    (values, places, prop::collection::vec(text(), 1..9)).prop_map(|(values, places, texts)| {
        let mut odd = Odd { settings: Vec::new(), internals: Vec::new(), texts };
        for ((name, value), place) in NAMES.iter().zip(values).zip(places) {
            let entry = ((*name).to_owned(), value);
            match place {
                0 => odd.internals.push(entry),
                1 => {
                    odd.internals.push((entry.0.clone(), "\"overridden\"".to_owned()));
                    odd.settings.push(entry);
                }
                _ => odd.settings.push(entry),
            }
        }
        odd
    })
}

/// Names that a value may take in without ever coming back to its own: of
/// those after it, all that no other name before it is part of.
fn after(at: usize) -> &'static [&'static str] {
    // DOMAIN_NAME and SUBDOMAIN hold DOMAIN: only names that hold none of the earlier ones.
    match at {
        0..=2 => &NAMES[3..],
        3..=4 => &NAMES[5..],
        _ if at + 1 < NAMES.len() => &NAMES[at + 1..],
        _ => &["nothing"],
    }
}

/// Also texts that are not what their extension says.
fn name(number: usize) -> String {
    let extensions = ["conf", "json", "yml", "toml", "hbs", "js"];
    format!("f{number}.{}", extensions[number % extensions.len()])
}

fn lay_out(odd: &Odd, folder: &Path) {
    let conf = folder.join("config-leader/conf");
    fs::create_dir_all(&conf).unwrap();
    let raw = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let internals: Map<String, Value> = odd.internals.iter().map(|(name, value)| (name.clone(), raw(value))).collect();
    let config = json!({"internals": internals, "followers": {"old-key": {"role": "core", "url": "http://x:1"}}});
    fs::write(conf.join("config-leader.json"), config.to_string()).unwrap();
    // JSON is YAML.
    let settings: Vec<String> = odd
        .settings
        .iter()
        .map(|(name, value)| format!("{}: {{\"value\": {value}}}", Value::String(name.clone())))
        .collect();
    fs::write(conf.join("platform.yml"), format!("vars:\n  G: {{\"settings\": {{{}}}}}\n", settings.join(", ")))
        .unwrap();
    let role = folder.join("config-leader/data/core/app/conf");
    fs::create_dir_all(&role).unwrap();
    for (number, text) in odd.texts.iter().enumerate() {
        fs::write(role.join(name(number)), text).unwrap();
    }
}

fn original(odd: &Odd) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/original.js");
    let mut node = Command::new("node").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = json!({"settings": odd.settings, "internals": odd.internals, "texts": odd.texts});
    node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn imported(odd: &Odd) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (old, root) = (folder.path().join("old"), folder.path().join("new"));
    lay_out(odd, &old);
    let read = Old::read(&old).unwrap();
    read.questions().unwrap();
    let draft = Draft::of(&read, &Answers::default()).unwrap();
    lockstep_pryv::refuse(&old, &root).unwrap();
    lockstep_pryv::write(&draft, &root).unwrap();
    let bundles = Root::open(&root).unwrap().render(&Name::new("core").unwrap()).unwrap();
    let bundle = bundles.into_values().next().unwrap();
    (0..odd.texts.len())
        .map(|number| bundle.file(&format!("app/conf/{}", name(number))).unwrap().content.to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_platforms_keep_their_bytes(odd in odd()) {
        let original = original(&odd);
        for (number, (expected, found)) in original.iter().zip(imported(&odd)).enumerate() {
            prop_assert_eq!(expected.as_bytes(), &found[..], "text {}: {:?}", number, odd.texts[number]);
        }
    }
}
