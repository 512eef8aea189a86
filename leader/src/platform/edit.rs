//! Edits the text of a YAML file in place: one value is set, removed or
//! renamed, and every other byte stays, comments, order and quoting with it.
//! Pure. After each edit the new text is read again: unless it says what the
//! old one said with exactly that one change, the edit is refused.

mod lines;
mod tree;

use crate::fault::Fault;
use crate::yaml::layout::{Entry, Part, Shape, layout, line_end, line_start};
use crate::yaml::spell::{self, Spelling};
use crate::yaml::{self, Key, Kind, Node};
use lines::{column, header, splice, with_in_flow, without, without_in_flow};
use tree::{changed, put_entry, refer};

/// A text being edited.
#[derive(Debug, Clone)]
pub struct Draft {
    file: String,
    text: String,
}

impl Draft {
    /// Of a file with this name, which has to be YAML.
    pub fn new(file: &str, text: &str) -> Result<Self, Fault> {
        yaml::parse(file, text)?;
        Ok(Self { file: file.to_owned(), text: text.to_owned() })
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value at a path of keys.
    pub fn get(&self, path: &[&str]) -> Option<Node> {
        let root = yaml::parse(&self.file, &self.text).ok()?;
        path.iter().try_fold(&root, |node, key| node.get(key)).cloned()
    }

    /// Sets the value at a path of keys; mappings on the way are made where
    /// they are missing. Where a mapping replaces a mapping, only the keys
    /// that differ are touched.
    pub fn set(&mut self, path: &[&str], value: &Node) -> Result<(), Fault> {
        let old = self.get(path);
        if old.as_ref().is_some_and(|old| old.same(value)) {
            return Ok(());
        }
        if let (Some(Kind::Map(before)), Kind::Map(after)) = (old.map(|old| old.kind), &value.kind)
            && !before.is_empty()
            && !after.is_empty()
            && let Some(text) = self.merged(path, &before, after, value)
        {
            self.text = text;
            return Ok(());
        }
        self.put(path, value)
    }

    /// Removes the value at a path of keys, if it is there, with its whole lines.
    pub fn remove(&mut self, path: &[&str]) -> Result<(), Fault> {
        let (Some((last, above)), Some(_)) = (path.split_last(), self.get(path)) else { return Ok(()) };
        let wanted = changed(
            self.tree()?,
            above,
            &mut |node, flow| {
                if let Kind::Map(entries) = &mut node.kind {
                    entries.retain(|(key, _)| key.text != *last);
                    if entries.is_empty() && !flow {
                        node.kind = Kind::Scalar { text: String::new(), plain: true };
                    }
                }
            },
            self.flow_of(above)?,
        );
        let parent = self.place(above)?;
        let entry = self.entry(&parent, last)?;
        if parent.entries.len() == 1 && parent.anchored {
            return Err(self.by_hand(entry.key.start, "an anchor names the mapping around it"));
        }
        if parent.shape == Shape::FlowMap {
            return self.settle(without_in_flow(&self.text, &parent, &entry), &wanted, entry.key.start);
        }
        self.first_of_its_line(&entry)?;
        let mut ways = without(&self.text, &entry);
        let last = ways.pop().unwrap_or_default();
        if ways.into_iter().any(|text| self.settle(text, &wanted, 0).is_ok()) {
            return Ok(());
        }
        self.settle(last, &wanted, entry.key.start)
    }

    /// Removes a key whose mapping has become empty, unless a comment stands beside it.
    pub fn prune(&mut self, path: &[&str]) -> Result<(), Fault> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let Some(value) = self.get(path) else { return Ok(()) };
        if !value.is_null() && !value.map().is_some_and(<[_]>::is_empty) {
            return Ok(());
        }
        let entry = self.place(above)?.entry(last).cloned();
        let bare = entry.is_some_and(|entry| {
            let end = entry.value.end.max(entry.colon.unwrap_or(entry.key.end));
            !self.text[end..line_end(&self.text, end)].contains('#')
        });
        if bare { self.remove(path) } else { Ok(()) }
    }

