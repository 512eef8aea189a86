//! The client's side of a machine that joins: of the authority it knows the
//! hash, from its token. Checked within the handshake, before anything is sent.

use super::belief::{self, Belief, Shown};
use super::{Certificate, Refused, identity};
use lockstep_shared::Sha256;
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};

/// Believes only a leader whose chain holds the authority of this hash.
#[derive(Debug)]
pub struct Joining {
    hash: Sha256,
    found: Mutex<Option<Certificate>>,
}

impl Joining {
    /// `hash` is the SHA-256 of the authority's `SubjectPublicKeyInfo`.
    pub fn new(hash: Sha256) -> Arc<Self> {
        Arc::new(Self { hash, found: Mutex::default() })
    }

    /// The authority, once a handshake succeeded.
    pub fn authority(&self) -> Option<Certificate> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client's side that goes by this.
    pub fn client(self: &Arc<Self>) -> Result<ClientConfig, rustls::Error> {
        belief::client(self, identity::LEADER)
    }
}

impl Belief for Joining {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let wanted = shown.authorities().find(|read| read.fingerprint == self.hash);
        let anchor = wanted.as_ref().and_then(|authority| belief::anchor(std::slice::from_ref(authority)));
        shown.leads_to(anchor.as_deref()).map_err(|error| Refused::of(&error, shown, &[self.hash], "the token"))?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        Ok(())
    }
}
