//! Names that lockstep's settings may have, for names that the original took.

use std::collections::{BTreeMap, BTreeSet};

/// Words of the template language and of its context.
const TAKEN: [&str; 10] = ["machine", "machines", "revision", "release", "this", "as", "else", "true", "false", "null"];

/// A setting's name for each of these.
pub(crate) fn safe<'n>(names: impl IntoIterator<Item = &'n str>) -> BTreeMap<String, String> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut taken: BTreeSet<String> = names.iter().filter(|name| fits(name)).map(|name| (*name).to_owned()).collect();
    let mut safe = BTreeMap::new();
    for name in names {
        if fits(name) {
            safe.insert(name.to_owned(), name.to_owned());
            continue;
        }
        let near = near(name);
        let ways = (1..).map(|number| if number == 1 { near.clone() } else { format!("{near}_{number}") });
        if let Some(free) = ways.into_iter().find(|way| fits(way) && !taken.contains(way)) {
            taken.insert(free.clone());
            safe.insert(name.to_owned(), free);
        }
    }
    safe
}

fn fits(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !TAKEN.contains(&name)
        && !lockstep_leader::templates::is_helper(name)
}

fn near(name: &str) -> String {
    let mut near = String::new();
    for char in name.chars() {
        match char {
            'ä' => near.push_str("ae"),
            'ö' => near.push_str("oe"),
            'ü' => near.push_str("ue"),
            'ß' => near.push_str("ss"),
            'Ä' => near.push_str("AE"),
            'Ö' => near.push_str("OE"),
            'Ü' => near.push_str("UE"),
            char if char.is_ascii_alphanumeric() => near.push(char),
            _ => near.push('_'),
        }
    }
    if fits(&near) { near } else { format!("_{near}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn odd_names_get_near_ones() {
        let safe = super::safe(["A_B", "A-B", "A.B", "GRÖSSE", "1ST", "json", "this", "$"]);
        let safe: Vec<_> = safe.iter().map(|(old, new)| format!("{old}={new}")).collect();
        assert_eq!(safe.join(" "), "$=_ 1ST=_1ST A-B=A_B_2 A.B=A_B_3 A_B=A_B GRÖSSE=GROESSE json=_json this=_this");
    }
}
