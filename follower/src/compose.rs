//! The real compose tool, as plugin (`docker compose`) or as `docker-compose`.
//! Recreating and creating containers is never done in any other way.

use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Longest run of one `up`: images may have to be fetched.
const LIMIT: Duration = Duration::from_mins(30);
/// Between two looks whether another run has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How much of what the tool says is shown, in bytes from its end.
const MOST_SHOWN: usize = 2 * 1024;

/// The compose tool of this machine, looked for when first needed.
#[derive(Debug)]
pub struct Compose {
    configured: Option<PathBuf>,
    docker_host: String,
    project: String,
    root: PathBuf,
    /// Locked by whichever run works on the containers, also one whose follower was killed.
    lock: Option<PathBuf>,
    tool: OnceCell<Tool>,
}

/// How the tool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    program: OsString,
    plugin: bool,
}

/// One `up` of some services.
#[derive(Debug, Clone, Copy)]
pub struct Up<'a> {
    /// The compose file.
    pub file: &'a Path,
    /// What relative paths in it are relative to, as the engine knows it.
    pub folder: &'a Path,
    /// The services, each with the number of containers it has now.
    pub services: &'a BTreeMap<String, usize>,
    /// Recreate containers even if compose sees no difference.
    pub force: bool,
    /// Leave services that these depend on alone.
    pub no_deps: bool,
    /// Make the containers and their volumes, and start none.
    pub no_start: bool,
}

