//! The engine. Only this file and its folder know its client library; what they
//! give out is in lockstep's own words. The calls stand in `docs/security.md`,
//! and a test holds that table true. Containers of other compose projects are
//! never asked for, but the follower's own.

pub mod asked;
mod details;
mod error;
mod home;
mod mounts;
pub mod throwaway;

pub use details::Details;
pub use error::EngineError;

use crate::container::Container;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptions, RestartContainerOptions,
    StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, exec};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};

/// Longest wait for an answer that needs no container to do anything.
const ANSWER_SECONDS: u64 = 60;
/// What a restart may take beside the container's own time to stop.
const RESTART: Duration = Duration::from_mins(1);
/// Longest run of a command in a container.
const EXEC: Duration = Duration::from_mins(1);
/// How much of a command's output and of a log is kept, in bytes.
const MOST_OUTPUT: usize = 4 * 1024;
/// How many of a container's last log lines tell why it died.
const LAST_LINES: &str = "20";
/// Largest file that is read back through the archive API.
const MOST_ARCHIVE: usize = 64 * 1024 * 1024;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// The engine, and the one project that is ours.
#[derive(Debug)]
pub struct Engine {
    host: String,
    project: String,
    client: OnceCell<bollard::Docker>,
    /// By the container's identifier.
    unlisted: Mutex<BTreeMap<String, mounts::Unlisted>>,
    /// The mounts of the container that this process runs in, if it does.
    own: OnceCell<Option<Vec<home::Own>>>,
    /// The containers that lockstep created, by their identifiers.
    created: Mutex<BTreeSet<String>>,
}

impl Engine {
    /// The engine at `host`, whose compose project `project` is ours. Connects when first used.
    pub fn new(host: &str, project: &str) -> Self {
        Self {
            host: host.to_owned(),
            project: project.to_owned(),
            client: OnceCell::new(),
            unlisted: Mutex::default(),
            own: OnceCell::new(),
            created: Mutex::default(),
        }
    }

    async fn client(&self) -> Result<&bollard::Docker, EngineError> {
        let connect = || async {
            let client = if self.host.starts_with("unix://") {
                bollard::Docker::connect_with_unix(&self.host, ANSWER_SECONDS, API_DEFAULT_VERSION)
            } else {
                bollard::Docker::connect_with_http(&self.host, ANSWER_SECONDS, API_DEFAULT_VERSION)
            };
            // An engine that is older than the library refuses the library's own version.
            let negotiated = match client {
                Ok(client) => client.negotiate_version().await,
                Err(error) => Err(error),
            };
            negotiated.map_err(|error| self.failed("talking to", "it", error))
        };
        self.client.get_or_try_init(connect).await
    }

    /// All containers of the project, one-off ones excepted, sorted by name.
    pub async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        let filters = HashMap::from([("label", vec![format!("{PROJECT}={}", self.project)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.client().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.failed("listing", "containers", error))?;
        let home = self.is_home().await;
        let listed = listed.into_iter().filter_map(|listed| container(listed, &self.project, home));
        let mut containers: Vec<_> = listed.collect();
        self.complete(&mut containers).await;
        {
            let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
            for container in &mut containers {
                container.ours = created.contains(&container.id);
            }
        }
        containers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(containers)
    }

    /// Says which containers lockstep created: the list tells it of each from now on.
    pub fn created(&self, ids: &BTreeSet<String>) {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).clone_from(ids);
    }

    /// Inspects a container.
    pub async fn details(&self, name: &str) -> Result<Details, EngineError> {
        let found = self.client().await?.inspect_container(name, None::<InspectContainerOptions>).await;
        found.map(Details::from).map_err(|error| self.failed("inspecting", name, error))
    }

    /// Sends a signal (`HUP`) to a container's first process.
    pub async fn signal(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(&format!("SIG{signal}")).build();
        let sent = self.client().await?.kill_container(name, Some(options)).await;
        sent.map_err(|error| self.failed("signalling", name, error))
    }

    /// Restarts a container, giving it the time to stop that it was created with.
    pub async fn restart(&self, name: &str, stop_timeout: Duration) -> Result<(), EngineError> {
        let limit = stop_timeout + RESTART;
        let client = self.client().await?.clone().with_timeout(limit);
        let options = RestartContainerOptions { signal: None, t: None };
        match client.restart_container(name, Some(options)).await {
            Err(Error::RequestTimeoutError) => {
                Err(EngineError::Late { operation: "restarting", target: name.to_owned(), seconds: limit.as_secs() })
            }
            other => other.map_err(|error| self.failed("restarting", name, error)),
        }
    }

    /// Stops a container, giving it its own time, and removes it; its volumes stay.
    pub async fn remove(&self, name: &str, stop_timeout: Duration) -> Result<(), EngineError> {
        let client = self.client().await?.clone().with_timeout(stop_timeout + RESTART);
        let gone = |result: Result<(), Error>| match result {
            // Stopped already (304), or not there any more (404).
            Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
            other => other.map_err(|error| self.failed("removing", name, error)),
        };
        gone(client.stop_container(name, None::<StopContainerOptions>).await)?;
        gone(client.remove_container(name, None::<RemoveContainerOptions>).await)
    }

    /// Runs a command in a container; the last of its output.
    pub async fn exec(&self, name: &str, command: &[String]) -> Result<String, EngineError> {
        let failed = |error| self.failed("running a command in", name, error);
        let client = self.client().await?;
        let options = exec::CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..exec::CreateExecOptions::default()
        };
        let created = client.create_exec(name, options).await.map_err(failed)?;
        let run = async {
            let started = client.start_exec(&created.id, None::<exec::StartExecOptions>).await.map_err(failed)?;
            let exec::StartExecResults::Attached { output, .. } = started else { return Ok(String::new()) };
            tail(output.map(|part| part.map(bollard::container::LogOutput::into_bytes))).await.map_err(failed)
        };
        let late = |_| EngineError::Late {
            operation: "running a command in",
            target: name.to_owned(),
            seconds: EXEC.as_secs(),
        };
        let output = tokio::time::timeout(EXEC, run).await.map_err(late)??;
        match client.inspect_exec(&created.id).await.map_err(failed)?.exit_code.unwrap_or(-1) {
            0 => Ok(output),
            code => Err(EngineError::Exec {
                command: command.join(" "),
                container: name.to_owned(),
                code,
                output: set_off(output),
            }),
        }
    }

