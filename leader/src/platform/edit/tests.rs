use super::*;
use crate::yaml::layout::past_break;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn node(text: &str) -> Node {
    yaml::parse("value", &format!("x: {text}\n")).unwrap().get("x").unwrap().clone()
}

fn after(text: &str, edit: impl FnOnce(&mut Draft) -> Result<(), Fault>) -> String {
    let mut draft = Draft::new("platform.yml", text).unwrap();
    edit(&mut draft).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    draft.text
}

fn set(text: &str, name: &str, value: &str) -> String {
    after(text, |draft| draft.set(&["settings", name], &node(value)))
}

fn unset(text: &str, name: &str) -> String {
    after(text, |draft| draft.remove(&["settings", name]))
}

#[test]
fn one_value_and_nothing_else() {
    for (text, name, value, wanted) in [
        ("settings:\n  A: 1 # why\n  B: 2\n", "A", "30", "settings:\n  A: 30 # why\n  B: 2\n"),
        ("settings:\n  A:    1\n", "A", "x", "settings:\n  A:    x\n"),
        ("settings:\n  A: 'x'  # c\n", "A", "y", "settings:\n  A: 'y'  # c\n"),
        ("settings:\n  A: \"x\"\n", "A", "\"it's\"", "settings:\n  A: \"it's\"\n"),
        ("settings:\n  A: 'x'\n", "A", "5", "settings:\n  A: 5\n"),
        ("settings: # c\n", "A", "1", "settings: # c\n  A: 1\n"),
        ("settings: {} # c\n", "A", "1", "settings: # c\n  A: 1\n"),
        ("settings: ~\n", "A", "1", "settings:\n  A: 1\n"),
        ("settings: {B: 1}\n", "A", "[1, x]", "settings: {B: 1, A: [1, x]}\n"),
        ("", "A", "1", "settings:\n  A: 1\n"),
        ("# only", "A", "1", "# only\nsettings:\n  A: 1"),
        ("---\n", "A", "1", "---\nsettings:\n  A: 1\n"),
        ("{}\n", "A", "1", "settings:\n  A: 1\n"),
        ("\u{feff}", "A", "1", "\u{feff}settings:\n  A: 1\n"),
        ("machines: {}\n", "A", "1", "machines: {}\nsettings:\n  A: 1\n"),
        ("settings:\n    B: 1", "A", "1", "settings:\n    B: 1\n    A: 1"),
        ("settings:\n  B: 1\n\n# end\n", "A", "1", "settings:\n  B: 1\n  A: 1\n\n# end\n"),
        ("settings:\r\n  B: 1\r\n", "A", "\"a\\nb\\n\"", "settings:\r\n  B: 1\r\n  A: |\r\n    a\r\n    b\r\n"),
        ("settings:\n  A: |- # c\n    x\n    y\n  # B\n  B: 1\n", "A", "z", "settings:\n  A: z # c\n  # B\n  B: 1\n"),
        ("settings:\n  A: old # c\n  B: 1\n", "A", "[a, {b: 1}]", "settings:\n  A: # c\n    - a\n    - b: 1\n  B: 1\n"),
        (
            "settings:\n  A: # c\n  - a\n  - b # gone\n  # stays\n  B: 1\n",
            "A",
            "x",
            "settings:\n  A: x # c\n  # stays\n  B: 1\n",
        ),
        ("settings:\n  A:\n  - a\n  - b\n", "A", "[c]", "settings:\n  A:\n  - c\n"),
        ("settings:\n  A: [1, 2]\n", "A", "[3]", "settings:\n  A: [3]\n"),
        ("settings:\n  A:\n    value # c\n", "A", "other", "settings:\n  A:\n    other # c\n"),
        ("settings:\n  A:\n    value # c\n  B: 1\n", "A", "[1]", "settings:\n  A:\n    - 1\n  B: 1\n"),
        (
            "settings:\n  A:\n    x: 1 # one\n    y: 2 # two\n",
            "A",
            "{x: 1, y: 3, z: 4}",
            "settings:\n  A:\n    x: 1 # one\n    y: 3 # two\n    z: 4\n",
        ),
        ("settings:\n  A: |+\n    x\n\n\n  B: 1\n", "C", "1", "settings:\n  A: |+\n    x\n\n\n  B: 1\n  C: 1\n"),
        ("settings:\n  A: |+\n    x\n\n\n", "C", "1", "settings:\n  A: |+\n    x\n\n\n  C: 1\n"),
        ("settings:\n  \"A\" : 1\n", "A", "2", "settings:\n  \"A\" : 2\n"),
        ("settings:\n  A: !!str 5 # c\n", "A", "6", "settings:\n  A: 6 # c\n"),
    ] {
        assert_eq!(set(text, name, value), wanted, "{text}");
    }
}

