//! A key of one's own, and asking for a certificate with it.

use super::{BadPem, Identity};
use rcgen::{CertificateParams, DnType, KeyPair};
use zeroize::Zeroizing;

/// A new key and a request for its certificate.
pub struct Requested {
    /// The private key, PKCS#8 as PEM. It stays where it was made.
    pub key: Zeroizing<String>,
    /// The request, PKCS#10 (RFC 2986) as PEM.
    pub csr: String,
}

impl Requested {
    /// Makes a key (ECDSA over P-256) and a request that shows that one has it.
    /// The name in it is for people: the leader goes by who asks.
    pub fn new(name: &str) -> Result<Self, BadPem> {
        let (key, params) = parts(name)?;
        let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(|error| failed(&error))?;
        Ok(Self { key: Zeroizing::new(key.serialize_pem()), csr })
    }
}

/// A certificate by nobody, with which a listener can open before it has its
/// own: whoever pins the authority refuses it.
pub fn placeholder(name: &str) -> Result<Identity, BadPem> {
    let (key, params) = parts(name)?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    Identity::from_pem(&certificate.pem(), &Zeroizing::new(key.serialize_pem()))
}

fn parts(name: &str) -> Result<(KeyPair, CertificateParams), BadPem> {
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok((key, params))
}

fn failed(error: &rcgen::Error) -> BadPem {
    BadPem(format!("a certificate could not be asked for: {error}"))
}
