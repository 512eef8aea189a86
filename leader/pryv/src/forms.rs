//! Values of the original as values of lockstep: with `${NAME}` where a value
//! names a setting, and in the plainest form that still prints the same bytes.

use crate::hbs::Print;
use crate::js::Js;
use crate::table::{Piece, Table, Whence};
use lockstep_leader::yaml::{Key, Kind, Node};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Of the 64 levels of a YAML file some are for what is around a value.
const DEEPEST: usize = 50;

/// How faithful to the old value's shape a new one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// The same type, texts with references.
    Natural,
    /// A text, of JSON where it was no text, with references.
    Text,
    /// The text that is printed in the end.
    Literal,
}

impl Form {
    /// The first one that may do: lockstep's files aren't nested without end.
    pub(crate) fn first(value: Option<&Js>) -> Self {
        if value.is_some_and(|value| value.depth() > DEEPEST) { Self::Text } else { Self::Natural }
    }

    /// The next one that may do.
    pub(crate) fn plainer(self) -> Self {
        if self == Self::Natural { Self::Text } else { Self::Literal }
    }
}

/// The settings that values may refer to, by place: their names in lockstep.
pub(crate) struct References<'t> {
    pub(crate) table: &'t Table,
    pub(crate) names: &'t BTreeMap<String, String>,
    /// Those that are settings, with a value, and no secrets.
    pub(crate) settings: BTreeSet<usize>,
}

impl References<'_> {
    /// A value in a form, as it stands in `platform.yml` or as a default.
    pub(crate) fn node(&self, index: usize, value: &Js, form: Form) -> Node {
        match form {
            Form::Natural => self.natural(index, value),
            Form::Text => Node::text_of(&self.referring(index, &value.printed())),
            Form::Literal => {
                let text = self.table.printed(index).map_or_else(|_| value.printed(), |text| text.to_string());
                Node::text_of(&escaped(&text))
            }
        }
    }

    fn natural(&self, index: usize, value: &Js) -> Node {
        let kind = match value {
            Js::Text(text) | Js::Date(text) => return Node::text_of(&self.referring(index, text)),
            Js::Null | Js::Bool(_) | Js::Number(_) => Kind::Scalar { text: value.json(), plain: true },
            Js::List(items) => Kind::List(items.iter().map(|item| self.natural(index, item)).collect()),
            Js::Map(entries) => {
                let entry =
                    |(name, value): &(String, Js)| (Key { text: name.clone(), at: (0, 0) }, self.natural(index, value));
                Kind::Map(entries.iter().map(entry).collect())
            }
        };
        Node { kind, at: (0, 0) }
    }

    /// A text with `${NAME}` for every setting that it names. What can't be
    /// referred to is put in as it is now.
    fn referring(&self, index: usize, text: &str) -> String {
        let mut out = String::new();
        for piece in self.table.pieces_of_value(index, text) {
            match piece {
                Piece::Text(text) => out.push_str(&escaped(text)),
                // After a dollar, ${ would be no reference.
                Piece::Name(other) if self.settings.contains(&other) && !out.ends_with('$') => {
                    let name = self.table.name(other);
                    out.push_str(&format!("${{{}}}", self.names.get(name).map_or(name, String::as_str)));
                }
                Piece::Name(other) => match self.table.printed(other) {
                    Ok(text) => out.push_str(&escaped(&text)),
                    Err(_) => out.push_str(&escaped(self.table.name(other))),
                },
            }
        }
        out
    }
}

/// A text in which `${` is no reference.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// How a value in a form is printed.
pub(crate) fn print(name: &str, value: &Js, form: Form) -> Print {
    let json = form == Form::Natural && !matches!(value, Js::Text(_) | Js::Bool(_) | Js::Number(_));
    Print { name: name.to_owned(), json }
}

/// A JSON Schema's `type` for a value; nothing where it doesn't show.
pub(crate) fn kind(value: &Js, form: Form) -> Option<&'static str> {
    Some(match value {
        _ if form != Form::Natural => "string",
        Js::Null => return None,
        Js::Bool(_) => "boolean",
        Js::Number(number) if number.fract() == 0.0 => "integer",
        Js::Number(_) => "number",
        Js::Text(_) | Js::Date(_) => "string",
        Js::List(_) => "array",
        Js::Map(_) => "object",
    })
}

/// The schema: where the type was only seen on a value, it says so.
pub(crate) fn schema(value: &Js, default: Option<&Js>, form: Form) -> Option<Value> {
    let kinds = [Some(value), default].into_iter().flatten().filter_map(|value| kind(value, form));
    let mut kinds: Vec<&str> = kinds.collect();
    if kinds.contains(&"number") {
        kinds.retain(|kind| *kind != "integer");
    }
    kinds.dedup();
    match kinds[..] {
        [] => None,
        [one, ..] => Some(json!({"type": one, "$comment": "type inferred from the value at the import"})),
    }
}

/// Whether a secret's or setting's text is printed exactly so by lockstep.
pub(crate) fn prints(value: &Value, print: &Print) -> Option<String> {
    match value {
        _ if print.json => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The settings of a table, and those of its names that become secrets: all
/// internals, and settings that take one in.
pub(crate) fn secrets(table: &Table) -> BTreeSet<usize> {
    let all = table.entries().values().enumerate();
    all.filter(|(index, entry)| entry.whence == Whence::Internal || !table.secrets_in(*index).is_empty())
        .map(|(index, _)| index)
        .collect()
}
