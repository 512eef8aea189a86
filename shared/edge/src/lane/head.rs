//! What may be answered here, judged by its bytes. When in doubt, it may not.

use crate::Limits;
use httparse::{Header, Request, Status};
use lockstep_shared::Fields;
use lockstep_shared::signature::Parts;
use std::mem::MaybeUninit;

/// More fields than the limits let in by far; with more, it is hyper's.
const MOST_FIELDS: usize = 64;

/// The head of a `GET` that has no body.
#[derive(Debug)]
pub struct Head<'b> {
    /// The path, as it stands on the wire.
    pub path: &'b str,
    /// What follows `?`, where there is one.
    pub query: Option<&'b str>,
    /// The header fields.
    pub fields: Lines<'b>,
}

impl<'b> Head<'b> {
    /// What of it is signed.
    pub fn parts(&self) -> Parts<'_, Lines<'b>> {
        let (authority, headers) = (self.fields.first("host"), &self.fields);
        Parts { method: "GET", path: self.path, query: self.query, authority, headers, has_body: false }
    }
}

/// Header fields as they came.
#[derive(Debug)]
pub struct Lines<'b>(&'b [Header<'b>]);

impl Fields for Lines<'_> {
    fn lines<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        let named = move |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|field| field.value)
    }
}

/// What the first bytes of a request are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged<T> {
    /// A whole head of so many bytes, and what was made of it.
    Whole(usize, T),
    /// The beginning of a head.
    Partial,
    /// Not for here: for hyper, from the first byte on.
    Cold,
}

/// Judges the first bytes of a request; `work` gets the head, if it may be answered here.
pub(super) fn judge<T>(
    bytes: &[u8],
    limits: &Limits,
    takes: impl FnOnce(&str) -> bool,
    work: impl FnOnce(&Head<'_>) -> T,
) -> Judged<T> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) => length,
        // Past what is taken, it is hyper's to say so.
        Ok(Status::Partial) if bytes.len() <= 2 * limits.header_bytes => return Judged::Partial,
        Ok(Status::Partial) | Err(_) => return Judged::Cold,
    };
    let (Some("GET"), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Judged::Cold;
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !plain(target) || !bounded(request.headers, limits) || !takes(path) {
        return Judged::Cold;
    }
    Judged::Whole(length, work(&Head { path, query, fields: Lines(request.headers) }))
}

/// Whether an address means the same to everybody: a path from the root, and nothing to normalize.
fn plain(target: &str) -> bool {
    let known = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~' | b'%' | b'?' | b'=' | b'&')
    };
    target.starts_with('/') && target.bytes().all(known)
}

/// Whether the fields are within the limits, and none says anything of a body or of the connection.
fn bounded(fields: &[Header<'_>], limits: &Limits) -> bool {
    let (mut bytes, mut hosts) = (0, 0);
    for field in fields {
        bytes += field.name.len() + field.value.len() + 4;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let meant_otherwise = match field.name.len() {
            2 => is("te"),
            4 => {
                hosts += usize::from(is("host"));
                hosts > 1
            }
            6 => is("expect"),
            7 => is("upgrade") || is("trailer"),
            10 => is("connection") || is("keep-alive"),
            14 => is("content-length") || is("content-digest"),
            16 => is("proxy-connection"),
            17 => is("transfer-encoding"),
            _ => false,
        };
        if meant_otherwise {
            return false;
        }
    }
    hosts == 1 && bytes <= limits.header_bytes && fields.len() <= limits.headers
}
