//! What [`super::sign_request`] writes, known again by its spelling. Nearly all
//! requests are signed by it, and what is spelt so needs no parser: its
//! parameters stand in the signature base as they stand in the header.

use super::{ALGORITHM, NONCE_MAX, NONCE_MIN, TAG};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The label that we sign under.
pub(super) const LABEL: &str = "sig1";
/// What is covered of a request without a body.
const COVERED: &str = "(\"@method\" \"@path\" \"@query\")";
/// The most digits of an integer (RFC 8941 section 3.3.1).
const DIGITS: usize = 15;

/// A signature of our own spelling, on a request without a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Own<'h> {
    /// The value of `@signature-params`.
    pub(super) params: &'h str,
    /// Unix seconds.
    pub(super) created: i64,
    pub(super) nonce: &'h str,
    pub(super) keyid: &'h str,
    pub(super) mac: [u8; 32],
}

impl<'h> Own<'h> {
    /// Reads `Signature-Input` and `Signature`. `None` says nothing about them,
    /// but that they have to be read by the book.
    pub(super) fn read(input: &'h str, signature: &str) -> Option<Self> {
        let params = labelled(input)?;
        let rest = params.strip_prefix(COVERED)?.strip_prefix(";created=")?;
        let (created, rest) = rest.split_once(';')?;
        let (nonce, rest) = rest.strip_prefix("nonce=\"")?.split_once('"')?;
        let (keyid, rest) = rest.strip_prefix(";keyid=\"")?.split_once('"')?;
        let rest =
            rest.strip_prefix(";alg=\"")?.strip_prefix(ALGORITHM)?.strip_prefix("\";tag=\"")?.strip_prefix(TAG)?;
        // As an integer is written, so that it is written so again.
        let written = (1..=DIGITS).contains(&created.len()) && matches!(created.as_bytes()[0], b'1'..=b'9');
        let sound = rest == "\""
            && written
            && created.bytes().all(|byte| byte.is_ascii_digit())
            && (NONCE_MIN..=NONCE_MAX).contains(&nonce.len())
            && plain(nonce)
            && plain(keyid);
        sound.then_some(())?;
        Some(Self { params, created: created.parse().ok()?, nonce, keyid, mac: mac(signature)? })
    }
}

fn labelled(member: &str) -> Option<&str> {
    member.strip_prefix(LABEL)?.strip_prefix('=')
}

fn mac(signature: &str) -> Option<[u8; 32]> {
    let text = labelled(signature)?.strip_prefix(':')?.strip_suffix(':')?;
    // Room for what 44 characters may be at most.
    let mut bytes = [0; 33];
    let length = (text.len() == 44).then(|| STANDARD.decode_slice(text, &mut bytes).ok()).flatten()?;
    bytes[..length].try_into().ok()
}

/// Whether a string is written as it is: nothing in it is escaped, or ends it.
fn plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_' | b'.')))
}
