//! Where everything stands in a YAML text, so that one value can be replaced
//! and every other byte kept. Offsets are bytes. The parser's spans are taken
//! where they are exact; the ends of quoted texts, block scalars and flow
//! collections are looked up in the text itself.

use crate::fault::Fault;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A node and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How it is written.
    pub shape: Shape,
    /// Its first byte; the anchor's or tag's where it has one. Of a block
    /// scalar the first byte of its content.
    pub start: usize,
    /// Past its last byte, without what follows on the line. Of a block
    /// collection the end of its last item.
    pub end: usize,
    /// Whether an anchor names it or something in it.
    pub anchored: bool,
    /// The entries of a mapping.
    pub entries: Vec<Entry>,
}

/// An entry of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Part,
    /// What the key says.
    pub name: String,
    /// Past the `:`; `None` where there is none right after the key.
    pub colon: Option<usize>,
    /// The value.
    pub value: Part,
}

/// How a node is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing: null.
    Empty,
    /// A scalar without quotes.
    Plain,
    /// `'...'`.
    Single,
    /// `"..."`.
    Double,
    /// `|` or `>`.
    BlockScalar,
    /// `*name`.
    Alias,
    /// `[...]`.
    FlowList,
    /// `{...}`.
    FlowMap,
    /// One `- item` a line.
    BlockList,
    /// One `key: value` a line.
    BlockMap,
}

impl Part {
    /// The entry with this key.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Whether it is a collection in block style.
    pub fn is_block(&self) -> bool {
        matches!(self.shape, Shape::BlockList | Shape::BlockMap)
    }
}

/// The layout of a text that [`super::parse`] has taken; `None` for one without a document.
pub fn layout(file: &str, text: &str) -> Result<Option<Part>, Fault> {
    let mut offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    offsets.push(text.len());
    let mut walk = Walk { text, offsets, open: Vec::new(), root: None };
    for step in Parser::new_from_str(text) {
        match step {
            Ok((event, span)) => walk.event(&event, span),
            Err(error) => {
                let at = (error.marker().line(), error.marker().col() + 1);
                return Err(Fault::new(file, format!("not valid YAML: {}", error.info())).at(at));
            }
        }
    }
    Ok(walk.root)
}

struct Walk<'t> {
    text: &'t str,
    /// The byte at which each character starts.
    offsets: Vec<usize>,
    open: Vec<Open>,
    root: Option<Part>,
}

struct Open {
    part: Part,
    key: Option<(Part, String)>,
    map: bool,
}