#[test]
fn removing_takes_the_lines_and_leaves_the_rest() {
    for (text, name, wanted) in [
        ("settings:\n  # about A\n  A: 1 # c\n  B: 2\n", "A", "settings:\n  # about A\n  B: 2\n"),
        ("settings:\n  A: 1\n", "A", "settings:\n"),
        ("settings:\n  B: 1\n  A: 1", "A", "settings:\n  B: 1"),
        ("settings:\n  A:\n  - 1\n  - |\n    x\n\n  B: 1\n", "A", "settings:\n\n  B: 1\n"),
        ("settings: {A: 1, B: 2, C: 3}\n", "A", "settings: {B: 2, C: 3}\n"),
        ("settings: {A: 1, B: 2, C: 3}\n", "C", "settings: {A: 1, B: 2}\n"),
        ("settings: { A: 1, }\n", "A", "settings: {  }\n"),
        ("settings:\n  B: 1\n", "A", "settings:\n  B: 1\n"),
    ] {
        assert_eq!(unset(text, name), wanted, "{text}");
    }
}

#[test]
fn machines_are_made_where_they_are_missing() {
    let path = ["machines", "core-2", "A"];
    let one = after("settings:\n    A: 1\n", |draft| draft.set(&path, &node("2")));
    assert_eq!(one, "settings:\n    A: 1\nmachines:\n    core-2:\n      A: 2\n");
    let flow = after("machines: {core-1: {A: 1}}\n", |draft| draft.set(&path, &node("{x: [1]}")));
    assert_eq!(flow, "machines: {core-1: {A: 1}, core-2: {A: {x: [1]}}}\n");
    let renamed = after("settings:\n  A: 1 # c\n", |draft| draft.rename(&["settings", "A"], "B_2"));
    assert_eq!(renamed, "settings:\n  B_2: 1 # c\n");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for text in [
        "settings:\n  A: &a 1\n  B: *a\n",
        "settings: &s\n  A: 1\nmachines:\n  core-2: *s\n",
        "settings:\n  ? A\n  : 1\n",
        "defaults: &d {A: 1}\nsettings: *d\n",
    ] {
        let mut draft = Draft::new("platform.yml", text).unwrap();
        let fault = draft.set(&["settings", "A"], &node("2")).unwrap_err();
        assert!(fault.what.contains("by hand"), "{fault}");
        assert_eq!(draft.text(), text);
    }
}

/// An entry's value in some spelling, with `I` for the indentation of its lines.
const SPELLINGS: &[&str] = &[
    " 1",
    " plain text # comment",
    "   'single'",
    " \"dou\\\"ble\"   # c",
    " ''",
    "",
    " # only a comment",
    " ~",
    " [a, 'b', {c: 1}]",
    " [a,\nI  b # in\nI ] # c",
    " {a: 1, b: [x, y]}",
    " {}",
    " several\nI  lines # c",
    " |\nI  literal\nI    deeper\nI  # text",
    " >-  # head\nI  folded\n\nI  more\n",
    " |+\nI  kept\n\n",
    " |2-\nI    text",
    "\nI  - a\nI  - b # c\n\nI  # inside\nI  - c: 1\nI    d: |-\nI      e",
    "\nI- a\nI-\nI- - b",
    " # head\nI  a: 1\nI  b:\nI    c: x # c\nI  d:",
    "\nI   below # c",
    " https://${B}/x#y",
    " 1.10",
    " 'it''s # no comment'",
    " \"a\\\n  I  b\"",
];

const VALUES: &[&str] = &[
    "1",
    "1.10",
    "x",
    "'a: b'",
    "' #'",
    "~",
    "'~'",
    "'yes'",
    "'010'",
    "\"a\\nb\"",
    "\"a\\n\\nb\\n\"",
    "\" x\\n\"",
    "''",
    "\"\\t\\u0007é\"",
    "[]",
    "{}",
    "[a, [b, {c: d}], '1']",
    "{a: 1, b: {c: [x, 'y,z']}}",
    "'${A}-x'",
    "'- x'",
    "'{x'",
    "\"\\r\\n\"",
    "'ünï'",
    "[\"a\\nb\", {k: \"x\\ny\\n\"}]",
    "'---'",
    "'? x'",
];

#[derive(Debug, Clone)]
struct Document {
    text: String,
    names: Vec<(Vec<String>, String)>,
}

