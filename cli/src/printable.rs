//! Text that others chose, made fit for a terminal: whatever would move the
//! cursor, colour, reorder or hide is shown as what it is.

use std::fmt::Write as _;

/// The text on one line, with control and formatting characters escaped.
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

/// The same on as many lines as it has, those after the first set off: the end of a container's log, say.
pub(crate) fn paragraph(text: &str) -> String {
    let mut lines = text.trim_end().lines();
    let mut out = lines.next().map(|first| printable(first.trim_end())).unwrap_or_default();
    for line in lines {
        // What is set off in a log by tabs stays so.
        let _ = write!(out, "\n    | {}", printable(&line.trim_end().replace('\t', "    ")));
    }
    out
}

/// Its first line, where there is room for one; three dots say that there is more.
pub(crate) fn headline(text: &str) -> String {
    match text.trim_end().split_once('\n') {
        Some((first, _)) => format!("{} ...", printable(first.trim_end())),
        None => printable(text.trim_end()),
    }
}

/// Unicode's invisible and reordering characters (general categories Cf, Zl, Zp).
fn formats(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable("Zoë: ok\n\x1b[2J\u{202e}\u{2028}"), "Zoë: ok\\n\\u{1b}[2J\\u{202e}\\u{2028}");
    }

    #[test]
    fn a_log_keeps_its_lines_and_nothing_else() {
        let log = "web died; the end of its log: \nstarting\r\n\tat \x1b[31mmain\n";
        assert_eq!(paragraph(log), "web died; the end of its log:\n    | starting\n    |     at \\u{1b}[31mmain");
        assert_eq!(headline(log), "web died; the end of its log: ...");
        assert_eq!((paragraph("one"), headline("one\n")), ("one".to_owned(), "one".to_owned()));
    }
}
