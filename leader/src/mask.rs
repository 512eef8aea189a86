//! What stands for secrets' values wherever content is shown. A template may
//! write a value in other forms than it has (`base64`, `json`, `upper`, ...), so
//! those are looked for as well.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use lockstep_shared::Sha256;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeSet;

/// What stands for a secret's value.
pub(crate) const SHOWN: &str = "••••••••";
/// Shorter texts are too likely to be something else.
const SHORTEST: usize = 4;
/// Shorter pieces of an encoded value are, too.
const SHORTEST_PIECE: usize = 8;

/// Finds values, all at once, in one walk over a text.
pub struct Mask {
    values: Option<AhoCorasick>,
}

impl Mask {
    /// For these values. Each is looked for as it is and as helpers may write it;
    /// one of many lines also line by line, since templates may indent it.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v String>) -> Self {
        let mut forms = BTreeSet::new();
        for value in values {
            add(&mut forms, value);
            for line in value.lines().map(str::trim) {
                add(&mut forms, line);
            }
        }
        if forms.is_empty() {
            return Self { values: None };
        }
        // Fails only past billions of bytes; then nothing may be shown at all.
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(forms);
        Self { values: Some(built.unwrap_or_else(|_| everything())) }
    }

    /// The text with every value masked.
    pub fn text(&self, text: &str) -> String {
        let Some(values) = &self.values else { return text.to_owned() };
        let mut out = String::with_capacity(text.len());
        values.replace_all_with(text, &mut out, |_, _, out| {
            out.push_str(SHOWN);
            true
        });
        out
    }

    /// Whether a value stands in bytes that are no text.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.values.as_ref().is_some_and(|values| values.is_match(bytes))
    }
}

/// Matches every single byte of ASCII: masks all there is.
fn everything() -> AhoCorasick {
    let all: Vec<[u8; 1]> = (0..128).map(|byte| [byte]).collect();
    AhoCorasick::new(all).unwrap_or_else(|_| unreachable!("128 patterns of one byte"))
}

fn add(forms: &mut BTreeSet<String>, value: &str) {
    if value.len() < SHORTEST {
        return;
    }
    let mut put = |form: String, shortest: usize| {
        if form.len() >= shortest {
            forms.insert(form);
        }
    };
    put(value.to_owned(), SHORTEST);
    put(value.to_uppercase(), SHORTEST);
    put(value.to_lowercase(), SHORTEST);
    put(escaped(value), SHORTEST);
    put(value.replace('"', "\\\""), SHORTEST);
    put(utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(), SHORTEST);
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    put(hex.to_uppercase(), SHORTEST_PIECE);
    put(hex, SHORTEST_PIECE);
    put(Sha256::of(value.as_bytes()).to_string(), SHORTEST_PIECE);
    // Within a longer text base64 writes a value in one of three ways, by what
    // stands before it; the letters at both ends are half somebody else's.
    for before in 0..3 {
        let padded = [&[0; 2][..before], value.as_bytes()].concat();
        let whole = padded.len() / 3 * 4;
        let start = [0, 2, 3][before];
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            put(text.get(start..whole).unwrap_or_default().to_owned(), SHORTEST_PIECE);
            if before == 0 {
                put(text, SHORTEST_PIECE);
            }
        }
    }
}

/// As JSON writes it within quotes.
fn escaped(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_value_is_found_in_every_form() {
        let value = "canary/\"9f3a\"+Zz".to_owned();
        let mask = Mask::new([&value]);
        for form in [
            value.clone(),
            value.to_uppercase(),
            serde_json::to_string(&value).unwrap(),
            utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string(),
            STANDARD.encode(&value),
            value.bytes().map(|byte| format!("{byte:02x}")).collect(),
            Sha256::of(value.as_bytes()).to_string(),
        ] {
            let shown = mask.text(&format!("a={form};"));
            assert!(shown.contains(SHOWN) && shown.len() < 30, "{form}: {shown}");
        }
        for user in ["", "u", "us", "use", "user:"] {
            for behind in ["", "@", "@h", "@ho"] {
                let text = format!("{user}{value}{behind}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert!(mask.text(&encoded).contains(SHOWN), "{text}: {encoded}");
                }
            }
        }
    }

    #[test]
    fn lines_are_found_where_they_are_indented_and_short_texts_left() {
        let value = "-----BEGIN-----\nMIIEvAIBADANBg\nabc\n-----END-----".to_owned();
        let mask = Mask::new([&value, &"on".to_owned(), &"a1b2c3".to_owned()]);
        assert_eq!(
            mask.text("k: |\n  MIIEvAIBADANBg\n  abc\non: a1b2c3a1b2c3\n"),
            format!("k: |\n  {SHOWN}\n  abc\non: {SHOWN}{SHOWN}\n")
        );
        assert!(mask.finds(b"\0\xffa1b2c3") && !mask.finds(b"\0on"));
        assert_eq!(Mask::new([]).text("plain"), "plain");
    }
}
