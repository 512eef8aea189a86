//! What a machine is given when it joins, and what it has to know before that:
//! how this leader is known to be the right one, and where it is.

use crate::config::FILE;
use crate::leader::{Leader, LeaderError};
use crate::roster::RosterError;
use crate::store::StoredFollower;
use lockstep_edge::tls::{Certificate, short};
use lockstep_shared::join::{Joined, Pin};

/// The fingerprint that people compare; none where a proxy's certificate is what is verified.
pub fn pin_fingerprint(pin: Pin) -> Option<String> {
    match pin {
        Pin::Authority(hash) => Some(short(&hash)),
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
        if config.http.tls {
            return Ok((Pin::Authority(self.authority.current()?.fingerprint), config.addresses.clone()));
        }
        Err(RosterError::Not(format!(
            "this leader serves followers without TLS, and a key must not travel in the clear: set \"http\": {{\"tls\": true}} in {FILE} and restart the leader; or, behind a proxy with TLS, \"behindProxy\": true"
        ))
        .into())
    }

    /// What a machine that joined is answered. Its certificate is signed anew
    /// for one that asks again: it is for the same key.
    pub(crate) fn papers(&self, follower: &StoredFollower, csr: &str) -> Result<Joined, LeaderError> {
        let issued = self.authority.issue(csr, &follower.name)?;
        if let Some(own) = Certificate::read_all(&issued.certificate).ok().and_then(|chain| chain.into_iter().next()) {
            self.roster.certified(follower.name.as_str(), own.ends)?;
        }
        Ok(Joined {
            name: follower.name.clone(),
            role: follower.role.clone(),
            key: follower.key.clone(),
            certificate: issued.certificate,
            authorities: issued.authorities,
            addresses: self.config.addresses.clone(),
        })
    }
}
