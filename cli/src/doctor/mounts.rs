//! Mounts that will surprise: sources that are missing, folders that Docker
//! made in place of files, single files, anonymous volumes over our files.

use super::{Finding, Level, found};
use lockstep_shared::api::Container;
use std::path::Path;

/// What lies at a bind mount's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Missing,
    File,
    Folder {
        /// Whether nothing is in it.
        empty: bool,
    },
}

/// One mount of a container.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) service: String,
    pub(super) destination: String,
    /// Of a bind mount: its path on this machine and what lies there.
    pub(super) source: Option<(String, Source)>,
    /// Of a volume: its name.
    pub(super) volume: Option<String>,
}

pub(super) fn gather(containers: &[Container]) -> Vec<Facts> {
    let all = containers.iter().flat_map(|container| container.mounts.iter().map(move |mount| (container, mount)));
    let fact = |(container, mount): (&Container, &lockstep_shared::api::Mount)| Facts {
        service: container.service.clone(),
        destination: mount.destination.clone(),
        source: mount.source.as_ref().filter(|_| mount.kind == "bind").map(|source| (source.clone(), look(source))),
        volume: mount.name.clone().filter(|_| mount.kind == "volume"),
    };
    all.map(fact).collect()
}

fn look(source: &str) -> Source {
    let path = Path::new(source);
    match path.metadata() {
        Err(_) => Source::Missing,
        Ok(metadata) if metadata.is_dir() => {
            Source::Folder { empty: std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) }
        }
        Ok(_) => Source::File,
    }
}

pub(super) fn judge(facts: &[Facts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for mount in facts {
        let (service, destination) = (&mount.service, &mount.destination);
        match &mount.source {
            Some((source, Source::Missing)) => findings.push(found(
                "mounts",
                Level::Broken,
                format!("{source}, mounted into {service} at {destination}, is not there"),
                "the container goes on with what was there; when it is started anew, Docker makes an empty folder of it",
                format!("lockstep notify --service {service} on the leader writes it again, if it is one of lockstep's files; otherwise put it back"),
            )),
            Some((source, Source::Folder { empty: true })) if looks_like_a_file(destination) => findings.push(found(
                "mounts",
                Level::Warning,
                format!("{source} is an empty folder, and {service} has it at {destination}, where a file seems to be meant"),
                "Docker makes a folder where the source of a mount is missing when a container is created or started",
                format!("lockstep notify --service {service} on the leader puts the file in its place, if it is one of lockstep's, and its report says what is left to do; otherwise rmdir {source}, put the file there, and have the container made anew"),
            )),
            Some((source, Source::File)) => findings.push(found(
                "mounts",
                Level::Note,
                format!("{source} is mounted into {service} as a single file"),
                "it is written in place, not replaced at once; editors and tools that replace it leave the container with the old one",
                "mount its folder instead, in the role's compose file",
            )),
            _ => {}
        }
        if mount.volume.as_deref().is_some_and(is_anonymous) {
            let over = facts.iter().find(|other| {
                other.service == *service
                    && other.source.is_some()
                    && Path::new(destination).starts_with(&other.destination)
            });
            if let Some((source, _)) = over.and_then(|over| over.source.as_ref()) {
                findings.push(found(
                    "mounts",
                    Level::Warning,
                    format!("an anonymous volume at {destination} of {service} hides what {source} has there"),
                    "files that lockstep writes below it are never seen by the service; the volume is lost with the container",
                    "the image declares it (VOLUME): give it a name in the compose file, or mount the folder itself there",
                ));
            }
        }
    }
    findings
}

fn looks_like_a_file(destination: &str) -> bool {
    let extension = Path::new(destination).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        !extension.is_empty()
            && extension.len() <= 5
            && extension != "d"
            && !extension.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Docker names those that nobody named by 64 hexadecimal digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(destination: &str, source: Source) -> Facts {
        Facts {
            service: "app".into(),
            destination: destination.into(),
            source: Some(("/srv/x".into(), source)),
            volume: None,
        }
    }

    #[test]
    fn mounts_that_surprise_are_told() {
        let level = |facts: &[Facts]| judge(facts).first().map(|finding| finding.level);
        assert_eq!(level(&[bind("/etc/app", Source::Folder { empty: false })]), None);
        assert_eq!(level(&[bind("/etc/app", Source::Folder { empty: true })]), None, "a folder may be empty");
        assert_eq!(level(&[bind("/etc/conf.d", Source::Folder { empty: true })]), None);
        assert_eq!(level(&[bind("/etc/app.conf", Source::Folder { empty: true })]), Some(Level::Warning));
        assert_eq!(level(&[bind("/etc/app.conf", Source::File)]), Some(Level::Note));
        assert_eq!(level(&[bind("/etc/app", Source::Missing)]), Some(Level::Broken));
        let volume =
            |name: &str| Facts { source: None, volume: Some(name.into()), ..bind("/etc/app/data", Source::Missing) };
        let folder = bind("/etc/app", Source::Folder { empty: false });
        assert_eq!(level(&[folder.clone(), volume(&"a".repeat(64))]), Some(Level::Warning));
        assert_eq!(level(&[folder, volume("app-data")]), None);
    }
}
