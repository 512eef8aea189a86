//! How the original puts values into a text: every known name, wherever it
//! stands, the longest that begins there, the leftmost first; and again in
//! what it put in. A pure model of it: what the import proves itself against.

use crate::js::Js;
use aho_corasick::{AhoCorasick, MatchKind};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// No text that a name stands for may be larger, in bytes: configuration only.
const LARGEST: usize = 16 * 1024 * 1024;

/// Which of the original's accidents are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A name is replaced within a longer word, too.
    pub in_words: bool,
    /// A secret's name in a setting's value is replaced, too.
    pub secrets_in_settings: bool,
}

impl Rules {
    /// As the original does it.
    pub const ORIGINAL: Self = Self { in_words: true, secrets_in_settings: true };
}

/// Where a name is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// A setting of `platform.yml`.
    Platform,
    /// A secret of `config-leader.json`.
    Internal,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its value, taken out of an object with `value`; `None`: it has none.
    pub value: Option<Js>,
    /// Where it is from.
    pub whence: Whence,
}

/// A piece of a text. A name by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Text that stays.
    Text(&'t str),
    /// A name's value goes here.
    Name(usize),
}

/// A name within a longer word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InWord {
    /// The name.
    pub name: String,
    /// The word around it.
    pub word: String,
    /// The line, from 1.
    pub line: usize,
}

/// Why the original can't answer: a name with which it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    /// Values that name each other.
    #[error("the values go round in a circle: {}", .0.join(" -> "))]
    Circle(Vec<String>),
    /// A setting without a value.
    #[error("{0} has no value")]
    NoValue(String),
    /// Values that grow without bound.
    #[error("what {0} stands for is larger than 16 MiB")]
    TooLarge(String),
}

type Printed = Result<Rc<str>, Unprintable>;

/// What all names stand for.
pub struct Table {
    entries: IndexMap<String, Entry>,
    finder: Option<AhoCorasick>,
    rules: Rules,
    printed: RefCell<Vec<Option<Printed>>>,
}

impl Table {
    /// Settings win over secrets of the same name. A nameless one is nothing.
    pub fn new(
        settings: impl IntoIterator<Item = (String, Option<Js>)>,
        internals: impl IntoIterator<Item = (String, Option<Js>)>,
        rules: Rules,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut entries: IndexMap<String, Entry> = IndexMap::new();
        let tagged =
            |whence| move |(name, value): (String, Option<Js>)| (name, Entry { value: unwrapped(value), whence });
        let internals = internals.into_iter().map(tagged(Whence::Internal));
        let settings = settings.into_iter().map(tagged(Whence::Platform));
        entries.extend(internals.chain(settings).filter(|(name, _)| !name.is_empty()));
        let finder = if entries.is_empty() {
            None
        } else {
            Some(AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(entries.keys())?)
        };
        let printed = RefCell::new(vec![None; entries.len()]);
        Ok(Self { entries, finder, rules, printed })
    }

    /// All names with what they stand for.
    pub fn entries(&self) -> &IndexMap<String, Entry> {
        &self.entries
    }

    /// The name at a place.
    pub fn name(&self, index: usize) -> &str {
        self.entries.get_index(index).map_or("", |(name, _)| name)
    }

