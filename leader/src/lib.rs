//! The leader: what a person wrote in `platform.yml`, rendered with the
//! release's templates, published as revisions and served to followers.
//! `docs/architecture.md` has the picture; the files below are its rooms.

pub mod access;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod blame;
pub mod certificates;
pub mod chronicle;
pub mod compose;
pub mod config;
pub mod desk;
pub mod difference;
pub mod drift;
pub mod fault;
pub mod fleet;
pub mod foresee;
pub mod founding;
pub mod history;
pub mod http;
pub mod leader;
pub mod mask;
pub mod memo;
pub mod meters;
pub mod migration;
mod moved;
pub mod parallel;
pub mod platform;
pub mod press;
pub mod publication;
pub mod published;
pub mod ready;
pub mod release;
pub mod render;
pub mod rollback;
pub mod rollout;
pub mod roster;
pub mod secrets;
pub mod snippet;
pub mod source;
pub mod store;
pub mod templates;
pub mod uses;
pub mod who;
pub mod yaml;

use config::Config;
use leader::{Leader, LeaderError};
use lockstep_edge::listen::listen;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use who::Actor;

/// Runs a leader until `stop` turns true. `ready` is told whether TLS is spoken
/// and the address once requests are answered.
pub async fn run(
    root: &Path,
    env: Vec<(String, String)>,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(bool, SocketAddr),
) -> Result<(), LeaderError> {
    let config = Config::load(root, env.iter().cloned())?;
    let leader = Arc::new(Leader::open(config, env, stop.clone())?);
    let wanted = SocketAddr::new(leader.config.http.ip, leader.config.http.port);
    lockstep_edge::listen::raise_open_files();
    let listener = listen(wanted).map_err(|source| LeaderError::Listen {
        what: wanted.to_string(),
        next: listen_hint(&source, wanted.port()),
        source,
    })?;
    let address = listener.local_addr().unwrap_or(wanted);
    let socket = listen_admin(&leader.config)?;
    let people = listen_people(&leader).await?;
    // A leader that can't write down what is done starts nothing.
    let me = Actor::leader();
    leader.audit.append(&audit::Event::done(&me, "start", concat!("version ", env!("CARGO_PKG_VERSION"))))?;
    let ends = tokio::spawn(certificates::ends::tell(leader.clone()));
    let admin = tokio::spawn(http::serve_admin(leader.clone(), socket));
    let people = tokio::spawn(http::serve_people(leader.clone(), people));
    tracing::info!(%address, revision = leader.published().revision.number, machines = leader.config.members.active().len(), "the leader serves");
    ready(leader.config.http.tls, address);
    let keeping = tokio::spawn(leader.authority.clone().keep(stop.clone()));
    let moving = tokio::spawn(moved::tell(leader.clone()));
    let tls = leader.authority.acceptor().filter(|_| leader.config.http.tls);
    let limits = Arc::new(leader.config.limits.clone());
    let (short, routed) = (http::ShortWay(leader.clone()), leader.clone());
    lockstep_edge::server::serve_with_lane(listener, tls, limits, stop, short, move |request, peer| {
        http::route(routed.clone(), request, peer)
    })
    .await;
    ends.abort();
    let _ = (admin.await, people.await, keeping.await, moving.await);
    leader.audit.flush();
    leader.audit.note(&audit::Event::done(&me, "stop", ""));
    let _ = std::fs::remove_file(leader.config.socket());
    Ok(())
}

/// The listener for people with API tokens, where one is configured.
async fn listen_people(leader: &Leader) -> Result<Option<TcpListener>, LeaderError> {
    let Some(admin) = &leader.config.admin else { return Ok(None) };
    let wanted = SocketAddr::new(admin.ip, admin.port);
    let listener = TcpListener::bind(wanted).await.map_err(|source| LeaderError::Listen {
        what: wanted.to_string(),
        next: listen_hint(&source, wanted.port()).replace("http.", "admin."),
        source,
    })?;
    let scheme = if admin.tls { "https" } else { "http" };
    tracing::info!(url = %format!("{scheme}://{}", listener.local_addr().unwrap_or(wanted)), "people with API tokens are served");
    Ok(Some(listener))
}

fn listen_hint(error: &std::io::Error, port: u16) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "; another program has the port: see ss -ltnp 'sport = :{port}', or set http.port (0 takes a free one)"
            )
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "; no interface of this machine has that address: see ip address, set http.ip".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: set http.port".to_owned()
        }
        _ => String::new(),
    }
}

/// The commands' socket. The store's lock is held, so an old one is nobody's.
fn listen_admin(config: &Config) -> Result<UnixListener, LeaderError> {
    let path = config.socket();
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).map_err(|source| LeaderError::Listen {
        what: path.display().to_string(),
        next: "; a socket's path may have 107 bytes: use a shorter root or paths.state".to_owned(),
        source,
    })
}
