//! The source lines under a fault, with a caret under its column. A value that
//! stands under a secret's name is never shown.

use crate::fault::Fault;
use crate::platform::Settings;
use crate::platform::schema;
use crate::source::PLATFORM;
use crate::yaml::layout::{Part, layout, line_end, past_break};
use crate::yaml::{self, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What stands for a secret's value.
const MASK: &str = "••••••••";
/// The most characters of a line that are shown.
const WIDTH: usize = 100;

/// Gives every fault with a place its snippet, and puts them in the order of
/// the files: `platform.yml` first, then by name, line and column.
pub fn show(faults: &mut [Fault], text_of: impl Fn(&str) -> Option<String>, settings: &Settings) {
    let mut pages: BTreeMap<String, Option<Page>> = BTreeMap::new();
    for fault in faults.iter_mut().filter(|fault| fault.snippet.is_none()) {
        let Some(line) = fault.line else { continue };
        let page = pages
            .entry(fault.file.clone())
            .or_insert_with(|| Some(Page::new(&fault.file, text_of(&fault.file)?, settings)));
        fault.snippet = page.as_ref().and_then(|page| page.snippet(line, fault.column.unwrap_or(1)));
    }
    faults.sort_by(|a, b| {
        let rank = |fault: &Fault| (fault.file != PLATFORM, fault.file != schema::FILE);
        let place = |fault: &Fault| (fault.line.unwrap_or(usize::MAX), fault.column.unwrap_or(usize::MAX));
        rank(a).cmp(&rank(b)).then_with(|| a.file.cmp(&b.file)).then_with(|| place(a).cmp(&place(b)))
    });
}

/// A platform file's text without the values that are not to be shown.
pub fn masked(text: &str, settings: &Settings) -> String {
    let mut hidden = Vec::new();
    if let Ok(Some(root)) = layout(PLATFORM, text) {
        hide(&root, settings, &mut hidden);
    }
    hidden.sort_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for range in hidden.into_iter().filter(|range| !range.is_empty()) {
        out.push_str(&text[at..range.start]);
        out.push_str(MASK);
        at = range.end;
    }
    out + &text[at..]
}

/// The values that are not to be shown, for where they stand under other names, too.
pub fn secret_values(text: &str, settings: &Settings) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    if let Ok(root) = yaml::parse(PLATFORM, text) {
        gather(&root, false, settings, &mut values);
    }
    values
}

fn gather(node: &Node, hidden: bool, settings: &Settings, values: &mut BTreeSet<String>) {
    for (key, value) in node.map().unwrap_or_default() {
        gather(value, hidden || is_hidden(&key.text, settings), settings, values);
    }
    for item in node.list().unwrap_or_default() {
        gather(item, hidden, settings, values);
    }
    values.extend(node.text().filter(|_| hidden).map(str::to_owned));
}

/// Whether what stands under this name is a secret's value, or likely is.
fn is_hidden(name: &str, settings: &Settings) -> bool {
    !matches!(name, "settings" | "machines") && settings.hides(name)
}

/// A file's text and what of it is not to be shown.
struct Page {
    text: String,
    hidden: Vec<Range<usize>>,
    /// From here on nobody can say what is a secret's value.
    unsure: usize,
}

impl Page {
    fn new(file: &str, text: String, settings: &Settings) -> Self {
        let mut page = Self { hidden: Vec::new(), unsure: usize::MAX, text };
        if file != PLATFORM && file != schema::FILE {
            return page;
        }
        match layout(file, &page.text) {
            Ok(Some(root)) if file == PLATFORM => hide(&root, settings, &mut page.hidden),
            Ok(Some(root)) => hide_defaults(&root, &mut page.hidden),
            Ok(None) => {}
            Err(_) => page.unsure = first_secret(&page.text, file, settings),
        }
        page
    }

