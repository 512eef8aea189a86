//! The platform's own authority: its certificates let leader and followers
//! speak TLS with each other, and nobody outside has to trust it. Its keys are
//! in the store, encrypted; a backup carries them.
//!
//! | file | does |
//! |---|---|
//! | `issue.rs` | makes authorities and certificates |
//! | `state.rs` | the authorities as they stand, and how one takes the other's place; pure |
//! | `rotation.rs` | hears what followers say, and goes on with a rotation |
//! | `renewal.rs` | the leader's own certificate, in time |

mod issue;
mod renewal;
mod rotation;
mod state;
#[cfg(test)]
mod tests;

pub use issue::{Ca, Issued, requested};
pub use rotation::Authorities;
pub use state::{Said, Stage, State};

use crate::config::Config;
use crate::store::{Store, StoreError};
use lockstep_edge::tls::{Acceptor, Certificate, Identity, Pins};
use lockstep_edge::{Trust, clock, tls};
use lockstep_shared::api::IssuedCertificate;
use lockstep_shared::{Name, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the authority doesn't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is none.
    #[error(
        "this leader has no authority of its own: say \"http\": {{\"tls\": true}} in config-leader/conf/config-leader.json and restart it (docs/tls.md)"
    )]
    Off,
    /// A request for a certificate can't be used.
    #[error("the request for a certificate can't be used: {0}; it has to be PKCS#10 as PEM, signed with its own key")]
    Request(String),
    /// A rotation is not over.
    #[error("the authority is being replaced already: see lockstep ca show")]
    UnderWay,
    /// There is no rotation.
    #[error("the authority is not being replaced: lockstep ca rotate begins it")]
    NotUnderWay,
    /// What is stored or made doesn't hold together.
    #[error("the authority can't be used: {0}")]
    Broken(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The authority of a platform, at work; or none, where nobody speaks TLS.
pub struct Authority {
    store: Mutex<Store>,
    inside: Mutex<Option<Inside>>,
    /// What followers last said of what they trust; heard also where there is no authority.
    said: Mutex<BTreeMap<Name, Said>>,
    /// What its clients pin: the leader's pushes to followers.
    pins: Arc<Pins>,
    acceptor: Option<Arc<Acceptor>>,
    hosts: Vec<String>,
    seconds: i64,
}

/// What changes.
struct Inside {
    state: State,
    /// The leader's own certificate.
    own: Own,
}

struct Own {
    issuer: Sha256,
    certificate: Certificate,
}

impl Authority {
    /// What pushes go by before the authority is open; it fills this.
    pub fn pins() -> Arc<Pins> {
        Arc::new(Pins::new("this leader's store (lockstep ca show)", Vec::new()))
    }

    /// Opens the authority, makes it where there is none yet, and issues the
    /// leader's own certificate: a leader that starts always shows a new one.
    pub fn open(config: &Config, store: Store, pins: Arc<Pins>) -> Result<Self, AuthorityError> {
        let now = clock::now();
        let (hosts, seconds) = (config.hosts(), config.certificate_seconds);
        let said = Mutex::new(store.said()?);
        if !config.has_authority() {
            return Ok(Self {
                store: Mutex::new(store),
                inside: Mutex::new(None),
                said,
                pins,
                acceptor: None,
                hosts,
                seconds,
            });
        }
        let state = if let Some(state) = store.authority()? {
            state
        } else {
            let state = State::new(now)?;
            store.put_authority(&state)?;
            state
        };
        pins.replace(state.authorities()?);
        let (identity, own) = own(&state.current, &hosts, now, seconds)?;
        let acceptor = Acceptor::new(&identity).map_err(|error| AuthorityError::Broken(error.to_string()))?;
        Ok(Self {
            store: Mutex::new(store),
            inside: Mutex::new(Some(Inside { state, own })),
            said,
            pins,
            acceptor: Some(Arc::new(acceptor)),
            hosts,
            seconds,
        })
    }

    /// What opens TLS on a listener; none where there is no authority.
    pub fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.acceptor.clone()
    }

    /// Everything that is to be trusted, what issues first; empty where there is no authority.
    pub fn authorities(&self) -> Vec<Certificate> {
        self.pins.authorities()
    }

    /// What issues.
    pub fn current(&self) -> Result<Certificate, AuthorityError> {
        self.inside().as_ref().ok_or(AuthorityError::Off)?.state.current.read()
    }

    /// The fingerprint of what issues; none where there is no authority.
    pub fn issuing(&self) -> Option<Sha256> {
        self.current().ok().map(|current| current.fingerprint)
    }

    /// A certificate for a follower, for the key of its request. The name is
    /// that of who asks, `addresses` its own.
    pub fn issue(&self, csr: &str, name: &Name) -> Result<IssuedCertificate, AuthorityError> {
        let inside = self.inside();
        let state = &inside.as_ref().ok_or(AuthorityError::Off)?.state;
        let issued = state.current.for_follower(csr, name, clock::now(), self.seconds)?;
        Ok(IssuedCertificate { certificate: issued.chain, authorities: state.pems() })
    }

    fn inside(&self) -> MutexGuard<'_, Option<Inside>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<Name, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a push to a follower believes: with authorities of the platform's own, nobody but that follower.
pub fn trust(pins: Option<&Arc<Pins>>, follower: &Name) -> Trust {
    match pins {
        Some(pins) => Trust::Pinned { pins: pins.clone(), identity: tls::identity::follower(follower) },
        None => Trust::System,
    }
}

fn own(ca: &Ca, hosts: &[String], now: i64, seconds: i64) -> Result<(Identity, Own), AuthorityError> {
    let issued = ca.for_leader(hosts, now, seconds)?;
    let identity = Identity::from_pem(&issued.chain, &issued.key)?;
    let certificate = identity.certificate.clone();
    Ok((identity, Own { issuer: ca.read()?.fingerprint, certificate }))
}
