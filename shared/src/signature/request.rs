//! Requests: signing, and verifying up to (not including) the replay check,
//! which needs memory, and the body, which isn't there yet.

use super::base::{self, Message};
use super::input::{Input, parse_inputs};
use super::own::{LABEL, Own};
use super::{ALGORITHM, NONCE_MAX, NONCE_MIN, RequestSignature, SignatureHeaders, TAG};
use crate::dictionary::bytes_member;
use crate::fields::{Fields, text};
use crate::{Key, Problem, Sha256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header::HeaderName;
use sfv::BareItemFromInput;
use std::borrow::Cow;

/// RFC 9421 section 4.1.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// RFC 9421 section 4.2.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// RFC 9530 section 2.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What of a request is signed.
#[derive(Debug)]
pub struct Parts<'a, F> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path as it stands on the wire, percent-encoding and all.
    pub path: &'a str,
    /// What follows `?`, where there is one.
    pub query: Option<&'a str>,
    /// `Host`, where there is one.
    pub authority: Option<&'a str>,
    /// All header fields.
    pub headers: &'a F,
    /// Whether a body follows.
    pub has_body: bool,
}

/// How far a sender's clock may be off.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Seconds, in either direction; 300 unless configured.
    pub skew_seconds: u64,
}

/// A request whose MAC is right and whose time is in the window.
#[derive(Debug, Clone)]
pub struct Verified<'h, P> {
    /// Who signed it, as the caller's lookup found them.
    pub signer: P,
    /// The nonce, still to be checked for replay.
    pub nonce: Cow<'h, str>,
    /// For signing the response.
    pub signature: RequestSignature,
    /// The digest that the body must have, where one was covered.
    pub digest: Option<Sha256>,
    /// When it was signed, by the signer's clock: Unix seconds.
    pub created: i64,
}

/// Why a request is not let in; each is a 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No signature at all.
    #[error(
        "the request carries no signature: sign it by RFC 9421 with the follower's key (scripts/curl-conf shows how)"
    )]
    Unsigned,
    /// A signature that can't be checked, or lacks a required part.
    #[error("the signature is malformed: {0}")]
    Malformed(String),
    /// The MAC is wrong or the key unknown: the same for both.
    #[error(
        "the signature does not match under the key it names: compare the follower's name and key in config-leader.json and config-follower.json; one that joined has its key in follower.key, and lockstep followers list on the leader says whether it still follows"
    )]
    Bad,
    /// Right MAC, but signed outside the time window.
    #[error(
        "the request was signed at {created}, and it is {server_time} here: they may differ by {window} s; set the clock (timedatectl status)"
    )]
    Skew {
        /// What the sender's clock said, Unix seconds.
        created: i64,
        /// What the verifier's clock says, Unix seconds.
        server_time: i64,
        /// How far they may differ, seconds.
        window: u64,
        /// The signature that the answer is bound to.
        signature: RequestSignature,
        /// The follower's name.
        keyid: String,
    },
    /// The nonce was seen before.
    #[error("this request was received before (same nonce): sign every request anew")]
    Replayed,
    /// So many nonces are remembered for this key that no more fit.
    #[error("more requests were signed with this key within the time window than are remembered: wait and try again")]
    NoncesFull,
    /// The body's hash is not the covered one.
    #[error("the body does not have the SHA-256 that Content-Digest says")]
    Digest,
}

impl Refusal {
    /// The problem that is sent back.
    pub fn problem(&self) -> Problem {
        let (kind, title) = match self {
            Self::Unsigned => ("unsigned", "The request is not signed"),
            Self::Malformed(_) => ("malformed-signature", "The signature can't be checked"),
            Self::Bad => ("bad-signature", "The signature is wrong"),
            Self::Skew { .. } => ("clock-skew", "The clocks differ too much"),
            Self::Replayed | Self::NoncesFull => ("replayed", "The request was received before"),
            Self::Digest => ("digest-mismatch", "The body is not the one that was signed"),
        };
        let problem = Problem::new(401, kind, title, self.to_string());
        match self {
            Self::Skew { server_time, .. } => problem.with("server_time", *server_time),
            _ => problem,
        }
    }
}

/// Signs a request. `digest` is the body's hash, exactly when there is a body.
pub fn sign_request(
    key: &Key,
    keyid: &str,
    parts: (&str, &str, Option<&str>),
    digest: Option<&Sha256>,
    created: i64,
    nonce: &str,
) -> SignatureHeaders {
    let (method, path, query) = parts;
    let (covered, line) = match digest {
        Some(digest) => (" \"content-digest\"", format!("\"content-digest\": {}\n", digest.content_digest())),
        None => ("", String::new()),
    };
    let params = format!(
        "(\"@method\" \"@path\" \"@query\"{covered});created={created};nonce=\"{nonce}\";keyid=\"{keyid}\";alg=\"{ALGORITHM}\";tag=\"{TAG}\""
    );
    let mac = key.mac(own_base(method, path, query, &line, &params).as_bytes());
    let signature = format!("{LABEL}=:{}:", STANDARD.encode(mac));
    SignatureHeaders { input: format!("{LABEL}={params}"), signature, mac }
}

