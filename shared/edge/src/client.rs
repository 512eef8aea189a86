//! The one HTTP client: signs what it sends, refuses what isn't signed back.

use crate::tls::{self, Pins};
use crate::{clock, random};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lockstep_shared::signature::{RequestSignature, ResponseRefusal, sign_request, verify_response};
use lockstep_shared::{Key, Problem, Sha256};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);

/// A peer, seen from here: its addresses and the key shared with it.
pub struct Client {
    /// For requests without a body, and for those with one. A connection that only ever carried
    /// the former costs the peer a quarter of what it costs else, for as long as a request is held.
    http: [reqwest::Client; 2],
    /// Where it may be, at least one; the one that answered last is tried first.
    bases: ArcSwap<Vec<reqwest::Url>>,
    current: AtomicUsize,
    keyid: String,
    /// The key, and how many there were before it.
    key: ArcSwap<(u64, Key)>,
    /// Seconds that the peer's clock is ahead of ours, once it said so.
    skew: AtomicI64,
    /// Largest answer that is read, in bytes.
    most: usize,
}

/// Whom `https://` is believed to be.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Who has a certificate for the address, from an authority of the system: a proxy in front.
    System,
    /// Who has a certificate for `identity` from a pinned authority, and nobody else.
    Pinned {
        /// The authorities.
        pins: Arc<Pins>,
        /// The name in the certificate ([`tls::identity`]).
        identity: String,
    },
}

/// A verified answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its content.
    pub body: Bytes,
    /// The number of the key that it is signed with.
    pub key: u64,
}

impl Answer {
    /// The problem that the answer says, if it is an error.
    pub fn problem(&self) -> Option<Problem> {
        if self.status.is_success() || self.status == StatusCode::NOT_MODIFIED {
            return None;
        }
        let told = serde_json::from_slice(&self.body).ok();
        Some(told.unwrap_or_else(|| {
            Problem::new(self.status.as_u16(), "unknown", "The answer is an error", format!("HTTP {}", self.status))
        }))
    }
}

