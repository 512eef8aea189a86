//! Why a peer is not believed, in words that a person can act on.

use super::belief::Shown;
use super::{Certificate, short};
use crate::clock;
use lockstep_shared::Sha256;
use rustls::{CertificateError, InvalidMessage, OtherError};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

/// What is wrong with a peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is of an authority that is not pinned.
    #[error(
        "it shows a certificate of another authority ({shown}) than the one pinned in {place} ({pinned}): is this the right leader, or does somebody stand in between? Nothing was sent"
    )]
    OtherAuthority {
        /// The authority shown: its short fingerprint where it is known, and its name.
        shown: String,
        /// Those pinned, by their short fingerprints.
        pinned: String,
        /// Where they are pinned.
        place: String,
    },
    /// Its time is over.
    #[error(
        "its certificate ended at {ended}, and it is {now} here: compare both machines' clocks (timedatectl status); a lockstep that runs renews its certificate by itself"
    )]
    Ended {
        /// When it ended, RFC 3339.
        ended: String,
        /// Now, RFC 3339.
        now: String,
    },
    /// Its time has not begun.
    #[error(
        "its certificate begins at {begins}, and it is {now} here: set this machine's clock (timedatectl set-ntp true)"
    )]
    NotYet {
        /// When it begins, RFC 3339.
        begins: String,
        /// Now, RFC 3339.
        now: String,
    },
    /// It is of the right authority and for somebody else.
    #[error(
        "its certificate is for {presented}, and {expected} is expected: another machine of this platform answers at this address"
    )]
    WrongIdentity {
        /// Whom it should be for.
        expected: String,
        /// Whom it is for.
        presented: String,
    },
    /// Anything else.
    #[error("its certificate can't be believed: {0}")]
    Other(String),
}

impl Refused {
    pub(super) fn of(error: &rustls::Error, peer: &Shown<'_>, pinned: &[Sha256], place: &str) -> Self {
        let time =
            |time: rustls::pki_types::UnixTime| clock::rfc3339(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let read = Certificate::read(peer.certificate);
        match error {
            rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time: now, not_after }) => {
                Self::Ended { ended: time(*not_after), now: time(*now) }
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time: now, not_before }) => {
                Self::NotYet { begins: time(*not_before), now: time(*now) }
            }
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::WrongIdentity {
                expected: peer.name.to_str().into_owned(),
                presented: read.map_or_else(|_| "nobody".to_owned(), |read| read.names.join(", ")),
            },
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                let top = peer.authorities().last();
                let shown = match (top, read) {
                    (Some(top), _) => format!("{}, {}", short(&top.fingerprint), named(&top.subject)),
                    (None, Ok(read)) if !read.issuer.is_empty() => named(&read.issuer),
                    _ => "it names none".to_owned(),
                };
                let pinned = pinned.iter().map(short).collect::<Vec<_>>().join(", ");
                let pinned = if pinned.is_empty() { "none".to_owned() } else { pinned };
                Self::OtherAuthority { shown, pinned, place: place.to_owned() }
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// What a stranger calls himself, fit to be shown.
fn named(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        CertificateError::Other(OtherError(Arc::new(refused))).into()
    }
}

/// What TLS said in a chain of errors, for people; `None` where it is no matter of TLS.
pub fn why(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // What an `io::Error` wraps is not among its sources.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let wrapped = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = error.downcast_ref::<rustls::Error>().or(wrapped) {
            return Some(words(tls));
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = why_inside(inner)
        {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn why_inside(inner: &(dyn Error + Send + Sync + 'static)) -> Option<String> {
    let inner: &(dyn Error + 'static) = inner;
    why(inner)
}

fn words(error: &rustls::Error) -> String {
    let mut text = String::new();
    let _ = match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refused>() {
            Some(refused) => write!(text, "{refused}"),
            None => write!(text, "its certificate can't be believed: {other}"),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => write!(
            text,
            "it doesn't speak TLS, most likely plain HTTP: switch TLS on there (\"http\": {{\"tls\": true}}), or look whether the port is the right one"
        ),
        rustls::Error::AlertReceived(alert) => {
            write!(text, "it broke off the TLS handshake ({alert:?}): does it speak TLS 1.3?")
        }
        rustls::Error::PeerIncompatible(what) => write!(text, "it doesn't speak TLS 1.3 as lockstep does: {what:?}"),
        other => write!(text, "{other}"),
    };
    text
}
