//! Why the engine did not do what it was asked for, in words that an operator
//! can act on.

use super::{ANSWER_SECONDS, Engine};
use bollard::errors::Error;
use std::io;

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens.
    #[error("Docker does not answer at {host} ({why}); start it: systemctl start docker")]
    Unreachable {
        /// The configured endpoint.
        host: String,
        /// Why.
        why: String,
    },
    /// The socket may not be used.
    #[error(
        "Docker at {host} may not be used by this user; let it in: usermod -aG docker $(id -un), then restart the follower"
    )]
    Forbidden {
        /// The configured endpoint.
        host: String,
    },
    /// Something in front of the engine, or in it, doesn't let this call through.
    #[error(
        "the Docker socket at {host} doesn't let the follower make this call ({operation} {target}): {call}. Allow it in the socket's proxy or authorization plugin; docs/security.md lists all calls: {why}"
    )]
    Denied {
        /// The configured endpoint.
        host: String,
        /// What was asked.
        operation: &'static str,
        /// Of what.
        target: String,
        /// The call, or the calls of which it is one.
        call: &'static str,
        /// What was answered.
        why: String,
    },
    /// The engine refused.
    #[error("Docker refused {operation} {target}: {why}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of which container.
        target: String,
        /// The engine's words.
        why: String,
        /// The HTTP status it answered with.
        status: u16,
    },
    /// It took too long.
    #[error("Docker did not finish {operation} {target} within {seconds} s: docker logs {target} may tell why")]
    Late {
        /// What was asked.
        operation: &'static str,
        /// Of which container.
        target: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A command in a container failed.
    #[error("{command} in {container} ended with exit code {code}: {output}")]
    Exec {
        /// The command.
        command: String,
        /// The container.
        container: String,
        /// Its exit code.
        code: i64,
        /// The last of what it said.
        output: String,
    },
}

impl EngineError {
    /// Whether the engine is simply not there: no fault of any container.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Forbidden { .. } | Self::Denied { .. })
    }
}

impl Engine {
    pub(super) fn failed(&self, operation: &'static str, target: &str, error: Error) -> EngineError {
        let host = self.host.clone();
        match error {
            Error::DockerResponseServerError { status_code: 403, message } => {
                EngineError::Denied { host, operation, target: target.to_owned(), call: call(operation), why: message }
            }
            Error::DockerResponseServerError { status_code, message } => {
                EngineError::Refused { operation, target: target.to_owned(), why: message, status: status_code }
            }
            Error::RequestTimeoutError => {
                EngineError::Late { operation, target: target.to_owned(), seconds: ANSWER_SECONDS }
            }
            other => match io_kind(&other) {
                Some(io::ErrorKind::PermissionDenied) => EngineError::Forbidden { host },
                _ => EngineError::Unreachable { host, why: lockstep_edge::client::innermost(&other) },
            },
        }
    }
}

/// The API calls that an operation is made of, as `docs/security.md` lists them.
fn call(operation: &str) -> &'static str {
    match operation {
        "talking to" => "GET /version",
        "listing" => "GET /containers/json",
        "inspecting" => "GET /containers/{id}/json",
        "signalling" => "POST /containers/{id}/kill",
        "restarting" => "POST /containers/{id}/restart",
        "removing" => "POST /containers/{id}/stop, DELETE /containers/{id}",
        "running a command in" => "POST /containers/{id}/exec, POST /exec/{id}/start, GET /exec/{id}/json",
        "reading the log of" => "GET /containers/{id}/logs",
        "reading a file of" => "GET /containers/{id}/archive",
        "looking for a file of" => "HEAD /containers/{id}/archive",
        "writing files into" => "PUT /containers/{id}/archive",
        "making a throwaway container of" => "POST /containers/create",
        "starting" => "POST /containers/{id}/start",
        "waiting for" => "POST /containers/{id}/wait",
        "looking at the volume" => "GET /volumes/{id}",
        _ => "a call that this version has no name for",
    }
}

fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