/// Why a call gave no verified answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is none.
    #[error("{0:?} is not an http:// or https:// address")]
    Address(String),
    /// The client could not be set up.
    #[error("the HTTP client could not be set up: {0}")]
    Setup(#[source] reqwest::Error),
    /// What is pinned can't be used.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
    /// The peer was not reached, or the connection broke off.
    #[error("{url} was not reached: {why}")]
    Unreached {
        /// What was called.
        url: String,
        /// The innermost cause.
        why: String,
    },
    /// Who answers is not who should, or speaks no TLS. Nothing was sent.
    #[error("{url}: {why}")]
    Unproven {
        /// What was called.
        url: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// None of several addresses gave a verified answer.
    #[error("none of {} addresses gave an answer: {}", .0.len(), all(.0))]
    Nowhere(Vec<CallError>),
    /// The answer is larger than what is read.
    #[error("the answer of {url} is larger than {most} bytes")]
    TooLarge {
        /// What was called.
        url: String,
        /// The limit.
        most: usize,
    },
    /// The answer is not signed as it must be.
    #[error("{url} answered {status}: {source}{said}")]
    Untrusted {
        /// What was called.
        url: String,
        /// The status it claims.
        status: StatusCode,
        /// What is wrong with the signature.
        source: ResponseRefusal,
        /// What it said, if it was a problem; not to be believed, only shown.
        said: String,
    },
}

impl Client {
    /// A client for the peer at `base`, verified by the system where it is
    /// `https://`. The key's name is the follower's, in both directions.
    pub fn new(base: &str, keyid: &str, key: Key, most: usize) -> Result<Self, CallError> {
        Self::trusting(&[base.to_owned()], keyid, key, most, &Trust::System)
    }

    /// A client for the peer that is at one of these addresses, tried in this
    /// order, and believed by `trust`.
    pub fn trusting(
        addresses: &[String],
        keyid: &str,
        key: Key,
        most: usize,
        trust: &Trust,
    ) -> Result<Self, CallError> {
        let bases = bases(addresses)?;
        let clear = bases.iter().all(|base| base.scheme() == "http");
        let build = || {
            let builder = match trust {
                Trust::Pinned { pins, identity } => {
                    let tls = pins.client(identity).map_err(|error| CallError::Tls(error.to_string()))?;
                    builder().tls_backend_preconfigured(tls)
                }
                // Saves reading the system's certificates where none are needed.
                Trust::System if clear => builder().tls_certs_only([]),
                Trust::System => builder(),
            };
            builder.connect_timeout(CONNECT).tcp_nodelay(true).build().map_err(CallError::Setup)
        };
        let gets = build()?;
        // To a proxy they may share: it has connections of its own to the peer.
        let http = if matches!(trust, Trust::System) && !clear { [gets.clone(), gets] } else { [gets, build()?] };
        Ok(Self {
            http,
            bases: ArcSwap::from_pointee(bases),
            current: AtomicUsize::new(0),
            keyid: keyid.to_owned(),
            key: ArcSwap::from_pointee((0, key)),
            skew: AtomicI64::new(0),
            most,
        })
    }

    /// Looks for the peer at these addresses from now on, in this order.
    pub fn look_at(&self, addresses: &[String]) -> Result<(), CallError> {
        self.bases.store(Arc::new(bases(addresses)?));
        self.current.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Signs with this key from now on, and believes answers that are signed
    /// with it; requests that are under way go on with theirs. Its number: what
    /// [`Answer::key`] says of answers that are signed with it.
    pub fn rekey(&self, key: &Key) -> u64 {
        self.key.rcu(|before| (before.0 + 1, key.clone())).0 + 1
    }

    /// The number of the key that is signed with now.
    pub fn key_number(&self) -> u64 {
        self.key.load().0
    }

    /// The address that is tried first: the one that answered last.
    pub fn address(&self) -> String {
        let bases = self.bases.load();
        bases[self.current.load(Ordering::Relaxed) % bases.len()].as_str().trim_end_matches('/').to_owned()
    }

    /// Sends a signed request to `target` (path and query) and returns the
    /// verified answer. An address that gives none is followed by the next.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let bases = self.bases.load_full();
        let first = self.current.load(Ordering::Relaxed) % bases.len();
        let mut failed = Vec::new();
        for at in (0..bases.len()).map(|step| (first + step) % bases.len()) {
            match self.send_to(&bases[at], &method, target, headers, body.clone(), timeout).await {
                Ok(answer) => {
                    if at != first {
                        self.current.store(at, Ordering::Relaxed);
                        tracing::info!(address = %bases[at], "the peer answers at another address");
                    }
                    return Ok(answer);
                }
                // It answered: the same would come from elsewhere.
                Err(error @ CallError::TooLarge { .. }) => return Err(error),
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            1 => Err(failed.remove(0)),
            _ => Err(CallError::Nowhere(failed)),
        }
    }

    async fn send_to(
        &self,
        base: &reqwest::Url,
        method: &Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let first = self.send_once(base, method, target, headers, body.clone(), timeout).await?;
        let Some(server_time) = skewed(&first) else { return Ok(first) };
        // The answer was signed with our key: its clock may be trusted, ours may be wrong.
        let skew = server_time - clock::now();
        self.skew.store(skew, Ordering::Relaxed);
        tracing::warn!(
            skew_seconds = skew,
            peer = %base,
            "the clocks of this machine and its peer differ by {skew} s: signing with the peer's time; set the clock (timedatectl status)"
        );
        self.send_once(base, method, target, headers, body, timeout).await
    }

    async fn send_once(
        &self,
        base: &reqwest::Url,
        method: &Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let text = format!("{}{target}", base.as_str().trim_end_matches('/'));
        let url = reqwest::Url::parse(&text).map_err(|_| CallError::Address(text))?;
        let digest = body.as_deref().map(Sha256::of);
        let created = clock::now() + self.skew.load(Ordering::Relaxed);
        let parts = (method.as_str(), url.path(), url.query());
        let key = self.key.load_full();
        let signed = sign_request(&key.1, &self.keyid, parts, digest.as_ref(), created, &random::nonce());
        let http = &self.http[usize::from(body.is_some())];
        let mut request = http.request(method.clone(), url.clone()).timeout(timeout);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let (Some(digest), Some(body)) = (digest, body) {
            request = request
                .header("content-digest", digest.content_digest())
                .header("content-type", HeaderValue::from_static("application/json"))
                .body(body);
        }
        let request = request.header("signature-input", signed.input).header("signature", signed.signature);
        let unreached = |error: reqwest::Error| match tls::why(&error) {
            Some(why) if error.is_connect() => CallError::Unproven { url: shown(&url), why },
            _ => CallError::Unreached { url: shown(&url), why: innermost(&error) },
        };
        let mut response = request.send().await.map_err(unreached)?;
        let (status, headers) = (response.status(), response.headers().clone());
        // Mostly the only chunk, as it came.
        let mut body = response.chunk().await.map_err(unreached)?.unwrap_or_default();
        let mut content = Vec::new();
        while body.len().max(content.len()) <= self.most
            && let Some(chunk) = response.chunk().await.map_err(unreached)?
        {
            if content.is_empty() {
                let length = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(0);
                content.reserve(length.min(self.most));
                content.extend_from_slice(&body);
            }
            content.extend_from_slice(&chunk);
        }
        if !content.is_empty() {
            body = content.into();
        }
        if body.len() > self.most {
            return Err(CallError::TooLarge { url: shown(&url), most: self.most });
        }
        let request = RequestSignature { label: "sig1".into(), mac: signed.mac };
        let answer = Answer { status, headers, body, key: key.0 };
        verify_response(&key.1, &self.keyid, status.as_u16(), &answer.headers, &request, &answer.body).map_err(
            |source| {
                let said = answer.problem().map(|problem| format!(" (it says: {}: {})", problem.title, problem.detail));
                CallError::Untrusted { url: shown(&url), status, source, said: said.unwrap_or_default() }
            },
        )?;
        Ok(answer)
    }
}

/// How every client is set up: no proxy from the environment, no redirects (a
/// signature holds for one address), rustls with ring.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only where somebody else installed one: then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}

/// A peer's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it is `https://`.
    pub https: bool,
    /// The host: a name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Takes an `http://` or `https://` address apart; `None` where it is none.
pub fn address(text: &str) -> Option<Address> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let port = url.port_or_known_default()?;
    (plain && url.fragment().is_none()).then(|| Address { https: url.scheme() == "https", host, port })
}

fn bases(addresses: &[String]) -> Result<Vec<reqwest::Url>, CallError> {
    let base = |address: &String| {
        let base = reqwest::Url::parse(address.trim_end_matches('/')).ok();
        base.filter(|base| matches!(base.scheme(), "http" | "https") && base.host_str().is_some())
            .ok_or_else(|| CallError::Address(address.clone()))
    };
    let bases = addresses.iter().map(base).collect::<Result<Vec<_>, _>>()?;
    if bases.is_empty() { Err(CallError::Address(String::new())) } else { Ok(bases) }
}

fn all(errors: &[CallError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn skewed(answer: &Answer) -> Option<i64> {
    if answer.status != StatusCode::UNAUTHORIZED {
        return None;
    }
    let problem = answer.problem()?;
    (problem.short_kind() == "clock-skew").then(|| problem.members.get("server_time")?.as_i64()).flatten()
}

fn shown(url: &reqwest::Url) -> String {
    format!("{}://{}{}", url.scheme(), url.authority().rsplit('@').next().unwrap_or_default(), url.path())
}

/// The cause that an operator can do something about.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
