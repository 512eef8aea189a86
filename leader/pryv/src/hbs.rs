//! Old template text to Handlebars: names become expressions, and what only
//! looks like one stays text.

use crate::table::Piece;

/// How a name's value is printed: `NAME` or `json NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    /// The setting's name.
    pub(crate) name: String,
    /// As compact JSON: lists, mappings, dates and nothing at all.
    pub(crate) json: bool,
}

impl Print {
    fn alone(&self) -> String {
        if self.json { format!("json {}", self.name) } else { self.name.clone() }
    }

    fn argument(&self) -> String {
        if self.json { format!("(json {})", self.name) } else { self.name.clone() }
    }
}

/// A template that renders to the pieces, each name's value printed.
pub(crate) fn template<'p>(pieces: &[Piece<'_>], print: impl Fn(usize) -> &'p Print) -> String {
    let mut out = String::new();
    // What must not stand directly before an expression goes into it.
    let mut held = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                flush(&mut out, &mut held);
                let bare = text.trim_end_matches(['{', '\\']);
                literal(&mut out, bare);
                held.push_str(&text[bare.len()..]);
            }
            Piece::Name(index) => {
                let print = print(*index);
                if held.is_empty() {
                    out.push_str(&format!("{{{{{}}}}}", print.alone()));
                } else {
                    out.push_str(&format!("{{{{concat {} {}}}}}", quoted(&held), print.argument()));
                    held.clear();
                }
            }
        }
    }
    flush(&mut out, &mut held);
    out
}

/// At the text's end, or before more of it.
fn flush(out: &mut String, held: &mut String) {
    if held.contains("{{") {
        out.push_str(&format!("{{{{concat {}}}}}", quoted(held)));
    } else {
        out.push_str(held);
    }
    held.clear();
}

/// Text in which `{{` is no expression. It doesn't end with a brace or backslash.
fn literal(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        // The whole run of braces, and the backslashes before it.
        let start = rest[..at].trim_end_matches(['{', '\\']).len();
        let end = at + rest[at..].len() - rest[at..].trim_start_matches('{').len();
        out.push_str(&rest[..start]);
        let run = &rest[start..end];
        if run == "{{" {
            out.push_str("\\{{");
        } else {
            out.push_str(&format!("{{{{concat {}}}}}", quoted(run)));
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_and_backslashes_stay() {
        let print = [Print { name: "A".into(), json: false }, Print { name: "B".into(), json: true }];
        let template = |pieces: &[Piece<'_>]| super::template(pieces, |index| &print[index]);
        let (a, b, text) = (Piece::Name(0), Piece::Name(1), |text| Piece::Text(text));
        assert_eq!(template(&[text("x: "), a, text(" y\n"), b]), "x: {{A}} y\n{{json B}}");
        assert_eq!(template(&[text("${"), a, text("} \\"), b]), r#"${{concat "{" A}}} {{concat "\\" (json B)}}"#);
        assert_eq!(
            template(&[text("{{ phone }} {{{x}}} \\{{y")]),
            r#"\{{ phone }} {{concat "{{{"}}x}}} {{concat "\\{{"}}y"#
        );
        assert_eq!(template(&[text("a\\"), text("{{")]), r#"a\{{concat "{{"}}"#);
    }
}
