//! Followers as people see them.

use super::{Member, Roster, TokenState};
use crate::fleet::Reports;
use crate::published::Published;
use crate::store::StoreError;
use lockstep_edge::tls::short;
use lockstep_shared::{Name, Sha256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a follower is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FollowerOrigin)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In `config-leader.json`.
    File,
    /// It joined with a token.
    Token,
}

/// How a follower's key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FollowerKeyState)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It is used.
    Used,
    /// Nothing was signed with it so far.
    Unused,
    /// A new one is there, and both are taken until the follower has used that.
    Rotating,
    /// Nothing that is signed with it is let in.
    Disabled,
}

/// A follower as people see it: nothing of this lets anybody in. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Follower)]
pub struct FollowerView {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// Where it is declared.
    pub origin: Origin,
    /// Where it is told of news; none: it only polls.
    pub url: Option<String>,
    /// What templates see as `machine.addresses`.
    pub addresses: Vec<String>,
    /// Whether it is one of the fleet; `false` for one that is disabled.
    pub enabled: bool,
    /// The revision that it is served; none where none could be published for it, or no leader runs.
    pub served: Option<u64>,
    /// Who disabled it.
    pub disabled_by: Option<String>,
    /// Since when it is disabled.
    pub disabled: Option<i64>,
    /// When it joined.
    pub joined: Option<i64>,
    /// With which token: its public id.
    pub token: Option<String>,
    /// From which address.
    pub from: Option<String>,
    /// The fingerprint of its key: the first 8 bytes of the key's SHA-256.
    pub key: Option<String>,
    /// How its key stands.
    pub key_state: Option<KeyState>,
    /// Since when that is its key.
    pub keyed: Option<i64>,
    /// When its certificate ends.
    pub certificate_ends: Option<i64>,
    /// When it was last heard from, since the leader's start.
    pub seen: Option<i64>,
}

impl FollowerView {
    /// Of a machine, with what it last said of itself and what it is served.
    pub fn of(member: &Member, reports: &Reports, published: &Published) -> Self {
        let seen = reports.last_seen(&member.name);
        let shown = reports.certificate_ends(&member.name);
        let joined = member.joined.as_ref();
        let key_state = joined.map(|joined| match (&joined.disabled, &joined.next, joined.signed) {
            (Some(_), _, _) => KeyState::Disabled,
            (None, Some(_), _) => KeyState::Rotating,
            (None, None, None) => KeyState::Unused,
            (None, None, Some(_)) => KeyState::Used,
        });
        Self {
            name: member.name.clone(),
            role: member.role.clone(),
            origin: if joined.is_some() { Origin::Token } else { Origin::File },
            url: member.url.clone(),
            addresses: member.addresses.clone(),
            enabled: member.active(),
            served: published.served.get(&member.name).map(|served| served.number()),
            disabled_by: joined.and_then(|joined| Some(joined.disabled.as_ref()?.by.clone())),
            disabled: joined.and_then(|joined| Some(joined.disabled.as_ref()?.at)),
            joined: joined.map(|joined| joined.joined),
            token: joined.map(|joined| joined.token.clone()),
            from: joined.map(|joined| joined.from.clone()),
            key: joined.map(|joined| short(&Sha256::of(joined.key.as_bytes()))),
            key_state,
            keyed: joined.map(|joined| joined.keyed),
            certificate_ends: shown.or(joined.and_then(|joined| joined.certificate_ends)),
            seen,
        }
    }
}

impl Roster {
    /// Every follower, by name.
    pub fn followers(&self, reports: &Reports, published: &Published) -> Vec<FollowerView> {
        let roll = self.members.now();
        roll.values().map(|member| FollowerView::of(member, reports, published)).collect()
    }

    /// How many tokens can be used at the moment. `issuer` is the authority that the leader shows now.
    pub fn open_tokens(&self, issuer: Option<Sha256>) -> Result<usize, StoreError> {
        Ok(self.join_tokens(issuer)?.iter().filter(|token| token.state == TokenState::Open).count())
    }
}
