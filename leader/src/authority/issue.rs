//! Making authorities and certificates (RFC 5280): pure but for the keys'
//! randomness; the time is passed in.

use super::AuthorityError;
use lockstep_edge::random;
use lockstep_edge::tls::{BACKDATED, BadPem, Certificate, identity};
use lockstep_shared::{Name, Sha256};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// An authority lives for ten years.
const AUTHORITY_SECONDS: i64 = 3653 * 86_400;
/// The largest request for a certificate that is looked at, in bytes.
const LARGEST_REQUEST: usize = 16 * 1024;

/// An authority of this platform, with its key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ca {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS#8 as PEM.
    key: Zeroizing<String>,
    /// When it was made, Unix seconds.
    pub made: i64,
}

/// The chain that is shown with a certificate, and its key where it was made here.
pub struct Issued {
    /// The certificate, then its authority, PEM.
    pub chain: String,
    /// The private key, PEM; empty where the certificate was asked for with a request.
    pub key: Zeroizing<String>,
}

impl Ca {
    /// Makes one. Its name has a random part: no two authorities can be taken for each other.
    pub fn make(now: i64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let id = random::bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut params = params(&format!("lockstep authority {id}"), now, now + AUTHORITY_SECONDS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), made: now })
    }

    /// Its certificate, read.
    pub fn read(&self) -> Result<Certificate, AuthorityError> {
        Ok(Certificate::read_all(&self.certificate)?.remove(0))
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let key = KeyPair::from_pem(&self.key).map_err(|error| failed(&error))?;
        Issuer::from_ca_cert_pem(&self.certificate, key).map_err(|error| failed(&error))
    }

    /// The leader's own certificate, for its fixed name and the hosts of its addresses.
    pub fn for_leader(&self, hosts: &[String], now: i64, seconds: i64) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut params = end_entity(identity::LEADER, hosts, now, now + seconds)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer()?).map_err(|error| failed(&error))?;
        Ok(Issued { chain: certificate.pem() + &self.certificate, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// A follower's certificate for the key of a request (PKCS#10, RFC 2986).
    /// Of the request only that key counts, and that its holder made it: the
    /// name is that of who asks, whatever the request says. It names nothing
    /// else: what a machine says of its addresses may be anybody's, the leader's too.
    pub fn for_follower(&self, csr: &str, name: &Name, now: i64, seconds: i64) -> Result<Issued, AuthorityError> {
        let request = read(csr)?;
        let mut params = end_entity(&identity::follower(name), &[], now, now + seconds)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&request.public_key, &self.issuer()?).map_err(|error| failed(&error))?;
        Ok(Issued { chain: certificate.pem() + &self.certificate, key: Zeroizing::default() })
    }
}

/// The SHA-256 of the key (`SubjectPublicKeyInfo`) that a request is for.
pub fn requested(csr: &str) -> Result<Sha256, AuthorityError> {
    Ok(Sha256::of(&read(csr)?.public_key.subject_public_key_info()))
}

/// A request whose signature shows that its sender has the key.
fn read(csr: &str) -> Result<CertificateSigningRequestParams, AuthorityError> {
    if csr.len() > LARGEST_REQUEST {
        return Err(AuthorityError::Request(format!("it has more than {LARGEST_REQUEST} bytes")));
    }
    CertificateSigningRequestParams::from_pem(csr).map_err(|error| AuthorityError::Request(error.to_string()))
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ca(made {})", self.made)
    }
}

fn end_entity(name: &str, hosts: &[String], from: i64, to: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, from, to)?;
    let dns = |name: &str| name.to_owned().try_into().ok().map(SanType::DnsName);
    let san = |host: &String| match host.parse::<IpAddr>() {
        Ok(address) => Some(SanType::IpAddress(address)),
        // A host that no certificate can name is still reached: the fixed name counts.
        Err(_) => dns(host),
    };
    params.subject_alt_names = dns(name).into_iter().chain(hosts.iter().filter_map(san)).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(name: &str, from: i64, to: i64) -> Result<CertificateParams, AuthorityError> {
    let time = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| AuthorityError::Broken(format!("{seconds} is no time that a certificate can have")))
    };
    let mut params = CertificateParams::default();
    params.not_before = time(from - BACKDATED)?;
    params.not_after = time(to)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Positive, and 120 random bits (RFC 5280, 4.1.2.2).
    let mut serial = random::bytes::<16>();
    serial[0] = 1;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn failed(error: &rcgen::Error) -> AuthorityError {
    AuthorityError::Broken(error.to_string())
}

impl From<BadPem> for AuthorityError {
    fn from(error: BadPem) -> Self {
        Self::Broken(error.0)
    }
}
