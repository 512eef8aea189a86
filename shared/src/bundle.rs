//! The bundle: everything one machine's follower writes and acts on.

mod wire;

use crate::digest::BadDigest;
use crate::on_change::BadOnChange;
use crate::path::BadPath;
use crate::permissions::{BadMode, BadOwner};
use crate::{Mode, Name, OnChange, OnDrift, Owner, SafePath, Sha256, VolumePath, canonical};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The names under which a compose file is found at a role's root, best first.
pub const COMPOSE_NAMES: [&str; 5] =
    ["pryv.yml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The instance manipulation (RFC 3229) that [`Bundle::to_delta`] is, in `A-IM` and `IM`.
pub const DELTA: &str = "lockstep";

/// What came with a bundle and is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The revision.
    pub revision: u64,
    /// Whether the leader wants to be asked before containers are restarted (`POST /lease`).
    pub leased: bool,
}

/// One rendered configuration for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The role it was rendered for.
    pub role: Name,
    /// The machine it was rendered for.
    pub machine: Name,
    /// Over [`canonical`]'s form: equal content has an equal digest in any revision.
    pub digest: Sha256,
    /// The compose file among `files`, if the role has one.
    pub compose: Option<SafePath>,
    /// Sorted by path, no path twice, no path a folder of another.
    pub files: Vec<File>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it goes, below the follower's data folder.
    pub path: SafePath,
    /// Its permission bits.
    pub mode: Mode,
    /// Its owner, where the role sets one.
    pub owner: Option<Owner>,
    /// The SHA-256 of `content`.
    pub sha256: Sha256,
    /// Its bytes.
    pub content: Arc<[u8]>,
    /// What its change means for a container, where the role says so.
    pub on_change: Option<OnChange>,
    /// The compose services it concerns, instead of those found by their mounts; empty: found.
    pub services: Vec<String>,
    /// The containers it concerns, by name; empty: found.
    pub containers: Vec<String>,
    /// A command that must succeed on the staged file: program and arguments; empty: none.
    pub check: Vec<String>,
    /// What happens when somebody else changes it, where the role says so.
    pub on_drift: Option<OnDrift>,
    /// The compose service in whose image the check runs; `None`: on the machine itself.
    pub check_in: Option<String>,
    /// How long the check may take, where the role says so.
    pub check_seconds: Option<u16>,
    /// Where it goes in a named volume, instead of the data folder.
    pub volume: Option<VolumePath>,
}

impl File {
    /// A file with nothing special about it.
    pub fn plain(path: SafePath, content: impl Into<Arc<[u8]>>) -> Self {
        let content = content.into();
        Self {
            sha256: Sha256::of(&content),
            path,
            content,
            mode: Mode::DEFAULT,
            owner: None,
            on_change: None,
            services: Vec::new(),
            containers: Vec::new(),
            check: Vec::new(),
            on_drift: None,
            check_in: None,
            check_seconds: None,
            volume: None,
        }
    }

    /// Whether it is never written: below a service's own `data` or `log` folder.
    pub fn is_protected(&self) -> bool {
        self.path.is_protected() && self.volume.is_none()
    }
}

/// Why something is not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// Not the JSON of a bundle.
    #[error("the bundle is not the JSON that docs/protocol.md describes: {0}")]
    Json(#[from] serde_json::Error),
    /// No machine's.
    #[error("the bundle does not say which machine it is for")]
    Nobody,
    /// A path that could leave the data folder.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// A mode that is none.
    #[error(transparent)]
    Mode(#[from] BadMode),
    /// An owner that is none.
    #[error(transparent)]
    Owner(#[from] BadOwner),
    /// A verb that is none.
    #[error(transparent)]
    OnChange(#[from] BadOnChange),
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] BadDigest),
    /// The same path twice.
    #[error("path {0:?} stands twice in the bundle")]
    Twice(SafePath),
    /// Two files for one place of a volume.
    #[error("{0:?} stands twice in the bundle, as a place in a volume: each file needs its own")]
    TwiceInVolume(VolumePath),
    /// A compose file that the machine could not read.
    #[error("the compose file {0:?} can't go into a volume: compose reads it on the machine")]
    ComposeInVolume(SafePath),
    /// A file where another file needs a folder.
    #[error("path {0:?} is a file, but other files of the bundle lie below it")]
    FileAndFolder(String),
    /// Both or neither kind of content.
    #[error("{0:?} needs exactly one of content and content_base64, in base64 (RFC 4648) for the latter")]
    Content(SafePath),
    /// Bytes that are not the announced ones.
    #[error("{path:?} does not have the size or the SHA-256 that the bundle says")]
    Bytes {
        /// The file.
        path: SafePath,
    },
    /// A digest that is not that of the content.
    #[error(
        "the bundle's digest is not that of its content: leader and follower disagree about what it covers; upgrade both to the same version"
    )]
    BundleDigest,
    /// A compose file that is not in the bundle.
    #[error("the compose file {0:?} is not among the bundle's files")]
    Compose(SafePath),
}