/// Why compose did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is none.
    #[error(
        "no compose tool is installed, and containers have to be created or recreated: apt-get install docker-compose-plugin (or docker-compose), or set docker.compose to its path"
    )]
    Missing,
    /// The configured one is none.
    #[error(
        "{command} ended with {status}{said}, so this is no compose tool: set docker.compose in config-follower.json to the path of docker or docker-compose, or leave it out to have one looked for"
    )]
    NoTool {
        /// What was tried.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it said, if it said anything.
        said: String,
    },
    /// The configured one can't be run.
    #[error("the compose tool {path} (docker.compose) can't be run: {source}")]
    Configured {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be started.
    #[error("{tool} could not be started: {source}")]
    Start {
        /// The command.
        tool: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{command} ended with {status}: {said}")]
    Failed {
        /// The command, to be typed again.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// It took too long.
    #[error("{command} did not end within {} minutes and was stopped", LIMIT.as_secs() / 60)]
    Late {
        /// The command.
        command: String,
    },
}

impl Compose {
    /// The tool for `project` on the engine at `docker_host`, for the follower whose home is `root`.
    pub fn new(configured: Option<PathBuf>, docker_host: &str, project: &str, root: &Path) -> Self {
        Self {
            configured,
            docker_host: docker_host.to_owned(),
            project: project.to_owned(),
            root: root.to_owned(),
            lock: None,
            tool: OnceCell::new(),
        }
    }

    /// Has one run wait for the other, by a lock in the follower's state folder: a run goes on when the follower that
    /// began it is killed.
    #[must_use]
    pub fn one_at_a_time(self, state: &Path) -> Self {
        Self { lock: Some(state.join("compose.lock")), ..self }
    }

    /// Resolves once nothing works on the containers that a follower before this one began.
    pub async fn settled(&self) {
        self.turn().await;
    }

    /// The lock. `None` where there is none to be had: then nothing is waited for.
    async fn turn(&self) -> Option<File> {
        let path = self.lock.as_ref()?;
        let opened = File::options().read(true).append(true).create(true).mode(0o600).open(path);
        let lock = opened.inspect_err(|error| tracing::debug!(%error, "compose runs without a lock")).ok()?;
        let taken = async {
            let mut told = false;
            while let Err(errno) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                if errno != rustix::io::Errno::WOULDBLOCK {
                    return;
                }
                if !told {
                    tracing::info!(
                        "waits for compose, which the follower before this one began: fuser {} names its process",
                        path.display()
                    );
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(LIMIT, taken).await.is_err() {
            tracing::warn!(lock = %path.display(), "something holds the lock of compose for too long: not waited for any more");
        }
        Some(lock)
    }

    /// Finds the tool. To be called before anything is written that needs it.
    pub async fn tool(&self) -> Result<&Tool, ComposeError> {
        self.tool.get_or_try_init(|| self.find()).await
    }

    async fn find(&self) -> Result<Tool, ComposeError> {
        if let Some(path) = &self.configured {
            // `docker` itself takes compose as its first word.
            let plugin = path.file_name().is_some_and(|name| name == "docker");
            let tool = Tool { program: path.into(), plugin };
            return match tool.version().await {
                Ok(ended) if ended.status.success() => Ok(tool),
                Ok(ended) => {
                    let said = end_of(&[ended.stdout, ended.stderr].concat());
                    let said = if said.is_empty() { said } else { format!(" ({said})") };
                    let command = shown(&tool.asking());
                    Err(ComposeError::NoTool { command, status: ended.status.to_string(), said })
                }
                Err(source) => Err(ComposeError::Configured { path: path.clone(), source }),
            };
        }
        let known =
            [Tool { program: "docker".into(), plugin: true }, Tool { program: "docker-compose".into(), plugin: false }];
        for tool in known {
            if tool.version().await.is_ok_and(|ended| ended.status.success()) {
                return Ok(tool);
            }
        }
        Err(ComposeError::Missing)
    }

    /// `up -d`: creates, recreates and starts containers.
    pub async fn up(&self, up: Up<'_>) -> Result<(), ComposeError> {
        let tool = self.tool().await?;
        let mut command = tool.command();
        command.arg("-p").arg(&self.project).arg("-f").arg(up.file).arg("--project-directory").arg(up.folder);
        command.args(["up", if up.no_start { "--no-start" } else { "-d" }, "--no-build"]);
        if up.no_deps {
            command.arg("--no-deps");
        }
        if up.force {
            command.arg("--force-recreate");
        }
        for (service, containers) in up.services.iter().filter(|(_, containers)| **containers > 1) {
            command.arg("--scale").arg(format!("{service}={containers}"));
        }
        command.args(up.services.keys());
        command
            .current_dir(up.file.parent().unwrap_or(up.folder))
            .env("DOCKER_HOST", &self.docker_host)
            .env("COMPOSE_HTTP_TIMEOUT", "600");
        self.lend_environment(&mut command);
        // Nobody reads it: the tool holds the lock by it, to its own end.
        let input = self.turn().await.map_or_else(Stdio::null, Stdio::from);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self::reach(&up);
        let shown = shown(&command);
        tracing::debug!(command = %shown, "running compose");
        let ended = match tokio::time::timeout(LIMIT, command.output()).await {
            Err(_) => return Err(ComposeError::Late { command: shown }),
            Ok(ended) => ended.map_err(|source| ComposeError::Start { tool: shown.clone(), source })?,
        };
        if ended.status.success() {
            return Ok(());
        }
        let said = [ended.stdout, ended.stderr].concat();
        Err(ComposeError::Failed { command: shown, status: ended.status.to_string(), said: end_of(&said) })
    }

    /// Compose reads env files by the path that it gives to the engine. In a
    /// container of its own the follower has them elsewhere: a link leads there.
    fn reach(up: &Up<'_>) {
        let Some(here) = up.file.parent().filter(|here| *here != up.folder && !up.folder.exists()) else { return };
        let linked = up.folder.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = linked.and_then(|()| std::os::unix::fs::symlink(here, up.folder)) {
            tracing::warn!(
                folder = %up.folder.display(), %error,
                "compose can't read env files in this container; mount the home at the same path as on the machine"
            );
        }
    }

    /// Pryv's compose files take these from the shell that ran them; a service has no such shell.
    fn lend_environment(&self, command: &mut Command) {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let lent = [("PRYV_CONF_ROOT", self.root.as_os_str().to_owned()), ("HOSTNAME", host_name.trim().into())];
        for (name, value) in lent {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
    }
}

impl Tool {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.plugin {
            command.arg("compose");
        }
        command
    }

    fn asking(&self) -> Command {
        let mut command = self.command();
        command.arg("version");
        command
    }

    /// Asks which version it is: what is no compose tool fails at that.
    async fn version(&self) -> io::Result<Output> {
        self.asking().stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The end of what a tool said, on one line.
fn end_of(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[said.len().saturating_sub(MOST_SHOWN)..]).into_owned();
    let lines = text.lines().map(|line| line.rsplit('\r').next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A stand-in for the tool that writes down how it was called.
    fn stand_in(script: &str) -> (tempfile::TempDir, Compose) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker-compose");
        std::fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = version ] && exit 0\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let compose = Compose::new(Some(path), "unix:///run/x.sock", "pryv", folder.path());
        (folder, compose)
    }

    async fn up(folder: &Path, compose: &Compose) -> Result<(), ComposeError> {
        let services = BTreeMap::from([("web".to_owned(), 1), ("worker".to_owned(), 3)]);
        let up = Up {
            file: &folder.join("c.yml"),
            folder,
            services: &services,
            force: true,
            no_deps: true,
            no_start: false,
        };
        compose.up(up).await
    }

    #[tokio::test]
    async fn is_called_for_exactly_these_services() {
        let (folder, compose) = stand_in("echo \"$@ $DOCKER_HOST\" > called");
        up(folder.path(), &compose).await.unwrap();
        let called = std::fs::read_to_string(folder.path().join("called")).unwrap();
        let place = folder.path().display();
        assert_eq!(
            called.trim(),
            format!(
                "-p pryv -f {place}/c.yml --project-directory {place} up -d --no-build --no-deps --force-recreate --scale worker=3 web worker unix:///run/x.sock"
            )
        );
    }

    #[tokio::test]
    async fn its_own_words_are_in_the_error() {
        let (folder, compose) = stand_in("echo 'Creating web ... error' >&2; echo 'No such image: x' >&2; exit 1");
        let error = up(folder.path(), &compose).await.unwrap_err().to_string();
        assert!(error.contains("Creating web ... error; No such image: x"), "{error}");
        let missing = Compose::new(Some("/no/such/tool".into()), "", "p", folder.path());
        assert!(missing.tool().await.unwrap_err().to_string().contains("/no/such/tool"));
        let none = Compose::new(Some("/bin/false".into()), "", "p", folder.path());
        let error = none.tool().await.unwrap_err().to_string();
        assert!(
            error.starts_with("/bin/false version ended with exit status: 1, so this is no compose tool"),
            "{error}"
        );
    }
}
