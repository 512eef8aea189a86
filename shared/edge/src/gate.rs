//! Lets signed requests in, once each, and seals the answers to them.

use crate::nonces::{Fate, Nonces};
use crate::{Limits, clock, server};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use lockstep_shared::signature::{
    CONTENT_DIGEST, Cover, Parts, Refusal, RequestSignature, SIGNATURE, SIGNATURE_INPUT, Window, check_body,
    sign_response, verify_request,
};
use lockstep_shared::{Fields, Key, Problem, Sha256, problem};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A response with all of its content.
pub type Reply = Response<Full<Bytes>>;

/// Who may come in, and who already did.
pub struct Gate {
    peers: ArcSwap<HashMap<String, Arc<Peer>>>,
    decoy: Key,
    window: Window,
    nonces_per_key: usize,
}

struct Peer {
    entry: Entry,
    nonces: Arc<Mutex<Nonces>>,
}

/// Who may come in, and what becomes of them.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Their name, which names the key as well.
    pub name: String,
    /// The key that they sign with.
    pub key: Key,
    /// A further key that they may sign with instead: the next one, or the one before.
    pub other: Option<Key>,
    /// Nothing of theirs was seen so far: the first request is news.
    pub fresh: bool,
    /// What everything they sign is answered with, where they are out.
    pub barred: Option<Problem>,
}

impl Entry {
    /// Somebody with one key who may come in.
    pub fn new(name: impl Into<String>, key: Key) -> Self {
        Self { name: name.into(), key, other: None, fresh: false, barred: None }
    }
}

/// Which of a peer's keys signed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The first one.
    Key,
    /// The other one.
    Other,
}

impl Peer {
    fn key(&self, by: By) -> &Key {
        match (by, &self.entry.other) {
            (By::Other, Some(other)) => other,
            _ => &self.entry.key,
        }
    }
}

/// A request that was let in.
pub struct Admitted {
    /// Its head.
    pub head: request::Parts,
    /// Its body, of the signed digest.
    pub body: Bytes,
    /// What the answer is sealed with; knows who signed the request.
    pub seal: Seal,
}

/// Signs the answer to one request.
#[derive(Clone)]
pub struct Seal {
    peer: Arc<Peer>,
    by: By,
    request: RequestSignature,
    created: i64,
}

impl Gate {
    /// A gate for these followers' keys.
    pub fn new(keys: impl IntoIterator<Item = (String, Key)>, limits: &Limits) -> Self {
        let gate = Self {
            peers: ArcSwap::default(),
            decoy: Key::from_bytes(crate::random::bytes()),
            window: Window { skew_seconds: limits.skew_seconds },
            nonces_per_key: limits.nonces_per_key,
        };
        let peers = keys.into_iter().map(|(name, key)| (name.clone(), gate.peer(Entry::new(name, key), None)));
        gate.peers.store(Arc::new(peers.collect()));
        gate
    }

    fn peer(&self, entry: Entry, before: Option<&Arc<Peer>>) -> Arc<Peer> {
        let span = i64::try_from(self.window.skew_seconds).unwrap_or(300) * 2;
        let fresh = || Arc::new(Mutex::new(Nonces::new(span, self.nonces_per_key, clock::now())));
        Arc::new(Peer { nonces: before.map_or_else(fresh, |before| before.nonces.clone()), entry })
    }

    /// Lets somebody in, or changes what is known of them; the next request is
    /// judged by it. Nonces that were seen stay seen.
    pub fn put(&self, entry: &Entry) {
        self.peers.rcu(|peers| {
            let mut peers = HashMap::clone(peers);
            let peer = self.peer(entry.clone(), peers.get(&entry.name));
            peers.insert(entry.name.clone(), peer);
            peers
        });
    }

    /// Why somebody who was let in earlier is out now.
    pub fn barred(&self, name: &str) -> Option<Problem> {
        self.peers.load().get(name).and_then(|peer| peer.entry.barred.clone())
    }

    /// Checks a request's signature, time and nonce, then reads its body within
    /// the limits and checks that. The error is the finished answer.
    pub async fn admit(&self, request: Request<Incoming>, limits: &Limits) -> Result<Admitted, Reply> {
        let (head, incoming) = request.into_parts();
        let authority = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let parts = Parts {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            authority: head.uri.authority().map(http::uri::Authority::as_str).or(authority),
            headers: &head.headers,
            has_body: !incoming.is_end_stream(),
        };
        if !parts.has_body {
            let seal = self.admit_head(&parts)?;
            return Ok(Admitted { head, body: Bytes::new(), seal });
        }
        let (seal, digest) = self.check(&parts)?;
        // Boxed, so that the many requests without a body don't carry its room around.
        let body = Box::pin(server::read_body(incoming, limits)).await;
        let body = body.map_err(|problem| seal.sign(reply(&problem)))?;
        check_body(digest, &body).map_err(|refusal| seal.sign(reply(&refusal.problem())))?;
        Ok(Admitted { head, body, seal })
    }

