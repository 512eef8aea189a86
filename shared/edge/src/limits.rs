//! Every bound on what comes in over HTTP, in one place.

use serde::Deserialize;
use std::time::Duration;

/// Bounds of a listener (`limits` in the configuration file).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds for a request's header to arrive; past it 408.
    pub header_seconds: u64,
    /// Seconds for a request's body to arrive; past it 408.
    pub body_seconds: u64,
    /// Bytes of all header fields together; past it 431.
    pub header_bytes: usize,
    /// Number of header fields; past it 431.
    pub headers: usize,
    /// Bytes of a body; past it 413.
    pub body_bytes: usize,
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Seconds by which a signature's time may be off.
    pub skew_seconds: u64,
    /// Nonces remembered for each key within twice that time; past it requests are refused.
    pub nonces_per_key: usize,
    /// Long polls held for one follower at once; past it 429.
    pub waits_per_follower: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_seconds: 15,
            body_seconds: 30,
            header_bytes: 16 * 1024,
            headers: 64,
            body_bytes: 1024 * 1024,
            connections: 20_000,
            skew_seconds: 300,
            nonces_per_key: 8_000_000,
            waits_per_follower: 4,
        }
    }
}

impl Limits {
    /// The time for a header.
    pub fn header_time(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    /// The time for a body.
    pub fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
}
