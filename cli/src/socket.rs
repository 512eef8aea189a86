//! Speaks to the running leader over its unix socket.

use crate::command::author;
use crate::exit::{Failed, failed};
use lockstep_edge::client::{builder, innermost};
use lockstep_leader::config::Config;
use lockstep_leader::http::ACTOR;
use lockstep_shared::Problem;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The socket of a leader that answers.
pub(crate) struct Socket {
    http: reqwest::Client,
}

impl Socket {
    /// The running leader's, or `None` where none runs.
    pub(crate) fn find(config: &Config) -> Result<Option<Self>, Failed> {
        let path: PathBuf = config.socket();
        match UnixStream::connect(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(failed(format!(
                    "{}: {error}: run the command as the leader's user (sudo)",
                    path.display()
                )));
            }
            Err(_) => return Ok(None),
        }
        let mut actor = HeaderMap::new();
        if let Ok(name) = HeaderValue::try_from(author()) {
            actor.insert(ACTOR, name);
        }
        let http = builder().tls_certs_only([]).unix_socket(path).default_headers(actor).build()?;
        Ok(Some(Self { http }))
    }

    /// The same, where a leader has to run.
    pub(crate) fn needed(config: &Config) -> Result<Self, Failed> {
        Self::find(config)?.ok_or_else(|| {
            failed(format!(
                "no leader answers on {}: start it with scripts/run-config-leader or lockstep leader, or say where it is with --root",
                config.socket().display()
            ))
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failed> {
        self.send(self.http.get(format!("http://leader{target}"))).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, Failed> {
        self.send(self.http.post(format!("http://leader{target}")).json(body)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, Failed> {
        self.send(self.http.put(format!("http://leader{target}")).json(body)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failed> {
        self.send(self.http.delete(format!("http://leader{target}"))).await
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failed> {
        let broken = |error: reqwest::Error| failed(format!("the leader did not answer: {}", innermost(&error)));
        let answer = request.send().await.map_err(broken)?;
        let good = answer.status().is_success();
        let body = answer.bytes().await.map_err(broken)?;
        if good {
            return serde_json::from_slice(&body).map_err(|error| {
                failed(format!("the leader's answer can't be read ({error}): are leader and command of one version?"))
            });
        }
        let problem: Result<Problem, _> = serde_json::from_slice(&body);
        Err(problem.map_or_else(
            |_| failed("the leader answered with an error it did not explain: see its log"),
            |problem| failed(problem.detail),
        ))
    }
}

/// A text as one segment of a path, or one value of a query.
pub(crate) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
