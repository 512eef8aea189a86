//! The client's side towards a leader whose authority isn't known yet: it takes
//! what it is shown, so that a person can compare it. Nothing secret may be
//! sent over such a connection.

use super::belief::{self, Belief, Shown};
use super::{Certificate, identity};
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes any chain that a leader's certificate of some authority ends, and remembers that authority.
#[derive(Debug, Default)]
pub struct Meeting {
    shown: Mutex<Option<Certificate>>,
}

impl Meeting {
    /// The authority that was shown, once a handshake succeeded.
    pub fn authority(&self) -> Option<Certificate> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client's side that only looks.
    pub fn client(self: &Arc<Self>) -> Result<ClientConfig, rustls::Error> {
        belief::client(self, identity::LEADER)
    }
}

impl Belief for Meeting {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        // The one that its own certificate is of: during a rotation several are sent.
        let leads = |authority: &Certificate| {
            shown.leads_to(belief::anchor(std::slice::from_ref(authority)).as_deref()).is_ok()
        };
        let Some(authority) = shown.authorities().find(leads) else {
            return Err(rustls::CertificateError::UnknownIssuer.into());
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority);
        Ok(())
    }
}
