//! Asks the leader for this machine's bundle, verifies it, and says when the
//! leader is away. Decides nothing about what is done with it.

use crate::cause::Cause;
use crate::key::{self, Keyring};
use bytes::Bytes;
use http::header::{IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderName, Method, StatusCode};
use lockstep_edge::Client;
use lockstep_edge::client::{Answer, CallError};
use lockstep_edge::trace::{CAUSE, REQUEST_ID, RequestId};
use lockstep_shared::api::{self, Lease, LeaseRequest, Status, StatusAnswer};
use lockstep_shared::bundle::{BadBundle, DELTA, Told};
use lockstep_shared::{Bundle, Name, Sha256};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the leader is asked to hold a request until there is something new.
pub const WAIT: Duration = Duration::from_mins(1);
/// Longest time for an answer, beside the time it is held on purpose.
const ANSWER: Duration = Duration::from_secs(30);

/// The largest bundle that is taken, in bytes.
pub const LARGEST: usize = 64 * 1024 * 1024;

/// The largest bundle that is kept in memory to take deltas from, in bytes.
const MOST_KEPT: usize = 4 * 1024 * 1024;

/// The leader, as this follower sees it.
pub struct Leader {
    client: Arc<Client>,
    keys: Arc<Keyring>,
    name: Name,
    /// What came last: what the next delta may be from.
    last: Mutex<Option<Arc<Bundle>>>,
    /// Whether it wants to be asked before containers are restarted.
    leases: AtomicBool,
    /// The request that what is done now goes back to.
    pub cause: Cause,
}

/// What a pull gave.
#[derive(Debug)]
pub enum Pulled {
    /// Nothing else than what is known already.
    Same,
    /// A bundle, and its revision.
    New(Arc<Bundle>, u64),
}

/// Why a pull gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No verified answer.
    #[error("no bundle from the leader: {0}")]
    Call(#[from] CallError),
    /// The leader has too much to do.
    #[error("the leader is busy (429) and asks to wait {} s", .0.as_secs())]
    Busy(Duration),
    /// The leader said no.
    #[error("the leader refused: {title} ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's title.
        title: String,
        /// The problem's detail.
        detail: String,
    },
    /// What came is no bundle that may be used.
    #[error("the leader's bundle is refused, nothing was changed: {0}")]
    Bundle(#[from] BadBundle),
    /// A bundle for somebody else.
    #[error(
        "the leader sent the bundle of the machine {0}, nothing was changed: leader.name in config-follower.json and the leader's list must agree"
    )]
    Machine(Name),
}

impl PullError {
    /// Whether the leader is simply not there, which must not stop anything.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Call(error) => no_contact(error),
            Self::Busy(_) => true,
            _ => false,
        }
    }

    /// How long the leader asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) => Some(*wait),
            _ => None,
        }
    }
}

impl Leader {
    /// The leader behind `client`, for the follower `name`; `leases` is what it last said of restarts.
    pub fn new(client: Arc<Client>, keys: Arc<Keyring>, name: Name, leases: bool) -> Self {
        let (last, leases, cause) = (Mutex::default(), AtomicBool::new(leases), Cause::default());
        Self { client, keys, name, last, leases, cause }
    }

    /// Whether it wants to be asked before containers are restarted.
    pub fn leases(&self) -> bool {
        self.leases.load(Ordering::Relaxed)
    }

    /// The machine that this follower is.
    pub fn machine(&self) -> &Name {
        &self.name
    }

    /// Asks for the bundle, unless it is still the one with the digest
    /// `known`. With `wait` the leader holds the request until it isn't.
    pub async fn pull(&self, known: Option<Sha256>, wait: Option<Duration>) -> Result<Pulled, PullError> {
        let target = wait.map_or_else(|| "/conf".to_owned(), |wait| format!("/conf?wait={}s", wait.as_secs()));
        let limit = ANSWER + wait.unwrap_or_default();
        let base = self.last().clone().filter(|last| known == Some(last.digest));
        let mut headers: Vec<_> = known.map(|digest| (IF_NONE_MATCH, format!("\"{digest}\""))).into_iter().collect();
        headers.extend(self.caused());
        if base.is_some() {
            headers.push((HeaderName::from_static("a-im"), DELTA.to_owned()));
        }
        let answer = self.call(Method::GET, &target, &headers, None, limit).await?;
        let pulled = match (answer.status, base) {
            (StatusCode::NOT_MODIFIED, _) => Ok(Pulled::Same),
            (StatusCode::OK, _) => self.take(Bundle::from_json(&answer.body)?),
            (StatusCode::IM_USED, Some(base)) => {
                // One that can't be used is not tried again: the next pull asks for the whole.
                self.take(Bundle::from_delta(&answer.body, &base).inspect_err(|_| *self.last() = None)?)
            }
            _ => Err(refused(&answer)),
        };
        if let Ok(Pulled::New(_, revision)) = &pulled
            && let Some(published) = answer.headers.get(CAUSE).and_then(|id| RequestId::parse(id.to_str().ok()?))
        {
            self.cause.came(published, *revision);
        }
        pulled
    }

