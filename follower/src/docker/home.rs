//! Where this process's own paths are for the engine: elsewhere, when the
//! follower runs in a container itself.

use super::Engine;
use bollard::query_parameters::InspectContainerOptions;
use std::path::{Path, PathBuf};

/// One of the follower's own mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// Where it is in here.
    here: PathBuf,
    /// Where it is for the engine.
    there: PathBuf,
}

impl Engine {
    /// A path of this process as the engine knows it: the same, unless this
    /// process runs in one of the engine's containers.
    pub async fn host_path(&self, own: &Path) -> PathBuf {
        match self.own_mounts().await {
            Some(mounts) => translated(own, mounts).unwrap_or_else(|| own.to_owned()),
            None => own.to_owned(),
        }
    }

    /// Whether this process runs in one of the engine's containers.
    pub(super) async fn is_home(&self) -> bool {
        self.own_mounts().await.is_none()
    }

    async fn own_mounts(&self) -> Option<&Vec<Own>> {
        // An engine that doesn't answer now is asked again.
        let ask = || async {
            let Some(id) = std::fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| own_id(&text)) else {
                return Ok(None);
            };
            let client = self.client().await.map_err(drop)?;
            match client.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(found) => {
                    let mounts = found.mounts.unwrap_or_default().into_iter();
                    let own = mounts.filter_map(|mount| {
                        let there = mount.source.filter(|source| source.starts_with('/'))?;
                        Some(Own { here: mount.destination?.into(), there: there.into() })
                    });
                    tracing::info!(
                        container = id,
                        "the follower runs in a container of this engine: its paths are translated"
                    );
                    Ok(Some(own.collect()))
                }
                // A container, but of another engine than the one that it speaks to.
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 403, .. }) => {
                    tracing::warn!(
                        container = id,
                        "the socket doesn't let the follower look at its own container (GET /containers/{{id}}/json): its paths have to be the machine's"
                    );
                    Ok(None)
                }
                Err(_) => Err(()),
            }
        };
        self.own.get_or_try_init(ask).await.ok()?.as_ref()
    }
}

/// The identifier of the container that has these mounts: the engine mounts
/// some files of its own into every container.
fn own_id(mountinfo: &str) -> Option<String> {
    let own = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let own = matches!(at, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf");
        own.then(|| root.rsplit('/').nth(1)).flatten()
    });
    let mut ids = own.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    ids.next().map(str::to_owned)
}

/// The path through the deepest mount it lies below.
fn translated(own: &Path, mounts: &[Own]) -> Option<PathBuf> {
    let deepest = mounts.iter().filter(|mount| own.starts_with(&mount.here));
    let mount = deepest.max_by_key(|mount| mount.here.components().count())?;
    let below = own.strip_prefix(&mount.here).ok()?;
    Some(if below.as_os_str().is_empty() { mount.there.clone() } else { mount.there.join(below) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_container_by_the_files_that_docker_mounts() {
        let id = "350f899290fd58e56c7f3e7af0dae7d1463c9fce9c790f8dac435bfa26cb953c";
        let inside = format!(
            "620 619 0:51 / /proc rw - proc proc rw\n\
             653 634 254:1 /srv/home /data rw - ext4 /dev/vda1 rw\n\
             654 634 254:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
        );
        assert_eq!(own_id(&inside).as_deref(), Some(id));
        assert_eq!(own_id("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n23 22 0:5 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn a_path_goes_through_the_deepest_mount() {
        let own = |here: &str, there: &str| Own { here: here.into(), there: there.into() };
        let mounts = [own("/data", "/srv/lockstep"), own("/data/pryv", "/mnt/large/pryv")];
        let to = |path: &str| translated(Path::new(path), &mounts).map(|path| path.display().to_string());
        assert_eq!(to("/data/pryv/nginx").as_deref(), Some("/mnt/large/pryv/nginx"));
        assert_eq!(to("/data").as_deref(), Some("/srv/lockstep"));
        assert_eq!(to("/data2/x"), None);
    }
}
