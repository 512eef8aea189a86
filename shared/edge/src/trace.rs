//! One name for what one command set off, on every machine: the id of a
//! request, taken from whoever sent it or made here, said in the answer, in log
//! lines and in the audit, and passed on to followers and back.

use http::{HeaderName, HeaderValue, Response};
use lockstep_shared::Fields;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The field that carries a request's id, on requests and answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The field in which the answer to `GET /conf` names the request that published what it brings.
pub const CAUSE: HeaderName = HeaderName::from_static("lockstep-cause");
/// What tracing systems send (W3C Trace Context); its trace id is taken.
const TRACEPARENT: &str = "traceparent";
/// The longest id that is taken, in bytes.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request: 1 to 64 letters, digits, `.`, `_`, `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new one, unlike any other: random in its first half, counted in its second.
    pub fn new() -> Self {
        static PREFIX: OnceLock<u32> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = PREFIX.get_or_init(|| u32::from_le_bytes(crate::random::bytes()));
        let number = u64::from(*prefix) << 32 | u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let digit = |at: usize| char::from(b"0123456789abcdef"[(number >> (60 - 4 * at) & 15) as usize]);
        Self((0..16).map(digit).collect::<String>().into())
    }

    /// The id that a request came with, if it is one; otherwise a new one.
    pub fn of(headers: &impl Fields) -> Self {
        headers
            .first("x-request-id")
            .and_then(Self::parse)
            .or_else(|| Self::from_traceparent(headers.first(TRACEPARENT)?))
            .unwrap_or_default()
    }

    /// An id as somebody else spelt it; nothing that could forge a log line is one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.into()))
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`.
    fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sound = version.len() == 2 && hex(version) && trace.len() == 32 && hex(trace);
        (sound && trace.bytes().any(|byte| byte != b'0')).then(|| Self(trace.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says it in an answer.
    pub fn echo<B>(&self, answer: &mut Response<B>) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            answer.headers_mut().insert(REQUEST_ID, value);
        }
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The request that is being answered here, if one is.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Does this as part of a request.
pub async fn within<F: Future>(id: RequestId, work: F) -> F::Output {
    CURRENT.scope(id, work).await
}

/// The same for what blocks, on whatever thread it runs: it stays part of the request that it was made in.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (id, span) = (current(), tracing::Span::current());
    move || {
        let _entered = span.enter();
        match id {
            Some(id) => CURRENT.sync_scope(id, work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn of(name: &'static str, value: &str) -> String {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())]);
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn sane_ids_are_taken_and_others_made() {
        assert_eq!(of("x-request-id", "deploy-17.a_b"), "deploy-17.a_b");
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")), trace);
        let long = "x".repeat(65);
        for (name, bad) in [
            ("x-request-id", ""),
            ("x-request-id", "a b"),
            ("x-request-id", "a\tlevel=ERROR"),
            ("x-request-id", long.as_str()),
            ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            ("traceparent", "00-4bf9-00f067aa0ba902b7-01"),
        ] {
            let made = of(name, bad);
            assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{bad:?}: {made}");
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }

    #[tokio::test]
    async fn what_blocks_stays_part_of_its_request() {
        let id = RequestId::new();
        let seen = within(id.clone(), async { tokio::task::spawn_blocking(carried(current)).await.unwrap() }).await;
        assert_eq!(seen, Some(id));
        assert_eq!((current(), carried(current)()), (None, None));
    }
}
