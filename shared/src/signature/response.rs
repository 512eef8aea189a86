//! Responses: signed over their status, their content and the request they answer.

use super::base::{self, Message};
use super::input::{Component, find, parse_inputs};
use super::own::LABEL;
use super::{ALGORITHM, RequestSignature, SignatureHeaders, TAG};
use crate::dictionary::bytes_member;
use crate::{Key, Sha256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use sfv::BareItemFromInput;
use std::fmt::Write as _;

/// What of a response is covered beside its status and the request's signature.
#[derive(Debug, Clone, Copy)]
pub enum Cover<'a> {
    /// The value of `Content-Digest`.
    ContentDigest(&'a str),
    /// The value of `ETag`: a 304 has no content.
    Etag(&'a str),
}

/// Why a response is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseRefusal {
    /// No signature.
    #[error("the answer is not signed")]
    Unsigned,
    /// A signature that can't be checked or covers too little.
    #[error("the answer's signature can't be used: {0}")]
    Malformed(String),
    /// A MAC that doesn't match.
    #[error("the answer's signature is wrong: it was not made with this follower's key for this request")]
    Bad,
    /// Content that is not the signed one.
    #[error("the answer's content does not have the SHA-256 that its Content-Digest says")]
    Digest,
}

/// Signs a response to a verified request.
pub fn sign_response(
    key: &Key,
    keyid: &str,
    status: u16,
    cover: Cover<'_>,
    request: &RequestSignature,
    created: i64,
) -> SignatureHeaders {
    let (field, value) = match cover {
        Cover::ContentDigest(value) => ("content-digest", value),
        Cover::Etag(value) => ("etag", value),
    };
    let label = &*request.label;
    let mut base = String::with_capacity(512);
    base.push_str("\"@status\": ");
    let _ = write!(base, "{status}");
    push(&mut base, &["\n\"", field, "\": ", value, "\n\"signature\";req;key=\"", label, "\": :"]);
    push_base64(&mut base, &request.mac);
    base.push_str(":\n\"@signature-params\": ");
    let params_at = base.len();
    push(&mut base, &["(\"@status\" \"", field, "\" \"signature\";req;key=\"", label, "\");created="]);
    let _ = write!(base, "{created}");
    push(&mut base, &[";keyid=\"", keyid, "\";alg=\"", ALGORITHM, "\";tag=\"", TAG, "\""]);
    let mac = key.mac(base.as_bytes());
    let input = [LABEL, "=", &base[params_at..]].concat();
    let mut signature = String::with_capacity(64);
    push(&mut signature, &[LABEL, "=:"]);
    push_base64(&mut signature, &mac);
    signature.push(':');
    SignatureHeaders { input, signature, mac }
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
}

fn push_base64(text: &mut String, mac: &[u8; 32]) {
    let mut letters = [0; 44];
    let length = STANDARD.encode_slice(mac, &mut letters).unwrap_or(0);
    text.push_str(std::str::from_utf8(&letters[..length]).unwrap_or_default());
}

/// Verifies a response: signed with `key`, for the request that carried
/// `request`, with exactly this content.
pub fn verify_response(
    key: &Key,
    keyid: &str,
    status: u16,
    headers: &HeaderMap,
    request: &RequestSignature,
    body: &[u8],
) -> Result<(), ResponseRefusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let malformed = |why: &str| ResponseRefusal::Malformed(why.to_owned());
    let (Some(input_header), Some(signature_header)) = (header("signature-input"), header("signature")) else {
        return Err(ResponseRefusal::Unsigned);
    };
    let inputs = parse_inputs(input_header).ok_or_else(|| malformed("Signature-Input can't be parsed"))?;
    let is = |value: Option<&BareItemFromInput<'_>>, wanted: &str| matches!(value, Some(BareItemFromInput::String(text)) if text.as_str() == wanted);
    let input = inputs
        .iter()
        .find(|input| input.is_list && is(input.param("keyid"), keyid))
        .ok_or_else(|| malformed("no signature names this follower's key"))?;
    if input.param("alg").is_some() && !is(input.param("alg"), ALGORITHM) {
        return Err(malformed("the algorithm is not hmac-sha256"));
    }
    let names = |component: &Component<'_>, wanted: &str| is(component.name.as_ref(), wanted);
    let plain = |wanted: &str| input.components.iter().any(|c| c.params.is_empty() && names(c, wanted));
    let bound = input
        .components
        .iter()
        .any(|c| names(c, "signature") && matches!(find(&c.params, "req"), Some(BareItemFromInput::Boolean(true))));
    let content = if status == 304 { "etag" } else { "content-digest" };
    for (covered, what) in
        [(plain("@status"), "@status"), (plain(content), content), (bound, "the request's signature")]
    {
        if !covered {
            return Err(ResponseRefusal::Malformed(format!("{what} is not covered")));
        }
    }
    let mac = bytes_member(signature_header, input.label).ok_or_else(|| malformed("Signature lacks the label"))?;
    let message = Message::Response { status, headers, request: (&request.label, &request.mac) };
    let base = base::build(input, &message).map_err(ResponseRefusal::Malformed)?;
    if !key.verify(base.as_bytes(), &mac) {
        return Err(ResponseRefusal::Bad);
    }
    if status != 304 {
        let digest = header("content-digest").and_then(Sha256::from_content_digest);
        if digest != Some(Sha256::of(body)) {
            return Err(ResponseRefusal::Digest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::own::Own;
    use super::super::{Parts, Refusal, Window, check_body, sign_request, verify_request};
    use super::*;
    use crate::key::mac_with;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;

    #[test]
    fn rfc_9421_appendix_b_2_5() {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Tue, 20 Apr 2021 02:07:55 GMT"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let inputs = parse_inputs(
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        )
        .unwrap();
        let message = Message::Request {
            method: "POST",
            path: "/foo",
            query: Some("param=Value&Pet=dog"),
            authority: Some("example.com"),
            headers: &headers,
        };
        let base = base::build(&inputs[0], &message).unwrap();
        let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
        let mac = mac_with(&STANDARD.decode(secret).unwrap(), base.as_bytes());
        assert_eq!(STANDARD.encode(mac), "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    }

    const NOW: i64 = 1_800_000_000;
    const NONCE: &str = "abcdefghijklmnopqrstuv";

    fn key() -> Key {
        Key::from_bytes([1; 32])
    }

    fn signed(body: Option<&[u8]>) -> (HeaderMap, RequestSignature) {
        let digest = body.map(Sha256::of);
        let signed = sign_request(&key(), "core-1", ("POST", "/status", Some("a=b")), digest.as_ref(), NOW, NONCE);
        let mut headers = HeaderMap::new();
        headers.insert("signature-input", signed.input.parse().unwrap());
        headers.insert("signature", signed.signature.parse().unwrap());
        if let Some(digest) = digest {
            headers.insert("content-digest", digest.content_digest().parse().unwrap());
        }
        (headers, RequestSignature { label: "sig1".into(), mac: signed.mac })
    }

    fn verify(
        headers: &HeaderMap,
        has_body: bool,
        now: i64,
    ) -> Result<super::super::Verified<'_, &'static str>, Refusal> {
        let parts = Parts { method: "POST", path: "/status", query: Some("a=b"), authority: None, headers, has_body };
        let (right, decoy) = (key(), Key::from_bytes([9; 32]));
        verify_request(
            &parts,
            |name| (name == "core-1").then_some(("core-1", &right)),
            &decoy,
            now,
            Window { skew_seconds: 300 },
        )
    }

    #[test]
    fn a_signed_request_verifies_and_a_changed_one_does_not() {
        let (headers, _) = signed(Some(b"body"));
        let verified = verify(&headers, true, NOW + 300).unwrap();
        assert_eq!((verified.signer, &*verified.nonce), ("core-1", NONCE));
        assert_eq!(check_body(verified.digest, b"body"), Ok(()));
        assert_eq!(check_body(verified.digest, b"bodY"), Err(Refusal::Digest));
        assert!(matches!(verify(&headers, true, NOW + 301), Err(Refusal::Skew { .. })));
        let mut other = headers.clone();
        other.insert("content-digest", Sha256::of(b"bodY").content_digest().parse().unwrap());
        assert_eq!(verify(&other, true, NOW).unwrap_err(), Refusal::Bad);
        let (bodyless, _) = signed(None);
        assert!(verify(&bodyless, false, NOW).is_ok());
        assert!(matches!(verify(&bodyless, true, NOW), Err(Refusal::Malformed(_))));
        assert_eq!(verify(&HeaderMap::new(), false, NOW).unwrap_err(), Refusal::Unsigned);
    }

    #[test]
    fn a_response_is_bound_to_its_request_status_and_content() {
        let (_, request) = signed(None);
        let digest = Sha256::of(b"{}").content_digest();
        let answer = sign_response(&key(), "core-1", 200, Cover::ContentDigest(&digest), &request, NOW);
        let mut headers = HeaderMap::new();
        headers.insert("signature-input", answer.input.parse().unwrap());
        headers.insert("signature", answer.signature.parse().unwrap());
        headers.insert("content-digest", digest.parse().unwrap());
        let check = |status, request: &RequestSignature, body: &[u8]| {
            verify_response(&key(), "core-1", status, &headers, request, body)
        };
        assert_eq!(check(200, &request, b"{}"), Ok(()));
        assert_eq!(check(200, &request, b"{ }"), Err(ResponseRefusal::Digest));
        assert_eq!(check(403, &request, b"{}"), Err(ResponseRefusal::Bad));
        let other = RequestSignature { mac: [0; 32], ..request };
        assert_eq!(check(200, &other, b"{}"), Err(ResponseRefusal::Bad));
    }

    /// A second signature beside ours is none of our spelling: the whole is read by the book.
    fn by_the_book(headers: &HeaderMap) -> HeaderMap {
        let mut headers = headers.clone();
        for name in ["signature-input", "signature"] {
            let value = format!("{}, other=()", headers[name].to_str().unwrap());
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn our_own_spelling_is_known_again() {
        let (headers, _) = signed(None);
        let read = |headers: &HeaderMap| {
            Own::read(headers["signature-input"].to_str().unwrap(), headers["signature"].to_str().unwrap()).is_some()
        };
        assert!(read(&headers));
        assert!(!read(&by_the_book(&headers)));
        assert!(verify(&by_the_book(&headers), false, NOW).is_ok());
    }

    proptest::proptest! {
        /// Whatever is changed in what we write: known by its spelling or read by the book, the same is found.
        #[test]
        fn spelling_and_book_agree(
            at in 0_usize..260,
            piece in proptest::option::of("[ -~]"),
            insert: bool,
            in_signature: bool,
            ahead in -400_i64..400,
        ) {
            let signed = sign_request(&key(), "core-1", ("POST", "/status", Some("a=b")), None, NOW + ahead, NONCE);
            let mut texts = [signed.input, signed.signature];
            let text = &mut texts[usize::from(in_signature)];
            let at = at % text.len();
            text.replace_range(at..at + usize::from(!insert), piece.as_deref().unwrap_or_default());
            let mut headers = HeaderMap::new();
            headers.insert("signature-input", texts[0].parse().unwrap());
            headers.insert("signature", texts[1].parse().unwrap());
            let book = by_the_book(&headers);
            let (spelt, book) = (verify(&headers, false, NOW), verify(&book, false, NOW));
            match (&spelt, &book) {
                (Ok(one), Ok(other)) => assert_eq!(
                    (&one.nonce, &one.signature, one.created, one.digest),
                    (&other.nonce, &other.signature, other.created, other.digest)
                ),
                (Err(Refusal::Malformed(_)), Err(Refusal::Malformed(_))) => {}
                (Err(one), Err(other)) => assert_eq!(one, other),
                _ => panic!("{texts:?}: {spelt:?}, by the book {book:?}"),
            }
        }

        #[test]
        fn no_header_makes_it_panic(input in "[ -~]{0,120}", signature in "[ -~]{0,60}") {
            let mut headers = HeaderMap::new();
            headers.insert("signature-input", input.parse().unwrap());
            headers.insert("signature", signature.parse().unwrap());
            assert!(verify(&headers, false, NOW).is_err());
        }
    }
}
