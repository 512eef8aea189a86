//! What a machine is given when it joins, and what it has to know before that:
//! how this leader is known to be the right one, and where it is.

use super::view::fingerprint;
use crate::config::FILE;
use crate::leader::{Leader, LeaderError};
use crate::roster::RosterError;
use crate::store::StoredFollower;
use lockstep_shared::join::{JoinRequest, Joined, Pin};
use lockstep_shared::{Problem, Sha256};

/// The fingerprint that people compare; none where a proxy's certificate is what is verified.
pub fn pin_fingerprint(pin: Pin) -> Option<String> {
    match pin {
        Pin::Authority(hash) => Some(fingerprint(&hash)),
        Pin::Proxy => None,
    }
}

impl Leader {
    /// What joining machines know this leader by, and where they find it. The
    /// error says why none can join.
    pub(crate) fn way_in(&self) -> Result<(Pin, Vec<String>), LeaderError> {
        let config = &self.config;
        if config.addresses.is_empty() {
            return Err(RosterError::Not(format!(
                "{FILE} doesn't say how followers reach this leader: give it \"addresses\": [\"https://ADDRESS:{}\"] and restart the leader",
                config.http.port
            ))
            .into());
        }
        if config.http.behind_proxy {
            return Ok((Pin::Proxy, config.addresses.clone()));
        }
        Err(RosterError::Not(format!(
            "this leader serves followers without TLS, and a key must not travel in the clear: set \"http\": {{\"tls\": true}} in {FILE} and restart the leader; or, behind a proxy with TLS, \"behindProxy\": true"
        ))
        .into())
    }

    /// SHA-256, in hex, of the public key that a machine wants a certificate for.
    pub(crate) fn public_of(&self, request: &JoinRequest) -> Result<String, Problem> {
        Ok(Sha256::of(request.csr.as_bytes()).to_string())
    }

    /// What a machine that joined is answered.
    pub(crate) fn papers(&self, follower: &StoredFollower, _request: &JoinRequest) -> Result<Joined, Problem> {
        Ok(Joined {
            name: follower.name.clone(),
            role: follower.role.clone(),
            key: follower.key.clone(),
            certificate: String::new(),
            authorities: Vec::new(),
            addresses: self.config.addresses.clone(),
        })
    }
}
