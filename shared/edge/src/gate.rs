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
use lockstep_shared::{Key, Problem, Sha256, problem};
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
    name: String,
    key: Key,
    nonces: Mutex<Nonces>,
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
pub struct Seal {
    peer: Arc<Peer>,
    request: RequestSignature,
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
        let span = i64::try_from(limits.skew_seconds).unwrap_or(300) * 2;
        let peer = |name, key| {
            Arc::new(Peer { name, key, nonces: Mutex::new(Nonces::new(span, gate.nonces_per_key, clock::now())) })
        };
        let peers = keys.into_iter().map(|(name, key)| (name.clone(), peer(name, key))).collect();
        gate.peers.store(Arc::new(peers));
        gate
    }

    /// Checks a request's signature, time and nonce, then reads its body within
    /// the limits and checks that. The error is the finished answer.
    pub async fn admit(&self, request: Request<Incoming>, limits: &Limits) -> Result<Admitted, Reply> {
        let (head, incoming) = request.into_parts();
        let bodyless = incoming.is_end_stream();
        let (seal, digest) = self.check_head(&head, !bodyless)?;
        let body = if bodyless {
            Bytes::new()
        } else {
            // Boxed, so that the many requests without a body don't carry its room around.
            Box::pin(server::read_body(incoming, limits)).await.map_err(|problem| seal.sign(reply(&problem)))?
        };
        check_body(digest, &body).map_err(|refusal| seal.sign(reply(&refusal.problem())))?;
        Ok(Admitted { head, body, seal })
    }

    /// Who signed, and the digest that the body must have.
    fn check_head(&self, head: &request::Parts, has_body: bool) -> Result<(Seal, Option<Sha256>), Reply> {
        let authority = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let parts = Parts {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            authority: head.uri.authority().map(http::uri::Authority::as_str).or(authority),
            headers: &head.headers,
            has_body,
        };
        let now = clock::now();
        let peers = self.peers.load();
        let find = |name: &str| peers.get(name).map(|peer| (peer, &peer.key));
        let verified = match verify_request(&parts, find, &self.decoy, now, self.window) {
            Ok(verified) => verified,
            Err(refusal) => {
                let answer = reply(&refusal.problem());
                // Its MAC was right: it may know that the answer is ours.
                return Err(match refusal {
                    Refusal::Skew { keyid, signature, .. } if peers.contains_key(&keyid) => {
                        Seal { peer: peers[&keyid].clone(), request: signature }.sign(answer)
                    }
                    _ => answer,
                });
            }
        };
        let seal = Seal { peer: verified.signer.clone(), request: verified.signature };
        let fate = seal.peer.nonces.lock().unwrap_or_else(PoisonError::into_inner).insert(&verified.nonce, now);
        match fate {
            Fate::Fresh => Ok((seal, verified.digest)),
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
        &self.peer.name
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
            sign_response(&self.peer.key, &self.peer.name, status.as_u16(), cover, &self.request, clock::now());
        set(&mut reply, SIGNATURE_INPUT, signed.input);
        set(&mut reply, SIGNATURE, signed.signature);
        reply
    }
}

/// The content of a reply that is still whole.
fn content(reply: &Reply) -> Bytes {
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
