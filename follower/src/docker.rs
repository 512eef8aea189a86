//! The engine. Only this file and its folder know its client library; what they
//! give out is in lockstep's own words. The calls stand in `docs/security.md`,
//! and a test holds that table true. Containers of other compose projects are
//! never asked for, but the follower's own.

mod home;
mod mounts;
pub mod throwaway;

use crate::container::Container;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptions, RestartContainerOptions,
    StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, exec};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

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

/// What an inspection says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The engine's identifier.
    pub id: String,
    /// The first process, as the host counts it; 0 while there is none.
    pub pid: i32,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is about to be started again after it died.
    pub restarting: bool,
    /// How often the engine has started it again by itself.
    pub restarts: i64,
    /// When it was last started, in the engine's words.
    pub started_at: String,
    /// The same, Unix seconds; 0 where that can't be read.
    pub started: i64,
    /// How its last run ended.
    pub exit_code: i64,
    /// Whether the engine starts it again when it ends.
    pub restarted_by_policy: bool,
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    /// When the last healthcheck that passed began, Unix seconds; 0 if none is known.
    pub last_passed: i64,
    /// How long the healthcheck may take to decide; `None` without one.
    pub health_deadline: Option<Duration>,
    /// TCP ports it says it serves.
    pub ports: Vec<u16>,
    /// Where it can be reached from the host.
    pub addresses: Vec<IpAddr>,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
    /// Its image's identifier.
    pub image: String,
    /// The user it runs as; empty: root.
    pub user: String,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// Where its first process starts.
    pub folder: String,
}

impl EngineError {
    /// Whether the engine is simply not there: no fault of any container.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Forbidden { .. } | Self::Denied { .. })
    }
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
        found.map(details).map_err(|error| self.failed("inspecting", name, error))
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
            code => Err(EngineError::Exec { command: command.join(" "), container: name.to_owned(), code, output }),
        }
    }

    /// A container's last words: the end of its log.
    pub async fn last_words(&self, name: &str) -> Result<String, EngineError> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LAST_LINES).build();
        let log = self.client().await?.logs(name, Some(options));
        let words = tail(log.map(|part| part.map(bollard::container::LogOutput::into_bytes))).await;
        words.map_err(|error| self.failed("reading the log of", name, error))
    }

    /// Something happens to a container that may decide its fate: it was
    /// started, it died, its health changed. Subscribe before acting.
    pub async fn changes(&self, name: &str) -> Result<impl Stream<Item = ()> + Send + Unpin + use<>, EngineError> {
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("container", vec![name]),
            ("event", vec!["start", "die", "health_status"]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        // An events stream is open for as long as it is wanted.
        let client = self.client().await?.clone().with_timeout(Duration::from_hours(1));
        let events = client.events(Some(options));
        Ok(Box::pin(events.filter_map(|event| async move { event.ok().map(|_| ()) })))
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
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
                Err(error) => return Err(self.failed("reading a file of", name, error)),
            }
        }
        Ok(Some(archive.into()))
    }

    fn failed(&self, operation: &'static str, target: &str, error: Error) -> EngineError {
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

fn details(found: ContainerInspectResponse) -> Details {
    let state = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let network = found.network_settings.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name).map(|name| name.to_string()).unwrap_or_default();
    let ports =
        config.exposed_ports.unwrap_or_default().into_iter().chain(network.ports.unwrap_or_default().into_keys());
    let mut ports: Vec<u16> = ports.filter_map(|port| port.strip_suffix("/tcp")?.parse().ok()).collect();
    ports.sort_unstable();
    ports.dedup();
    let endpoints = network.networks.unwrap_or_default();
    let mut addresses: Vec<IpAddr> =
        endpoints.into_values().filter_map(|endpoint| endpoint.ip_address?.parse().ok()).collect();
    if host.network_mode.as_deref() == Some("host") {
        addresses.push(std::net::Ipv4Addr::LOCALHOST.into());
    }
    addresses.sort_unstable();
    let health = state.health.unwrap_or_default();
    let passed = health.log.unwrap_or_default().into_iter().filter(|probe| probe.exit_code == Some(0));
    let last_passed = passed.filter_map(|probe| probe.start).map(|start| unix(&start)).max().unwrap_or(0);
    let started_at = state.started_at.unwrap_or_default();
    let tested = config.healthcheck.filter(|check| check.test.as_ref().is_some_and(|test| is_a_test(test)));
    Details {
        id: found.id.unwrap_or_default(),
        pid: state.pid.and_then(|pid| pid.try_into().ok()).unwrap_or_default(),
        running: state.running.unwrap_or_default(),
        restarting: state.restarting.unwrap_or_default(),
        restarts: found.restart_count.unwrap_or_default(),
        started: unix(&started_at),
        started_at,
        exit_code: state.exit_code.unwrap_or_default(),
        restarted_by_policy: matches!(policy.as_str(), "always" | "unless-stopped"),
        last_passed,
        health: health
            .status
            .map(|status| status.to_string())
            .filter(|status| !status.is_empty())
            .unwrap_or_else(|| "none".to_owned()),
        health_deadline: tested
            .map(|check| health_deadline(check.start_period, check.interval, check.timeout, check.retries)),
        ports,
        addresses,
        stop_timeout: Duration::from_secs(
            config.stop_timeout.and_then(|seconds| seconds.try_into().ok()).unwrap_or(10),
        ),
        image: found.image.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        environment: config.env.unwrap_or_default(),
        folder: config.working_dir.unwrap_or_default(),
    }
}

/// A time in the engine's words (RFC 3339) as Unix seconds; 0 where it is none.
fn unix(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

fn is_a_test(test: &[String]) -> bool {
    test.first().is_some_and(|kind| kind != "NONE")
}

/// The time after which a healthcheck has decided: `start_period` and all
/// retries, with the engine's defaults for what isn't set (nanoseconds).
fn health_deadline(start: Option<i64>, interval: Option<i64>, timeout: Option<i64>, retries: Option<i64>) -> Duration {
    const MARGIN: Duration = Duration::from_secs(10);
    const DEFAULT: Duration = Duration::from_secs(30);
    let time = |value: Option<i64>, default| {
        let set = value.filter(|nanos| *nanos > 0).and_then(|nanos| nanos.try_into().ok());
        set.map_or(default, Duration::from_nanos)
    };
    let retries = retries.filter(|retries| *retries > 0).and_then(|retries| retries.try_into().ok()).unwrap_or(3u32);
    time(start, Duration::ZERO) + (time(interval, DEFAULT) + time(timeout, DEFAULT)) * retries + MARGIN
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
    fn the_engines_times_are_read_with_their_offset() {
        assert_eq!(unix("2026-11-21T14:25:59.059376220Z"), unix("2026-11-21T16:25:59.059376220+02:00"));
        assert_eq!((unix("1970-01-01T00:00:01Z"), unix("")), (1, 0));
    }

    #[test]
    fn a_healthcheck_gets_all_its_tries() {
        let second = |n: i64| Some(n * 1_000_000_000);
        assert_eq!(health_deadline(second(5), second(1), second(2), Some(4)), Duration::from_secs(5 + 4 * 3 + 10));
        assert_eq!(health_deadline(None, None, Some(0), None), Duration::from_secs(3 * 60 + 10));
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
