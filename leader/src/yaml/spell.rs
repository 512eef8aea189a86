//! Nodes to YAML text: without quotes where the text survives that, in quotes
//! or as a literal block where it doesn't. What is spelt is read back before
//! it counts.

use super::layout::Shape;
use super::{Kind, Node, is_word};

/// How a value is written after its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spelling {
    /// On the key's own line.
    Inline(String),
    /// On the lines below: what stands after the colon, and the lines without
    /// the first level's indentation.
    Below(String, Vec<String>),
}

/// Where a scalar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    Block,
    Flow,
}

/// Spells a value for a place in block style. `like` is how the value that it
/// replaces is written: quotes stay quotes, and a flow collection stays one.
/// `literals`: whether texts of several lines may stand on lines of their own.
/// `None` where no spelling can say it.
pub fn block(node: &Node, like: Option<Shape>, literals: bool) -> Option<Spelling> {
    match &node.kind {
        Kind::Scalar { text, plain } => {
            if let Some(lines) = literal(text).filter(|_| literals && (!plain || is_word(text))) {
                return Some(lines);
            }
            scalar(text, *plain, Around::Block, like).map(Spelling::Inline)
        }
        Kind::List(items) if items.is_empty() => Some(Spelling::Inline("[]".to_owned())),
        Kind::Map(entries) if entries.is_empty() => Some(Spelling::Inline("{}".to_owned())),
        Kind::List(_) if like == Some(Shape::FlowList) => flow(node).map(Spelling::Inline),
        Kind::Map(_) if like == Some(Shape::FlowMap) => flow(node).map(Spelling::Inline),
        Kind::List(items) => {
            let mut lines = Vec::new();
            for item in items {
                match block(item, None, literals)? {
                    Spelling::Inline(text) => lines.push(format!("- {text}")),
                    Spelling::Below(head, below) if head.is_empty() => {
                        let mut marks = std::iter::once("- ").chain(std::iter::repeat("  "));
                        lines.extend(below.iter().map(|line| marked(marks.next().unwrap_or_default(), line)));
                    }
                    Spelling::Below(head, below) => {
                        lines.push(format!("- {head}"));
                        lines.extend(below.iter().map(|line| marked("  ", line)));
                    }
                }
            }
            Some(Spelling::Below(String::new(), lines))
        }
        Kind::Map(entries) => {
            let mut lines = Vec::new();
            for (name, value) in entries {
                let name = key(&name.text)?;
                match block(value, None, literals)? {
                    Spelling::Inline(text) => lines.push(format!("{name}: {text}")),
                    Spelling::Below(head, below) => {
                        let gap = if head.is_empty() { "" } else { " " };
                        lines.push(format!("{name}:{gap}{head}"));
                        lines.extend(below.iter().map(|line| marked("  ", line)));
                    }
                }
            }
            Some(Spelling::Below(String::new(), lines))
        }
    }
}

/// An empty line has no indentation.
fn marked(mark: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("{mark}{line}") }
}

/// Spells a value on one line, as it may stand within `[]` and `{}`.
pub fn flow(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Scalar { text, plain } => scalar(text, *plain, Around::Flow, None),
        Kind::List(items) => Some(format!("[{}]", items.iter().map(flow).collect::<Option<Vec<_>>>()?.join(", "))),
        Kind::Map(entries) => {
            let entry = |(name, value): &(super::Key, Node)| {
                Some(format!("{}: {}", flow(&Node::text_of(&name.text))?, flow(value)?))
            };
            Some(format!("{{{}}}", entries.iter().map(entry).collect::<Option<Vec<_>>>()?.join(", ")))
        }
    }
}

/// Spells a key in block style.
pub fn key(name: &str) -> Option<String> {
    let read = |text: &str| {
        let node = super::parse("", &format!("{text}: x\n")).ok()?;
        Some(node.map()?.first()?.0.text == name)
    };
    let plain = (!name.is_empty()).then(|| name.to_owned());
    plain.into_iter().chain([single(name), double(name)]).find(|text| !text.contains('\n') && read(text) == Some(true))
}

