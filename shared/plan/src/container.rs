//! A container as the engine describes it, in lockstep's own words: values
//! only, so that the plan can be tested without an engine.

use lockstep_shared::api;
use std::path::{Path, PathBuf};

/// One container of the compose project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's identifier; empty where only a report of it is known.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// The compose service (label `com.docker.compose.service`).
    pub service: String,
    /// The engine's word: `running`, `exited`, `restarting`, ...
    pub state: String,
    /// The engine's word: `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Services it depends on (label `com.docker.compose.depends_on`).
    pub depends_on: Vec<String>,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The canonical host path of a bind mount; `None` for volumes and the like.
    pub source: Option<PathBuf>,
    /// Where it is in the container.
    pub destination: PathBuf,
}

impl From<&Container> for api::Container {
    fn from(container: &Container) -> Self {
        let mount = |mount: &Mount| api::Mount {
            source: mount.source.as_ref().map(|source| source.display().to_string()),
            destination: mount.destination.display().to_string(),
        };
        Self {
            service: container.service.clone(),
            name: container.name.clone(),
            state: container.state.clone(),
            health: container.health.clone(),
            mounts: container.mounts.iter().map(mount).collect(),
            depends_on: container.depends_on.clone(),
        }
    }
}

impl From<&api::Container> for Container {
    fn from(container: &api::Container) -> Self {
        let mount = |mount: &api::Mount| Mount {
            source: mount.source.as_ref().map(PathBuf::from),
            destination: PathBuf::from(&mount.destination),
        };
        Self {
            id: String::new(),
            name: container.name.clone(),
            service: container.service.clone(),
            state: container.state.clone(),
            health: container.health.clone(),
            mounts: container.mounts.iter().map(mount).collect(),
            depends_on: container.depends_on.clone(),
        }
    }
}

impl Container {
    /// Whether it reads new files now or soon: running, or in a crash loop.
    pub fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting" | "dead")
    }

    /// Where the container sees the host's file `host`, through its bind
    /// mounts; a place that a deeper mount hides is not among them.
    pub fn sees(&self, host: &Path) -> Vec<PathBuf> {
        let places = self.mounts.iter().filter_map(|mount| {
            let below = host.strip_prefix(mount.source.as_ref()?).ok()?;
            // Joining an empty path would add a slash: a file is not a folder.
            let place =
                if below.as_os_str().is_empty() { mount.destination.clone() } else { mount.destination.join(below) };
            let hidden = self.mounts.iter().any(|other| {
                other.destination != mount.destination
                    && other.destination.starts_with(&mount.destination)
                    && place.starts_with(&other.destination)
            });
            (!hidden).then_some(place)
        });
        places.collect()
    }

    /// Whether the file itself, not a folder above it, is a mount's source:
    /// such a mount keeps the old file when the new one is renamed over it.
    pub fn mounts_file(&self, host: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.source.as_deref() == Some(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: Option<&str>, destination: &str) -> Mount {
        Mount { source: source.map(Into::into), destination: destination.into() }
    }

    #[test]
    fn sees_through_its_mounts_unless_a_deeper_one_hides() {
        let container = Container {
            id: "1".into(),
            name: "c".into(),
            service: "s".into(),
            state: "running".into(),
            health: "none".into(),
            mounts: vec![mount(Some("/d/web"), "/app"), mount(None, "/app/cache"), mount(Some("/d/one.txt"), "/one")],
            depends_on: Vec::new(),
        };
        assert_eq!(container.sees(Path::new("/d/web/x/y")), [PathBuf::from("/app/x/y")]);
        assert_eq!(container.sees(Path::new("/d/one.txt")), [PathBuf::from("/one")]);
        assert!(container.sees(Path::new("/d/web/cache/x")).is_empty());
        assert!(container.sees(Path::new("/d/webs/x")).is_empty());
        assert!(container.mounts_file(Path::new("/d/one.txt")) && !container.mounts_file(Path::new("/d/web/x")));
    }
}
