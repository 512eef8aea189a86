//! The only place that knows the YAML parser: YAML 1.2 text to nodes that keep
//! each scalar's spelling and place. Duplicate keys, tags, aliases that grow
//! without bound and deep nesting are errors.

pub mod layout;
pub mod spell;

use crate::fault::Fault;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// The most nodes of a document, aliases expanded.
const MOST_NODES: usize = 200_000;
/// The deepest nesting.
const DEEPEST: usize = 64;

/// A node and where it starts (line and column from 1).
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Line and column.
    pub at: (usize, usize),
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A scalar as it was spelt; `plain` where it stood without quotes or block marks.
    Scalar {
        /// The spelling.
        text: String,
        /// Whether it may be something else than text.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order it was written.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Line and column.
    pub at: (usize, usize),
}

impl Node {
    /// A text, whatever it looks like.
    pub fn text_of(text: &str) -> Self {
        Self { kind: Kind::Scalar { text: text.to_owned(), plain: false }, at: (0, 0) }
    }

    /// Whether two nodes say the same, wherever they stand: spelling and order
    /// count, quotes only where they change what a scalar is.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Scalar { text, plain }, Kind::Scalar { text: other, plain: other_plain }) => {
                text == other && (plain == other_plain || is_word(text))
            }
            (Kind::List(items), Kind::List(others)) => {
                items.len() == others.len() && items.iter().zip(others).all(|(a, b)| a.same(b))
            }
            (Kind::Map(entries), Kind::Map(others)) => {
                entries.len() == others.len()
                    && entries.iter().zip(others).all(|((key, a), (other, b))| key.text == other.text && a.same(b))
            }
            _ => false,
        }
    }

    /// The entries of a mapping.
    pub fn map(&self) -> Option<&[(Key, Node)]> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map()?.iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    /// The items of a sequence.
    pub fn list(&self) -> Option<&[Node]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// A scalar's text, whatever it would resolve to.
    pub fn text(&self) -> Option<&str> {
        if let Kind::Scalar { text, .. } = &self.kind { Some(text) } else { None }
    }

    /// Whether it is an empty or `null` plain scalar.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if resolve(text).is_null())
    }

    /// `true` or `false`, unquoted.
    pub fn bool(&self) -> Option<bool> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => resolve(text).as_bool(),
            _ => None,
        }
    }

    /// The node as JSON, plain scalars resolved by YAML's core schema. Numbers keep their spelling.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { text, plain: true } => resolve(text),
            Kind::Scalar { text, .. } => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Node::to_json).collect(),
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// A plain scalar by the core schema (YAML 1.2.2 section 10.3.2), numbers with
/// the spelling they have. Spellings that JSON has no number for (`010`, `.5`,
/// hexadecimal, infinities) stay text.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if number(text).as_deref() == Some(text) => Value::Number(Number::from_string_unchecked(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

/// Whether quotes make no difference to a text: nothing takes it for a number,
/// a boolean or null.
pub fn is_word(text: &str) -> bool {
    resolve(text).is_string() && number(text).is_none()
}

/// A number of the core schema as JSON spells it: without `+` and needless
/// zeros before it, with a zero before a bare fraction. All else is kept.
pub fn number(text: &str) -> Option<String> {
    if !is_number(text) {
        return None;
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = rest.find(['e', 'E']).map_or((rest, ""), |at| rest.split_at(at));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}{exponent}"))
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

/// Reads a text with one document; an empty one is an empty mapping.
pub fn parse(file: &str, text: &str) -> Result<Node, Fault> {
    parse_to(file, text, DEEPEST)
}

/// The same, for a text that may be nested deeper or less deep.
pub fn parse_to(file: &str, text: &str, deepest: usize) -> Result<Node, Fault> {
    let mut documents = documents(file, text, false, deepest)?;
    match documents.len() {
        0 => Ok(Node { kind: Kind::Map(Vec::new()), at: (1, 1) }),
        1 => Ok(documents.remove(0)),
        _ => {
            Err(Fault::new(file, "the file holds more than one YAML document: remove the second '---'")
                .at(documents[1].at))
        }
    }
}

/// Whether a text is YAML at all: any number of documents, any tags and keys.
pub fn check(file: &str, text: &str) -> Result<(), Fault> {
    foreign(file, text).map(drop)
}

/// Somebody else's YAML: all its documents, with any tags and keys.
pub fn foreign(file: &str, text: &str) -> Result<Vec<Node>, Fault> {
    documents(file, text, true, DEEPEST)
}

fn documents(file: &str, text: &str, foreign: bool, deepest: usize) -> Result<Vec<Node>, Fault> {
    let mut builder =
        Builder { file, foreign, deepest, documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), nodes: 0 };
    for step in Parser::new_from_str(text) {
        match step {
            Ok((event, span)) => builder.event(event, (span.start.line(), span.start.col() + 1))?,
            Err(error) => {
                let at = (error.marker().line(), error.marker().col() + 1);
                return Err(Fault::new(file, format!("not valid YAML: {}", error.info())).at(at));
            }
        }
    }
    Ok(builder.documents)
}

