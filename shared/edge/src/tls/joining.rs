//! The client's side of a machine that joins: of the authority it knows the
//! hash, from its token. Checked within the handshake, before anything is sent.

use super::{Certificate, Refused, client, identity, pins, provider};
use lockstep_shared::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
        let name = ServerName::try_from(identity::LEADER).map_err(|error| rustls::Error::General(error.to_string()))?;
        client(Arc::new(Verifier { joining: self.clone(), name }))
    }
}

#[derive(Debug)]
struct Verifier {
    joining: Arc<Joining>,
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
        let refused = |error: &rustls::Error| {
            Refused::of(error, certificate, chain, &self.name, &[self.joining.hash], "the token").into()
        };
        let read = chain.iter().filter_map(|der| Certificate::read(der).ok());
        let mut wanted = read.filter(|read| read.is_authority && read.fingerprint == self.joining.hash);
        let Some(authority) = wanted.next() else {
            return Err(refused(&rustls::CertificateError::UnknownIssuer.into()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).map_err(|error| refused(&error))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified =
            verifier.verify_server_cert(certificate, chain, &self.name, &[], now).map_err(|error| refused(&error))?;
        *self.joining.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority);
        Ok(verified)
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
        verify_tls13_signature(message, certificate, signed, &pins::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        pins::algorithms().supported_schemes()
    }
}