    fn snippet(&self, line: usize, column: usize) -> Option<String> {
        let mut start = 0;
        for _ in 1..line {
            let end = line_end(&self.text, start);
            start = past_break(&self.text, end);
            if start == end {
                return None;
            }
        }
        let end = line_end(&self.text, start);
        if end > self.unsure || self.text[start..end].trim().is_empty() {
            return None;
        }
        let mut shown: Vec<char> = Vec::new();
        let mut caret = None;
        for (number, (at, char)) in
            self.text[start..end].char_indices().filter(|(_, char)| *char != '\u{feff}').enumerate()
        {
            if number + 1 == column {
                caret = Some(shown.len());
            }
            let hidden = self.hidden.iter().find(|range| range.contains(&(start + at)));
            match hidden {
                Some(range) if range.start == start + at || at == 0 => shown.extend(MASK.chars()),
                Some(_) => {}
                None if char == '\t' => shown.push(' '),
                None if char.is_control() => shown.push('\u{fffd}'),
                None => shown.push(char),
            }
        }
        let caret = caret.unwrap_or(shown.len());
        let from = (caret + 20).saturating_sub(WIDTH);
        let mut part: String = shown.iter().skip(from).take(WIDTH).collect();
        if from > 0 {
            part = format!("…{}", part.chars().skip(1).collect::<String>());
        }
        if shown.len() > from + WIDTH {
            part.push('…');
        }
        let number = line.to_string();
        let gap = " ".repeat(number.len());
        Some(format!("{number} | {}\n{gap} | {}^", part.trim_end(), " ".repeat(caret - from)))
    }
}

/// The values under secrets' names, and under names that are most likely misspelt ones.
fn hide(part: &Part, settings: &Settings, hidden: &mut Vec<Range<usize>>) {
    for entry in &part.entries {
        if is_hidden(&entry.name, settings) {
            hidden.push(entry.value.start..entry.value.end);
        } else {
            hide(&entry.value, settings, hidden);
        }
    }
}

/// Of a secret that has a default, which it may not have, that default.
fn hide_defaults(part: &Part, hidden: &mut Vec<Range<usize>>) {
    if part.entry("secret").is_some()
        && let Some(default) = part.entry("default")
    {
        hidden.push(default.value.start..default.value.end);
    }
    for entry in &part.entries {
        hide_defaults(&entry.value, hidden);
    }
}

/// Where in a text that is no YAML the first name stands that could be a secret's.
fn first_secret(text: &str, file: &str, settings: &Settings) -> usize {
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut at = 0;
    for piece in text.split_inclusive(|char| !word(char)) {
        let name = piece.trim_end_matches(|char| !word(char));
        let secret = if file == PLATFORM { settings.hides(name) && !name.is_empty() } else { name == "secret" };
        if secret && !matches!(name, "settings" | "machines") {
            return at;
        }
        at += piece.len();
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str =
        "groups:\n  G:\n    settings:\n      SIZE: {schema: {type: integer}}\n      TOKEN: {secret: true}\n";

    fn shown(text: &str, at: (usize, usize)) -> String {
        let (settings, _) = schema::read(SETTINGS);
        let mut faults = [Fault::new(PLATFORM, "wrong").at(at)];
        show(&mut faults, |_| Some(text.to_owned()), &settings);
        faults[0].snippet.clone().unwrap_or_else(|| "none".to_owned())
    }

    #[test]
    fn a_caret_stands_under_the_column() {
        assert_eq!(shown("settings:\n\u{9}SIZE: ä\r\n", (2, 8)), "2 |  SIZE: ä\n  |        ^");
        assert_eq!(shown("\u{feff}SIZE: x", (1, 7)), "1 | SIZE: x\n  |       ^");
        assert_eq!(shown("a: 1\n", (9, 1)), "none");
        let long = format!("a: {}!{}", "x".repeat(300), "y".repeat(300));
        let told = shown(&long, (1, 304));
        let mut lines = told.lines();
        let column = lines.next_back().unwrap().find('^').unwrap();
        assert_eq!(lines.next().unwrap().chars().nth(column), Some('!'), "{told}");
        assert!(told.chars().count() < 250);
    }

    #[test]
    fn secrets_are_masked() {
        for text in [
            "settings:\n  TOKEN: canary\n",
            "settings: {TOKEN: canary, SIZE: x}\n",
            "settings:\n  TOKEN: |\n    canary\n    canary\n",
            "settings:\n  TOKENN: canary\n",
            "machines:\n  core-1:\n    TOKEN: [canary,\n      canary]\n",
            "TOKEN: canary\n",
            "settings:\n  TOKEN: \"canary\n  x: canary\n",
            "settings:\n  'TOKEN': canary\n  TOKEN: canary\n",
        ] {
            for line in 1..5 {
                let told = shown(text, (line, 3));
                assert!(!told.contains("canary"), "{text}: {told}");
            }
        }
        assert_eq!(
            shown("settings: {TOKEN: canary, SIZE: x}\n", (1, 33)),
            "1 | settings: {TOKEN: ••••••••, SIZE: x}\n  |                                   ^"
        );
    }
}