struct Builder<'f> {
    file: &'f str,
    /// Somebody else's YAML: tags and keys of any kind are their business.
    foreign: bool,
    deepest: usize,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Open {
    at: (usize, usize),
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, at: (usize, usize)) -> Result<(), Fault> {
        let fault = |what: &str| Err(Fault::new(self.file, what).at(at));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = tag.filter(|_| !self.foreign) {
                    match tag.suffix.as_str() {
                        "str" => plain = false,
                        _ => return fault("tags other than !!str are not supported: remove the tag"),
                    }
                }
                self.close(Node { kind: Kind::Scalar { text: text.into_owned(), plain }, at }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.start(OpenKind::List(Vec::new()), anchor, at),
            Event::MappingStart(anchor, _) => self.start(OpenKind::Map(Vec::new(), None), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let kind = match open.kind {
                    OpenKind::List(items) => Kind::List(items),
                    OpenKind::Map(entries, _) => Kind::Map(entries),
                };
                self.close(Node { kind, at: open.at }, open.anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(mut node) => {
                    self.nodes += count(&node);
                    node.at = at;
                    self.close(node, 0)
                }
                None => fault("this alias names an anchor that is not complete before it"),
            },
            _ => Ok(()),
        }
    }

    fn start(&mut self, kind: OpenKind, anchor: usize, at: (usize, usize)) -> Result<(), Fault> {
        if self.open.len() >= self.deepest {
            let what = format!("nested deeper than {} levels", self.deepest);
            return Err(Fault::new(self.file, what).at(at));
        }
        self.open.push(Open { at, anchor, kind });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let what = format!("more than {MOST_NODES} values, aliases expanded: is this file meant to be so large?");
            return Err(Fault::new(self.file, what).at(node.at));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.documents.push(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(entries, key)) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                } else {
                    let at = node.at;
                    let text = match node.kind {
                        Kind::Scalar { text, .. } => text,
                        // No two such keys are compared.
                        _ if self.foreign => format!("\0{}:{}", at.0, at.1),
                        _ => return Err(Fault::new(self.file, "a key has to be text, not a list or a mapping").at(at)),
                    };
                    if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                        let what = format!("the key {text} stands twice: the first is in line {}", first.at.0);
                        return Err(Fault::new(self.file, what).at(at));
                    }
                    *key = Some(Key { text, at });
                }
            }
        }
        Ok(())
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_spelling_and_place() {
        let node = parse("f", "a: 1.10\nb:\n  - 010\n  - '5'\n  - yes\n  - ~\n").unwrap();
        assert_eq!(node.get("a").unwrap().to_json().to_string(), "1.10");
        assert_eq!(node.get("b").unwrap().to_json().to_string(), r#"["010","5","yes",null]"#);
        assert_eq!(node.get("b").unwrap().list().unwrap()[1].at, (4, 5));
        for text in ["1", "-1", "1e3", "1.5E-3", "0.10", "99999999999999999999"] {
            assert!(resolve(text).is_number(), "{text}");
        }
        for (text, json) in [("+1", "1"), ("1.", "1"), (".5", "0.5"), ("010", "10"), ("-00.50e1", "-0.50e1")] {
            assert!(resolve(text).is_string(), "{text}");
            assert_eq!(number(text).unwrap(), json);
        }
        for text in [".", "-", "0x1f", "1_000", "1:30", "e3", "1e", ".inf", "1.2.3"] {
            assert!(resolve(text).is_string(), "{text}");
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        let wrong = |text: &str| parse("f", text).unwrap_err().to_string();
        assert_eq!(wrong("a: 1\nb: 2\na: 3\n"), "f:3:1: the key a stands twice: the first is in line 1");
        assert!(wrong("a: [1\n").starts_with("f:"));
        assert!(wrong("a: !!binary x\n").contains("tags"));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &('b'..='i')
                .map(|c| {
                    let before = (c as u8 - 1) as char;
                    format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 9].join(","))
                })
                .collect::<String>();
        assert!(wrong(&bomb).contains("more than 200000 values"));
        assert!(wrong(&"[".repeat(100)).contains("nested deeper"));
    }
}
