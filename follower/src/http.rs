//! The follower's own small listener: `POST /notify` for the leader, the rest
//! for whoever operates the machine.

use crate::board::Board;
use crate::metrics;
use crate::plan::Wanted;
use crate::pull::Leader;
use crate::queue::Queue;
use crate::trust::Trusted;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use lockstep_edge::gate::{Admitted, Kind, Reply, json, reply};
use lockstep_edge::metrics::{CONTENT_TYPE, Requests, Tally};
use lockstep_edge::trace::RequestId;
use lockstep_edge::{Gate, Limits, clock};
use lockstep_shared::Problem;
use lockstep_shared::api::{Notify, NotifyAccepted, Status, Told, Undo};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What there is here; requests to anywhere else are counted as one.
const ROUTES: [&str; 5] = ["/notify", "/status", "/healthz", "/readyz", "/metrics"];

/// How often a port that is taken is asked for, and every how long.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// Takes the address, within a second: what a killed follower was just starting may hold it a moment longer.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let mut left = TRIES;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => left -= 1,
            bound => return bound,
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// What a request is answered from.
pub struct Desk {
    /// Who may notify.
    pub gate: Arc<Gate>,
    /// Bounds of what comes in.
    pub limits: Arc<Limits>,
    /// Where a notification goes.
    pub queue: Arc<Queue>,
    /// How the follower is.
    pub board: Arc<Board>,
    /// The leader, for what goes back to one of its requests.
    pub leader: Arc<Leader>,
    /// What is counted here.
    pub meters: Meters,
    /// True once the follower is going down.
    pub stopping: watch::Receiver<bool>,
    /// Where the leader is, and what it is told of that.
    pub trusted: Arc<Trusted>,
}

/// Counts of the listener since the start.
#[derive(Debug)]
pub struct Meters {
    /// When this follower began, Unix seconds.
    pub started: i64,
    /// Requests that were answered.
    pub requests: Requests,
    /// Notifications whose signature was not taken, by the problem's kind.
    pub refusals: Tally,
    notifications: AtomicU64,
}

impl Meters {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            started: clock::now(),
            requests: Requests::default(),
            refusals: Tally::default(),
            notifications: AtomicU64::new(0),
        }
    }

    /// Notifications that were accepted.
    pub fn notifications(&self) -> u64 {
        self.notifications.load(Ordering::Relaxed)
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Desk {
    /// Answers one request, and counts it.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (began, id, method) = (Instant::now(), RequestId::of(request.headers()), request.method().clone());
        let route = ROUTES.iter().find(|route| **route == request.uri().path()).copied().unwrap_or("unknown");
        let mut answer = self.handle(request, &id).await;
        let (status, took) = (answer.status(), began.elapsed());
        self.meters.requests.count(&method, route, status, took);
        if status == StatusCode::UNAUTHORIZED
            && let Some(Kind(kind)) = answer.extensions().get()
        {
            self.meters.refusals.count(kind);
            tracing::debug!(request = %id, kind, "a request was not let in: its signature is not the leader's");
        }
        tracing::debug!(request = %id, %method, route, status = status.as_u16(), took_ms = took.as_millis(), "answered");
        id.echo(&mut answer);
        answer
    }

    async fn handle(self: &Arc<Self>, request: Request<Incoming>, id: &RequestId) -> Reply {
        let (known, allowed) = match request.uri().path() {
            "/notify" => (true, Method::POST),
            "/healthz" | "/readyz" | "/status" | "/metrics" => (true, Method::GET),
            _ => (false, Method::GET),
        };
        if !known {
            let detail = format!(
                "{} is not here; a follower has /notify, /status, /healthz, /readyz and /metrics",
                request.uri().path()
            );
            return reply(&Problem::new(404, "not-found", "There is nothing at this path", detail));
        }
        if *request.method() != allowed {
            let detail = format!("{} takes {allowed} only", request.uri().path());
            let mut answer = reply(&Problem::new(405, "method-not-allowed", "The method is not allowed here", detail));
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                answer.headers_mut().insert(header::ALLOW, allowed);
            }
            return answer;
        }
        match request.uri().path() {
            "/notify" => match self.gate.admit(request, &self.limits).await {
                Ok(admitted) => {
                    let answer = self.notify(&admitted, id);
                    admitted.seal.sign(answer)
                }
                Err(answer) => answer,
            },
            "/status" => json(StatusCode::OK, &Status { trust: Some(self.trusted.words()), ..self.board.local() }),
            "/metrics" => text(CONTENT_TYPE, metrics::page(&self.board, &self.meters)),
            "/readyz" => match self.ready() {
                Ok(told) => text("text/plain; charset=utf-8", told),
                Err(why) => reply(&Problem::new(503, "not-ready", "The follower is not ready", why)),
            },
            _ => text("text/plain", "ok\n".to_owned()),
        }
    }

    fn notify(&self, admitted: &Admitted, id: &RequestId) -> Reply {
        let notify: Notify = match serde_json::from_slice(&admitted.body) {
            Ok(notify) => notify,
            Err(error) => {
                let detail = format!("expected {{\"revision\": N, \"services\": [...]?}}: {error}");
                return reply(&Problem::new(400, "bad-request", "The body is not a notification", detail));
            }
        };
        if notify.leader.is_some() {
            let told = Told { addresses: notify.leader, ..Told::default() };
            let (trusted, board) = (self.trusted.clone(), self.board.clone());
            // A disk that is slow doesn't hold up the answer.
            tokio::task::spawn_blocking(move || {
                if trusted.take(told) {
                    board.tell_again();
                }
            });
        }
        let wanted = notify.services.map_or_else(Wanted::all, Wanted::services);
        let apply = self.queue.ask(wanted, notify.revision);
        self.leader.cause.notified(id.clone(), &apply, notify.revision);
        self.meters.notifications.fetch_add(1, Ordering::Relaxed);
        tracing::info!(request = %id, revision = notify.revision, apply, "notified");
        json(StatusCode::ACCEPTED, &NotifyAccepted { apply })
    }

    /// Whether what was proven here goes on running; the text says what else there is to know.
    fn ready(&self) -> Result<String, String> {
        if *self.stopping.borrow() {
            return Err("it is stopping".to_owned());
        }
        let status = self.board.status();
        let Some(running) = &status.running else {
            let why = status.apply.as_ref().and_then(|apply| apply.error.clone());
            return Err(why.map_or_else(
                || "nothing was proven here yet".to_owned(),
                // To anyone: that it is so. Why is for people.
                |_| "nothing was proven here yet, and the last apply failed: /status says why".to_owned(),
            ));
        };
        if let Some(failed) = &status.failed
            && failed.undo != Undo::Done
        {
            let (failed, running) = (failed.revision, running.revision);
            return Err(format!("FAILED({failed}), and revision {running} is not proven to be back: /status says why"));
        }
        let mut told = format!("ok\nrevision {} runs\n", running.revision);
        if let Some(failed) = &status.failed {
            told += &format!("FAILED({}), RUNNING({}): /status says why\n", failed.revision, running.revision);
        }
        if self.board.away().is_some() {
            told += &format!("stale: the leader is away: {}\n", self.board.staleness());
        }
        Ok(told)
    }
}

fn text(kind: &'static str, body: String) -> Reply {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::listen;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_port_that_is_left_in_a_moment_is_waited_for() {
        let before = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = before.local_addr().unwrap();
        let leaving = async {
            tokio::task::yield_now().await;
            drop(before);
        };
        let (now, ()) = tokio::join!(listen(address), leaving);
        assert_eq!(now.unwrap().local_addr().unwrap(), address);
    }
}
