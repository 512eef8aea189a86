//! Tokens to join with: bound to a role, used once, ended after a time, kept
//! as a hash.

use super::{Roster, RosterError};
use crate::store::{Revoked, StoreError, StoredJoinToken};
use lockstep_edge::{clock, random};
use lockstep_shared::join::{JoinToken, Pin, TokenId};
use lockstep_shared::{Name, Sha256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// For how many seconds a token that can't be used any more is remembered, so
/// that whoever comes with it hears why.
const REMEMBERED: i64 = 90 * 86_400;

/// Whether a token can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = JoinTokenState)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can.
    Open,
    /// A machine joined with it.
    Used,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// The authority by which it knows the leader was replaced (`lockstep ca rotate`).
    Outdated,
}

/// A join token as people see it: nothing of this lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = JoinToken)]
pub struct JoinTokenView {
    /// Its public id, 12 hex digits.
    pub id: String,
    /// Whether it can be used.
    pub state: State,
    /// The role of whoever joins with it.
    pub role: Name,
    /// The only name that they may take, where it is bound to one.
    pub name: Option<Name>,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// By whom.
    pub author: String,
    /// When it ends, Unix seconds.
    pub expires: i64,
    /// When it was used, Unix seconds.
    pub used: Option<i64>,
    /// As which machine.
    pub machine: Option<Name>,
    /// From which address.
    pub from: Option<String>,
    /// When it was taken back, Unix seconds.
    pub revoked: Option<i64>,
}

impl StoredJoinToken {
    /// Whether it can be used at a time.
    pub fn state(&self, now: i64) -> State {
        match (&self.used, &self.revoked) {
            (Some(_), _) => State::Used,
            (None, Some(_)) => State::Revoked,
            (None, None) if self.expires <= now => State::Expired,
            (None, None) => State::Open,
        }
    }

    fn ended(&self) -> i64 {
        let used = self.used.as_ref().map(|used| used.at);
        used.or(self.revoked.as_ref().map(|revoked| revoked.at)).unwrap_or(self.expires)
    }

    /// `issuer` is the authority that the leader shows now.
    fn view(&self, now: i64, issuer: Option<Sha256>) -> JoinTokenView {
        let state = match self.state(now) {
            State::Open if self.authority.is_some_and(|pinned| issuer != Some(pinned)) => State::Outdated,
            state => state,
        };
        JoinTokenView {
            id: self.id.clone(),
            state,
            role: self.role.clone(),
            name: self.name.clone(),
            created: self.created,
            author: self.author.clone(),
            expires: self.expires,
            used: self.used.as_ref().map(|used| used.at),
            machine: self.used.as_ref().map(|used| used.by.clone()),
            from: self.used.as_ref().map(|used| used.from.clone()),
            revoked: self.revoked.as_ref().map(|revoked| revoked.at),
        }
    }
}

/// What a token is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The role of whoever joins with it.
    pub role: Name,
    /// The only name that they may take.
    pub name: Option<Name>,
    /// For how many seconds it can be used.
    pub seconds: i64,
    /// What the leader is known by.
    pub pin: Pin,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

impl Roster {
    /// Makes a token: itself, to be shown once, and what is known of it. Durable on return.
    pub fn make_token(&self, wanted: Wanted, author: &str) -> Result<(Zeroizing<String>, JoinTokenView), StoreError> {
        let store = self.store();
        let now = clock::now();
        for old in store.join_tokens()?.iter().filter(|token| token.ended().saturating_add(REMEMBERED) < now) {
            store.drop_join_token(&old.id)?;
        }
        let token = JoinToken {
            id: TokenId(random::bytes()),
            secret: Zeroizing::new(random::bytes()),
            pin: wanted.pin,
            addresses: wanted.addresses,
        };
        let authority = match wanted.pin {
            Pin::Authority(fingerprint) => Some(fingerprint),
            Pin::Proxy => None,
        };
        let stored = StoredJoinToken {
            id: token.id.to_string(),
            hash: token.hash(),
            role: wanted.role,
            name: wanted.name,
            created: now,
            author: author.to_owned(),
            expires: now.saturating_add(wanted.seconds),
            authority,
            used: None,
            revoked: None,
        };
        store.put_join_token(&stored)?;
        Ok((token.reveal(), stored.view(now, authority)))
    }

    /// Every token that is remembered, the oldest first. `issuer` is the authority that the leader shows now.
    pub fn join_tokens(&self, issuer: Option<Sha256>) -> Result<Vec<JoinTokenView>, StoreError> {
        let now = clock::now();
        Ok(self.store().join_tokens()?.iter().map(|token| token.view(now, issuer)).collect())
    }

    /// Takes a token back: nobody joins with it any more. Durable on return.
    pub fn revoke_token(&self, id: &str, by: &str) -> Result<JoinTokenView, RosterError> {
        let store = self.store();
        let now = clock::now();
        let token = store.join_tokens()?.into_iter().find(|token| token.id == id);
        let mut token = token.ok_or_else(|| {
            RosterError::Not(format!("there is no join token {id:?}: lockstep tokens list shows them by their ids"))
        })?;
        if let Some(used) = &token.used {
            return Err(RosterError::Not(format!(
                "{} joined with it at {}: lockstep followers disable {} puts that machine out",
                used.by,
                clock::rfc3339(used.at),
                used.by
            )));
        }
        if token.revoked.is_some() {
            return Err(RosterError::Already(format!("{id} is revoked already")));
        }
        token.revoked = Some(Revoked { at: now, by: by.to_owned() });
        store.put_join_token(&token)?;
        Ok(token.view(now, None))
    }
}