    /// A container's last words: the end of its log.
    pub async fn last_words(&self, name: &str) -> Result<String, EngineError> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LAST_LINES).build();
        let log = self.client().await?.logs(name, Some(options));
        let words = tail(log.map(|part| part.map(bollard::container::LogOutput::into_bytes))).await;
        words.map_err(|error| self.failed("reading the log of", name, error))
    }

    /// Something happens to a container that may decide its fate: it died, its
    /// health changed. Subscribe before acting.
    pub async fn changes(&self, name: &str) -> Result<impl Stream<Item = ()> + Send + Unpin + use<>, EngineError> {
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("container", vec![name]),
            ("event", vec!["die", "health_status"]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        // An events stream is open for as long as it is wanted.
        let client = self.client().await?.clone().with_timeout(Duration::from_hours(1));
        let mut events = client.events(Some(options));
        // By a task of its own, for it asks the engine when it is first polled: now, and not once somebody waits.
        let (tell, mut told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = tell.closed() => return,
                };
                let Some(event) = event else { return };
                if event.is_ok() && tell.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(stream::poll_fn(move |cx| told.poll_recv(cx)))
    }

    /// The archive (tar) of a path in a container; `None` if nothing is there.
    pub async fn archive(&self, name: &str, path: &Path) -> Result<Option<Bytes>, EngineError> {
        let options = DownloadFromContainerOptionsBuilder::new().path(&path.to_string_lossy()).build();
        let mut stream = self.client().await?.download_from_container(name, Some(options));
        let mut archive = Vec::new();
        while let Some(part) = stream.next().await {
            match part {
                Ok(part) if archive.len() + part.len() <= MOST_ARCHIVE => archive.extend_from_slice(&part),
                Ok(_) => break,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(self.failed("reading a file of", name, error)),
            }
        }
        Ok(Some(archive.into()))
    }
}

/// Whether the engine says that nothing is at a path. Below a file it calls
/// that a failure of its own, like a mount that fails with the same words.
fn is_absent(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        Error::DockerResponseServerError { message, .. } => {
            message.starts_with("lstat ") && message.ends_with(": not a directory")
        }
        _ => false,
    }
}

/// Output for the end of a message: several lines begin on a new one.
pub(crate) fn set_off(output: String) -> String {
    if output.contains('\n') { format!("\n{output}") } else { output }
}

/// The end of a stream of output, as text.
async fn tail(mut parts: impl Stream<Item = Result<Bytes, Error>> + Unpin) -> Result<String, Error> {
    let mut kept = Vec::new();
    while let Some(part) = parts.next().await {
        kept.extend_from_slice(&part?);
        if kept.len() > 2 * MOST_OUTPUT {
            kept.drain(..kept.len() - MOST_OUTPUT);
        }
    }
    let from = kept.len().saturating_sub(MOST_OUTPUT);
    Ok(String::from_utf8_lossy(&kept[from..]).trim().to_owned())
}

fn container(summary: ContainerSummary, project: &str, home: bool) -> Option<Container> {
    let mut labels = summary.labels.unwrap_or_default();
    if labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let status = summary.status.unwrap_or_default();
    let health = if status.contains("(healthy)") {
        "healthy"
    } else if status.contains("(unhealthy)") {
        "unhealthy"
    } else if status.contains("(health: starting)") {
        "starting"
    } else {
        "none"
    };
    let mounts = summary.mounts.unwrap_or_default().into_iter();
    let mounts = mounts.filter_map(|mount| mounts::listed(mount, project, home));
    Some(Container {
        id: summary.id?,
        name: summary.names?.first()?.trim_start_matches('/').to_owned(),
        service: labels.remove(SERVICE)?,
        number: labels.remove(NUMBER).unwrap_or_default(),
        state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
        health: health.to_owned(),
        mounts: mounts.collect(),
        depends_on: labels.get(DEPENDS_ON).map(|label| depends_on(label)).unwrap_or_default(),
        ours: false,
    })
}

/// `svc:condition:restart,svc2:...` of compose v2, `svc,svc2` before.
fn depends_on(label: &str) -> Vec<String> {
    let names = label.split(',').filter_map(|entry| entry.split(':').next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The path with every symlink resolved, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let below = path.strip_prefix(above).unwrap_or(Path::new(""));
            return if below.as_os_str().is_empty() { real } else { real.join(below) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_the_dependency_label() {
        assert_eq!(depends_on("db:service_healthy:false,mq:service_started:true"), ["db", "mq"]);
        assert_eq!(depends_on("db,mq"), ["db", "mq"]);
        assert!(depends_on("").is_empty());
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        assert_eq!(canonical(&real.join("link/not/there")), real.join("real/not/there"));
        assert_eq!(canonical(&real.join("link")), real.join("real"));
    }
}
