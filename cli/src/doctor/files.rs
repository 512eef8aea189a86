//! Owners and modes of what is lockstep's own: keys that others can read,
//! folders that the service can't write.

use super::{Finding, Level, fine, found};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A folder or file with keys or secrets in it: its owner's alone.
    Secret,
    /// It has to be written, by the service's user.
    Written,
}

/// A file or folder as it was found.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) path: PathBuf,
    pub(super) purpose: Purpose,
    /// `None` where it isn't there.
    pub(super) found: Option<Found>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) folder: bool,
}

pub(super) fn gather(path: &Path, purpose: Purpose) -> Facts {
    let found = path.metadata().ok().map(|metadata| Found {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        folder: metadata.is_dir(),
    });
    Facts { path: path.to_owned(), purpose, found }
}

/// Every file below a folder of secrets, and the folder itself.
pub(super) fn gather_secrets(folder: &Path) -> Vec<Facts> {
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = inside.filter(|path| path.is_file());
    std::iter::once(folder.to_owned()).chain(files).map(|path| gather(&path, Purpose::Secret)).collect()
}

/// `service` is the user that the service runs as, where that is known.
pub(super) fn judge(facts: &[Facts], service: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Facts { path, purpose, found: there } in facts {
        let Some(there) = there else { continue };
        let shown = path.display();
        // The group may be the service's own.
        let open = there.mode & 0o007;
        if *purpose == Purpose::Secret && open != 0 {
            let right = if there.folder { "700" } else { "600" };
            findings.push(found(
                "permissions",
                Level::Broken,
                format!("{shown} has mode {:04o}: everybody on this machine can get at it", there.mode),
                "it holds keys or secrets, and what others can read is refused at the start",
                format!("chmod {right} {shown}"),
            ));
        }
        if let Some(service) = service.filter(|service| *service != there.uid && *service != 0) {
            findings.push(found(
                "permissions",
                Level::Broken,
                format!("{shown} belongs to user {}, and the service runs as user {service}", there.uid),
                "the service can't read or write it",
                format!("chown -R {service} {shown}"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(fine("permissions", "files and folders of lockstep's own are its owner's alone"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: u32, uid: u32, purpose: Purpose) -> Facts {
        Facts { path: "/x/store.key".into(), purpose, found: Some(Found { mode, uid, folder: false }) }
    }

    #[test]
    fn keys_are_their_owners_alone() {
        let judged = |mode, uid, service| judge(&[facts(mode, uid, Purpose::Secret)], service).remove(0);
        assert_eq!(judged(0o600, 0, Some(0)).level, Level::Fine);
        let open = judged(0o644, 0, None);
        assert_eq!((open.level, open.fix.as_str()), (Level::Broken, "chmod 600 /x/store.key"));
        assert_eq!(judged(0o640, 0, None).level, Level::Fine);
        assert_eq!(judged(0o600, 0, Some(99)).fix, "chown -R 99 /x/store.key");
        assert_eq!(judged(0o600, 99, Some(0)).level, Level::Fine, "root reads all");
        assert_eq!(judge(&[facts(0o755, 0, Purpose::Written)], None)[0].level, Level::Fine);
    }
}
