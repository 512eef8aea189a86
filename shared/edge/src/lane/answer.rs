//! An answer as bytes, spelt as hyper spells it (RFC 9112).

use crate::clock;
use http::{HeaderMap, StatusCode};
use std::cell::RefCell;
use std::io::Write as _;

/// Writes the head of an answer to a `GET` over HTTP/1.1, with `length` bytes of
/// content; `last` where the connection ends with it.
pub(super) fn write_head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, length: usize, last: bool) {
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(b"HTTP/1.1 ");
    put(status.as_str().as_bytes());
    put(b" ");
    put(status.canonical_reason().unwrap_or("<none>").as_bytes());
    put(b"\r\n");
    for (name, value) in headers {
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
        put(b"\r\n");
    }
    if last {
        put(b"connection: close\r\n");
    }
    if has_content(status) {
        // Writing into memory can't fail.
        let _ = write!(out, "content-length: {length}\r\n");
    }
    out.extend_from_slice(b"date: ");
    write_date(out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Whether an answer with this status can have content (RFC 9110 sections 15.3.5 and 15.4.5).
pub(super) fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Now, as `Date` has it, spelt once a second.
fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        static SPELT: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    SPELT.with_borrow_mut(|(second, text)| {
        let now = clock::now();
        if *second != now {
            (*second, *text) = (now, clock::http_date(now));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
