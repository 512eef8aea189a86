//! What people's commands ask of the engine, beside all applies: its version,
//! and containers' logs.

use super::{Engine, EngineError};
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

/// Which part of a container's log is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// So many lines from its end.
    pub lines: usize,
    /// Only what was said since then, Unix seconds; 0: all.
    pub since: i32,
    /// Whether it goes on with what is said later.
    pub follow: bool,
}

impl Engine {
    /// The engine's version, and that of its API.
    pub async fn version(&self) -> Result<(String, String), EngineError> {
        let version = self
            .client()
            .await?
            .version()
            .await
            .map_err(|error| self.failed("asking the version of", "the engine", error))?;
        Ok((version.version.unwrap_or_default(), version.api_version.unwrap_or_default()))
    }

    /// A container's log, in pieces as they come.
    pub async fn log(
        &self,
        name: &str,
        wanted: Wanted,
    ) -> Result<impl Stream<Item = Result<Bytes, EngineError>> + Send, EngineError> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&wanted.lines.to_string())
            .since(wanted.since)
            .follow(wanted.follow)
            .build();
        let log = self.client().await?.logs(name, Some(options));
        Ok(log.map(move |part| {
            part.map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| self.failed("reading the log of", name, error))
        }))
    }
}
