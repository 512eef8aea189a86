//! Containers of our own for a moment: to reach into a volume, or to run a
//! check in a service's image. They belong to no compose project, have no
//! network, are labelled, and go in any case: what a crash left behind goes at
//! the next start.

use super::{Engine, EngineError, tail};
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The label that these containers have; its value is the compose project they were made for.
const LABEL: &str = "io.lockstep.throwaway";

/// What a container is made of.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The image, which has to be there: none is pulled.
    pub image: String,
    /// What it runs, instead of what the image says; empty: it is never started.
    pub command: Vec<String>,
    /// What is mounted.
    pub mounts: Vec<Place>,
    /// The user, as the image or the service says.
    pub user: Option<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Where it runs.
    pub folder: Option<String>,
    /// Names that lead to the container itself, for programs that look up names at their start.
    pub hosts: Vec<String>,
}

/// One mount of a recipe.
#[derive(Debug, Clone)]
pub struct Place {
    /// What is mounted.
    pub what: What,
    /// Where.
    pub at: PathBuf,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum What {
    /// A volume, by the engine's name.
    Volume {
        /// Its name.
        name: String,
        /// Whether it can be written to.
        writable: bool,
    },
    /// An empty volume that goes with the container.
    Fresh,
    /// A path of the host, read-only.
    Host(PathBuf),
}

/// What stands at a path of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symlink.
    Symlink,
    /// A device, pipe or socket.
    Special,
}

impl Kind {
    /// Of the mode that the engine gives, which has the bits of Go's `fs.FileMode`.
    fn of(mode: u32) -> Self {
        const FOLDER: u32 = 1 << 31;
        const SYMLINK: u32 = 1 << 27;
        const SPECIAL: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
        match mode {
            _ if mode & FOLDER != 0 => Self::Folder,
            _ if mode & SYMLINK != 0 => Self::Symlink,
            _ if mode & SPECIAL != 0 => Self::Special,
            _ => Self::File,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Ran {
    /// With this exit code, having said this at last.
    Ended(i64, String),
    /// Not within its time.
    Late,
}

impl Engine {
    /// Makes a container; its identifier.
    pub async fn make(&self, recipe: &Recipe) -> Result<String, EngineError> {
        let mount = |place: &Place| {
            let target = Some(place.at.to_string_lossy().into_owned());
            let no_copy =
                |no_copy| Some(MountVolumeOptions { no_copy: Some(no_copy), ..MountVolumeOptions::default() });
            match &place.what {
                What::Volume { name, writable } => Mount {
                    target,
                    source: Some(name.clone()),
                    typ: Some(MountType::VOLUME),
                    read_only: Some(!writable),
                    volume_options: no_copy(true),
                    ..Mount::default()
                },
                What::Fresh => {
                    Mount { target, typ: Some(MountType::VOLUME), volume_options: no_copy(true), ..Mount::default() }
                }
                What::Host(path) => Mount {
                    target,
                    source: Some(path.to_string_lossy().into_owned()),
                    typ: Some(MountType::BIND),
                    read_only: Some(true),
                    ..Mount::default()
                },
            }
        };
        let (entrypoint, cmd) = match recipe.command.split_first() {
            Some((program, arguments)) => (Some(vec![program.clone()]), Some(arguments.to_vec())),
            // Imported images may have no command, and one is asked for though it is never run.
            None => (None, Some(vec!["never-started".to_owned()])),
        };
        let body = ContainerCreateBody {
            image: Some(recipe.image.clone()),
            entrypoint,
            cmd,
            user: recipe.user.clone(),
            env: Some(recipe.environment.clone()),
            working_dir: recipe.folder.clone(),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.project.clone())])),
            host_config: Some(HostConfig {
                mounts: Some(recipe.mounts.iter().map(mount).collect()),
                network_mode: Some("none".to_owned()),
                extra_hosts: Some(recipe.hosts.iter().map(|name| format!("{name}:127.0.0.1")).collect()),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let made = self.client().await?.create_container(None::<CreateContainerOptions>, body).await;
        made.map(|made| made.id).map_err(|error| self.failed("making a throwaway container of", &recipe.image, error))
    }

    /// Unpacks an archive (tar) into a folder of a container, running or not.
    pub async fn unpack(&self, name: &str, folder: &Path, archive: Vec<u8>) -> Result<(), EngineError> {
        let options = UploadToContainerOptionsBuilder::new().path(&folder.to_string_lossy()).build();
        let body = bollard::body_full(Bytes::from(archive));
        let sent = self.client().await?.upload_to_container(name, Some(options), body).await;
        sent.map_err(|error| self.failed("writing files into", name, error))
    }

    /// What stands at a path of a container, running or not; what lies above has to be a folder or nothing.
    pub async fn kind(&self, name: &str, path: &Path) -> Result<Option<Kind>, EngineError> {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(&path.to_string_lossy()).build();
        match self.client().await?.get_container_archive_info(name, Some(options)).await {
            Ok(found) => Ok(Some(Kind::of(found.file_mode))),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.failed("looking for a file of", name, error)),
        }
    }

    /// Starts a made container and waits for its end, at most `limit`.
    pub async fn run(&self, id: &str, limit: Duration) -> Result<Ran, EngineError> {
        let client = self.client().await?.clone().with_timeout(limit + Duration::from_secs(5));
        let started = client.start_container(id, None::<StartContainerOptions>).await;
        started.map_err(|error| self.failed("starting", id, error))?;
        let ended = async {
            match client.wait_container(id, None::<WaitContainerOptions>).next().await {
                Some(Ok(ended)) => Ok(ended.status_code),
                // How the library says that the code is not 0.
                Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
                Some(Err(error)) => Err(self.failed("waiting for", id, error)),
                None => Ok(-1),
            }
        };
        let Ok(code) = tokio::time::timeout(limit, ended).await else { return Ok(Ran::Late) };
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let log = client.logs(id, Some(options)).map(|part| part.map(bollard::container::LogOutput::into_bytes));
        let said = tail(log).await.map_err(|error| self.failed("reading the log of", id, error))?;
        Ok(Ran::Ended(code?, said))
    }

    /// Removes a container that [`Self::make`] made, and its fresh volumes.
    pub async fn discard(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let Ok(client) = self.client().await else { return };
        if let Err(error) = client.remove_container(id, Some(options)).await {
            tracing::warn!(container = id, %error, "a throwaway container could not be removed: the next start tries again");
        }
    }

    /// Where the engine keeps a volume on this machine; `None` if another driver than its own keeps it.
    pub async fn volume_folder(&self, name: &str) -> Result<Option<PathBuf>, EngineError> {
        let found = self.client().await?.inspect_volume(name).await;
        let found = found.map_err(|error| self.failed("looking at the volume", name, error))?;
        Ok((found.driver == "local" && found.options.is_empty()).then(|| found.mountpoint.into()))
    }

    /// Removes throwaway containers that a crash left behind; how many there were.
    pub async fn sweep(&self) -> Result<usize, EngineError> {
        let filters = HashMap::from([("label", vec![format!("{LABEL}={}", self.project)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.client().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.failed("listing", "containers", error))?;
        let left: Vec<String> = listed.into_iter().filter_map(|container| container.id).collect();
        for id in &left {
            self.discard(id).await;
        }
        Ok(left.len())
    }
}