    /// The same for a request without a body.
    pub fn admit_head(&self, parts: &Parts<'_, impl Fields>) -> Result<Seal, Reply> {
        let (seal, digest) = self.check(parts)?;
        check_body(digest, &[]).map_err(|refusal| seal.sign(reply(&refusal.problem())))?;
        Ok(seal)
    }

    /// Who signed, and the digest that the body must have.
    fn check(&self, parts: &Parts<'_, impl Fields>) -> Result<(Seal, Option<Sha256>), Reply> {
        let now = clock::now();
        let peers = self.peers.load();
        let find = |name: &str| peers.get(name).map(|peer| (peer, &peer.entry.key));
        let first = verify_request(parts, find, &self.decoy, now, self.window);
        // Only while somebody has two keys: whoever has one is not looked at twice.
        let other = |name: &str| peers.get(name).and_then(|peer| Some((peer, peer.entry.other.as_ref()?)));
        let (by, verified) = match first {
            Err(Refusal::Bad) if peers.values().any(|peer| peer.entry.other.is_some()) => {
                (By::Other, verify_request(parts, other, &self.decoy, now, self.window))
            }
            first => (By::Key, first),
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(refusal) => {
                let answer = reply(&refusal.problem());
                // Its MAC was right: it may know that the answer is ours.
                return Err(match refusal {
                    Refusal::Skew { keyid, signature, created, .. } if peers.contains_key(&keyid) => {
                        Seal { peer: peers[&keyid].clone(), by, request: signature, created }.sign(answer)
                    }
                    _ => answer,
                });
            }
        };
        let (request, created) = (verified.signature, verified.created);
        let seal = Seal { peer: verified.signer.clone(), by, request, created };
        let fate = seal.peer.nonces.lock().unwrap_or_else(PoisonError::into_inner).insert(&verified.nonce, now);
        match fate {
            Fate::Fresh => match &seal.peer.entry.barred {
                None => Ok((seal, verified.digest)),
                Some(problem) => Err(seal.sign(reply(problem))),
            },
            Fate::Seen => Err(seal.sign(reply(&Refusal::Replayed.problem()))),
            Fate::Full => {
                let mut answer = reply(&Refusal::NoncesFull.problem());
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.window.skew_seconds));
                Err(seal.sign(answer))
            }
        }
    }
}

impl Seal {
    /// The follower that signed the request.
    pub fn keyid(&self) -> &str {
        &self.peer.entry.name
    }

    /// Which of their keys they signed with.
    pub fn by(&self) -> By {
        self.by
    }

    /// Whether this is the first that was seen of them.
    pub fn fresh(&self) -> bool {
        self.peer.entry.fresh
    }

    /// When the request was signed, by the time that the follower signs with: Unix seconds.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// Signs an answer: over its status, and its `Content-Digest` (made here
    /// unless it is there already) or, for a 304, its `ETag`.
    pub fn sign(&self, mut reply: Reply) -> Reply {
        let status = reply.status();
        let unchanged = status == StatusCode::NOT_MODIFIED;
        if !unchanged && !reply.headers().contains_key(CONTENT_DIGEST) {
            let body = content(&reply);
            set(&mut reply, CONTENT_DIGEST, Sha256::of(&body).content_digest());
        }
        let name = if unchanged { header::ETAG } else { CONTENT_DIGEST };
        let value = reply.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let cover = if unchanged { Cover::Etag(value) } else { Cover::ContentDigest(value) };
        let signed =
            sign_response(self.peer.key(self.by), self.keyid(), status.as_u16(), cover, &self.request, clock::now());
        set(&mut reply, SIGNATURE_INPUT, signed.input);
        set(&mut reply, SIGNATURE, signed.signature);
        reply
    }
}

/// The content of a reply that is still whole.
pub(crate) fn content(reply: &Reply) -> Bytes {
    let mut body = reply.body().clone();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match Body::poll_frame(std::pin::Pin::new(&mut body), &mut context) {
        std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

fn set(reply: &mut Reply, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        reply.headers_mut().insert(name, value);
    }
}

/// What kind of problem an answer is, for whoever counts them; never sent.
#[derive(Debug, Clone)]
pub struct Kind(pub String);

/// A problem as an answer.
pub fn reply(problem: &Problem) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(problem.to_json())));
    reply.extensions_mut().insert(Kind(problem.short_kind().to_owned()));
    *reply.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
    if problem.status == 429 {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    reply
}

/// JSON as an answer.
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Reply {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut reply = Response::new(Full::new(Bytes::from(bytes)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
