//! The client's side: who answers must have a certificate of a pinned
//! authority for a fixed identity. The address is not looked at, and no other
//! authority of the system counts.

use super::{Certificate, Refused, client, provider};
use arc_swap::ArcSwap;
use lockstep_shared::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            // What can't be an anchor is refused as an unknown authority later.
            let _ = roots.add(authority.der.clone());
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok();
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
        let name = ServerName::try_from(identity.to_owned())
            .map_err(|_| rustls::Error::General(format!("{identity:?} is no name a certificate can have")))?;
        client(Arc::new(Verifier { pins: self.clone(), name }))
    }
}

#[derive(Debug)]
struct Verifier {
    pins: Arc<Pins>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let set = self.pins.set.load();
        let verified = match &set.verifier {
            Some(verifier) => verifier.verify_server_cert(certificate, chain, &self.name, &[], now),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        };
        verified.map_err(|error| {
            let pinned: Vec<Sha256> = set.authorities.iter().map(|authority| authority.fingerprint).collect();
            Refused::of(&error, certificate, chain, &self.name, &pinned, &self.pins.place).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}
