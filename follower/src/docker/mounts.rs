//! What a container mounts. The list of containers leaves out two things that
//! never change in a container's life: its `tmpfs` mounts, and volumes that are
//! themselves bound to a folder of the host. Each container is asked for them once.

use super::{Engine, canonical};
use crate::container::{Container, Mount};
use bollard::models::MountPoint;
use bollard::query_parameters::InspectContainerOptions;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// What the list of containers doesn't say of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Unlisted {
    /// Where it has a `tmpfs`.
    tmpfs: Vec<PathBuf>,
    /// The host's folder that a volume is bound to, by the volume's name.
    bound: BTreeMap<String, PathBuf>,
}

/// A mount as the list has it.
pub(super) fn listed(mount: MountPoint, project: &str, ours: bool) -> Option<Mount> {
    let kind = mount.typ.unwrap_or_default();
    let source = mount.source.filter(|source| kind == "bind" && !source.is_empty());
    let name = mount.name.filter(|name| kind == "volume" && !name.is_empty());
    let volume = name.as_ref().map(|name| {
        let prefix = name.strip_prefix(project).and_then(|rest| rest.strip_prefix('_'));
        prefix.filter(|rest| !rest.is_empty()).unwrap_or(name).to_owned()
    });
    Some(Mount {
        // The engine's own path where it isn't this process's: its links can't be followed from here.
        source: source.map(|source| if ours { canonical(Path::new(&source)) } else { source.into() }),
        destination: mount.destination?.into(),
        read_only: mount.rw == Some(false),
        kind,
        name,
        volume,
    })
}

impl Engine {
    /// Completes the listed mounts.
    pub(super) async fn complete(&self, containers: &mut [Container]) {
        let known: BTreeSet<String> = self.unlisted(|known| known.keys().cloned().collect());
        let mut asking = Vec::new();
        for container in containers.iter().filter(|container| !known.contains(&container.id)) {
            asking.push(async { (container.id.clone(), self.ask(container).await) });
        }
        let asked = join_all(asking).await;
        self.unlisted(|known| {
            known.retain(|id, _| containers.iter().any(|container| container.id == *id));
            known.extend(asked.into_iter().filter_map(|(id, found)| Some((id, found?))));
            for container in containers.iter_mut() {
                if let Some(more) = known.get(&container.id) {
                    more.add_to(&mut container.mounts);
                }
            }
        });
    }

    fn unlisted<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Unlisted>) -> T) -> T {
        look(&mut self.unlisted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` if the engine doesn't say: asked again next time.
    async fn ask(&self, container: &Container) -> Option<Unlisted> {
        let client = self.client().await.ok()?;
        let found = client.inspect_container(&container.id, None::<InspectContainerOptions>).await.ok()?;
        let tmpfs = found.host_config.and_then(|host| host.tmpfs).unwrap_or_default();
        let mut bound = BTreeMap::new();
        for name in container.mounts.iter().filter_map(|mount| mount.name.as_ref()) {
            // One that may not be looked at counts as what most are: a volume of the engine's own.
            if let Ok(volume) = client.inspect_volume(name).await {
                let option = |name: &str| volume.options.get(name).map(String::as_str);
                let binds =
                    option("o").is_some_and(|options| options.split(',').any(|word| matches!(word, "bind" | "rbind")));
                if let Some(device) = option("device").filter(|device| binds && device.starts_with('/')) {
                    bound.insert(name.clone(), canonical(Path::new(device)));
                }
            }
        }
        Some(Unlisted { tmpfs: tmpfs.into_keys().map(PathBuf::from).collect(), bound })
    }
}

impl Unlisted {
    fn add_to(&self, mounts: &mut Vec<Mount>) {
        for mount in mounts.iter_mut() {
            if let Some(host) = mount.name.as_ref().and_then(|name| self.bound.get(name)) {
                mount.source = Some(host.clone());
            }
        }
        for destination in &self.tmpfs {
            let destination = destination.clone();
            mounts.push(Mount { kind: "tmpfs".to_owned(), destination, ..Mount::default() });
        }
    }
}
