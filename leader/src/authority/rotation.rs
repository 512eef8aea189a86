//! One authority in another's place, with both trusted meanwhile: goes on by
//! itself with what followers say, and nobody's request fails for it.

use super::{Authority, AuthorityError, Said, Stage, State};
use lockstep_edge::{clock, tls};
use lockstep_shared::api::{Told, Trust, addresses_digest};
use lockstep_shared::{Name, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The authorities of a platform, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authorities {
    /// How far a rotation is.
    pub stage: Stage,
    /// When that began, Unix seconds.
    pub since: i64,
    /// What is to be trusted, what issues first.
    pub authorities: Vec<AuthorityShown>,
    /// The last second of the leader's own certificate, Unix.
    pub leader_ends: i64,
    /// Followers with what they last said; those that pin nothing are left out.
    pub followers: Vec<FollowerTrust>,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityShown {
    /// The start of its fingerprint, as people compare it.
    pub short: String,
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub fingerprint: Sha256,
    /// Its name.
    pub name: String,
    /// Its last second, Unix.
    pub ends: i64,
    /// What it does now: `issues`, `is told`, `is still trusted`.
    pub duty: String,
    /// It, PEM.
    pub pem: String,
}

/// What a follower last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FollowerTrust {
    /// Its name.
    pub name: Name,
    /// Whether the rotation waits for it.
    pub missing: bool,
    /// Whether it is not waited for any more: it may have to join again.
    pub given_up: bool,
    /// When it first said what it now says, Unix seconds; nothing where it never said anything.
    pub since: Option<i64>,
    /// The authorities that it trusts.
    pub trusts: Vec<Sha256>,
    /// The last second of its own certificate, Unix; nothing where it shows none.
    pub certificate_ends: Option<i64>,
}

impl Authority {
    /// Whether a follower says another thing than before.
    pub fn is_news(&self, machine: &Name, trust: &Trust) -> bool {
        self.said().get(machine).is_none_or(|said| said.trust != *trust)
    }

    /// A follower has said what it trusts; kept for a leader that is started anew.
    pub fn hear(&self, machine: &Name, trust: &Trust) -> Result<(), AuthorityError> {
        let now = Said { trust: trust.clone(), since: clock::now() };
        let mut said = self.said();
        self.store().put_said(machine, &now)?;
        said.insert(machine.clone(), now);
        Ok(())
    }

    /// Whether a follower ever said what it trusts.
    pub fn heard(&self, machine: &Name) -> bool {
        self.said().contains_key(machine)
    }

    /// Who last said that it knows another address than these; nobody where there are none.
    pub fn knows_otherwise(&self, addresses: &[String]) -> Vec<Name> {
        if addresses.is_empty() {
            return Vec::new();
        }
        let digest = Some(addresses_digest(addresses));
        let said = self.said();
        said.iter().filter(|(_, said)| said.trust.addresses != digest).map(|(name, _)| name.clone()).collect()
    }

    /// Goes to the next stage of a rotation, for as long as nobody is missing.
    pub fn go_on(&self, waited_for: &[Name]) -> Result<(), AuthorityError> {
        loop {
            let next = {
                let inside = self.inside();
                let Some(inside) = inside.as_ref() else { return Ok(()) };
                let said = self.said();
                let waited_for = concerned(waited_for, &said);
                inside.state.step(&inside.state.missing(&waited_for, &said)?, clock::now())
            };
            match next {
                Some(next) => self.enter(next)?,
                None => return Ok(()),
            }
        }
    }

    /// What a follower that says this has to be told; nothing where it has all.
    /// `addresses` are this leader's.
    pub fn lacks(&self, trust: &Trust, addresses: &[String]) -> Option<Told> {
        let pins: Vec<Sha256> = self.authorities().iter().map(|authority| authority.fingerprint).collect();
        let pinned_others = !trust.authorities.is_empty() && trust.authorities != pins;
        // Who pins none has to hear of another one, too, where its own certificate is of one that is going.
        let of_another = trust.issuer.is_some_and(|issuer| pins.first() != Some(&issuer));
        let authorities = (!pins.is_empty() && (pinned_others || of_another))
            .then(|| self.authorities().iter().map(tls::Certificate::pem).collect());
        let known = trust.addresses == Some(addresses_digest(addresses));
        let addresses = (!addresses.is_empty() && !known).then(|| addresses.to_vec());
        (authorities.is_some() || addresses.is_some()).then_some(Told { key: None, authorities, addresses })
    }

    /// Begins a rotation: makes a new authority, for everybody to be told.
    pub fn rotate(&self, waited_for: &[Name]) -> Result<(), AuthorityError> {
        let next = self.inside().as_ref().ok_or(AuthorityError::Off)?.state.rotate(clock::now())?;
        self.enter(next)?;
        self.go_on(waited_for)
    }

    /// Goes on without those who are missing, and says who they are.
    pub fn finish(&self, waited_for: &[Name]) -> Result<Vec<Name>, AuthorityError> {
        let (missing, next) = {
            let inside = self.inside();
            let inside = inside.as_ref().ok_or(AuthorityError::Off)?;
            let said = self.said();
            let missing = inside.state.missing(&concerned(waited_for, &said), &said)?;
            let next = inside.state.finish(&missing, clock::now()).ok_or(AuthorityError::NotUnderWay)?;
            (missing, next)
        };
        self.enter(next)?;
        self.go_on(waited_for)?;
        Ok(missing)
    }

    /// Durable first, then in effect.
    fn enter(&self, next: State) -> Result<(), AuthorityError> {
        let stage = next.stage();
        {
            let mut inside = self.inside();
            let inside = inside.as_mut().ok_or(AuthorityError::Off)?;
            let authorities = next.authorities()?;
            self.store().put_authority(&next)?;
            inside.state = next;
            self.pins.replace(authorities);
        }
        tracing::info!(?stage, "the authority's rotation goes on");
        self.renew()
    }

    /// The authorities and who is missing, for people.
    pub fn show(&self, waited_for: &[Name]) -> Result<Authorities, AuthorityError> {
        let inside = self.inside();
        let inside = inside.as_ref().ok_or(AuthorityError::Off)?;
        let state = &inside.state;
        let all = self.said();
        let waited_for = concerned(waited_for, &all);
        let missing = state.missing(&waited_for, &all)?;
        let authorities = state.authorities()?;
        let current = authorities.first().map(|current| current.fingerprint);
        let shown = authorities.iter().map(|authority| AuthorityShown {
            short: tls::short(&authority.fingerprint),
            fingerprint: authority.fingerprint,
            name: authority.subject.clone(),
            ends: authority.ends,
            duty: match state.stage() {
                _ if Some(authority.fingerprint) == current => "issues",
                Stage::Telling => "is told to followers, and will issue",
                _ => "is still trusted",
            }
            .to_owned(),
            pem: authority.pem(),
        });
        let followers = waited_for.iter().map(|name| {
            let said = all.get(name);
            FollowerTrust {
                name: name.clone(),
                missing: missing.contains(name),
                given_up: state.given_up.contains(name),
                since: said.map(|said| said.since),
                trusts: said.map(|said| said.trust.authorities.clone()).unwrap_or_default(),
                certificate_ends: said.and_then(|said| said.trust.certificate_ends),
            }
        });
        Ok(Authorities {
            stage: state.stage(),
            since: state.since,
            authorities: shown.collect(),
            leader_ends: inside.own.certificate.ends,
            followers: followers.collect(),
        })
    }
}

/// Who a rotation waits for: of those that may be waited for, who ever said
/// that they pin an authority, or show a certificate.
fn concerned(followers: &[Name], said: &BTreeMap<Name, Said>) -> Vec<Name> {
    let pins = |name: &&Name| {
        said.get(*name).is_none_or(|said| !said.trust.authorities.is_empty() || said.trust.issuer.is_some())
    };
    followers.iter().filter(pins).cloned().collect()
}
