//! Tells followers that there is something for them: all at once, each with its
//! own time limit, so that one that hangs holds up nobody.

use crate::authority;
use crate::config::Config;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, StatusCode};
use lockstep_edge::metrics::Tally;
use lockstep_edge::tls::Pins;
use lockstep_edge::trace::{self, REQUEST_ID, RequestId};
use lockstep_edge::{CallError, Client};
use lockstep_shared::api::{Notify, NotifyAccepted, Push};
use lockstep_shared::{Key, Name};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The largest answer of a follower, in bytes.
const MOST: usize = 64 * 1024;

/// How many revisions' requests are remembered.
const CAUSES: usize = 64;
/// How a notification went, as it is counted.
const ACCEPTED: &str = "accepted";
const FAILED: &str = "failed";

/// The followers that can be told, and how.
pub struct Pushes {
    clients: ArcSwap<BTreeMap<Name, Arc<Client>>>,
    time: Duration,
    /// The authorities that followers' certificates are of; none where nobody speaks TLS of our own.
    pins: Option<Arc<Pins>>,
    /// Where this leader is reached.
    addresses: Option<Vec<String>>,
    /// The requests that published the last revisions.
    causes: Mutex<BTreeMap<u64, RequestId>>,
    results: Arc<Tally>,
}

impl Pushes {
    /// Clients for all followers that have an address. A bad address is an error that names the follower.
    pub fn new(config: &Config, keys: &BTreeMap<Name, Key>, pins: &Arc<Pins>) -> Result<Self, String> {
        let pushes = Self {
            clients: ArcSwap::default(),
            time: config.notify_time,
            pins: config.has_authority().then(|| pins.clone()),
            addresses: (!config.addresses.is_empty()).then(|| config.addresses.clone()),
            causes: Mutex::default(),
            results: Arc::default(),
        };
        for (name, follower) in &config.followers {
            let Some(key) = keys.get(name) else { continue };
            pushes
                .put(name, follower.url.as_deref(), key)
                .map_err(|error| format!("{}: followers.{name}.url: {error}", crate::config::FILE))?;
        }
        Ok(pushes)
    }

    /// Tells a follower at this address from now on, with this key; one without an address is not told.
    pub fn put(&self, name: &Name, url: Option<&str>, key: &Key) -> Result<(), CallError> {
        let client = |url: &str| {
            let trust = authority::trust(self.pins.as_ref(), name);
            Client::trusting(&[url.to_owned()], name.as_str(), key.clone(), MOST, &trust).map(Arc::new)
        };
        let client = url.map(client).transpose()?;
        self.clients.rcu(|clients| {
            let mut clients = BTreeMap::clone(clients);
            match &client {
                Some(client) => clients.insert(name.clone(), client.clone()),
                None => clients.remove(name),
            };
            clients
        });
        Ok(())
    }

    /// Tells a follower no more.
    pub fn remove(&self, name: &Name) {
        self.clients.rcu(|clients| {
            let mut clients = BTreeMap::clone(clients);
            clients.remove(name);
            clients
        });
    }

    /// A revision was published by the request that is being answered here, if one is.
    pub fn caused(&self, revision: u64) {
        let Some(id) = trace::current() else { return };
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        causes.insert(revision, id);
        if causes.len() > CAUSES {
            causes.pop_first();
        }
    }

    /// The request that published a revision, while it is remembered.
    pub fn cause(&self, revision: u64) -> Option<RequestId> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).get(&revision).cloned()
    }

    /// How notifications went since the start.
    pub fn results(&self) -> BTreeMap<String, u64> {
        self.results.counts(&[ACCEPTED, FAILED])
    }

    /// Tells those of them whom it concerns, and returns how each took it, by
    /// name. It takes as long as the slowest, at most the time limit.
    pub async fn notify(
        &self,
        revision: u64,
        services: Option<Vec<String>>,
        concerns: impl Fn(&Name) -> bool,
    ) -> Vec<Push> {
        let body = self.body(revision, services);
        let cause = trace::current().or_else(|| self.cause(revision));
        let mut pushes = JoinSet::new();
        for (name, client) in self.clients.load().iter().filter(|(name, _)| concerns(name)) {
            pushes.spawn(self.push(name, client, body.clone(), cause.clone()));
        }
        let mut done = pushes.join_all().await;
        done.sort_by(|a, b| a.machine.cmp(&b.machine));
        done
    }

    fn body(&self, revision: u64, services: Option<Vec<String>>) -> Bytes {
        let notify = Notify { revision, services, leader: self.addresses.clone() };
        Bytes::from(serde_json::to_vec(&notify).unwrap_or_default())
    }

    /// Tells machines each of its own revision, and returns how each took it.
    pub async fn tell(&self, machines: Vec<(Name, u64)>) -> Vec<Push> {
        let mut pushes = JoinSet::new();
        for (name, revision) in machines {
            let Some(client) = self.clients.load().get(&name).cloned() else { continue };
            let body = self.body(revision, None);
            pushes.spawn(self.push(&name, &client, body, self.cause(revision)));
        }
        pushes.join_all().await
    }

    /// Tells one, and counts how it went.
    fn push(
        &self,
        name: &Name,
        client: &Arc<Client>,
        body: Bytes,
        cause: Option<RequestId>,
    ) -> impl Future<Output = Push> + use<> {
        let (name, client, time, results) = (name.clone(), client.clone(), self.time, self.results.clone());
        async move {
            let pushed = push(name, client, body, time, cause).await;
            results.count(if pushed.error.is_none() { ACCEPTED } else { FAILED });
            pushed
        }
    }
}

async fn push(machine: Name, client: Arc<Client>, body: Bytes, time: Duration, cause: Option<RequestId>) -> Push {
    let start = Instant::now();
    let headers: Vec<_> = cause.iter().map(|id| (REQUEST_ID, id.to_string())).collect();
    let answer = client.send(Method::POST, "/notify", &headers, Some(body), time).await;
    let took_ms = start.elapsed().as_secs_f64() * 1000.0;
    let (apply, error) = match answer {
        Ok(answer) if answer.status == StatusCode::ACCEPTED => {
            match serde_json::from_slice::<NotifyAccepted>(&answer.body) {
                Ok(accepted) => (Some(accepted.apply), None),
                Err(error) => (None, Some(format!("its answer is not what a follower says: {error}"))),
            }
        }
        Ok(answer) => {
            let problem = answer.problem();
            (None, Some(problem.map_or_else(|| format!("HTTP {}", answer.status), |problem| problem.detail)))
        }
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(error) = &error {
        let request = cause.as_ref().map(tracing::field::display);
        tracing::warn!(%machine, error, request, "the follower was not reached; it follows by its long poll");
    }
    Push { machine, apply, error, took_ms }
}
