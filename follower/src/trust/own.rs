//! `state/tls.pem`: the key and the certificate that this follower shows on its
//! own listener. Asked of the leader with the follower's signature, so that one
//! whose certificate has ended gets another.

use super::Trusted;
use crate::board::Board;
use crate::error::FollowerError;
use bytes::Bytes;
use http::Method;
use lockstep_edge::backoff::Backoff;
use lockstep_edge::random;
use lockstep_edge::tls::{self, Acceptor, Certificate, Identity, Requested};
use lockstep_edge::{clock, durable};
use lockstep_shared::api::{CertificateRequest, IssuedCertificate, Told};
use lockstep_shared::{Name, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// The file, below the state folder.
const FILE: &str = "tls.pem";
/// The longest time without a look at the clock: one that jumps, or a machine that slept, is noticed.
const LOOK_EVERY: i64 = 60;
const ANSWER: Duration = Duration::from_secs(30);

/// What this follower shows.
pub struct Own {
    path: PathBuf,
    name: Name,
    acceptor: Arc<Acceptor>,
    shown: Mutex<Option<Shown>>,
    /// How much sooner than others this one renews: a fleet that was made at once doesn't ask at once.
    early: f64,
}

/// A certificate of the platform's authority, in use.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) certificate: Certificate,
    pub(super) issuer: Sha256,
}

impl Own {
    /// With the kept certificate, or with one by nobody until the leader has given one.
    pub(super) fn open(state: &Path, name: &Name) -> Result<Self, FollowerError> {
        let path = state.join(FILE);
        let kept = match std::fs::read_to_string(&path) {
            Ok(text) => match read(&Zeroizing::new(text), name) {
                Ok(kept) => Some(kept),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "this follower's certificate can't be used: it asks for another");
                    None
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "this follower's certificate can't be read: it asks for another");
                None
            }
        };
        let broken = |error: String| FollowerError::Tls(error);
        let (identity, shown) = match kept {
            Some((identity, shown)) => (identity, Some(shown)),
            None => (tls::placeholder(name.as_str()).map_err(|error| broken(error.0))?, None),
        };
        let acceptor = Arc::new(Acceptor::new(&identity).map_err(|error| broken(error.to_string()))?);
        Ok(Self { path, name: name.clone(), acceptor, shown: Mutex::new(shown), early: random::fraction() })
    }

    /// What opens TLS on the listener.
    pub fn acceptor(&self) -> Arc<Acceptor> {
        self.acceptor.clone()
    }

    pub(super) fn shown(&self) -> Option<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a certificate, then shows it: durable first, so that a crash leaves the old or the new.
    fn show(&self, key: &Zeroizing<String>, chain: &str) -> Result<(), String> {
        let text = Zeroizing::new(format!("{}{chain}", key.as_str()));
        let (identity, shown) = read(&text, &self.name).map_err(|error| error.to_string())?;
        durable::replace(&self.path, text.as_bytes(), 0o600)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.acceptor.replace(&identity);
        tracing::info!(ends = clock::rfc3339(shown.certificate.ends), "this follower has a new certificate");
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(())
    }

    /// Seconds until another certificate is to be asked for; `issuer` is the authority it should be of.
    fn due_in(&self, issuer: Option<&Certificate>, now: i64) -> i64 {
        match self.shown() {
            Some(shown) if issuer.is_none_or(|issuer| issuer.fingerprint == shown.issuer) => {
                shown.certificate.due_in(now, self.early)
            }
            _ => 0,
        }
    }
}

fn read(text: &Zeroizing<String>, name: &Name) -> Result<(Identity, Shown), tls::BadPem> {
    let identity = Identity::from_pem(text, text)?;
    if !identity.certificate.names.contains(&tls::identity::follower(name)) {
        return Err(tls::BadPem(format!("it is not {name}'s")));
    }
    let issuer = Certificate::read_all(text)?
        .into_iter()
        .find(|certificate| certificate.is_authority)
        .ok_or_else(|| tls::BadPem("its authority is missing".to_owned()))?;
    let shown = Shown { certificate: identity.certificate.clone(), issuer: issuer.fingerprint };
    Ok((identity, shown))
}

impl Trusted {
    /// Has a certificate of the right authority, in time, for as long as it is polled.
    pub async fn renew(self: Arc<Self>, board: Arc<Board>) {
        let Some(own) = &self.own else { return };
        let mut backoff = Backoff::for_contact();
        let mut said = None;
        loop {
            let wait = own.due_in(self.issuer().as_ref(), clock::now());
            if wait > 0 {
                let wait = Duration::from_secs(wait.min(LOOK_EVERY).unsigned_abs());
                let _ = timeout(wait, self.changed.notified()).await;
                continue;
            }
            match self.ask(own).await {
                Ok(()) => {
                    board.tell_again();
                    said = None;
                    if own.due_in(self.issuer().as_ref(), clock::now()) == 0 {
                        // By this machine's clock it is none yet, or none any more: asking on and on helps nobody.
                        sleep(backoff.next_wait()).await;
                    } else {
                        backoff.reset();
                    }
                }
                Err(why) => {
                    if said.as_ref() != Some(&why) {
                        tracing::warn!("this follower got no certificate yet: {why}");
                        said = Some(why);
                    }
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn ask(&self, own: &Own) -> Result<(), String> {
        let requested = Requested::new(own.name.as_str()).map_err(|error| error.to_string())?;
        let body = serde_json::to_vec(&CertificateRequest { csr: requested.csr }).unwrap_or_default();
        let sent = self.client.send(Method::POST, "/certificate", &[], Some(Bytes::from(body)), ANSWER).await;
        let answer = sent.map_err(|error| error.to_string())?;
        if let Some(problem) = answer.problem() {
            return Err(format!("{}: {}", problem.title, problem.detail));
        }
        let issued: IssuedCertificate =
            serde_json::from_slice(&answer.body).map_err(|error| format!("an answer that can't be read: {error}"))?;
        own.show(&requested.key, &issued.certificate)?;
        self.take(Told { authorities: Some(issued.authorities), ..Told::default() });
        Ok(())
    }
}
