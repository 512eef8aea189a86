//! Certificates (RFC 5280) and keys as PEM (RFC 7468), and what stands in them.

use lockstep_shared::Sha256;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use x509_parser::parse_x509_certificate;

/// Why a text doesn't hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPem(pub String);

/// A certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its encoding.
    pub der: CertificateDer<'static>,
    /// SHA-256 of its `SubjectPublicKeyInfo`: what an authority is pinned by.
    pub fingerprint: Sha256,
    /// The common name of its subject.
    pub subject: String,
    /// The common name of its issuer.
    pub issuer: String,
    /// Its first second, Unix.
    pub begins: i64,
    /// Its last second, Unix.
    pub ends: i64,
    /// Whether it may issue others.
    pub is_authority: bool,
    /// The DNS names and addresses it is for.
    pub names: Vec<String>,
}

/// One of our authorities has a certificate count from so many seconds before it was made: clocks differ.
pub const BACKDATED: i64 = 86_400;

impl Certificate {
    /// Seconds until it is to be renewed, at two thirds of its life or, by
    /// `early` (0 to 1), up to a twentieth sooner; 0 where that is over, and
    /// where it doesn't count yet. By a clock that is behind that of who made it
    /// it is new. For those of our own authorities.
    pub fn due_in(&self, now: i64, early: f64) -> i64 {
        let made = self.begins + BACKDATED;
        let life = self.ends - made;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds of a life")]
        let sooner = (life as f64 * early.clamp(0.0, 1.0) / 20.0) as i64;
        if now < self.begins { 0 } else { (life * 2 / 3 - sooner - (now - made).max(0)).max(0) }
    }

    /// Reads one.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, BadPem> {
        use x509_parser::extensions::GeneralName;
        let (_, read) =
            parse_x509_certificate(der).map_err(|error| BadPem(format!("no X.509 certificate: {error}")))?;
        let common_name = |name: &x509_parser::x509::X509Name<'_>| {
            name.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
        };
        let names = read.subject_alternative_name().ok().flatten().map(|names| {
            let name = |name: &GeneralName<'_>| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            };
            names.value.general_names.iter().filter_map(name).collect()
        });
        Ok(Self {
            der: der.clone().into_owned(),
            fingerprint: Sha256::of(read.public_key().raw),
            subject: common_name(read.subject()),
            issuer: common_name(read.issuer()),
            begins: read.validity().not_before.timestamp(),
            ends: read.validity().not_after.timestamp(),
            is_authority: read.is_ca(),
            names: names.unwrap_or_default(),
        })
    }

    /// All that stand in a PEM text, at least one.
    pub fn read_all(pem: &str) -> Result<Vec<Self>, BadPem> {
        let read = CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|der| der.map_err(|error| BadPem(in_words(&error))).and_then(|der| Self::read(&der)))
            .collect::<Result<Vec<_>, _>>()?;
        if read.is_empty() {
            return Err(BadPem("there is no certificate (\"-----BEGIN CERTIFICATE-----\") in it".to_owned()));
        }
        Ok(read)
    }

    /// It as PEM.
    pub fn pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap_or_default()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

/// What is wrong with a PEM text. The reader's own words show lines of it as numbers.
fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let what = String::from_utf8_lossy(end_marker);
            format!("it breaks off before \"-----END {what}-----\": a part of it is missing")
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with \"-----BEGIN\" doesn't end with \"-----\"".to_owned()
        }
        pem::Error::Base64Decode(_) => {
            "between its lines with \"-----\" stands something that is not base64".to_owned()
        }
        pem::Error::NoItemsFound => "no such \"-----BEGIN\" line is in it".to_owned(),
        other => other.to_string(),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()))
}

/// The authorities in a PEM text: at least one, and nothing but authorities.
pub fn authorities(pem: &str) -> Result<Vec<Certificate>, BadPem> {
    let read = Certificate::read_all(pem)?;
    match read.iter().find(|certificate| !certificate.is_authority) {
        Some(other) => Err(BadPem(format!(
            "the certificate of {:?} in it is no authority's (CA:TRUE); only authorities can be pinned",
            other.subject
        ))),
        None => Ok(read),
    }
}

/// The start of an authority's fingerprint, as people compare it: `xxxx-xxxx-xxxx-xxxx`.
pub fn short(fingerprint: &Sha256) -> String {
    let pair = |pair: &[u8]| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    fingerprint.0[..8].chunks(2).map(pair).collect::<Vec<_>>().join("-")
}

/// A certificate with its chain, and the key it is for.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// The certificate itself.
    pub certificate: Certificate,
}

impl Identity {
    /// From one text or two: the chain, the certificate itself first, and the
    /// private key (PKCS#8, SEC 1). Refuses a key that is for another certificate.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, BadPem> {
        let bad = |what: String| BadPem(what);
        let read = Certificate::read_all(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| bad(format!("there is no private key in it: {}", in_words(&error))))?;
        let key = any_supported_type(&key).map_err(|error| bad(format!("its private key can't be used: {error}")))?;
        let certificate = read.first().cloned().ok_or_else(|| bad("there is no certificate in it".to_owned()))?;
        let certified = CertifiedKey::new(read.into_iter().map(|certificate| certificate.der).collect(), key);
        certified.keys_match().map_err(|_| bad("its private key is not that of its certificate".to_owned()))?;
        Ok(Self { certified: Arc::new(certified), certificate })
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.certificate.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_at_two_thirds_and_not_before_by_a_clock_that_is_behind() {
        let made = 1_795_000_000;
        let certificate = Certificate {
            der: Vec::new().into(),
            fingerprint: Sha256([0; 32]),
            subject: String::new(),
            issuer: String::new(),
            begins: made - BACKDATED,
            ends: made + 900,
            is_authority: false,
            names: Vec::new(),
        };
        let due = |now, early| certificate.due_in(made + now, early);
        assert_eq!([due(0, 0.0), due(599, 0.0), due(600, 0.0), due(5000, 0.0)], [600, 1, 0, 0]);
        assert_eq!([due(-1200, 0.0), due(-BACKDATED, 0.0), due(-BACKDATED - 1, 0.0)], [600, 600, 0]);
        assert_eq!(due(0, 1.0), 555);
    }

    #[test]
    fn a_text_that_breaks_off_is_told_in_words() {
        let whole = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, wanted) in [
            (&whole[..32], "it breaks off before \"-----END CERTIFICATE-----\": a part of it is missing"),
            (&whole[..20], "doesn't end with"),
            (whole.replace("AAAA", "A!").as_str(), "not base64"),
            ("", "there is no certificate"),
        ] {
            let BadPem(said) = Certificate::read_all(text).unwrap_err();
            assert!(said.contains(wanted) && !said.contains('['), "{said}");
        }
    }
}