    /// The place of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.entries.get_index_of(name)
    }

    /// A file's text in pieces.
    pub fn pieces<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        self.cut(text, None)
    }

    /// The text of a name's value in pieces.
    pub fn pieces_of_value<'t>(&self, index: usize, text: &'t str) -> Vec<Piece<'t>> {
        self.cut(text, Some(index))
    }

    fn cut<'t>(&self, text: &'t str, inside: Option<usize>) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let mut done = 0;
        for found in self.finder.iter().flat_map(|finder| finder.find_iter(text)) {
            let index = found.pattern().as_usize();
            if !self.counts(index, text, found.start(), found.end(), inside) {
                continue;
            }
            pieces.push(Piece::Text(&text[done..found.start()]));
            pieces.push(Piece::Name(index));
            done = found.end();
        }
        pieces.push(Piece::Text(&text[done..]));
        pieces.retain(|piece| *piece != Piece::Text(""));
        pieces
    }

    fn counts(&self, index: usize, text: &str, start: usize, end: usize, inside: Option<usize>) -> bool {
        let is = |index: usize, whence| self.entries.get_index(index).is_some_and(|(_, entry)| entry.whence == whence);
        if !self.rules.secrets_in_settings
            && is(index, Whence::Internal)
            && inside.is_some_and(|inside| is(inside, Whence::Platform))
        {
            return false;
        }
        self.rules.in_words || around(text, start, end) == (start, end)
    }

    /// What a file's text becomes.
    pub fn render(&self, text: &str) -> Result<String, Unprintable> {
        self.join(&self.pieces(text))
    }

    fn join(&self, pieces: &[Piece<'_>]) -> Result<String, Unprintable> {
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(index) => out.push_str(&self.printed(*index)?),
            }
            if out.len() > LARGEST
                && let Piece::Name(index) = piece
            {
                return Err(Unprintable::TooLarge(self.name(*index).to_owned()));
            }
        }
        Ok(out)
    }

    /// What stands where a name stood.
    pub fn printed(&self, index: usize) -> Result<Rc<str>, Unprintable> {
        self.print(index, &mut Vec::new())
    }

    fn print(&self, index: usize, path: &mut Vec<usize>) -> Result<Rc<str>, Unprintable> {
        if let Some(done) = self.printed.borrow().get(index).cloned().flatten() {
            return done;
        }
        if let Some(start) = path.iter().position(|known| *known == index) {
            let circle = path[start..].iter().chain([&index]).map(|index| self.name(*index).to_owned());
            return Err(Unprintable::Circle(circle.collect()));
        }
        path.push(index);
        let result = self.print_anew(index, path);
        path.pop();
        // What is said of a circle depends on where it was entered.
        if path.is_empty() || result.is_ok() {
            self.printed.borrow_mut()[index] = Some(result.clone());
        }
        result
    }

    fn print_anew(&self, index: usize, path: &mut Vec<usize>) -> Result<Rc<str>, Unprintable> {
        let value = self.entries.get_index(index).and_then(|(_, entry)| entry.value.as_ref());
        let value = value.ok_or_else(|| Unprintable::NoValue(self.name(index).to_owned()))?;
        let text = value.printed();
        let mut out = String::with_capacity(text.len());
        for piece in self.pieces_of_value(index, &text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(other) => out.push_str(&self.print(other, path)?),
            }
            if out.len() > LARGEST {
                return Err(Unprintable::TooLarge(self.name(index).to_owned()));
            }
        }
        Ok(out.into())
    }

    /// The names that a name's value takes in, at once or by way of others.
    pub fn reached(&self, index: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![index];
        while let Some(at) = open.pop() {
            let Some(text) = self.entries.get_index(at).and_then(|(_, entry)| entry.value.as_ref()).map(Js::printed)
            else {
                continue;
            };
            for piece in self.pieces_of_value(at, &text) {
                if let Piece::Name(other) = piece
                    && reached.insert(other)
                {
                    open.push(other);
                }
            }
        }
        reached
    }

    /// The secrets that a setting's value takes in, at once or by way of others.
    pub fn secrets_in(&self, index: usize) -> Vec<&str> {
        let all = self.reached(index).into_iter().filter_map(|other| self.entries.get_index(other));
        all.filter(|(_, entry)| entry.whence == Whence::Internal).map(|(name, _)| name.as_str()).collect()
    }

    /// The names that stand within longer words of a text.
    pub fn in_words(&self, text: &str) -> Vec<InWord> {
        let mut all = Vec::new();
        for found in self.finder.iter().flat_map(|finder| finder.find_iter(text)) {
            let (start, end) = around(text, found.start(), found.end());
            if (start, end) != (found.start(), found.end()) {
                all.push(InWord {
                    name: self.name(found.pattern().as_usize()).to_owned(),
                    word: text[start..end].to_owned(),
                    line: text[..start].matches('\n').count() + 1,
                });
            }
        }
        all
    }
}