/// A scalar on one line. One that is `plain` has to stay without quotes where
/// they would change what it means; one that isn't must not become a number.
fn scalar(text: &str, plain: bool, around: Around, like: Option<Shape>) -> Option<String> {
    let untyped = is_word(text);
    if text.contains(is_odd) {
        return Some(double(text)).filter(|way| survives(way, text, plain, around));
    }
    let mut ways = Vec::new();
    match like {
        Some(Shape::Single) if !plain || untyped => ways.push(single(text)),
        Some(Shape::Double) if !plain || untyped => ways.push(double(text)),
        _ => {}
    }
    if (plain || untyped) && !text.contains('\n') {
        ways.push(text.to_owned());
    }
    if !plain || untyped {
        ways.extend([single(text), double(text)]);
    }
    ways.into_iter().find(|way| survives(way, text, plain, around))
}

fn survives(way: &str, text: &str, plain: bool, around: Around) -> bool {
    if way.contains(['\n', '\r']) {
        return false;
    }
    let around = match around {
        Around::Block => format!("x: {way} # c\ny: 1\n"),
        Around::Flow => format!("x: [{way}, 1]\ny: 1\n"),
    };
    let Ok(read) = super::parse("", &around) else { return false };
    let found = match read.get("x") {
        Some(Node { kind: Kind::List(items), .. }) if items.len() == 2 => items.first(),
        Some(node @ Node { kind: Kind::Scalar { .. }, .. }) => Some(node),
        _ => None,
    };
    let same = found.is_some_and(|node| same_scalar(&node.kind, text, plain));
    same && read.map().is_some_and(|entries| entries.len() == 2)
}

fn same_scalar(kind: &Kind, text: &str, plain: bool) -> bool {
    matches!(kind, Kind::Scalar { text: read, plain: now } if read == text && (*now == plain || is_word(text)))
}

/// What an editor doesn't show, so that only an escape can say it.
fn is_odd(char: char) -> bool {
    (char.is_control() && char != '\n') || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// YAML 1.2.2 section 5.7.
fn double(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            '\u{feff}' => out.push_str("\\uFEFF"),
            char if char.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// A text of several lines as a literal block, where that keeps it.
fn literal(text: &str) -> Option<Spelling> {
    let (head, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let blank = |line: &str| !line.is_empty() && line.trim().is_empty();
    if !text.contains('\n') || body.is_empty() || body.starts_with([' ', '\n']) || body.ends_with('\n') {
        return None;
    }
    if body.contains(is_odd) || body.split('\n').any(blank) {
        return None;
    }
    Some(Spelling::Below(head.to_owned(), body.split('\n').map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_them() {
        let plain = |text: &str| scalar(text, true, Around::Block, None);
        let text = |text: &str| scalar(text, false, Around::Block, None);
        assert_eq!(plain("1.10").unwrap(), "1.10");
        assert_eq!(plain("~").unwrap(), "~");
        assert_eq!(text("~").unwrap(), "'~'");
        assert_eq!(text("010").unwrap(), "'010'");
        assert_eq!(text("yes").unwrap(), "yes");
        assert_eq!(text("a: b").unwrap(), "'a: b'");
        assert_eq!(text("a #b").unwrap(), "'a #b'");
        assert_eq!(text("").unwrap(), "''");
        assert_eq!(text("${A}/x").unwrap(), "${A}/x");
        assert_eq!(text("a\tb\u{7}").unwrap(), "\"a\\tb\\x07\"");
        assert_eq!(scalar("${A}", false, Around::Flow, None).unwrap(), "'${A}'");
        assert_eq!(scalar("x", false, Around::Block, Some(Shape::Double)).unwrap(), "\"x\"");
    }

    #[test]
    fn collections_become_lines() {
        let node = super::super::parse("", "a: [1.10, \"x\", {b: {c: [], d: null}, e: \"1\"}, [y, [z]], \"k\\nl\"]\n")
            .unwrap();
        let Some(Spelling::Below(_, lines)) = block(node.get("a").unwrap(), None, true) else { panic!() };
        insta::assert_snapshot!(lines.join("\n"), @r"
        - 1.10
        - x
        - b:
            c: []
            d: null
          e: '1'
        - - y
          - - z
        - |-
          k
          l
        ");
    }
}