    /// What names the cause of a request, where there is one.
    fn caused(&self) -> Option<(HeaderName, String)> {
        self.cause.request().map(|id| (REQUEST_ID, id.to_string()))
    }

    /// A signed request; with the key before where a new one is on trial and refused.
    async fn call(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let number = self.client.key_number();
        let first = self.client.send(method.clone(), target, headers, body.clone(), limit).await;
        let error = match first {
            Ok(answer) => {
                self.keys.answered(answer.key);
                return Ok(answer);
            }
            Err(error) if key::refuses(&error) => error,
            Err(error) => return Err(error),
        };
        // One that was replaced while the request was under way is refused rightly: the new one is tried.
        let replaced = self.client.key_number() != number;
        if !replaced && !self.keys.fall_back() {
            return Err(error);
        }
        if let Ok(answer) = self.client.send(method, target, headers, body, limit).await {
            self.keys.answered(answer.key);
            return Ok(answer);
        }
        if !replaced {
            self.keys.go_on();
        }
        Err(error)
    }

    fn take(&self, (bundle, told): (Bundle, Told)) -> Result<Pulled, PullError> {
        if bundle.machine != self.name {
            return Err(PullError::Machine(bundle.machine));
        }
        self.leases.store(told.leased, Ordering::Relaxed);
        let bundle = Arc::new(bundle);
        let size: usize = bundle.files.iter().map(|file| file.content.len()).sum();
        *self.last() = (size <= MOST_KEPT).then(|| bundle.clone());
        Ok(Pulled::New(bundle, told.revision))
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Bundle>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether containers may be restarted now. The leader holds the question until it is so, for up to a minute.
    pub async fn lease(&self, request: &LeaseRequest) -> Result<Lease, PullError> {
        let body = Bytes::from(serde_json::to_vec(request).unwrap_or_default());
        let answer = self.call(Method::POST, "/lease", self.caused().as_slice(), Some(body), ANSWER + WAIT).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| PullError::Refused {
            status: answer.status.as_u16(),
            title: "an answer that can't be read".to_owned(),
            detail: error.to_string(),
        })
    }

    /// Tells the leader how this follower is, and hears what it lacks.
    pub async fn report(&self, status: &Status) -> Result<Option<api::Told>, PullError> {
        let body = Bytes::from(serde_json::to_vec(status).unwrap_or_default());
        let answer = self.call(Method::POST, "/status", self.caused().as_slice(), Some(body), ANSWER).await?;
        let told = match answer.status {
            // What can't be read is of a later leader, and this follower does without.
            StatusCode::OK => serde_json::from_slice::<StatusAnswer>(&answer.body).ok().map(|answer| answer.told),
            status if status.is_success() => None,
            _ => return Err(refused(&answer)),
        };
        self.cause.told(status);
        Ok(told)
    }
}

fn no_contact(error: &CallError) -> bool {
    match error {
        // Said by a proxy in front of it, which can't sign.
        CallError::Untrusted { status, .. } => {
            matches!(*status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        }
        CallError::Unreached { .. } | CallError::Unproven { .. } => true,
        CallError::Nowhere(errors) => errors.iter().all(no_contact),
        _ => false,
    }
}

fn refused(answer: &Answer) -> PullError {
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        return PullError::Busy(Duration::from_secs(seconds.unwrap_or(5).clamp(1, 600)));
    }
    let status = answer.status.as_u16();
    match answer.problem() {
        Some(problem) => PullError::Refused { status, title: problem.title, detail: problem.detail },
        None => PullError::Refused {
            status,
            title: "an unexpected answer".to_owned(),
            detail: "is leader.url the address of a lockstep leader?".to_owned(),
        },
    }
}
