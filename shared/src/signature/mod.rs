//! HTTP Message Signatures (RFC 9421) with `hmac-sha256`, as `docs/protocol.md`
//! narrows them: how requests and responses between leader and follower are
//! signed and verified. Pure: time, nonces and keys are passed in.

use std::borrow::Cow;

mod base;
mod input;
mod own;
mod request;
mod response;

pub use request::{
    CONTENT_DIGEST, Parts, Refusal, SIGNATURE, SIGNATURE_INPUT, Verified, Window, check_body, sign_request,
    verify_request,
};
pub use response::{Cover, ResponseRefusal, sign_response, verify_response};

/// The `tag` parameter of every lockstep signature.
pub const TAG: &str = "lockstep";
/// The only algorithm, by its RFC 9421 name.
pub const ALGORITHM: &str = "hmac-sha256";
/// The fewest characters of a nonce: 16 bytes as base64url.
pub const NONCE_MIN: usize = 22;
/// The most characters of a nonce.
pub const NONCE_MAX: usize = 256;

/// The two header values of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// `Signature-Input`.
    pub input: String,
    /// `Signature`.
    pub signature: String,
    /// The MAC itself, to tie a response to this request.
    pub mac: [u8; 32],
}

/// The label, and the MAC, that a response to a request is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSignature {
    /// The label under which the request carried it.
    pub label: Cow<'static, str>,
    /// The MAC.
    pub mac: [u8; 32],
}
