//! The client's side towards a leader whose authority isn't known yet: it takes
//! what it is shown, so that a person can compare it. Nothing secret may be
//! sent over such a connection.

use super::{Certificate, client, identity, pins, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// Takes any chain that a leader's certificate of some authority ends, and remembers that authority.
#[derive(Debug, Default)]
pub struct Meeting {
    shown: Mutex<Option<Certificate>>,
}

impl Meeting {
    /// The authority that was shown, once a handshake succeeded.
    pub fn authority(&self) -> Option<Certificate> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client's side that only looks.
    pub fn client(self: &Arc<Self>) -> Result<ClientConfig, rustls::Error> {
        let name = ServerName::try_from(identity::LEADER).map_err(|error| rustls::Error::General(error.to_string()))?;
        client(Arc::new(Verifier { meeting: self.clone(), name }))
    }
}

#[derive(Debug)]
struct Verifier {
    meeting: Arc<Meeting>,
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
        // The one that its own certificate is of: during a rotation several are sent.
        for authority in chain.iter().filter_map(|der| Certificate::read(der).ok()).filter(|read| read.is_authority) {
            let mut roots = RootCertStore::empty();
            if roots.add(authority.der.clone()).is_err() {
                continue;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            let Ok(verifier) = verifier else { continue };
            if let Ok(verified) = verifier.verify_server_cert(certificate, chain, &self.name, &[], now) {
                *self.meeting.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority);
                return Ok(verified);
            }
        }
        Err(rustls::CertificateError::UnknownIssuer.into())
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
