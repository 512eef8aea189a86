//! Writes down what people do. Every request that is no mere look is recorded
//! here, before it is tried and after, so that no route can forget to: a
//! handler only adds what its address doesn't say, as [`Noted`].

use super::refusal::Refusal;
use super::too_often;
use crate::audit::{Event, Outcome};
use crate::leader::Leader;
use crate::who::{Actor, How};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lockstep_edge::trace;
use lockstep_shared::Problem;
use std::sync::Arc;

/// What a handler says of what it did; on the answer, never sent.
#[derive(Debug, Clone)]
pub(super) struct Noted(pub(super) String);

/// Looks that are recorded all the same: what they show holds secrets.
fn shows_secrets(route: &str) -> bool {
    route == "/conf" || route.starts_with("/conf/")
}

pub(super) async fn audited(
    State(leader): State<Arc<Leader>>,
    route: Option<MatchedPath>,
    parameters: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    // What has no route changes nothing.
    let Some(route) = route else { return next.run(request).await };
    let actor = request.extensions().get::<Actor>().cloned().unwrap_or_else(Actor::unknown);
    let look = request.method().is_safe();
    let action = format!("{} {}", request.method(), route.as_str());
    let target =
        parameters.map(|all| all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "));
    let target = target.unwrap_or_default();
    if let How::Token { id } = actor.how
        && let Some(seconds) = leader.access.tired_of(id)
    {
        return Refusal::from(too_often(seconds)).into_response();
    }
    let asked = if look {
        None
    } else {
        let (leader, actor, action, target) = (leader.clone(), actor.clone(), action.clone(), target.clone());
        let ask = move || {
            let event = Event {
                actor: &actor,
                action: &action,
                target: &target,
                outcome: Outcome::Asked,
                detail: "",
                answers: None,
            };
            leader.audit.append(&event)
        };
        match tokio::task::spawn_blocking(trace::carried(ask)).await {
            Ok(Ok(number)) => Some(number),
            error => {
                let why = match error {
                    Ok(Err(error)) => error.to_string(),
                    _ => "see its log".to_owned(),
                };
                tracing::error!(why, "nothing is done that can't be written down");
                let detail = format!("the audit can't be written ({why}), so nothing was done: is the disk full?");
                return Refusal::from(Problem::new(500, "unaudited", "Nothing was done", detail)).into_response();
            }
        }
    };
    let answer = next.run(request).await;
    let status = answer.status();
    let outcome = match status {
        status if status.is_server_error() => Outcome::Failed,
        status if status.is_client_error() => Outcome::Refused,
        _ => Outcome::Done,
    };
    let forbidden = status == StatusCode::FORBIDDEN;
    if forbidden && let How::Token { id } = actor.how {
        leader.access.refused(id);
    }
    let noted = answer.extensions().get::<Noted>().map(|noted| noted.0.clone());
    // A look is written down where it showed secrets: by its route, or because its handler says so.
    let shown = outcome == Outcome::Done && (shows_secrets(route.as_str()) || noted.is_some());
    if asked.is_none() && !forbidden && !shown {
        return answer;
    }
    let detail = noted.unwrap_or_default();
    let write = move || {
        if asked.is_none() && forbidden {
            return leader.audit.refused(leader.audit.count("forbidden"), &actor, &action, &target, &detail);
        }
        leader.audit.note(&Event {
            actor: &actor,
            action: &action,
            target: &target,
            outcome,
            detail: &detail,
            answers: asked,
        });
    };
    // Waited for: whoever reads the audit after an answer finds the answer in it.
    let _ = tokio::task::spawn_blocking(trace::carried(write)).await;
    answer
}