/// The base of what we sign ourselves. `line` is that of the digest, where there is a body.
fn own_base(method: &str, path: &str, query: Option<&str>, line: &str, params: &str) -> String {
    let query = query.unwrap_or_default();
    let parts = [
        "\"@method\": ",
        method,
        "\n\"@path\": ",
        path,
        "\n\"@query\": ?",
        query,
        "\n",
        line,
        "\"@signature-params\": ",
        params,
    ];
    parts.concat()
}

/// Verifies a request's signature and time. `find` finds a signer and their key by
/// name; `decoy` is used where there is none, so that an unknown key costs the same work.
pub fn verify_request<'h, 'k, P, F: Fields>(
    parts: &Parts<'h, F>,
    find: impl FnOnce(&str) -> Option<(P, &'k Key)>,
    decoy: &'k Key,
    now: i64,
    window: Window,
) -> Result<Verified<'h, P>, Refusal> {
    let malformed = |why: &str| Refusal::Malformed(why.to_owned());
    let (input_header, signature_header) =
        match (joined(parts.headers, "signature-input")?, joined(parts.headers, "signature")?) {
            (Some(input), Some(signature)) => (input, signature),
            (None, None) => return Err(Refusal::Unsigned),
            (None, Some(_)) => return Err(malformed("Signature came without Signature-Input")),
            (Some(_), None) => return Err(malformed("Signature-Input came without Signature")),
        };
    let decide = |signed: &Signed<'_>| signed.decide(find, decoy, now, window);
    if let (Cow::Borrowed(input), Cow::Borrowed(signature)) = (&input_header, &signature_header)
        && !parts.has_body
        && !parts.path.is_empty()
        && let Some(Own { params, created, nonce, keyid, mac }) = Own::read(input, signature)
    {
        let claims = Claims { created, expires: None, nonce, keyid };
        let base = own_base(parts.method, parts.path, parts.query, "", params);
        let (signer, signature) = decide(&Signed { base: &base, label: LABEL, mac: &mac, claims: &claims })?;
        return Ok(Verified { signer, nonce: Cow::Borrowed(nonce), signature, digest: None, created });
    }
    let inputs =
        parse_inputs(&input_header).ok_or_else(|| malformed("Signature-Input is not a dictionary of RFC 8941"))?;
    let input = ours(&inputs)?;
    let claims = claims(input)?;
    let digest = required_components(input, parts)?;
    let mac = bytes_member(&signature_header, input.label)
        .ok_or_else(|| malformed("Signature has no byte sequence under the same label"))?;
    let message = Message::Request {
        method: parts.method,
        path: parts.path,
        query: parts.query,
        authority: parts.authority,
        headers: parts.headers,
    };
    let base = base::build(input, &message).map_err(Refusal::Malformed)?;
    let (signer, signature) = decide(&Signed { base: &base, label: input.label, mac: &mac, claims: &claims })?;
    let nonce = Cow::Owned(claims.nonce.to_owned());
    Ok(Verified { signer, nonce, signature, digest, created: claims.created })
}

/// What was signed, and how.
struct Signed<'s> {
    base: &'s str,
    label: &'s str,
    mac: &'s [u8],
    claims: &'s Claims<'s>,
}

impl Signed<'_> {
    fn decide<'k, P>(
        &self,
        find: impl FnOnce(&str) -> Option<(P, &'k Key)>,
        decoy: &'k Key,
        now: i64,
        window: Window,
    ) -> Result<(P, RequestSignature), Refusal> {
        let Claims { created, expires, keyid, .. } = *self.claims;
        let known = find(keyid);
        let right = known.as_ref().map_or(decoy, |(_, key)| key).verify(self.base.as_bytes(), self.mac);
        let (Some((signer, _)), Ok(mac)) = (known.filter(|_| right), self.mac.try_into()) else {
            return Err(Refusal::Bad);
        };
        let label = if self.label == LABEL { Cow::Borrowed(LABEL) } else { Cow::Owned(self.label.to_owned()) };
        let signature = RequestSignature { label, mac };
        if expires.is_some_and(|expires| expires < now) || created.abs_diff(now) > window.skew_seconds {
            let keyid = keyid.to_owned();
            return Err(Refusal::Skew { created, server_time: now, window: window.skew_seconds, signature, keyid });
        }
        Ok((signer, signature))
    }
}

