//! Secrets that the original made up. Where `config-leader.json` says
//! `SECRET`, its leader takes a random value at each start and keeps it
//! nowhere: only the files that it served have it, and it is read off those.

use crate::js::Js;
use crate::table::{Piece, Table};
use std::collections::{BTreeMap, BTreeSet};

/// What stands for a value to be made up.
const MADE_UP: &str = "SECRET";
/// How many characters such a value has, of `a` to `z` and `0` to `9`.
const LENGTH: usize = 32;

/// The secrets that the original makes up.
pub(crate) fn made_up(internals: &[(String, Js)]) -> BTreeSet<String> {
    internals.iter().filter(|(_, value)| value.text() == Some(MADE_UP)).map(|(name, _)| name.clone()).collect()
}

/// Reads values off what a file of the template tree became. Nothing comes of
/// a file that differs in anything else.
pub(crate) fn from_file(
    table: &Table,
    unknown: &BTreeSet<String>,
    template: &str,
    served: &str,
) -> BTreeMap<String, String> {
    read(table, unknown, template, served).unwrap_or_default()
}

fn read(table: &Table, unknown: &BTreeSet<String>, template: &str, served: &str) -> Option<BTreeMap<String, String>> {
    let hides = |index: usize| table.reached(index).into_iter().any(|inner| unknown.contains(table.name(inner)));
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = served;
    for piece in table.pieces(template) {
        match piece {
            Piece::Text(text) => rest = rest.strip_prefix(text)?,
            Piece::Name(index) if unknown.contains(table.name(index)) => {
                let value = rest
                    .get(..LENGTH)
                    .filter(|value| value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))?;
                let known = found.entry(table.name(index).to_owned()).or_insert_with(|| value.to_owned());
                rest = rest.strip_prefix(known.as_str())?;
            }
            // Its value takes in one that isn't known.
            Piece::Name(index) if hides(index) => return None,
            Piece::Name(index) => rest = rest.strip_prefix(&*table.printed(index).ok()?)?,
        }
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Rules;

    #[test]
    fn values_are_read_off_what_was_served() {
        let text = |text: &str| Js::Text(text.to_owned());
        let internals = [("KEY".to_owned(), text("SECRET")), ("GIVEN".to_owned(), text("abc"))];
        let unknown = made_up(&internals);
        let table = Table::new(
            [("DOMAIN".to_owned(), Some(text("x.com")))],
            internals.into_iter().map(|(name, value)| (name, Some(value))),
            Rules::ORIGINAL,
        );
        let table = table.unwrap();
        let value = "0123456789abcdef0123456789abcdef";
        let read = |served: &str| from_file(&table, &unknown, "a KEY@DOMAIN GIVEN KEY\n", served);
        assert_eq!(read(&format!("a {value}@x.com abc {value}\n"))["KEY"], value);
        assert!(read(&format!("a {value}@y.com abc {value}\n")).is_empty());
        assert!(read(&format!("a {value}@x.com abc {}\n", value.replace('0', "1"))).is_empty());
    }
}
