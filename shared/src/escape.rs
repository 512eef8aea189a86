//! A text as a JSON string (RFC 8259 section 7), the same bytes as `serde_json`
//! writes. That looks at each byte by itself, which for a bundle took longer than
//! rendering it: here eight are looked at in one step.

/// Each byte of a word.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Appends `text` in quotes.
pub(crate) fn quoted(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    out.push(b'"');
    loop {
        let (plain, escaped) = rest.split_at(plain(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = escaped.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(*b"\\n"),
            b'\t' => out.extend(*b"\\t"),
            b'\r' => out.extend(*b"\\r"),
            0x08 => out.extend(*b"\\b"),
            0x0c => out.extend(*b"\\f"),
            _ => out.extend([b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        rest = after;
    }
    out.push(b'"');
}

/// How many bytes at the beginning stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    let mut words = bytes.chunks_exact(8);
    let mut length = 0;
    for word in words.by_ref() {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return length + found.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let odd = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    length + words.remainder().iter().position(odd).unwrap_or(words.remainder().len())
}

/// The top bit of each byte that is `value`; the lowest that is set is right.
fn equal(word: u64, value: u8) -> u64 {
    below(word ^ (EACH * u64::from(value)), 1)
}

/// The top bit of each byte that is less than `least`; the lowest that is set is right.
fn below(word: u64, least: u64) -> u64 {
    word.wrapping_sub(EACH * least) & !word & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(text: &str) {
        let mut out = b"before".to_vec();
        quoted(&mut out, text);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{}", serde_json::to_string(text).unwrap()));
    }

    #[test]
    fn every_ascii_byte_at_every_place_of_a_word() {
        for byte in 0..128u8 {
            for place in 0..17 {
                let mut text = "\u{e4}bcdefghijklmnopqr".to_owned();
                text.insert(text.floor_char_boundary(place), char::from(byte));
                same(&text);
            }
        }
        same("");
    }

    proptest! {
        #[test]
        fn any_text(text in any::<String>()) {
            same(&text);
        }

        #[test]
        fn texts_that_need_much(text in "[\u{0}-\u{24}\\\\\u{5b}-\u{5d}\u{7f}-\u{ff}]{0,80}") {
            same(&text);
        }
    }
}
