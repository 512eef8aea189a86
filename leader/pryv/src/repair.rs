//! Pryv's own platform files are not valid YAML 1.2: quoted text goes on over
//! several lines that are not indented. The original's parser lets that pass.
//! Indenting such a line gives the same value, since the spaces at a quoted
//! line's start are no part of it.

use lockstep_leader::fault::Fault;
use lockstep_leader::yaml::{self, Node};
use similar::TextDiff;
use std::collections::BTreeSet;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Read {
    /// Its value.
    pub(crate) node: Node,
    /// What had to be changed, as a unified diff; empty where it is valid.
    pub(crate) diff: String,
    /// How many lines were.
    pub(crate) lines: usize,
}

/// The original's parser knows no limit.
const DEEPEST: usize = 1000;

/// How often the same text is indented further: YAML allows 64 levels.
const MOST: usize = 64;

/// Reads a platform file, repaired where that is needed.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Read, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let mut last = ((0, 0), 0);
    let mut hidden = BTreeSet::new();
    loop {
        let repaired = lines.concat();
        let fault = match yaml::parse_to(file, &repaired, DEEPEST) {
            Ok(node) => {
                let changed = text.split_inclusive('\n').zip(&lines).filter(|(old, new)| old != new).count();
                let diff = if changed == 0 {
                    String::new()
                } else {
                    diff(file, &shown(text, &hidden), &shown(&repaired, &hidden))
                };
                return Ok(Read { node, diff, lines: changed });
            }
            Err(fault) => fault,
        };
        let start = (fault.line.unwrap_or(0), fault.column.unwrap_or(0));
        last = if last.0 == start { (start, last.1 + 1) } else { (start, 0) };
        if !known(&fault) || last.1 > MOST || !indent(&mut lines, start, last.1, &mut hidden) {
            return Err(fault);
        }
    }
}

/// The one kind of mistake that is repaired.
fn known(fault: &Fault) -> bool {
    fault.what.contains("invalid indentation in quoted scalar")
}

/// Indents the lines on which the quoted text that starts here goes on, where
/// they are not indented further than the line it starts on; `more` times
/// beyond. Says whether there were any. Those that are no description are added to `hidden`.
fn indent(lines: &mut [String], (line, column): (usize, usize), more: usize, hidden: &mut BTreeSet<usize>) -> bool {
    let (Some(first), Some(column)) = (line.checked_sub(1), column.checked_sub(1)) else { return false };
    let Some(start) = lines.get(first) else { return false };
    let least = start.chars().take_while(|c| matches!(c, ' ' | '-')).count() + 2 * more;
    let mut rest = start.chars().skip(column);
    let Some(quote @ ('"' | '\'')) = rest.next() else { return false };
    let mut ended = ends(rest, quote);
    let mut changed = false;
    let described = start.trim_start().starts_with("description:");
    for (at, line) in lines.iter_mut().enumerate().skip(first + 1) {
        if ended {
            break;
        }
        ended = ends(line.chars(), quote);
        if line.trim().is_empty() {
            continue;
        }
        while line.chars().take_while(|c| *c == ' ').count() <= least {
            line.insert_str(0, "  ");
            changed = true;
        }
        if !described {
            hidden.insert(at);
        }
    }
    changed
}

/// Whether a quoted text ends in what is left of a line.
fn ends(mut rest: impl Iterator<Item = char>, quote: char) -> bool {
    let mut pending = false;
    while let Some(char) = rest.next() {
        match char {
            '\\' if quote == '"' => drop(rest.next()),
            // Two single quotes are one that is meant.
            char if char == quote && quote == '\'' => pending = !pending,
            char if char == quote => return true,
            _ if pending => return true,
            _ => {}
        }
    }
    pending
}

/// A text whose hidden lines show their indentation only: a value may be a secret.
fn shown(text: &str, hidden: &BTreeSet<usize>) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    let shown = lines.map(|(at, line)| {
        if hidden.contains(&at) {
            let indentation = line.len() - line.trim_start_matches(' ').len();
            format!("{}••••••••\n", &line[..indentation])
        } else {
            line.to_owned()
        }
    });
    shown.collect()
}

fn diff(file: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().context_radius(0).header(file, &format!("{file} (as read)")).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn quoted_text_may_go_on_at_its_keys_indentation() {
        let text = "a:\n  description: \"x \\\"y\n  z\n\n  end\"\n  c: 'it''s\nhere'\n  d: [\"p\n q\"]\n";
        let read = super::read("f.yml", text.as_bytes()).unwrap();
        assert_eq!(
            read.node.get("a").unwrap().to_json().to_string(),
            r#"{"description":"x \"y z\nend","c":"it's here","d":["p q"]}"#
        );
        assert_eq!(read.lines, 4, "{}", read.diff);
        assert!(read.diff.contains("-  z\n"), "{}", read.diff);
        assert!(read.diff.contains("+    z\n") && !read.diff.contains("here"), "{}", read.diff);
    }

    #[test]
    fn other_mistakes_stay() {
        let fault = super::read("f.yml", b"a: [1\n").unwrap_err();
        assert_eq!((fault.file.as_str(), fault.line), ("f.yml", Some(2)));
        assert_eq!(super::read("f.yml", b"\xef\xbb\xbfa: 1\r\nb: \"x\r\n  y\"\r\n").unwrap().lines, 0);
    }
}