/// An object with a `value` that is something stands for that value, once.
pub(crate) fn unwrapped(value: Option<Js>) -> Option<Js> {
    match value.as_ref().and_then(|value| value.get("value")) {
        None | Some(Js::Null) => value,
        Some(inner) => Some(inner.clone()),
    }
}

/// The whole word that a piece of a text is part of.
fn around(text: &str, start: usize, end: usize) -> (usize, usize) {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let name = &text[start..end];
    let (mut from, mut to) = (start, end);
    if name.starts_with(word) {
        let before = &text[..start];
        from = before.trim_end_matches(word).len();
        // \n and the like, as JSON and regular expressions have them, are no part of a word.
        if before[..from].ends_with('\\') && from < start {
            from += before[from..].chars().next().map_or(0, char::len_utf8);
        }
    }
    if name.ends_with(word) {
        to = text.len() - text[end..].trim_start_matches(word).len();
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn table(settings: &Value, internals: &Value, rules: Rules) -> Table {
        let all = |value: &Value| {
            let Js::Map(entries) = Js::of_json(value) else { panic!() };
            entries.into_iter().map(|(name, value)| (name, Some(value))).collect::<Vec<_>>()
        };
        Table::new(all(settings), all(internals), rules).unwrap()
    }

    #[test]
    fn longest_leftmost_recursive_and_unwrapped() {
        let settings = json!({
            "A": "x", "AB": "[A]", "LIST": [1.50, null, "A"], "W": {"value": {"value": 3}}, "E": {"value": null},
            "N": null, "D": "$& $1 $$ \\", "SELF": "SELF", "S": "i"
        });
        let table = table(&settings, &json!({"A": "not this", "K": "keyAB"}), Rules::ORIGINAL);
        let render = |text: &str| table.render(text).unwrap();
        assert_eq!(render("ABA B"), "[x]x B");
        assert_eq!(render("LIST"), r#"[1.5,null,"x"]"#);
        assert_eq!(render("W E N"), r#"{"value":3} {"value":null} null"#);
        assert_eq!(render("D"), "$& $1 $$ \\");
        assert_eq!(render("K"), "key[x]");
        assert_eq!(table.render("SELF"), Err(Unprintable::Circle(vec!["SELF".into(), "SELF".into()])));
        assert_eq!(table.secrets_in(table.index("AB").unwrap()), Vec::<&str>::new());
    }

    #[test]
    fn whole_words_only_where_that_is_wished() {
        let settings = json!({"DOMAIN": "x.com", "SIZE": 20});
        let rules = Rules { in_words: false, ..Rules::ORIGINAL };
        let strict = table(&settings, &json!({}), rules);
        assert_eq!(strict.render("SUBDOMAIN DOMAIN SIZEm \\nDOMAIN").unwrap(), "SUBDOMAIN x.com SIZEm \\nx.com");
        let words = strict.in_words("a\nSUBDOMAIN DOMAIN\nSIZEm");
        let told: Vec<_> = words.iter().map(|word| (word.line, word.word.as_str(), word.name.as_str())).collect();
        assert_eq!(told, [(2, "SUBDOMAIN", "DOMAIN"), (3, "SIZEm", "SIZE")]);
    }

    #[test]
    fn a_secret_is_not_pulled_into_a_setting_where_that_is_wished() {
        let rules = Rules { secrets_in_settings: false, ..Rules::ORIGINAL };
        let table = table(&json!({"URL": "https://KEY@x"}), &json!({"KEY": "s3cret"}), rules);
        assert_eq!(table.render("URL KEY").unwrap(), "https://KEY@x s3cret");
    }
}