    /// Gives the key at the end of a path another name.
    pub fn rename(&mut self, path: &[&str], name: &str) -> Result<(), Fault> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let parent = self.place(above)?;
        let entry = self.entry(&parent, last)?;
        if matches!(entry.key.shape, Shape::Alias) || entry.key.anchored {
            return Err(self.by_hand(entry.key.start, "an anchor or alias stands for this key"));
        }
        let wanted = changed(
            self.tree()?,
            above,
            &mut |node, _| {
                if let Kind::Map(entries) = &mut node.kind {
                    for (key, _) in entries.iter_mut().filter(|(key, _)| key.text == *last) {
                        name.clone_into(&mut key.text);
                    }
                }
            },
            false,
        );
        let spelt = spell::key(name).ok_or_else(|| self.by_hand(entry.key.start, "no spelling says this key"))?;
        let text = splice(&self.text, entry.key.start, entry.key.end, &spelt);
        self.settle(text, &wanted, entry.key.start)
    }

    /// Lets every `${from}` within a value be `${to}`; the number of places.
    pub fn rename_references(&mut self, from: &str, to: &str) -> Result<usize, Fault> {
        let (old, new) = (format!("${{{from}}}"), format!("${{{to}}}"));
        let mut spans = Vec::new();
        if let Some(root) = self.root()? {
            values(&root, &mut spans);
        }
        let mut wanted = self.tree()?;
        refer(&mut wanted, &old, &new);
        let mut text = String::with_capacity(self.text.len());
        let (mut at, mut count, mut first) = (0, 0, 0);
        while let Some(found) = self.text[at..].find(&old).map(|found| at + found) {
            let inside = spans.iter().any(|span: &std::ops::Range<usize>| span.contains(&found));
            let literal = self.text[..found].ends_with('$');
            text.push_str(&self.text[at..found]);
            let counts = inside && !literal;
            text.push_str(if counts { &new } else { &old });
            count += usize::from(counts);
            first = if count == 1 && counts { found } else { first };
            at = found + old.len();
        }
        text.push_str(&self.text[at..]);
        self.settle(text, &wanted, first).map(|()| count)
    }

    /// A mapping changed key by key; `None` where that can't give the wanted one.
    fn merged(&self, path: &[&str], before: &[(Key, Node)], after: &[(Key, Node)], value: &Node) -> Option<String> {
        let mut draft = self.clone();
        for (key, _) in before {
            if !after.iter().any(|(other, _)| other.text == key.text) {
                draft.remove(&[path, &[&key.text]].concat()).ok()?;
            }
        }
        for (key, node) in after {
            draft.set(&[path, &[&key.text]].concat(), node).ok()?;
        }
        draft.get(path).filter(|now| now.same(value)).map(|_| draft.text)
    }

    fn put(&mut self, path: &[&str], value: &Node) -> Result<(), Fault> {
        let mut path = path.to_vec();
        let mut value = value.clone();
        // A mapping that is missing on the way comes with the value.
        let (parent, name) = loop {
            let Some(name) = path.pop() else {
                return Err(Fault::new(&self.file, "has to be a mapping"));
            };
            let there = if path.is_empty() { self.root()? } else { self.place(&path).ok() };
            match there {
                // `settings: {}` makes room for lines; within other braces it stays as it is.
                Some(part) if Self::is_room(&part) && self.stands_in_block(&path) => {
                    value = Node {
                        at: value.at,
                        kind: Kind::Map(vec![(Key { text: name.to_owned(), at: value.at }, value)]),
                    };
                }
                Some(part) if Self::is_room(&part) && path.is_empty() => break (None, name),
                Some(part) if matches!(part.shape, Shape::BlockMap | Shape::FlowMap) => break (Some(part), name),
                Some(part) if part.shape == Shape::Alias => {
                    return Err(self.by_hand(part.start, "an alias stands where the value has to go"));
                }
                _ if path.is_empty() => break (None, name),
                _ => {
                    let at = value.at;
                    let key = Key { text: name.to_owned(), at };
                    value = Node { kind: Kind::Map(vec![(key, value)]), at };
                }
            }
        };
        let wanted = changed(self.tree()?, &path, &mut |node, _| put_entry(node, name, &value), false);
        let (text, at) = self.with(parent.as_ref(), name, &value, true)?;
        // Blank lines below could become part of a text that stands on lines of its own.
        let texts = if self.clone().settle(text.clone(), &wanted, at).is_ok() {
            (text, at)
        } else {
            self.with(parent.as_ref(), name, &value, false)?
        };
        self.settle(texts.0, &wanted, texts.1)
    }

    /// The text with a value set, and where that is.
    fn with(&self, parent: Option<&Part>, name: &str, value: &Node, literals: bool) -> Result<(String, usize), Fault> {
        let at = parent.map_or(0, |parent| parent.entry(name).map_or(parent.start, |entry| entry.key.start));
        let text = match parent {
            None => self.onto_nothing(name, value, literals),
            Some(parent) => match parent.entry(name) {
                Some(entry) if entry.value.anchored => {
                    let why = "an anchor (&) names the present value, and other places may refer to it";
                    return Err(self.by_hand(entry.value.start, why));
                }
                Some(entry) => return Ok((self.replaced(parent, entry, value, literals)?, at)),
                None if parent.shape == Shape::FlowMap => with_in_flow(&self.text, parent, name, value),
                None => self.added(parent, name, value, literals),
            },
        };
        Ok((text.ok_or_else(|| self.by_hand(at, "no spelling in YAML says this value"))?, at))
    }

    fn is_room(part: &Part) -> bool {
        part.shape == Shape::FlowMap && part.entries.is_empty() && !part.anchored
    }

    fn stands_in_block(&self, path: &[&str]) -> bool {
        path.split_last().is_some_and(|(_, above)| {
            let around = if above.is_empty() { self.root().ok().flatten() } else { self.place(above).ok() };
            around.is_some_and(|part| part.shape == Shape::BlockMap)
        })
    }

    /// A first entry for a file without any.
    fn onto_nothing(&self, name: &str, value: &Node, literals: bool) -> Option<String> {
        let (head, lines) = self.entry_lines(name, value, literals)?;
        let lines = [vec![head], lines].concat();
        let root = self.root().ok()?;
        let newline = self.newline();
        let lines = lines.join(newline);
        // `~`, `null` and `{}` stand for nothing and make room.
        if let Some(part) = root.filter(|part| part.shape == Shape::Plain || Self::is_room(part)) {
            return Some(splice(&self.text, part.start, part.end, &lines));
        }
        let mut text = self.text.clone();
        let last = line_start(&text, text.len());
        let mark = if last == 0 { text.len() - text.trim_start_matches('\u{feff}').len() } else { 0 };
        let open = !text[last + mark..].is_empty();
        let ends = text.is_empty() || !open;
        text.push_str(if open { newline } else { "" });
        text.push_str(&lines);
        text.push_str(if ends { newline } else { "" });
        Some(text)
    }

    /// A further entry of a mapping in block style, after its last.
    fn added(&self, parent: &Part, name: &str, value: &Node, literals: bool) -> Option<String> {
        let (head, lines) = self.entry_lines(name, value, literals)?;
        let first = parent.entries.first()?;
        let last = parent.entries.last()?;
        let indent = " ".repeat(column(&self.text, first.key.start));
        let newline = self.newline();
        let mut new = String::new();
        for line in std::iter::once(&head).chain(&lines) {
            new.push_str(newline);
            if !line.is_empty() {
                new.push_str(&indent);
                new.push_str(line);
            }
        }
        let at = line_end(&self.text, last.value.end.max(last.key.end));
        Some(splice(&self.text, at, at, &new))
    }

    /// An entry as lines, indented among themselves.
    fn entry_lines(&self, name: &str, value: &Node, literals: bool) -> Option<(String, Vec<String>)> {
        let name = spell::key(name)?;
        Some(match spell::block(value, None, literals)? {
            Spelling::Inline(text) => (format!("{name}: {text}"), Vec::new()),
            Spelling::Below(head, lines) => {
                let gap = if head.is_empty() { "" } else { " " };
                let step = " ".repeat(self.step());
                let indented = |line: &String| if line.is_empty() { String::new() } else { format!("{step}{line}") };
                (format!("{name}:{gap}{head}"), lines.iter().map(indented).collect())
            }
        })
    }

    fn replaced(&self, parent: &Part, entry: &Entry, value: &Node, literals: bool) -> Result<String, Fault> {
        let text = &self.text;
        let old = &entry.value;
        let unsayable = || self.by_hand(entry.key.start, "no spelling in YAML says this value");
        if parent.shape == Shape::FlowMap {
            let new = spell::flow(value).ok_or_else(unsayable)?;
            return Ok(match (old.shape, entry.colon) {
                (Shape::Empty, Some(colon)) => splice(text, colon, colon, &format!(" {new}")),
                (Shape::Empty, None) => splice(text, entry.key.end, entry.key.end, &format!(": {new}")),
                _ => splice(text, old.start, old.end, &new),
            });
        }
        let Some(colon) = entry.colon else {
            return Err(self.by_hand(entry.key.start, "it is written with '?'"));
        };
        let brackets = matches!(old.shape, Shape::FlowMap | Shape::FlowList) && text[old.start..old.end].len() == 2;
        let spelt = spell::block(value, (!brackets).then_some(old.shape), literals).ok_or_else(unsayable)?;
        let same_line = line_end(text, colon) >= old.start && !text[colon..old.start].contains(['\n', '\r']);
        // What makes room on the key's line, and what on the lines below it.
        let (head, below) = match old.shape {
            Shape::BlockScalar => {
                let header =
                    header(text, colon).ok_or_else(|| self.by_hand(old.start, "its first line can't be read"))?;
                let stop = line_end(text, header);
                (header, Some((stop, old.end.max(stop))))
            }
            Shape::BlockMap | Shape::BlockList => (colon, Some((line_end(text, colon), line_end(text, old.end)))),
            _ if same_line => (old.end, None),
            _ => {
                if let Spelling::Inline(new) = &spelt {
                    return Ok(splice(text, old.start, old.end, new));
                }
                (colon, Some((line_end(text, colon), line_end(text, old.end))))
            }
        };
        let stop = line_end(text, head);
        let tail = &text[head..stop];
        if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
            return Err(self.by_hand(head, "something else follows on its line"));
        }
        // Spaces that line values up stay, where there was a value on the line.
        let gap = if same_line && !matches!(old.shape, Shape::Empty | Shape::BlockScalar) && !old.is_block() {
            &text[colon..old.start]
        } else {
            " "
        };
        let mut new = text[..colon].to_owned();
        match &spelt {
            Spelling::Inline(value) => {
                new.push_str(gap);
                new.push_str(value);
                new.push_str(tail);
            }
            Spelling::Below(mark, lines) => {
                if !mark.is_empty() {
                    new.push_str(gap);
                    new.push_str(mark);
                }
                new.push_str(tail);
                let own = column(text, entry.key.start);
                let indent = match (old.shape, &value.kind) {
                    (Shape::BlockMap, Kind::Map(_)) => old.entries.first().map(|first| column(text, first.key.start)),
                    (Shape::BlockList, Kind::List(_)) => {
                        let line = line_start(text, old.start);
                        Some(text[line..].len() - text[line..].trim_start_matches(' ').len())
                    }
                    _ => None,
                };
                let indent = " ".repeat(indent.unwrap_or(own + self.step()));
                for line in lines {
                    new.push_str(self.newline());
                    if !line.is_empty() {
                        new.push_str(&indent);
                        new.push_str(line);
                    }
                }
            }
        }
        new.push_str(&text[below.map_or(stop, |(_, end)| end)..]);
        Ok(new)
    }

    /// Takes the new text if it says what it should, and nothing else changed.
    fn settle(&mut self, text: String, wanted: &Node, at: usize) -> Result<(), Fault> {
        match yaml::parse(&self.file, &text) {
            Ok(now) if now.same(wanted) || (now.map().is_some_and(<[_]>::is_empty) && wanted.is_null()) => {
                self.text = text;
                Ok(())
            }
            _ => Err(self.by_hand(at, "the way it is written here can't be kept in an automatic edit")),
        }
    }

    fn by_hand(&self, at: usize, why: &str) -> Fault {
        let line = self.text[..at].replace("\r\n", "\n").matches(['\n', '\r']).count() + 1;
        let what = format!("{why}: nothing was changed; edit the file by hand, then lockstep validate");
        Fault::new(&self.file, what).at((line, column(&self.text, at) + 1))
    }

    fn tree(&self) -> Result<Node, Fault> {
        yaml::parse(&self.file, &self.text)
    }

    fn root(&self) -> Result<Option<Part>, Fault> {
        layout(&self.file, &self.text)
    }

    /// The part at a path, where it is written out.
    fn place(&self, path: &[&str]) -> Result<Part, Fault> {
        let mut part = self.root()?;
        for key in path {
            part = part
                .and_then(|part| part.entries.into_iter().find(|entry| entry.name == *key))
                .map(|entry| entry.value);
        }
        part.ok_or_else(|| {
            let at = path.first().and_then(|top| {
                let root = self.root().ok()??;
                root.entry(top).map(|entry| entry.key.start)
            });
            self.by_hand(at.unwrap_or(0), &format!("{} stands here by an alias or not at all", path.join(".")))
        })
    }

    fn entry(&self, parent: &Part, name: &str) -> Result<Entry, Fault> {
        parent
            .entry(name)
            .cloned()
            .ok_or_else(|| self.by_hand(parent.start, &format!("{name} stands here by an alias")))
    }

    fn flow_of(&self, path: &[&str]) -> Result<bool, Fault> {
        Ok(self.place(path)?.shape == Shape::FlowMap)
    }

    fn first_of_its_line(&self, entry: &Entry) -> Result<(), Fault> {
        let before = &self.text[line_start(&self.text, entry.key.start)..entry.key.start];
        if before.trim_start_matches('\u{feff}').trim_start_matches(' ').is_empty() {
            return Ok(());
        }
        Err(self.by_hand(entry.key.start, "something else stands before it on its line"))
    }

    /// The line break that the file uses.
    fn newline(&self) -> &'static str {
        match self.text.find(['\n', '\r']) {
            Some(at) if self.text[at..].starts_with("\r\n") => "\r\n",
            Some(at) if self.text[at..].starts_with('\r') => "\r",
            _ => "\n",
        }
    }

    /// How far the file indents one level.
    fn step(&self) -> usize {
        let root = self.root().ok().flatten();
        let nested = root.as_ref().and_then(|root| {
            root.entries.iter().find_map(|entry| {
                let first = entry.value.entries.first().filter(|_| entry.value.shape == Shape::BlockMap)?;
                column(&self.text, first.key.start).checked_sub(column(&self.text, entry.key.start))
            })
        });
        nested.filter(|step| (1..=8).contains(step)).unwrap_or(2)
    }
}

/// Where values stand that aren't mappings.
fn values(part: &Part, spans: &mut Vec<std::ops::Range<usize>>) {
    if part.entries.is_empty() {
        spans.push(part.start..part.end);
    }
    for entry in &part.entries {
        values(&entry.value, spans);
    }
}

#[cfg(test)]
mod tests;
