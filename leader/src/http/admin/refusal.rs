//! Errors as answers: problem bodies (RFC 9457).

use super::audited::Noted;
use crate::leader::LeaderError;
use crate::roster::RosterError;
use crate::store::StoreError;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockstep_shared::{Problem, problem};

/// A request that was not done.
pub(super) struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE))];
        let mut answer = (status, kind, self.0.to_json()).into_response();
        answer.extensions_mut().insert(Noted(self.0.short_kind().to_owned()));
        match status {
            StatusCode::UNAUTHORIZED => {
                let how = HeaderValue::from_static("Bearer realm=\"lockstep\"");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, how);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = self.0.members.get("retry_after").and_then(serde_json::Value::as_u64).unwrap_or(5);
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        answer
    }
}

/// Answers that axum itself gives for what no handler takes get a problem
/// body too: no error leaves without one.
pub(super) fn explained(method: &Method, answer: Response) -> Response {
    let status = answer.status();
    let error = status.is_client_error() || status.is_server_error();
    let told = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == problem::CONTENT_TYPE);
    if !error || told || method == Method::HEAD {
        return answer;
    }
    let problem = if status == StatusCode::METHOD_NOT_ALLOWED {
        // The router adds `Allow` on the way out.
        let detail = "the header Allow names the methods that this address takes";
        Problem::new(405, "method-not-allowed", "The method is not allowed here", detail)
    } else {
        let title = status.canonical_reason().unwrap_or("The request was not done");
        Problem::new(status.as_u16(), "refused", title, "see /openapi.json for what this leader answers to")
    };
    Refusal(problem).into_response()
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<LeaderError> for Refusal {
    fn from(error: LeaderError) -> Self {
        if beyond(&error) {
            let detail = "the number is larger than any that there can be";
            return Self(Problem::new(404, "not-found", "There is no such thing", detail));
        }
        match &error {
            LeaderError::Unknown(what) => return Self(Problem::new(404, "unknown", "There is no such thing", what)),
            LeaderError::Conflict(what) => {
                return Self(Problem::new(409, "conflict", "It doesn't fit what is there", what));
            }
            LeaderError::Roster(RosterError::Unknown(_)) => {
                return Self(Problem::new(404, "unknown", "There is no such follower", error.to_string()));
            }
            LeaderError::Roster(RosterError::Declared(_)) => {
                return Self(Problem::new(409, "declared", "It is declared in a file", error.to_string()));
            }
            LeaderError::Roster(RosterError::Already(_) | RosterError::Not(_)) => {
                return Self(Problem::new(409, "conflict", "It doesn't fit what is there", error.to_string()));
            }
            _ => {}
        }
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

/// Whether somebody asked for a number past what the store can count to (2^63).
fn beyond(error: &LeaderError) -> bool {
    matches!(error, LeaderError::Store(StoreError::Sql { source: rusqlite::Error::ToSqlConversionFailure(_), .. }))
}
