//! `${NAME}` in values: a reference to another setting. `$${` is a literal `${`.

/// A piece of a text with references.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Text as it is.
    Text(&'t str),
    /// The value of the setting with this name.
    Name(&'t str),
}

/// Cuts a text into pieces; the error is the place of a `${` that never ends
/// or names nothing that could be a setting.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, &str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let inner = &rest[at + 2..];
        let name = inner.find('}').map(|end| &inner[..end]).filter(|name| is_name(name)).ok_or(&rest[at..])?;
        pieces.push(Piece::Name(name));
        rest = &inner[name.len() + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::Piece::{Name, Text};
    use super::pieces;

    #[test]
    fn cuts_and_unescapes() {
        assert_eq!(pieces("https://sw.${DOMAIN}/x").unwrap(), [Text("https://sw."), Name("DOMAIN"), Text("/x")]);
        assert_eq!(pieces("$${DOMAIN} $5 {x}").unwrap(), [Text("${"), Text("DOMAIN} $5 {x}")]);
        assert_eq!(pieces("").unwrap(), []);
        assert!(pieces("${").is_err());
        assert!(pieces("a ${not a name}").is_err());
    }
}
