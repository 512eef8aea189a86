//! A platform file of the size of real ones, edited setting by setting: every
//! other byte stays. What may change is found here by the lines' looks, not by
//! the program's own reading of the file.

use crate::harness::{Platform, write};
use lockstep_leader::config::Config;
use lockstep_leader::desk::{Desk, Wish};
use serde_json::{Value, json};
use std::fs;

const FILE: &str = include_str!("fixtures/platform.yml");

fn platform(text: &str) -> (Platform, Desk, Vec<String>) {
    let platform = Platform::new(&[("core-1", "core"), ("core-3", "core")]);
    let names: Vec<String> = FILE
        .lines()
        .filter(|line| line.starts_with("  ") && line.as_bytes()[2].is_ascii_uppercase())
        .map(|line| line.trim().split(':').next().unwrap().to_owned())
        .collect();
    assert!(names.len() >= 60 && FILE.lines().count() >= 400, "{} {}", names.len(), FILE.lines().count());
    let list: String =
        names.iter().map(|name| format!("      {name}: {{optional: true, overridable: true}}\n")).collect();
    platform.template("settings.yml", format!("release: 1.0.0\ngroups:\n  G:\n    settings:\n{list}"));
    write(&platform.leader_root().join("platform.yml"), text);
    let desk = Desk::new(Config::load(&platform.leader_root(), []).unwrap());
    (platform, desk, names)
}

/// What comes before a setting's lines, those lines, and what comes after.
fn cut<'t>(text: &'t str, name: &str, newline: &str) -> (&'t str, &'t str, &'t str) {
    let start = text.find(&format!("{newline}  {name}:")).unwrap() + newline.len();
    let mut end = start;
    let mut last = start;
    for (number, line) in text[start..].split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let dash = bare.starts_with("  - ");
        if number > 0 && !bare.is_empty() && !bare.starts_with("    ") && !dash {
            break;
        }
        end += line.len();
        if !bare.is_empty() {
            last = end;
        }
    }
    (&text[..start], &text[start..last], &text[last..])
}

#[test]
fn setting_by_setting_every_other_byte_stays() {
    let values = [
        json!("1.10"),
        json!("it's: \"x\" # y"),
        json!("a\nb\n"),
        json!(["a", "1.10", {"b": [1, "two"]}]),
        json!({"a": {"b": 1}, "c": []}),
        json!(5),
        json!(""),
    ];
    for (text, newline) in [(FILE.to_owned(), "\n"), (FILE.replace('\n', "\r\n"), "\r\n")] {
        let (platform, desk, names) = platform(&text);
        let path = platform.leader_root().join("platform.yml");
        let read = || fs::read_to_string(&path).unwrap();
        let mut wrong = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let now = read();
            let (before, own, after) = cut(&now, name, newline);
            let value = &values[number % values.len()];
            desk.edit(name, None, &Wish::Json(value.clone()), None, None)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let edited = read();
            let (new_before, new_own, new_after) = cut(&edited, name, newline);
            if (before, after) != (new_before, new_after) {
                wrong.push(name.clone());
            }
            // A comment beside the name stays beside it.
            let comment = own.lines().next().unwrap().split_once("  # ").map(|(_, comment)| comment.trim_end());
            if let Some(comment) = comment {
                assert!(new_own.lines().next().unwrap().ends_with(comment), "{name}: {new_own}");
            }
            let state = desk.get(name, None).unwrap();
            assert_eq!(state.written.as_ref(), Some(value), "{name}: {new_own}");
        }
        assert_eq!(wrong, Vec::<String>::new());
        // Taken out one by one, what is left are the comments and the machines.
        for name in &names {
            let now = read();
            let (before, _, after) = cut(&now, name, newline);
            let kept = [before, after].concat();
            desk.edit(name, None, &Wish::Unset, None, None).unwrap();
            assert_eq!(read(), kept, "{name}");
        }
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert!(comments(&read()) > 150);
        assert!(read().ends_with("# end of file, and no newline after it   "));
    }
}

#[test]
fn machines_in_lines_and_in_braces() {
    let (platform, desk, _) = platform(FILE);
    let read = || fs::read_to_string(platform.leader_root().join("platform.yml")).unwrap();
    let set = |machine: &str, name: &str, words: &str| {
        desk.edit(name, Some(machine), &Wish::Words(words.to_owned()), None, None).unwrap();
    };
    set("core-1", "MONGO_CACHE_GB", "8");
    set("core-1", "LOG_LEVEL", "info");
    set("core-3", "REPLICAS", "2");
    let wanted = FILE
        .replace("    MONGO_CACHE_GB: 6\n", "    MONGO_CACHE_GB: 8\n")
        .replace("LOG_LEVEL: 'debug'   #", "LOG_LEVEL: 'info'   #")
        .replace("REPLICAS: 1}", "REPLICAS: 2}");
    assert_eq!(read(), wanted);
    let values: Vec<Option<Value>> =
        desk.on_machines("MONGO_CACHE_GB").unwrap().into_iter().map(|value| value.value).collect();
    assert_eq!(Value::from(values).to_string(), "[8,0.5]");
}
