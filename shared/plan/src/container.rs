//! A container as the engine describes it, in lockstep's own words: values
//! only, so that the plan can be tested without an engine.

use lockstep_shared::{VolumePath, api};
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
    /// Which of its service's containers it is (label `com.docker.compose.container-number`); one that takes its place
    /// has the same. Empty where it isn't known.
    pub number: String,
    /// The engine's word: `running`, `exited`, `restarting`, ...
    pub state: String,
    /// The engine's word: `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Services it depends on (label `com.docker.compose.depends_on`).
    pub depends_on: Vec<String>,
    /// Whether lockstep created it, and so may remove it.
    pub ours: bool,
}

/// One mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The engine's word: `bind`, `volume`, `tmpfs`, ...; empty where a report doesn't say.
    pub kind: String,
    /// The canonical host path of a bind mount, or of a volume that is bound to
    /// a folder of the host; `None` for other volumes and the like.
    pub source: Option<PathBuf>,
    /// A volume's name in the engine.
    pub name: Option<String>,
    /// The same without the project's prefix: what the compose file calls it.
    pub volume: Option<String>,
    /// Where it is in the container.
    pub destination: PathBuf,
    /// Whether the container may not write there.
    pub read_only: bool,
}

impl From<&Container> for api::Container {
    fn from(container: &Container) -> Self {
        let mount = |mount: &Mount| api::Mount {
            kind: mount.kind.clone(),
            source: mount.source.as_ref().map(|source| source.display().to_string()),
            name: mount.name.clone(),
            volume: mount.volume.clone(),
            destination: mount.destination.display().to_string(),
            read_only: mount.read_only,
        };
        Self {
            service: container.service.clone(),
            name: container.name.clone(),
            state: container.state.clone(),
            health: container.health.clone(),
            mounts: container.mounts.iter().map(mount).collect(),
            depends_on: container.depends_on.clone(),
            ours: container.ours,
        }
    }
}

impl From<&api::Container> for Container {
    fn from(container: &api::Container) -> Self {
        let mount = |mount: &api::Mount| Mount {
            kind: mount.kind.clone(),
            source: mount.source.as_ref().map(PathBuf::from),
            name: mount.name.clone(),
            volume: mount.volume.clone(),
            destination: PathBuf::from(&mount.destination),
            read_only: mount.read_only,
        };
        Self {
            id: String::new(),
            number: String::new(),
            name: container.name.clone(),
            service: container.service.clone(),
            state: container.state.clone(),
            health: container.health.clone(),
            mounts: container.mounts.iter().map(mount).collect(),
            depends_on: container.depends_on.clone(),
            ours: container.ours,
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
        let mounted = self.mounted(host).into_iter();
        mounted.filter(|(_, hidden)| hidden.is_none()).map(|(place, _)| place).collect()
    }

    /// The mount that hides the host's file `host` from the container, where it
    /// would see it otherwise.
    pub fn hidden(&self, host: &Path) -> Option<&Mount> {
        self.mounted(host).into_iter().find_map(|(_, hidden)| hidden)
    }

    /// The places of the host's file `host`, each with the mount that hides it.
    fn mounted(&self, host: &Path) -> Vec<(PathBuf, Option<&Mount>)> {
        let places = self.mounts.iter().filter_map(|mount| {
            let below = host.strip_prefix(mount.source.as_ref()?).ok()?;
            Some(self.place(mount, below))
        });
        places.collect()
    }

    /// Where the container sees a file of a volume.
    pub fn sees_in_volume(&self, place: &VolumePath) -> Vec<PathBuf> {
        let mounts = self.mounts.iter().filter(|mount| mount.is_volume(place.volume()));
        let places = mounts.map(|mount| self.place(mount, Path::new(place.path().as_str())));
        places.filter(|(_, hidden)| hidden.is_none()).map(|(place, _)| place).collect()
    }

    /// What lies at `below` in a mount, as a path in the container, and the deeper mount that hides it.
    fn place(&self, mount: &Mount, below: &Path) -> (PathBuf, Option<&Mount>) {
        // Joining an empty path would add a slash: a file is not a folder.
        let place =
            if below.as_os_str().is_empty() { mount.destination.clone() } else { mount.destination.join(below) };
        let hides = |other: &&Mount| {
            other.destination != mount.destination
                && other.destination.starts_with(&mount.destination)
                && place.starts_with(&other.destination)
        };
        let hidden = self.mounts.iter().find(hides);
        (place, hidden)
    }

    /// Whether it mounts the volume, by the compose file's or the engine's name.
    pub fn mounts_volume(&self, volume: &str) -> bool {
        self.mounts.iter().any(|mount| mount.is_volume(volume))
    }

    /// Whether the file itself, not a folder above it, is a mount's source:
    /// such a mount keeps the old file when the new one is renamed over it.
    pub fn mounts_file(&self, host: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.source.as_deref() == Some(host))
    }
}

impl Mount {
    /// Whether it is this volume, by the compose file's or the engine's name.
    pub fn is_volume(&self, volume: &str) -> bool {
        self.volume.as_deref() == Some(volume) || self.name.as_deref() == Some(volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: Option<&str>, destination: &str) -> Mount {
        Mount { source: source.map(Into::into), destination: destination.into(), ..Mount::default() }
    }

    #[test]
    fn sees_through_its_mounts_unless_a_deeper_one_hides() {
        let container = Container {
            id: "1".into(),
            name: "c".into(),
            service: "s".into(),
            number: "1".into(),
            state: "running".into(),
            health: "none".into(),
            mounts: vec![mount(Some("/d/web"), "/app"), mount(None, "/app/cache"), mount(Some("/d/one.txt"), "/one")],
            depends_on: Vec::new(),
            ours: false,
        };
        assert_eq!(container.sees(Path::new("/d/web/x/y")), [PathBuf::from("/app/x/y")]);
        assert_eq!(container.sees(Path::new("/d/one.txt")), [PathBuf::from("/one")]);
        assert!(container.sees(Path::new("/d/web/cache/x")).is_empty());
        assert!(container.sees(Path::new("/d/webs/x")).is_empty());
        assert!(container.mounts_file(Path::new("/d/one.txt")) && !container.mounts_file(Path::new("/d/web/x")));
    }
}