impl Walk<'_> {
    fn byte(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.text.len())
    }

    fn event(&mut self, event: &Event<'_>, span: Span) {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        let part = |shape, end, anchor: usize| Part { shape, start, end, anchored: anchor > 0, entries: Vec::new() };
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let (shape, end) = match style {
                    ScalarStyle::Plain if value.is_empty() && self.text[start..end].trim().is_empty() => {
                        (Shape::Empty, start)
                    }
                    ScalarStyle::Plain => (Shape::Plain, start + self.text[start..end].trim_end().len()),
                    ScalarStyle::SingleQuoted => (Shape::Single, self.quoted(start, '\'')),
                    ScalarStyle::DoubleQuoted => (Shape::Double, self.quoted(start, '"')),
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        (Shape::BlockScalar, self.block_scalar(start, span.start.col(), value.ends_with("\n\n")))
                    }
                };
                self.close(part(shape, end, *anchor), value);
            }
            Event::Alias(_) => self.close(part(Shape::Alias, end, 0), ""),
            Event::SequenceStart(anchor, _) => {
                let flow = self.text[start..end].contains('[');
                let shape = if flow { Shape::FlowList } else { Shape::BlockList };
                self.open.push(Open { part: part(shape, end, *anchor), key: None, map: false });
            }
            Event::MappingStart(anchor, _) => {
                let flow = self.text[start..end].contains('{');
                let shape = if flow { Shape::FlowMap } else { Shape::BlockMap };
                self.open.push(Open { part: part(shape, end, *anchor), key: None, map: true });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return };
                if matches!(open.part.shape, Shape::FlowList | Shape::FlowMap) {
                    open.part.end = start + 1;
                }
                self.close(open.part, "");
            }
            _ => {}
        }
    }

    fn close(&mut self, mut part: Part, text: &str) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(part);
            return;
        };
        open.part.anchored |= part.anchored;
        if open.map && open.key.is_none() {
            open.key = Some((part, text.to_owned()));
            return;
        }
        if let Some((key, name)) = open.key.take() {
            let after = &self.text[key.end..];
            let gap = after.len() - after.trim_start_matches([' ', '\t']).len();
            let colon = after[gap..].starts_with(':').then(|| key.end + gap + 1);
            if part.shape == Shape::Empty {
                let at = colon.unwrap_or(key.end);
                (part.start, part.end) = (at, at);
            }
            open.part.end = open.part.end.max(part.end);
            open.part.entries.push(Entry { key, name, colon, value: part });
        } else {
            open.part.end = open.part.end.max(part.end);
        }
    }

    /// Past the closing quote of a text that starts at or after `start`.
    fn quoted(&self, start: usize, quote: char) -> usize {
        let Some(open) = self.text[start..].find(quote) else { return start };
        let mut rest = self.text[start + open + 1..].char_indices().peekable();
        let from = start + open + 1;
        while let Some((at, char)) = rest.next() {
            match char {
                '\\' if quote == '"' => drop(rest.next()),
                _ if char != quote => {}
                '\'' if rest.peek().is_some_and(|(_, next)| *next == '\'') => drop(rest.next()),
                _ => return from + at + 1,
            }
        }
        self.text.len()
    }

    /// Past the last line of a block scalar whose content starts at `start`,
    /// in column `indent`; blank lines at its end count where they are kept.
    fn block_scalar(&self, start: usize, indent: usize, keep: bool) -> usize {
        let mut end = start;
        let mut at = line_start(self.text, start);
        while at < self.text.len() {
            let stop = line_end(self.text, at);
            let line = &self.text[at..stop];
            let blank = line.trim().is_empty();
            if !blank && line.len() - line.trim_start_matches(' ').len() < indent {
                break;
            }
            if !blank || keep {
                end = stop;
            }
            at = past_break(self.text, stop);
            if at == stop {
                break;
            }
        }
        end
    }
}

/// Where the line that holds `at` starts.
pub fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |found| found + 1)
}

/// Where the line that holds `at` ends, its line break not counted.
pub fn line_end(text: &str, at: usize) -> usize {
    text[at..].find(['\n', '\r']).map_or(text.len(), |found| at + found)
}

/// Past the line break at `at`, if there is one.
pub fn past_break(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    if rest.starts_with("\r\n") { at + 2 } else { at + usize::from(rest.starts_with(['\n', '\r'])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value of the top mapping as it stands in the text.
    fn values(text: &str) -> Vec<String> {
        let root = layout("f", text).unwrap().unwrap();
        root.entries.iter().map(|entry| text[entry.value.start..entry.value.end].to_owned()).collect()
    }

    #[test]
    fn ends_are_exact() {
        let text = "\u{feff}ä: 1 # c\r\nb:   x y  \r\nc:\r\nd: 'it''s'  # z\r\n\"e\": \"q\\\"\" # z\r\nf: {a: [1], b , c: } # q\r\ng:\r\n  - a # x\r\n  -\r\n  # c\r\nh: a\r\n  b # c\r\n";
        assert_eq!(
            values(text),
            ["1", "x y", "", "'it''s'", "\"q\\\"\"", "{a: [1], b , c: }", "- a # x\r\n  -", "a\r\n  b"]
        );
        let text = "a: |  # hd\n  text\n  # no\n\n# com\nb: >-\n\n    a\n  # c\nc: |+\n  x\n\nd: !!str 5 # t\ne: &x 1\nf: *x # y\n";
        assert_eq!(values(text), ["text\n  # no", "a", "x\n", "!!str 5", "&x 1", "*x"]);
        assert_eq!(layout("f", "# nothing\n").unwrap(), None);
    }
}
