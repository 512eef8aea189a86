//! Errors as answers: problem bodies (RFC 9457).

use crate::leader::LeaderError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockstep_shared::{Problem, problem};

/// A request that was not done.
pub(super) struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE))];
        (status, kind, self.0.to_json()).into_response()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<LeaderError> for Refusal {
    fn from(error: LeaderError) -> Self {
        match &error {
            LeaderError::Unknown(what) => return Self(Problem::new(404, "unknown", "There is no such thing", what)),
            LeaderError::Conflict(what) => {
                return Self(Problem::new(409, "conflict", "It doesn't fit what is there", what));
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
