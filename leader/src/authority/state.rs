//! The authorities as they stand, and how one takes the other's place. Pure.
//!
//! 1. A new one is made and told to everybody; the old one still issues.
//! 2. Once everybody trusts it, it issues, and followers renew theirs.
//! 3. Once all have, the old one is forgotten, and everybody is told so.

use super::AuthorityError;
use super::issue::Ca;
use lockstep_edge::tls::Certificate;
use lockstep_shared::Name;
use lockstep_shared::api::Trust;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The authorities.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Issues.
    pub current: Ca,
    /// Will issue, and is told to everybody.
    #[serde(default)]
    pub next: Option<Ca>,
    /// The certificate (PEM) of the one that issued before. Its key is gone.
    #[serde(default)]
    pub old: Option<String>,
    /// When the present stage began, Unix seconds.
    pub since: i64,
    /// Followers that are not waited for in this rotation.
    #[serde(default)]
    pub given_up: BTreeSet<Name>,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There is one authority.
    Settled,
    /// A new one is told to everybody.
    Telling,
    /// The new one issues, and followers renew their certificates.
    Renewing,
}

/// What a follower last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What it said.
    pub trust: Trust,
    /// When it first said so, Unix seconds.
    pub since: i64,
}

impl State {
    /// With one new authority.
    pub fn new(now: i64) -> Result<Self, AuthorityError> {
        Ok(Self { current: Ca::make(now)?, next: None, old: None, since: now, given_up: BTreeSet::new() })
    }

    /// How far a rotation is.
    pub fn stage(&self) -> Stage {
        match (&self.next, &self.old) {
            (Some(_), _) => Stage::Telling,
            (None, Some(_)) => Stage::Renewing,
            (None, None) => Stage::Settled,
        }
    }

    /// Everything that is to be trusted, PEM; what issues first.
    pub fn pems(&self) -> Vec<String> {
        let next = self.next.as_ref().map(|ca| ca.certificate.clone());
        [Some(self.current.certificate.clone()), next, self.old.clone()].into_iter().flatten().collect()
    }

    /// The same, read.
    pub fn authorities(&self) -> Result<Vec<Certificate>, AuthorityError> {
        self.pems().iter().map(|pem| Ok(Certificate::read_all(pem)?.remove(0))).collect()
    }

    /// Begins a rotation.
    pub fn rotate(&self, now: i64) -> Result<Self, AuthorityError> {
        if self.stage() != Stage::Settled {
            return Err(AuthorityError::UnderWay);
        }
        Ok(Self { next: Some(Ca::make(now)?), since: now, given_up: BTreeSet::new(), ..self.clone() })
    }

    /// Who of these followers has not done yet what this stage waits for.
    pub fn missing(&self, followers: &[Name], said: &BTreeMap<Name, Said>) -> Result<Vec<Name>, AuthorityError> {
        let (wanted, renewed) = match (self.stage(), &self.next) {
            (Stage::Settled, _) => return Ok(Vec::new()),
            (Stage::Telling, Some(next)) => (next.read()?.fingerprint, false),
            _ => (self.current.read()?.fingerprint, true),
        };
        let lacks = |said: Option<&Said>| {
            said.is_none_or(|Said { trust, .. }| {
                // Who pins none needs none.
                let trusts = trust.authorities.is_empty() || trust.authorities.contains(&wanted);
                !trusts || (renewed && trust.issuer.is_some_and(|issuer| issuer != wanted))
            })
        };
        let waited_for = followers.iter().filter(|name| !self.given_up.contains(*name));
        Ok(waited_for.filter(|name| lacks(said.get(*name))).cloned().collect())
    }

    /// The next stage, once nobody is missing any more.
    pub fn step(&self, missing: &[Name], now: i64) -> Option<Self> {
        if !missing.is_empty() {
            return None;
        }
        match self.stage() {
            Stage::Settled => None,
            Stage::Telling => Some(Self {
                current: self.next.clone()?,
                next: None,
                old: Some(self.current.certificate.clone()),
                since: now,
                given_up: self.given_up.clone(),
            }),
            Stage::Renewing => Some(Self { old: None, since: now, given_up: BTreeSet::new(), ..self.clone() }),
        }
    }

    /// The same without those who are missing, who are not waited for any more.
    pub fn finish(&self, missing: &[Name], now: i64) -> Option<Self> {
        let mut with = self.clone();
        with.given_up.extend(missing.iter().cloned());
        with.step(&[], now)
    }
}
