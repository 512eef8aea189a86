//! Text that others chose, made fit for a terminal: whatever would move the
//! cursor, colour, reorder or hide is shown as what it is.

/// The text with control and formatting characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || formats(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Unicode's invisible and reordering characters (general categories Cf, Zl, Zp).
fn formats(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable("Zoë: ok\n\x1b[2J\u{202e}\u{2028}"), "Zoë: ok\\n\\u{1b}[2J\\u{202e}\\u{2028}");
    }
}
