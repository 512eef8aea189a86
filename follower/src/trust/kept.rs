//! `state/told.json`: what the leader told this follower. It stands over the
//! configuration it was told under; a person who edits that one wins.

use lockstep_edge::durable;
use lockstep_edge::tls::{self, Certificate};
use lockstep_shared::Sha256;
use lockstep_shared::api::addresses_digest;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The file, below the state folder.
pub(super) const FILE: &str = "told.json";

/// What the configuration said when the leader told something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Configured {
    addresses: Sha256,
    authorities: Sha256,
}

impl Configured {
    pub(super) fn of(urls: &[String], authorities: Option<&[Certificate]>) -> Self {
        let pems: Vec<String> = authorities.unwrap_or_default().iter().map(Certificate::pem).collect();
        Self { addresses: addresses_digest(urls), authorities: addresses_digest(&pems) }
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    instead_of: Configured,
    #[serde(default)]
    authorities: Option<Vec<String>>,
    #[serde(default)]
    addresses: Option<Vec<String>>,
}

/// What was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    authorities: Option<Vec<String>>,
    addresses: Option<Vec<String>>,
}

impl Kept {
    /// What was kept, as far as it was told under this configuration.
    pub(super) fn read(path: &Path, now: &Configured) -> Self {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the leader told before can't be read; the configuration holds");
                return Self::default();
            }
        };
        let file: File = match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the leader told before is no JSON of ours; the configuration holds");
                return Self::default();
            }
        };
        let File { instead_of, authorities, addresses } = file;
        if instead_of != *now {
            tracing::info!(path = %path.display(), "the configuration is another one than when the leader told what stands there: it holds");
        }
        Self {
            authorities: authorities
                .filter(|pems| instead_of.authorities == now.authorities && tls::authorities(&pems.concat()).is_ok()),
            addresses: addresses.filter(|told| instead_of.addresses == now.addresses && !told.is_empty()),
        }
    }

    /// Keeps it: durable on return, and after a crash the old or the new.
    pub(super) fn write(&self, path: &Path, now: &Configured) -> io::Result<()> {
        let file =
            File { instead_of: now.clone(), authorities: self.authorities.clone(), addresses: self.addresses.clone() };
        let mut text = serde_json::to_vec_pretty(&file).map_err(io::Error::other)?;
        text.push(b'\n');
        durable::replace(path, &text, 0o600)
    }

    pub(super) fn authorities(&self) -> Option<Vec<Certificate>> {
        tls::authorities(&self.authorities.as_ref()?.concat()).ok()
    }

    pub(super) fn addresses(&self) -> Option<&[String]> {
        self.addresses.as_deref()
    }

    pub(super) fn set_authorities(&mut self, pems: Vec<String>) {
        self.authorities = Some(pems);
    }

    pub(super) fn set_addresses(&mut self, addresses: Vec<String>) {
        self.addresses = Some(addresses);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    #[test]
    fn an_edited_configuration_wins_over_what_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let urls = |url: &str| vec![url.to_owned()];
        let before = Configured::of(&urls("https://a"), None);
        let mut kept = Kept::default();
        kept.set_addresses(urls("https://b"));
        kept.write(&path, &before).unwrap();
        assert_eq!(Kept::read(&path, &before), kept);
        assert_eq!(Kept::read(&path, &Configured::of(&urls("https://c"), None)), Kept::default());
        for garbled in [&b"{"[..], b"", b"{\"addresses\": 1}"] {
            std::fs::write(&path, garbled).unwrap();
            assert_eq!(Kept::read(&path, &before), Kept::default());
        }
        assert_eq!(Kept::read(&folder.path().join("none"), &before), Kept::default());
    }
}
