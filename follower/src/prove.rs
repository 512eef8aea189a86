//! Looks again after acting: is the container up and healthy, and does it see
//! the very bytes that were written? Only then is something "applied".

use crate::container::Container;
use crate::docker::{Details, Engine, EngineError, set_off};
use crate::step::Step;
use crate::view::View;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use lockstep_edge::clock;
use lockstep_shared::{SafePath, Sha256, VolumePath};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two probes of a port: at first, and at most.
const PROBE_FIRST: Duration = Duration::from_millis(5);
const PROBE_LAST: Duration = Duration::from_millis(250);
/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_millis(200);
/// The engine is asked at least this often, in case an event was lost.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a container has to be for its action to count as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upright {
    /// Nothing was done to it.
    AsItIs,
    /// The same run goes on, as it was before (the engine's words), and was
    /// told something at this time, Unix seconds.
    GoesOn(Box<Details>, i64),
    /// Somebody else may have brought it up: it has to have run for so long, or to be healthy.
    Stands(Duration),
    /// It was started anew and has to come up.
    ComesUp {
        /// How long it must stay up if nothing else shows that it works.
        settle: Duration,
        /// Whether it may also end with exit code 0: a job that was just created.
        may_end: bool,
    },
}

/// A file and what it has to be: a hash, or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The file, below the data folder.
    pub path: &'a SafePath,
    /// The hash of its bytes; `None` if it was removed.
    pub sha256: Option<Sha256>,
    /// Its place, if it stands in a volume instead.
    pub volume: Option<&'a VolumePath>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// The engine didn't answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It was never started.
    #[error("{container} was not started; docker start {container} may tell why")]
    NotStarted {
        /// The container.
        container: String,
    },
    /// It died.
    #[error("{container} died with exit code {exit_code}; the end of its log: {last_words}")]
    Died {
        /// The container.
        container: String,
        /// Its exit code.
        exit_code: i64,
        /// The last lines of its log.
        last_words: String,
    },
    /// Its healthcheck says so.
    #[error("{container} is unhealthy; the end of its log: {last_words}")]
    Unhealthy {
        /// The container.
        container: String,
        /// The last lines of its log.
        last_words: String,
    },
    /// Its healthcheck didn't decide in time.
    #[error(
        "{container} was not healthy within the {seconds} s that its healthcheck allows; the end of its log: {last_words}"
    )]
    NeverHealthy {
        /// The container.
        container: String,
        /// What start period, interval, timeout and retries add up to.
        seconds: u64,
        /// The last lines of its log.
        last_words: String,
    },
    /// It was started again though it should have gone on.
    #[error("{container} was meant to go on running, but was started again at {started_at}")]
    StartedAgain {
        /// The container.
        container: String,
        /// When.
        started_at: String,
    },
    /// It sees another file than was written.
    #[error(
        "{container} sees {what} at {at} instead of {path} as it was written; docker exec {container} cat {at} shows it"
    )]
    OtherFile {
        /// The container.
        container: String,
        /// The file.
        path: SafePath,
        /// Where it should be in the container.
        at: String,
        /// What is there.
        what: &'static str,
    },
}

