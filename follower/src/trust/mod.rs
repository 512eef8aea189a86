//! Whom this follower believes, where it looks for the leader, and what it
//! shows itself: TLS as far as it is the follower's.
//!
//! | file | does |
//! |---|---|
//! | `kept.rs` | `state/told.json`: what the leader told, over what the configuration says |
//! | `own.rs` | `state/tls.pem`: the follower's own certificate, and its renewal |

mod kept;
mod own;

pub use own::Own;

use self::kept::{Configured, Kept};
use crate::config::Config;
use crate::error::FollowerError;
use lockstep_edge::tls::{self, Certificate, Pins, identity};
use lockstep_edge::{Client, Trust};
use lockstep_shared::api::{self, Told, addresses_digest};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the follower goes by, as it is now.
pub struct Trusted {
    /// The leader, wherever it is.
    pub client: Arc<Client>,
    configured: Configured,
    /// The addresses of the configuration, in their order.
    urls: Vec<String>,
    pins: Option<Arc<Pins>>,
    path: PathBuf,
    kept: Mutex<Kept>,
    own: Option<Own>,
    /// Woken when something may have to be renewed.
    changed: Notify,
}

impl Trusted {
    /// Reads what was kept. What the configuration says anew wins over what the leader told before.
    pub fn open(config: &Config) -> Result<Self, FollowerError> {
        let own = config.tls.then(|| Own::open(&config.state_folder, &config.name)).transpose()?;
        Ok(Self { own, ..Self::look(config)? })
    }

    /// The same for who only looks, beside a follower that may be running: nothing is made or written.
    pub fn look(config: &Config) -> Result<Self, FollowerError> {
        let mut urls = vec![config.leader_url.clone()];
        urls.extend(config.others.iter().cloned());
        let configured = Configured::of(&urls, config.authorities.as_deref());
        let path = config.state_folder.join(kept::FILE);
        let kept = Kept::read(&path, &configured);
        let pins = config.authorities.clone().map(|authorities| {
            let ca = config.ca.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            let place = format!("{ca}, or in {} where the leader told others since", path.display());
            Arc::new(Pins::new(place, kept.authorities().unwrap_or(authorities)))
        });
        let trust = match &pins {
            Some(pins) => Trust::Pinned { pins: pins.clone(), identity: identity::LEADER.to_owned() },
            None => Trust::System,
        };
        let told = kept.addresses().filter(|told| match usable(told, &urls) {
            Ok(()) => true,
            Err(why) => {
                tracing::warn!(path = %path.display(), "what the leader told before can't be used, and the configuration holds: {why}");
                false
            }
        });
        let addresses = in_order(told, &urls);
        let client =
            Client::trusting(&addresses, config.name.as_str(), config.key.clone(), crate::pull::LARGEST, &trust)?;
        Ok(Self {
            client: Arc::new(client),
            configured,
            urls,
            pins,
            path,
            kept: Mutex::new(kept),
            own: None,
            changed: Notify::new(),
        })
    }

    /// What it shows itself, where it speaks TLS.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// What the leader should know of it.
    pub fn words(&self) -> api::Trust {
        let shown = self.own.as_ref().and_then(Own::shown);
        api::Trust {
            authorities: self.pins.as_ref().map(|pins| pins.fingerprints()).unwrap_or_default(),
            issuer: shown.as_ref().map(|shown| shown.issuer),
            certificate_ends: shown.as_ref().map(|shown| shown.certificate.ends),
            addresses: self.kept().addresses().map(addresses_digest),
        }
    }

    /// Takes what the leader told, durably before it counts. Whether anything is different now.
    pub fn take(&self, told: Told) -> bool {
        let mut kept = self.kept();
        let mut next = kept.clone();
        if let Some(pems) = told.authorities {
            match tls::authorities(&pems.concat()) {
                Ok(_) => next.set_authorities(pems),
                Err(error) => tracing::warn!("the leader told authorities that can't be used: {error}"),
            }
        }
        if let Some(addresses) = told.addresses {
            match usable(&addresses, &self.urls) {
                Ok(()) => next.set_addresses(addresses),
                Err(why) => tracing::warn!("the leader told an address that can't be used: {why}"),
            }
        }
        if next == *kept {
            return false;
        }
        if let Err(error) = next.write(&self.path, &self.configured) {
            tracing::error!(path = %self.path.display(), %error, "what the leader told could not be kept; it tells it again");
            return false;
        }
        if let (Some(pins), Some(authorities)) = (&self.pins, next.authorities())
            && pins.authorities() != authorities
        {
            let short: Vec<String> = authorities.iter().map(|authority| tls::short(&authority.fingerprint)).collect();
            tracing::info!(authorities = short.join(", "), "the leader told which authorities to trust");
            pins.replace(authorities);
        }
        if next.addresses() != kept.addresses() {
            let addresses = in_order(next.addresses(), &self.urls);
            tracing::info!(addresses = addresses.join(", "), "the leader told where it is reached");
            // They were looked at above.
            let _ = self.client.look_at(&addresses);
        }
        *kept = next;
        drop(kept);
        self.changed.notify_waiters();
        true
    }

    /// The authority that a certificate of its own has to be of, where that is known.
    fn issuer(&self) -> Option<Certificate> {
        let told = self.kept().authorities();
        told.or_else(|| self.pins.as_ref().map(|pins| pins.authorities()))?.into_iter().next()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether addresses may be tried: none without TLS where the configuration has it.
fn usable(addresses: &[String], urls: &[String]) -> Result<(), String> {
    let with_tls = urls.iter().any(|url| url.starts_with("https://"));
    for text in addresses {
        match lockstep_edge::client::address(text) {
            Some(address) if address.https || !with_tls => {}
            Some(_) => return Err(format!("{text} has no TLS, and {} has", urls[0])),
            None => return Err(format!("{text:?} is none")),
        }
    }
    if addresses.is_empty() { Err("there is none".to_owned()) } else { Ok(()) }
}

/// What was told first, then what the configuration says.
fn in_order(told: Option<&[String]>, urls: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for url in told.unwrap_or_default().iter().chain(urls) {
        let url = url.trim_end_matches('/').to_owned();
        if !all.contains(&url) {
            all.push(url);
        }
    }
    all
}