impl Bundle {
    /// A bundle of these files, with its digest. The compose file is the one
    /// named, or the first of [`COMPOSE_NAMES`] that is there.
    pub fn new(role: Name, machine: Name, compose: Option<SafePath>, mut files: Vec<File>) -> Result<Self, BadBundle> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        check_paths(&files)?;
        let has = |name: &str| files.iter().any(|file| file.path.as_str() == name);
        let compose = match compose {
            Some(path) if !has(path.as_str()) => return Err(BadBundle::Compose(path)),
            Some(path) => Some(path),
            None => COMPOSE_NAMES.into_iter().find(|name| has(name)).map(SafePath::new).transpose()?,
        };
        let in_volume = |path: &SafePath| files.iter().any(|file| file.path == *path && file.volume.is_some());
        if let Some(path) = compose.as_ref().filter(|path| in_volume(path)) {
            return Err(BadBundle::ComposeInVolume(path.clone()));
        }
        let digest = canonical::digest(compose.as_ref(), &files);
        Ok(Self { role, machine, digest, compose, files })
    }

    /// The JSON that is served, as part of revision `revision`.
    pub fn to_json(&self, revision: u64) -> Vec<u8> {
        self.json(revision, Some(&self.machine), |_| false)
    }

    /// The same without the content of files that are `known` to the reader, by
    /// path and hash: what [`Self::from_delta`] reads. It names no machine: those
    /// of a role that have the same and get the same read the same delta.
    pub fn to_delta(&self, revision: u64, known: &HashMap<SafePath, Sha256>) -> Vec<u8> {
        self.json(revision, None, |file| known.get(&file.path) == Some(&file.sha256))
    }

    /// Reads and checks what a leader sent: the bundle, and what came with it.
    ///
    /// The digest is recomputed when the leader names a canonical form this
    /// version knows; otherwise it is an opaque identity, as an `ETag` is.
    pub fn from_json(json: &[u8]) -> Result<(Self, Told), BadBundle> {
        Self::read(json, None)
    }

    /// The same for what [`Self::to_delta`] wrote: what was left out is that of `base`.
    pub fn from_delta(json: &[u8], base: &Self) -> Result<(Self, Told), BadBundle> {
        Self::read(json, Some(base))
    }

    /// The file at a path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|index| &self.files[index])
    }

    /// The compose file.
    pub fn compose_file(&self) -> Option<&File> {
        self.file(self.compose.as_ref()?.as_str())
    }
}

