//! What every client's side has in common: TLS 1.3 only, a fixed identity in
//! place of the address, no resumed sessions. Whom it believes is what differs.

use super::{ALPN, Certificate, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt::Debug;
use std::sync::Arc;

/// What a peer showed in a handshake, and whom it has to be.
pub(super) struct Shown<'a> {
    pub(super) certificate: &'a CertificateDer<'a>,
    pub(super) chain: &'a [CertificateDer<'a>],
    pub(super) name: &'a ServerName<'a>,
    pub(super) now: UnixTime,
}

impl Shown<'_> {
    /// Whether it leads to what `anchor` goes by; without one it leads nowhere.
    pub(super) fn leads_to(&self, anchor: Option<&WebPkiServerVerifier>) -> Result<(), rustls::Error> {
        let Some(anchor) = anchor else { return Err(rustls::CertificateError::UnknownIssuer.into()) };
        anchor.verify_server_cert(self.certificate, self.chain, self.name, &[], self.now).map(drop)
    }

    /// The authorities that were sent along.
    pub(super) fn authorities(&self) -> impl Iterator<Item = Certificate> {
        self.chain.iter().filter_map(|der| Certificate::read(der).ok()).filter(|read| read.is_authority)
    }
}

/// Whom a client's side believes.
pub(super) trait Belief: Debug + Send + Sync + 'static {
    /// The error says why not.
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error>;
}

/// Goes by these authorities; what can't be an anchor is left out, and none at all is nothing.
pub(super) fn anchor(authorities: &[Certificate]) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let _ = roots.add(authority.der.clone());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}

/// A client's side that believes only who is believed as `identity`. Sessions are not
/// resumed: every connection proves anew who answers, by what is pinned at that moment.
pub(super) fn client<B: Belief>(belief: &Arc<B>, identity: &str) -> Result<ClientConfig, rustls::Error> {
    let name = ServerName::try_from(identity.to_owned())
        .map_err(|_| rustls::Error::General(format!("{identity:?} is no name a certificate can have")))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { belief: belief.clone(), name }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Verifier<B> {
    belief: Arc<B>,
    name: ServerName<'static>,
}

impl<B: Belief> ServerCertVerifier for Verifier<B> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.belief.judge(&Shown { certificate, chain, name: &self.name, now })?;
        Ok(ServerCertVerified::assertion())
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

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}
