//! The follower: pulls the bundle that the leader has for this machine,
//! plans, writes, acts on exactly the affected containers, proves, reports.
//!
//! What it decides is in the crate `plan`, pure; every file here has effects,
//! one kind each.

pub mod act;
mod aftermath;
pub mod apply;
mod attempt;
pub mod board;
pub mod cause;
mod check;
pub mod compose;
pub mod config;
pub mod disk;
pub mod docker;
pub mod drift;
pub mod ended;
pub mod error;
pub mod follow;
pub mod http;
pub mod journal;
pub mod key;
pub mod lease;
mod metrics;
pub mod previous;
pub mod prove;
pub mod pull;
pub mod queue;
pub mod report;
pub mod spares;
pub mod stamps;
pub mod state;
pub mod step;
pub mod store;
pub mod trust;
mod undo;
pub mod view;
pub mod volumes;
mod way;
pub mod write;

pub use config::FILE as CONFIG_FILE;
pub use error::FollowerError;

use crate::apply::{Applier, Docker};
use crate::board::Board;
use crate::compose::Compose;
use crate::docker::Engine;
use crate::follow::Follow;
use crate::http::{Desk, Meters};
use crate::key::Keyring;
use crate::pull::Leader;
use crate::queue::Queue;
use crate::store::Store;
use crate::trust::{Own, Trusted};
use lockstep_edge::{Gate, server};
use lockstep_plan::applied::Applied;
use lockstep_plan::{self as plan, action, applied, container, snapshot, steps};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime;
use tokio::sync::{oneshot, watch};

/// A disk that takes longer on top of the grace for an apply is not waited for.
const HANGS: Duration = Duration::from_secs(1);

/// Runs the follower whose home is `root` until `shutdown` resolves. `ready`
/// hears where it listens, once it does.
pub async fn run(
    root: PathBuf,
    ready: impl FnOnce(bool, SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), FollowerError> {
    let _armed = step::Armed::from_environment();
    let environment =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    let config = config::load(&root, environment)?;
    let (store, applied) = Store::open(&config.state_folder, &config.data_folder)?;
    let trusted = Arc::new(Trusted::open(&config)?);
    let listening = |source| FollowerError::Listen { address: config.listen, source };
    let listener = http::listen(config.listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;

    let running = applied.as_ref().and_then(|applied| applied.running.clone());
    let owes = applied.as_ref().is_some_and(Applied::owes);
    let failed = applied.as_ref().and_then(|applied| applied.failed.clone());
    let data_folder = config.data_folder.canonicalize().unwrap_or_else(|_| config.data_folder.clone());
    let board = Arc::new(Board::new(running, owes, failed, config.docker.is_some(), &data_folder));
    let leases = applied.as_ref().is_some_and(|applied| applied.leased);
    let limits = Arc::new(config.limits.clone());
    let gate = Arc::new(Gate::new([(config.name.to_string(), config.key.clone())], &limits));
    let keys = Arc::new(Keyring::open(&config, trusted.client.clone(), gate.clone()));
    let leader = Arc::new(Leader::new(trusted.client.clone(), keys.clone(), config.name.clone(), leases));
    let queue = Arc::new(Queue::default());
    let docker = config.docker.as_ref().map(|docker| Docker {
        engine: Arc::new(Engine::new(&docker.host, &docker.project)),
        compose: Compose::new(docker.compose.clone(), &docker.host, &docker.project, &config.root)
            .one_at_a_time(&config.state_folder),
        settle: docker.settle,
    });
    let engine = docker.as_ref().map(|docker| docker.engine.clone());
    if let Some(engine) = engine.clone() {
        // What a crash left behind; nothing waits for it.
        tokio::spawn(async move {
            match engine.sweep().await {
                Ok(0) => {}
                Ok(swept) => tracing::info!(swept, "removed throwaway containers of an earlier run"),
                Err(error) => tracing::debug!(%error, "throwaway containers of an earlier run are not looked for"),
            }
        });
    }
    let (stop, stopping) = watch::channel(false);
    let desk = Arc::new(Desk {
        gate,
        limits: limits.clone(),
        queue: queue.clone(),
        board: board.clone(),
        leader: leader.clone(),
        meters: Meters::new(),
        stopping: stopping.clone(),
        trusted: trusted.clone(),
    });
    tracing::info!(
        machine = %config.name, leader = config.leader_url, %address, data_folder = %config.data_folder.display(),
        revision = applied.as_ref().map_or(0, |applied| applied.revision),
        "the follower runs"
    );
    ready(config.tls, address);

    let tls = trusted.own().map(Own::acceptor);
    let renewing = tokio::spawn(trusted.clone().renew(board.clone()));
    let serving = tokio::spawn(server::serve(listener, tls, limits, stopping.clone(), move |request, _| {
        desk.clone().answer(request)
    }));
    let reporting = tokio::spawn(report::run(board.clone(), leader.clone(), trusted, keys, engine));
    let applying =
        Applier::new(leader.clone(), docker, store, board.clone(), config.state_folder.join("staging"), applied);
    let mut following = apart(Follow::new(applying, leader, queue, board, config.on_drift), stopping)?;
    tokio::select! {
        () = shutdown => {}
        // It ends by itself only by a bug; systemd starts it again, and the journal knows where it was.
        _ = &mut following => {}
    }
    tracing::info!(machine = %config.name, "the follower stops");
    reporting.abort();
    renewing.abort();
    let _ = stop.send(true);
    if !following.is_terminated() && tokio::time::timeout(follow::GRACE + HANGS, following).await.is_err() {
        tracing::warn!("the disk doesn't answer: stopped all the same, the next start finishes what was begun");
    }
    let _ = serving.await;
    Ok(())
}

/// Follows on a thread with a loop of its own: what is done on the disk needs no other thread, and holds up nobody
/// who asks. Resolves once it has ended, in whatever way.
fn apart(follow: Follow, stopping: watch::Receiver<bool>) -> Result<oneshot::Receiver<()>, FollowerError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    let runtime = runtime.map_err(FollowerError::Thread)?;
    let (ending, ended) = oneshot::channel();
    let run = move || {
        runtime.block_on(follow.run(stopping));
        // A name that is still being looked up is waited for by nobody.
        runtime.shutdown_background();
        drop(ending);
    };
    thread::Builder::new().name("follow".to_owned()).spawn(run).map_err(FollowerError::Thread)?;
    Ok(ended)
}