/// Checks a body against the digest that was covered.
pub fn check_body(covered: Option<Sha256>, body: &[u8]) -> Result<(), Refusal> {
    match covered {
        Some(digest) if digest != Sha256::of(body) => Err(Refusal::Digest),
        None if !body.is_empty() => {
            Err(Refusal::Malformed("there is a body, but content-digest is not covered".to_owned()))
        }
        _ => Ok(()),
    }
}

fn joined<'h>(headers: &'h impl Fields, name: &'static str) -> Result<Option<Cow<'h, str>>, Refusal> {
    let mut lines = headers.lines(name);
    let text = |line: &'h [u8]| text(line).ok_or_else(|| Refusal::Malformed(format!("{name} is not ASCII text")));
    let Some(first) = lines.next() else { return Ok(None) };
    let mut value = Cow::Borrowed(text(first)?);
    for line in lines {
        let line = text(line)?;
        value.to_mut().push_str(", ");
        value.to_mut().push_str(line);
    }
    Ok(Some(value))
}

/// The one signature that is tagged as lockstep's; others may stand beside it.
fn ours<'i, 'a>(inputs: &'i [Input<'a>]) -> Result<&'i Input<'a>, Refusal> {
    let tagged =
        |input: &&Input<'_>| matches!(input.param("tag"), Some(BareItemFromInput::String(tag)) if tag.as_str() == TAG);
    let mut candidates = inputs.iter().filter(tagged);
    match (candidates.next(), candidates.next()) {
        (Some(input), None) if input.is_list => Ok(input),
        (Some(_), None) => Err(Refusal::Malformed("the signature's input is not a list of components".to_owned())),
        (None, _) => Err(Refusal::Malformed(format!("no signature has tag=\"{TAG}\""))),
        (Some(_), Some(_)) => Err(Refusal::Malformed(format!("more than one signature has tag=\"{TAG}\""))),
    }
}

struct Claims<'i> {
    created: i64,
    expires: Option<i64>,
    nonce: &'i str,
    keyid: &'i str,
}

fn claims<'i>(input: &'i Input<'_>) -> Result<Claims<'i>, Refusal> {
    let text = |name: &str| match input.param(name) {
        Some(BareItemFromInput::String(text)) => Ok(Some(text.as_str())),
        None => Ok(None),
        Some(_) => Err(Refusal::Malformed(format!("the parameter {name} is not a quoted string"))),
    };
    let time = |name: &str| match input.param(name) {
        Some(BareItemFromInput::Integer(seconds)) => Ok(Some(i64::from(*seconds))),
        None => Ok(None),
        Some(_) => Err(Refusal::Malformed(format!("the parameter {name} is not an integer of Unix seconds"))),
    };
    let missing = |name: &str| Refusal::Malformed(format!("the parameter {name} is missing"));
    if let Some(alg) = text("alg")?.filter(|alg| *alg != ALGORITHM) {
        return Err(Refusal::Malformed(format!("the algorithm {alg:?} is not supported, only {ALGORITHM}")));
    }
    let nonce = text("nonce")?.ok_or_else(|| missing("nonce"))?;
    if !(NONCE_MIN..=NONCE_MAX).contains(&nonce.len()) {
        return Err(Refusal::Malformed(format!(
            "the nonce has {} characters: {NONCE_MIN} to {NONCE_MAX} are expected (16 random bytes or more, base64url)",
            nonce.len()
        )));
    }
    Ok(Claims {
        created: time("created")?.ok_or_else(|| missing("created"))?,
        expires: time("expires")?,
        nonce,
        keyid: text("keyid")?.ok_or_else(|| missing("keyid"))?,
    })
}

/// Checks that all that must be covered is; the covered digest, if any.
fn required_components(input: &Input<'_>, parts: &Parts<'_, impl Fields>) -> Result<Option<Sha256>, Refusal> {
    let covers = |wanted: &str| {
        input.components.iter().any(|component| {
            component.params.is_empty()
                && matches!(&component.name, Some(BareItemFromInput::String(name)) if name.as_str() == wanted)
        })
    };
    for name in ["@method", "@path", "@query"] {
        if !covers(name) {
            return Err(Refusal::Malformed(format!("the component \"{name}\" is not covered")));
        }
    }
    if !covers("content-digest") {
        return if parts.has_body {
            Err(Refusal::Malformed("there is a body, but \"content-digest\" is not covered".to_owned()))
        } else {
            Ok(None)
        };
    }
    let header = joined(parts.headers, "content-digest")?
        .ok_or_else(|| Refusal::Malformed("content-digest is covered, but there is no Content-Digest".to_owned()))?;
    Sha256::from_content_digest(&header)
        .map(Some)
        .ok_or_else(|| Refusal::Malformed("Content-Digest has no sha-256 member (RFC 9530)".to_owned()))
}