fn check_paths(files: &[File]) -> Result<(), BadBundle> {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let mut path = file.path.as_str();
        while let Some((folder, _)) = path.rsplit_once('/') {
            if !folders.insert(folder) {
                break;
            }
            path = folder;
        }
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        if !seen.insert(file.path.as_str()) {
            return Err(BadBundle::Twice(file.path.clone()));
        }
        if folders.contains(file.path.as_str()) {
            return Err(BadBundle::FileAndFolder(file.path.to_string()));
        }
    }
    let mut places = BTreeSet::new();
    if let Some(twice) = files.iter().filter_map(|file| file.volume.as_ref()).find(|place| !places.insert(*place)) {
        return Err(BadBundle::TwiceInVolume(twice.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn file(path: &str, content: &[u8]) -> File {
        File::plain(SafePath::new(path).unwrap(), content)
    }

    fn bundle(files: Vec<File>) -> Result<Bundle, BadBundle> {
        Bundle::new(name("core"), name("core-1"), None, files)
    }

    #[test]
    fn json_round_trip_of_text_and_binary() {
        let mut owned = file("nginx/conf/nginx.conf", b"user \"x\";\n");
        owned.owner = Some(Owner { uid: 0, gid: 101 });
        owned.on_change = Some(OnChange::Signal("HUP".into()));
        let bundle =
            bundle(vec![file("pryv.yml", b"services: {}\n"), owned, file("a/b.bin", &[0, 159, 146, 150])]).unwrap();
        assert_eq!(bundle.compose.as_ref().unwrap().as_str(), "pryv.yml");
        let json = bundle.to_json(7);
        let (read, told) = Bundle::from_json(&json).unwrap();
        assert_eq!((read, told), (bundle, Told { revision: 7, leased: true }));
        // Another's leader need not lease anything.
        let plain = String::from_utf8(json).unwrap().replace("\"restarts\":\"leased\",", "");
        assert!(!Bundle::from_json(plain.as_bytes()).unwrap().1.leased);
    }

    #[test]
    fn a_delta_leaves_out_what_the_reader_has() {
        let base = bundle(vec![file("a", b"same"), file("b", b"old"), file("c", b"gone")]).unwrap();
        let new = bundle(vec![file("a", b"same"), file("b", b"new"), file("d", &[0, 159])]).unwrap();
        let known = base.files.iter().map(|file| (file.path.clone(), file.sha256)).collect();
        let json = new.to_delta(8, &known);
        assert!(!String::from_utf8_lossy(&json).contains("same"));
        assert_eq!(Bundle::from_delta(&json, &base).unwrap(), (new.clone(), Told { revision: 8, leased: true }));
        assert!(matches!(Bundle::from_json(&json), Err(BadBundle::Content(_))));
        let all = new.to_delta(8, &HashMap::new());
        assert!(matches!(Bundle::from_json(&all), Err(BadBundle::Nobody)), "it is for whoever has the base");
        assert_eq!(Bundle::from_delta(&all, &base).unwrap().0, new);
        let other = bundle(vec![file("a", b"other")]).unwrap();
        assert!(matches!(Bundle::from_delta(&json, &other), Err(BadBundle::Content(_))));
        assert_eq!(Bundle::from_delta(&new.to_json(8), &base).unwrap().0, new);
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        // docs/protocol.md, "The digest", shows this very example.
        let bundle = bundle(vec![file("a.txt", b"hello\n")]).unwrap();
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let form = format!("18:lockstep-bundle-v1,0:,5:a.txt,4:0644,0:,64:{sha},0:,1:0,1:0,1:0,");
        assert_eq!(bundle.digest, Sha256::of(form.as_bytes()));
    }

    #[test]
    fn only_a_bundle_that_says_more_has_the_second_form() {
        let mut left = file("a.txt", b"hello\n");
        left.on_drift = Some(OnDrift::Report);
        let bundle = bundle(vec![left, file("b.txt", b"")]).unwrap();
        // docs/protocol.md, "The digest", shows the first of these two files.
        let (one, two) = (Sha256::of(b"hello\n"), Sha256::of(b""));
        let form = format!(
            "18:lockstep-bundle-v2,0:,5:a.txt,4:0644,0:,64:{one},0:,1:0,1:0,1:0,1:1,12:drift:report,\
             5:b.txt,4:0644,0:,64:{two},0:,1:0,1:0,1:0,1:0,"
        );
        assert_eq!(bundle.digest, Sha256::of(form.as_bytes()));
        let json = String::from_utf8(bundle.to_json(7)).unwrap();
        assert!(json.contains(r#""drift":"report""#) && json.contains("lockstep-bundle-v2"), "{json}");
        assert_eq!(Bundle::from_json(json.as_bytes()).unwrap().0, bundle);
        let changed = json.replace("report", "repair");
        assert!(matches!(Bundle::from_json(changed.as_bytes()), Err(BadBundle::BundleDigest)));
    }

    #[test]
    fn what_the_first_form_does_not_know_has_a_form_of_its_own() {
        let mut poured = file("a.txt", b"hello\n");
        poured.volume = Some(VolumePath::try_from("conf:a.txt".to_owned()).unwrap());
        let mut checked = poured.clone();
        (checked.check, checked.check_in, checked.check_seconds) = (vec!["true".into()], Some("web".into()), Some(5));
        let plain = bundle(vec![file("a.txt", b"hello\n")]).unwrap();
        let (poured, checked) = (bundle(vec![poured]).unwrap(), bundle(vec![checked]).unwrap());
        assert!(plain.digest != poured.digest && poured.digest != checked.digest);
        let json = checked.to_json(1);
        assert_eq!(Bundle::from_json(&json).unwrap().0, checked);
        let json = String::from_utf8(json).unwrap().replace("conf:a.txt", "conf:b.txt");
        assert!(matches!(Bundle::from_json(json.as_bytes()), Err(BadBundle::BundleDigest)));
    }

    #[test]
    fn refuses_clashing_paths_and_wrong_bytes() {
        assert!(matches!(bundle(vec![file("a", b""), file("a", b"")]), Err(BadBundle::Twice(_))));
        assert!(matches!(
            bundle(vec![file("a", b""), file("a.b", b""), file("a/b", b"")]),
            Err(BadBundle::FileAndFolder(_))
        ));
        let json = String::from_utf8(bundle(vec![file("a", b"hello")]).unwrap().to_json(1)).unwrap();
        let tampered = json.replace("\"hello\"", "\"hullo\"");
        assert!(matches!(Bundle::from_json(tampered.as_bytes()), Err(BadBundle::Bytes { .. })));
        let remoded = json.replace("0644", "0600");
        assert!(matches!(Bundle::from_json(remoded.as_bytes()), Err(BadBundle::BundleDigest)));
        let formless = remoded.replace("\"digest_form\":\"lockstep-bundle-v1\",", "");
        assert!(Bundle::from_json(formless.as_bytes()).is_ok());
        let evil = json.replace("\"path\":\"a\"", "\"path\":\"../a\"");
        assert!(matches!(Bundle::from_json(evil.as_bytes()), Err(BadBundle::Path(_))));
    }
}