fn document() -> impl Strategy<Value = Document> {
    let value = || select(SPELLINGS);
    let between = || select(vec!["", "", "", "\n", "I# comment\n", "\n# at the margin\n", "   \n"]);
    let entries = prop::collection::vec((between(), value()), 0..7);
    let machines = prop::collection::vec(prop::collection::vec((between(), value()), 1..3), 0..3);
    (entries, machines, 1..5_usize, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(entries, machines, step, bom, windows, last, machines_first)| {
            let mut names = Vec::new();
            let mut settings = "settings:  # what differs\n".to_owned();
            let lines = |text: &mut String, indent: usize, entries: &[(&str, &str)]| {
                for (number, (before, value)) in entries.iter().enumerate() {
                    let indent = " ".repeat(indent);
                    let value = value.replace('I', &indent);
                    text.push_str(&before.replace('I', &indent));
                    text.push_str(&format!("{indent}S{number}:{value}\n"));
                }
            };
            lines(&mut settings, step, &entries);
            names.extend((0..entries.len()).map(|n| (vec!["settings".to_owned()], format!("S{n}"))));
            let mut overrides = "# overrides\nmachines:\n".to_owned();
            for (number, entries) in machines.iter().enumerate() {
                overrides.push_str(&format!("{}core-{number}: # c\n", " ".repeat(step)));
                lines(&mut overrides, step * 2, entries);
                let path = vec!["machines".to_owned(), format!("core-{number}")];
                names.extend((0..entries.len()).map(|n| (path.clone(), format!("S{n}"))));
            }
            let mut text = if machines_first { overrides + &settings } else { settings + &overrides };
            if !last {
                text = text.trim_end_matches('\n').to_owned();
            }
            if windows {
                text = text.replace('\n', "\r\n");
            }
            if bom {
                text.insert(0, '\u{feff}');
            }
            Document { text, names }
        },
    )
}

/// Whether `new` is `old` with only bytes from `from` to `to` replaced.
fn only_within(old: &str, new: &str, from: usize, to: usize) -> bool {
    new.len() >= from + (old.len() - to) && new.starts_with(&old[..from]) && new.ends_with(&old[to..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_edits_touch_their_entry_and_nothing_else(document in document(), which in any::<Index>(), value in select(VALUES), kind in 0..4) {
        let Ok(mut draft) = Draft::new("platform.yml", &document.text) else { return Ok(()) };
        let old = document.text.as_str();
        let new = node(value);
        if kind == 0 || document.names.is_empty() {
            draft.set(&["settings", "FRESH"], &new).map_err(|f| TestCaseError::fail(f.to_string()))?;
            let added = draft.text().to_owned();
            prop_assert!(added.len() > old.len());
            let set = Draft::new("platform.yml", &added).unwrap().get(&["settings", "FRESH"]).unwrap();
            prop_assert!(set.same(&new));
            draft.remove(&["settings", "FRESH"]).map_err(|f| TestCaseError::fail(f.to_string()))?;
            prop_assert_eq!(draft.text(), old);
            return Ok(());
        }
        let (above, name) = which.get(&document.names);
        let path: Vec<&str> = above.iter().map(String::as_str).chain([name.as_str()]).collect();
        let parent = draft.place(&path[..path.len() - 1]).unwrap();
        let entry = parent.entry(name).unwrap();
        let from = line_start(old, entry.key.start);
        let stop = line_end(old, entry.value.end.max(entry.colon.unwrap()));
        let to = past_break(old, stop);
        match kind {
            1 => {
                draft.remove(&path).map_err(|f| TestCaseError::fail(f.to_string()))?;
                let before = old[..from].trim_end_matches(['\r', '\n']).len();
                let from = if to == stop { before } else { from };
                // Blank lines after it go too where a text before it would take them in.
                let blank = old[to..].len() - old[to..].trim_start().len();
                let blank = old[to..to + blank].rfind(['\n', '\r']).map_or(0, |at| at + 1);
                let exact = only_within(old, draft.text(), from, to);
                prop_assert!(exact || (old.contains("|+") && only_within(old, draft.text(), from, to + blank)), "{:?}\n{:?}", old, draft.text());
                prop_assert!(draft.get(&path).is_none());
            }
            2 => {
                draft.rename(&path, "OTHER").map_err(|f| TestCaseError::fail(f.to_string()))?;
                prop_assert!(only_within(old, draft.text(), entry.key.start, entry.key.end));
            }
            _ => {
                draft.set(&path, &new).map_err(|f| TestCaseError::fail(f.to_string()))?;
                prop_assert!(only_within(old, draft.text(), entry.key.end, stop), "{:?}\n{:?}", old, draft.text());
                prop_assert!(draft.get(&path).unwrap().same(&new));
            }
        }
    }

    #[test]
    fn any_text_is_edited_or_refused(text in "[ab:#'\"|>&*{}\\[\\],\n\r -]{0,40}", value in select(VALUES)) {
        let Ok(mut draft) = Draft::new("platform.yml", &text) else { return Ok(()) };
        if draft.set(&["settings", "A"], &node(value)).is_ok() {
            prop_assert!(draft.get(&["settings", "A"]).unwrap().same(&node(value)));
            let _ = draft.remove(&["settings", "A"]);
        }
        let _ = draft.set(&["a"], &node(value));
        let _ = draft.rename(&["b"], "c");
        let _ = draft.remove(&["a"]);
    }
}
