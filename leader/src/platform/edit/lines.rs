//! Cutting and joining the text: entries out of lines and flow mappings, and into them.

use crate::yaml::Node;
use crate::yaml::layout::{Entry, Part, line_end, line_start, past_break};
use crate::yaml::spell;

pub(super) fn splice(text: &str, from: usize, to: usize, new: &str) -> String {
    [&text[..from], new, &text[to..]].concat()
}

/// The column at which a byte stands, from 0, in characters.
pub(super) fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].trim_start_matches('\u{feff}').chars().count()
}

/// Past the `|` or `>` of a block scalar, its indicators included.
pub(super) fn header(text: &str, colon: usize) -> Option<usize> {
    let mut at = colon;
    for word in text[colon..].split_inclusive(char::is_whitespace) {
        if word.starts_with(['|', '>']) {
            return Some(at + word.trim_end().len());
        }
        if !word.trim().is_empty() && !word.starts_with(['&', '!']) {
            return None;
        }
        at += word.len();
    }
    None
}

/// The text without an entry's lines; and, should that change a text with kept
/// line breaks (`|+`) before it, without the blank lines after it too.
pub(super) fn without(text: &str, entry: &Entry) -> Vec<String> {
    let mut from = line_start(text, entry.key.start);
    if text[from..].starts_with('\u{feff}') {
        from += '\u{feff}'.len_utf8();
    }
    let stop = line_end(text, entry.value.end.max(entry.key.end).max(entry.colon.unwrap_or(0)));
    let to = past_break(text, stop);
    let mut blank = to;
    while blank < text.len() && text[blank..line_end(text, blank)].trim().is_empty() {
        blank = past_break(text, line_end(text, blank));
    }
    let mut ways = vec![splice(text, from, to, ""), splice(text, from, blank, "")];
    if to == stop {
        // The last line has no line break: neither has the one before it from now on.
        let before = text[..from].strip_suffix("\r\n").or_else(|| text[..from].strip_suffix(['\n', '\r']));
        ways.insert(0, before.unwrap_or(&text[..from]).to_owned());
    }
    ways
}

pub(super) fn without_in_flow(text: &str, parent: &Part, entry: &Entry) -> String {
    let at = parent.entries.iter().position(|other| other.key.start == entry.key.start).unwrap_or(0);
    let end = |entry: &Entry| entry.value.end.max(entry.key.end).max(entry.colon.unwrap_or(0));
    if let Some(next) = parent.entries.get(at + 1) {
        return splice(text, entry.key.start, next.key.start, "");
    }
    if let Some(before) = at.checked_sub(1).and_then(|before| parent.entries.get(before)) {
        return splice(text, end(before), end(entry), "");
    }
    let rest = &text[end(entry)..parent.end];
    let comma = if rest.trim_start().starts_with(',') { rest.find(',').map_or(0, |at| at + 1) } else { 0 };
    splice(text, entry.key.start, end(entry) + comma, "")
}

pub(super) fn with_in_flow(text: &str, parent: &Part, name: &str, value: &Node) -> Option<String> {
    let new = format!("{}: {}", spell::flow(&Node::text_of(name))?, spell::flow(value)?);
    let Some(last) = parent.entries.last() else {
        // `{}` of a section is where lines would stand: it stays a flow mapping all the same.
        return Some(splice(text, parent.end - 1, parent.end - 1, &new));
    };
    let at = last.value.end.max(last.key.end).max(last.colon.unwrap_or(0));
    Some(splice(text, at, at, &format!(", {new}")))
}
