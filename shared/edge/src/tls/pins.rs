//! The client's side: who answers must have a certificate of a pinned
//! authority for a fixed identity. The address is not looked at, and no other
//! authority of the system counts.

use super::belief::{self, Belief, Shown};
use super::{Certificate, Refused};
use arc_swap::ArcSwap;
use lockstep_shared::Sha256;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use std::sync::Arc;

/// Pinned authorities. They can be replaced while clients use them.
#[derive(Debug)]
pub struct Pins {
    place: String,
    set: ArcSwap<Set>,
}

#[derive(Debug)]
struct Set {
    authorities: Vec<Certificate>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Set {
    fn new(authorities: Vec<Certificate>) -> Self {
        let verifier = belief::anchor(&authorities);
        Self { authorities, verifier }
    }
}

impl Pins {
    /// Pins these. `place` is where a person finds them, for errors.
    pub fn new(place: impl Into<String>, authorities: Vec<Certificate>) -> Self {
        Self { place: place.into(), set: ArcSwap::from_pointee(Set::new(authorities)) }
    }

    /// Pins others from the next handshake on.
    pub fn replace(&self, authorities: Vec<Certificate>) {
        self.set.store(Arc::new(Set::new(authorities)));
    }

    /// What is pinned.
    pub fn authorities(&self) -> Vec<Certificate> {
        self.set.load().authorities.clone()
    }

    /// The fingerprints of what is pinned.
    pub fn fingerprints(&self) -> Vec<Sha256> {
        self.set.load().authorities.iter().map(|authority| authority.fingerprint).collect()
    }

    /// A client's side that believes only who has `identity` from one of them.
    pub fn client(self: &Arc<Self>, identity: &str) -> Result<ClientConfig, rustls::Error> {
        belief::client(self, identity)
    }
}

impl Belief for Pins {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let set = self.set.load();
        shown.leads_to(set.verifier.as_deref()).map_err(|error| {
            let pinned: Vec<Sha256> = set.authorities.iter().map(|authority| authority.fingerprint).collect();
            Refused::of(&error, shown, &pinned, &self.place).into()
        })
    }
}
