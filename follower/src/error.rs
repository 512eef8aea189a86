//! Why a follower stops, or doesn't start.

use crate::config::BadConfig;
use crate::store::StoreError;
use lockstep_edge::client::CallError;
use std::io;
use std::net::SocketAddr;

/// Why a follower stops, or doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// Its state or its data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The leader's address.
    #[error("leader.url in config-follower.json can't be used: {0}")]
    Leader(#[from] CallError),
    /// Its own side of TLS.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
    /// A thread of its own.
    #[error("a thread could not be started: {0}; are there too many in all (ulimit -u, TasksMax in the unit)?")]
    Thread(#[source] io::Error),
    /// The address it listens on.
    #[error("{}", listening(.address, .source))]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

fn listening(address: &SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has the port; find it (ss -ltnp 'sport = :{port}') or change http.port")
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need root; change http.port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "the address is not this machine's (ip addr); change http.ip".to_owned(),
        _ => "change http.ip or http.port".to_owned(),
    };
    format!("the follower can't listen on {address}: {error}; {advice}")
}
