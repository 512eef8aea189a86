//! The header fields of a message, wherever they are kept: what signatures and
//! answers look at, whichever way a request came in.

use http::HeaderMap;

/// Header fields by name.
pub trait Fields {
    /// The values of all lines of a field, in the order in which they came.
    /// `name` is in lower case; names match in any case (RFC 9110 section 5.1).
    fn lines<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]>;

    /// The first line's value, where there is one and it is text.
    fn first<'f>(&'f self, name: &'f str) -> Option<&'f str> {
        self.lines(name).next().and_then(text)
    }
}

impl Fields for HeaderMap {
    fn lines<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

/// A value as text: visible ASCII, spaces and tabs, as [`http::HeaderValue::to_str`] has it.
pub fn text(value: &[u8]) -> Option<&str> {
    // Without a way out of the loop, so that many bytes are looked at in one step.
    let visible = value.iter().fold(true, |visible, byte| visible & matches!(byte, b'\t' | 0x20..0x7f));
    visible.then(|| std::str::from_utf8(value).ok()).flatten()
}
