//! The follower's own small listener: `POST /notify` for the leader, the rest
//! for whoever operates the machine.

use crate::board::Board;
use crate::plan::Wanted;
use crate::queue::Queue;
use crate::trust::Trusted;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use lockstep_edge::gate::{Admitted, Reply, json, reply};
use lockstep_edge::{Gate, Limits};
use lockstep_shared::Problem;
use lockstep_shared::api::{Notify, NotifyAccepted, Status, Told};
use std::fmt::Write as _;
use std::sync::Arc;

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
    /// Where the leader is, and what it is told of that.
    pub trusted: Arc<Trusted>,
}

impl Desk {
    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (known, allowed) = match request.uri().path() {
            "/notify" => (true, Method::POST),
            "/healthz" | "/status" | "/metrics" => (true, Method::GET),
            _ => (false, Method::GET),
        };
        if !known {
            let detail =
                format!("{} is not here; a follower has /notify, /status, /healthz and /metrics", request.uri().path());
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
                    let answer = self.notify(&admitted);
                    admitted.seal.sign(answer)
                }
                Err(answer) => answer,
            },
            "/status" => json(StatusCode::OK, &Status { trust: Some(self.trusted.words()), ..self.board.local() }),
            "/metrics" => text("text/plain; version=0.0.4", self.metrics()),
            _ => text("text/plain", "ok\n".to_owned()),
        }
    }

    fn notify(self: &Arc<Self>, admitted: &Admitted) -> Reply {
        let notify: Notify = match serde_json::from_slice(&admitted.body) {
            Ok(notify) => notify,
            Err(error) => {
                let detail = format!("expected {{\"revision\": N, \"services\": [...]?}}: {error}");
                return reply(&Problem::new(400, "bad-request", "The body is not a notification", detail));
            }
        };
        if notify.leader.is_some() {
            let told = Told { addresses: notify.leader, ..Told::default() };
            let desk = self.clone();
            // A disk that is slow doesn't hold up the answer.
            tokio::task::spawn_blocking(move || {
                if desk.trusted.take(told) {
                    desk.board.tell_again();
                }
            });
        }
        let wanted = notify.services.map_or_else(Wanted::all, Wanted::services);
        let apply = self.queue.ask(wanted, notify.revision);
        tracing::info!(revision = notify.revision, apply, "notified");
        json(StatusCode::ACCEPTED, &NotifyAccepted { apply })
    }

    /// Prometheus' text format.
    fn metrics(&self) -> String {
        let status = self.board.status();
        let (succeeded, failed) = self.board.applies();
        let mut out = String::with_capacity(1024);
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, i64)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let revision = status.running.map_or(0, |running| running.revision);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metric(
            "lockstep_applied_revision",
            "gauge",
            "Revision that was last written, acted on and proven; 0 before the first.",
            &[("", number(revision))],
        );
        metric(
            "lockstep_failed_revision",
            "gauge",
            "Revision that failed here and is still what the leader offers; 0 if none.",
            &[("", status.failed.as_ref().map_or(0, |failed| number(failed.revision)))],
        );
        metric(
            "lockstep_applies_total",
            "counter",
            "Applies since the start.",
            &[("{result=\"applied\"}", number(succeeded)), ("{result=\"failed\"}", number(failed))],
        );
        let (repaired, left): (Vec<_>, Vec<_>) = status.drift.iter().partition(|drift| drift.repaired);
        metric(
            "lockstep_drifted_files",
            "gauge",
            "Files that somebody else changed: written again within the last hour, or left as they are.",
            &[("{state=\"repaired\"}", number(repaired.len() as u64)), ("{state=\"left\"}", number(left.len() as u64))],
        );
        metric(
            "lockstep_drift_repairs_total",
            "counter",
            "Times that a file was written again since the start because somebody else had changed it.",
            &[("", number(self.board.repairs()))],
        );
        metric(
            "lockstep_drift_watched",
            "gauge",
            "Whether changes of files are heard of at once (1), or found once a minute (0).",
            &[("", i64::from(self.board.is_watching()))],
        );
        metric(
            "lockstep_leader_away_seconds",
            "gauge",
            "How long the leader has not answered; 0 while it does.",
            &[("", number(self.board.away().map_or(0, |away| away.as_secs())))],
        );
        metric(
            "lockstep_leader_last_seen_timestamp_seconds",
            "gauge",
            "When the leader last answered, Unix seconds; 0 before the first time.",
            &[("", status.leader_seen.unwrap_or(0))],
        );
        out
    }
}

fn text(kind: &'static str, body: String) -> Reply {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
