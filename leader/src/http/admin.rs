//! People's side: the commands on the leader's own machine, over a unix socket
//! in a folder that only its owner can enter. Whoever gets there may do all.

use super::conf::{Asker, answer};
use crate::leader::{Leader, LeaderError, Request as PublishRequest};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lockstep_shared::{Problem, problem};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// Serves until the leader stops.
pub async fn serve(leader: Arc<Leader>, listener: UnixListener) {
    let mut stop = leader.stop.clone();
    let router = Router::new()
        .route("/admin/publish", post(publish))
        .route("/admin/plan", get(plan))
        .route("/admin/notify", post(notify))
        .route("/admin/fleet", get(fleet))
        .route("/conf", get(conf))
        .route("/conf/{*path}", get(conf))
        .fallback(|| async {
            Refusal(Problem::new(
                404,
                "not-found",
                "There is nothing here",
                "this leader is another version than the command",
            ))
        })
        .with_state(leader);
    let drained = async move { lockstep_edge::server::stopped(&mut stop).await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(drained).await {
        tracing::error!(%error, "the commands' socket failed");
    }
}

struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE))];
        (status, kind, self.0.to_json()).into_response()
    }
}

impl From<LeaderError> for Refusal {
    fn from(error: LeaderError) -> Self {
        let LeaderError::Faults(faults) = &error else {
            tracing::error!(%error, "a command failed");
            return Self(Problem::new(500, "internal", "The leader could not do it", error.to_string()));
        };
        let mut problem = Problem::new(422, "invalid", "The files on disk can't be published", error.to_string())
            .with("errors", serde_json::to_value(faults).unwrap_or_default());
        if let Some(first) = faults.0.first() {
            problem = problem.with("template", first.file.clone());
            for (name, value) in [("line", first.line), ("column", first.column)] {
                if let Some(value) = value {
                    problem = problem.with(name, value);
                }
            }
            if let Some(setting) = &first.setting {
                problem = problem.with("setting", setting.clone());
            }
        }
        Self(problem)
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LeaderError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Refusal::from),
        Err(error) => {
            tracing::error!(%error, "a command ended in a panic");
            Err(Refusal(Problem::new(500, "internal", "The leader could not do it", "see its log")))
        }
    }
}

async fn publish(State(leader): State<Arc<Leader>>, Json(request): Json<PublishRequest>) -> Result<Response, Refusal> {
    let press = leader.clone();
    let mut publication = blocking(move || press.publish(&request)).await?;
    if publication.new {
        publication.pushes = leader.rollout.notify(publication.revision, None).await;
    }
    Ok(Json(publication).into_response())
}

async fn plan(State(leader): State<Arc<Leader>>) -> Result<Response, Refusal> {
    Ok(Json(blocking(move || leader.plan()).await?).into_response())
}

#[derive(Deserialize)]
struct NotifyRequest {
    #[serde(default)]
    services: Option<Vec<String>>,
}

async fn notify(State(leader): State<Arc<Leader>>, Json(request): Json<NotifyRequest>) -> Response {
    let revision = leader.published().revision.number;
    Json(leader.rollout.notify(revision, request.services).await).into_response()
}

#[derive(Deserialize)]
struct After {
    /// Answer once the sequence is past this.
    after: Option<u64>,
    /// But after so many seconds at the latest.
    seconds: Option<u64>,
}

async fn fleet(State(leader): State<Arc<Leader>>, Query(query): Query<After>) -> Response {
    if let Some(after) = query.after {
        let mut sequence = leader.reports.sequence();
        let mut stop = leader.stop.clone();
        let time = Duration::from_secs(query.seconds.unwrap_or(30).min(60));
        let news = async {
            tokio::select! {
                _ = sequence.wait_for(|sequence| *sequence > after) => {}
                () = lockstep_edge::server::stopped(&mut stop) => {}
            }
        };
        let _ = tokio::time::timeout(time, news).await;
    }
    Json(leader.reports.fleet(&leader.published(), &leader.config.followers)).into_response()
}

async fn conf(State(leader): State<Arc<Leader>>, request: Request) -> Response {
    let uri = request.uri();
    match answer(&leader, &Asker::Admin, uri.path(), uri.query(), request.headers()).await {
        Ok(answer) => answer.into_response(),
        Err(problem) => Refusal(problem).into_response(),
    }
}