/// Proves one container; how it was seen, in words.
pub async fn prove(
    engine: &Engine,
    container: &Container,
    upright: &Upright,
    changes: Option<impl Stream<Item = ()> + Unpin>,
    data_folder: &Path,
    expected: &[Expected<'_>],
) -> Result<String, Unproven> {
    Step::Prove.begins();
    let name = container.name.as_str();
    let (details, up) = match upright {
        Upright::AsItIs => (engine.details(name).await?, None),
        Upright::GoesOn(before, since) => {
            let (details, up) = goes_on(engine, name, before, *since).await?;
            (details, Some(up))
        }
        Upright::Stands(settle) => {
            let details = engine.details(name).await?;
            let settled = clock::now() - details.started > i64::try_from(settle.as_secs()).unwrap_or(i64::MAX);
            let good = matches!(details.health.as_str(), "none" | "healthy");
            if !details.running || details.restarting || !settled || !good {
                return Err(died(engine, name, &details).await);
            }
            (details, Some("it came up meanwhile".to_owned()))
        }
        Upright::ComesUp { settle, may_end } => {
            let (details, up) = comes_up(engine, name, *settle, *may_end, changes).await?;
            (details, Some(up))
        }
    };
    let seen = sees(engine, container, &details, data_folder, expected).await?;
    Ok(up.into_iter().chain(seen).collect::<Vec<_>>().join("; "))
}

/// With a healthcheck it counts only once a check that began after `since` has
/// passed: what it said before says nothing about the new files.
async fn goes_on(engine: &Engine, name: &str, before: &Details, since: i64) -> Result<(Details, String), Unproven> {
    let began = Instant::now();
    loop {
        let details = engine.details(name).await?;
        if !details.running || details.restarting {
            return Err(died(engine, name, &details).await);
        }
        if details.started_at != before.started_at {
            return Err(Unproven::StartedAgain { container: name.to_owned(), started_at: details.started_at });
        }
        let container = name.to_owned();
        let Some(deadline) = details.health_deadline.filter(|_| before.health == "healthy") else {
            return Ok((details, "it goes on running".to_owned()));
        };
        match details.health.as_str() {
            "unhealthy" => {
                return Err(Unproven::Unhealthy { container, last_words: last_words(engine, name).await });
            }
            "healthy" if details.last_passed > since => {
                return Ok((details, "it goes on running and is healthy".to_owned()));
            }
            _ if began.elapsed() > deadline => {
                let last_words = last_words(engine, name).await;
                return Err(Unproven::NeverHealthy { container, seconds: deadline.as_secs(), last_words });
            }
            _ => sleep(LOOK_AGAIN).await,
        }
    }
}

async fn comes_up(
    engine: &Engine,
    name: &str,
    settle: Duration,
    may_end: bool,
    changes: Option<impl Stream<Item = ()> + Unpin>,
) -> Result<(Details, String), Unproven> {
    let began = Instant::now();
    let mut changes = match changes {
        Some(changes) => changes.left_stream(),
        None => stream::empty().right_stream(),
    };
    let mut streaming = true;
    loop {
        // What was said up to here, the inspection shows.
        while let Some(Some(())) = changes.next().now_or_never() {}
        let details = engine.details(name).await?;
        let known = judge(engine, name, &details, may_end, began.elapsed()).await?;
        if let Some(up) = known {
            return Ok((details, up));
        }
        let look_again = if details.health_deadline.is_some() {
            LOOK_AGAIN
        } else {
            match settle.checked_sub(began.elapsed()) {
                Some(left) if !left.is_zero() => left.min(LOOK_AGAIN),
                _ => return Ok((details, format!("it has been running for {} s", settle.as_secs_f32()))),
            }
        };
        let probed = async {
            if details.health_deadline.is_some() {
                std::future::pending().await
            } else {
                answering_port(&details, began).await
            }
        };
        tokio::select! {
            () = sleep(look_again) => {}
            change = changes.next(), if streaming => streaming = change.is_some(),
            port = probed => {
                // A port may have answered just before the process gave up.
                let details = engine.details(name).await?;
                if details.running && !details.restarting && details.restarts == 0 {
                    return Ok((details, format!("port {port} answers")));
                }
            }
        }
    }
}

/// Whether an inspection decides: up (how), not yet (`None`), or failed.
async fn judge(
    engine: &Engine,
    name: &str,
    details: &Details,
    may_end: bool,
    elapsed: Duration,
) -> Result<Option<String>, Unproven> {
    let container = name.to_owned();
    if details.started_at.starts_with("0001-") {
        return Err(Unproven::NotStarted { container });
    }
    // A start by hand or by compose sets the engine's count of restarts to nothing.
    if details.restarting || details.restarts > 0 {
        return Err(died(engine, name, details).await);
    }
    if !details.running {
        return if may_end && details.exit_code == 0 && !details.restarted_by_policy {
            Ok(Some("it ran to its end (exit code 0)".to_owned()))
        } else {
            Err(died(engine, name, details).await)
        };
    }
    let Some(deadline) = details.health_deadline else { return Ok(None) };
    match details.health.as_str() {
        "healthy" => Ok(Some("it is healthy".to_owned())),
        "unhealthy" => Err(Unproven::Unhealthy { container, last_words: last_words(engine, name).await }),
        _ if elapsed > deadline => {
            let last_words = last_words(engine, name).await;
            Err(Unproven::NeverHealthy { container, seconds: deadline.as_secs(), last_words })
        }
        _ => Ok(None),
    }
}

/// The first of a container's known ports that accepts a connection. Never
/// resolves if none does.
async fn answering_port(details: &Details, began: Instant) -> u16 {
    let mut pause = PROBE_FIRST.max(began.elapsed() / 4).min(PROBE_LAST);
    loop {
        for address in &details.addresses {
            for port in &details.ports {
                let connected = timeout(CONNECT, TcpStream::connect(SocketAddr::new(*address, *port))).await;
                if connected.is_ok_and(|connected| connected.is_ok()) {
                    return *port;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PROBE_LAST);
    }
}

async fn died(engine: &Engine, name: &str, details: &Details) -> Unproven {
    Unproven::Died {
        container: name.to_owned(),
        exit_code: details.exit_code,
        last_words: last_words(engine, name).await,
    }
}

pub(crate) async fn last_words(engine: &Engine, name: &str) -> String {
    match engine.last_words(name).await {
        Ok(words) if words.is_empty() => "(it said nothing)".to_owned(),
        Ok(words) => set_off(words),
        Err(error) => format!("(not known: {error})"),
    }
}

/// Compares every expected file that the container mounts; `None` if it mounts none of them.
async fn sees(
    engine: &Engine,
    container: &Container,
    details: &Details,
    data_folder: &Path,
    expected: &[Expected<'_>],
) -> Result<Option<String>, Unproven> {
    let view = View::new(engine, &container.name, details);
    let (mut files, mut by_archive) = (0, false);
    for expected in expected {
        let places = match expected.volume {
            Some(place) => container.sees_in_volume(place),
            None => container.sees(&data_folder.join(expected.path.as_str())),
        };
        for at in places {
            let seen = view.see(&at).await?;
            if seen.sha256 != expected.sha256 {
                let what = match (seen.sha256, expected.sha256) {
                    (None, _) => "no file",
                    (Some(_), None) => "a file that was removed",
                    (Some(_), Some(_)) => "other bytes",
                };
                return Err(Unproven::OtherFile {
                    container: container.name.clone(),
                    path: expected.path.clone(),
                    at: at.display().to_string(),
                    what,
                });
            }
            files += 1;
            by_archive |= seen.by_archive;
        }
    }
    if files == 0 {
        return Ok(None);
    }
    let number = if files == 1 { "the file".to_owned() } else { format!("all {files} files") };
    let how = if by_archive { ", as far as the archive API shows" } else { "" };
    Ok(Some(format!("it sees {number} as written{how}")))
}
