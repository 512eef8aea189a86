//! A published revision, ready to be sent. Nothing is rendered for a request;
//! a body is built, hashed and compressed once, for the first who asks: most
//! machines never ask for all of what they have already.

use crate::store::Revision;
use bytes::Bytes;
use http::HeaderValue;
use lockstep_shared::{Bundle, Name, SafePath, Sha256};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

/// What is served.
pub struct Published {
    /// The revision.
    pub revision: Revision,
    /// By machine.
    pub served: HashMap<Name, Arc<Served>>,
    /// Tags of what failed on machines that are served something else since: who names it has nothing new to hear.
    pub remembered: HashMap<Name, HeaderValue>,
}

/// One machine's bundle as bodies.
pub struct Served {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Its digest in quotes.
    pub etag: HeaderValue,
    json: OnceLock<Coded>,
    tar: OnceLock<Coded>,
    /// What the machine had in the revisions before, the newest first.
    before: Vec<Before>,
    number: u64,
    created: i64,
}

/// A bundle that was served before: enough of it to tell what a reader of it lacks.
struct Before {
    digest: Sha256,
    files: Arc<Files>,
    /// One for all machines of the role that go from the same to the same.
    delta: Arc<OnceLock<Coded>>,
}

/// The files of a bundle by their hashes.
type Files = HashMap<SafePath, Sha256>;

/// What machines that had the same bundles before have in common.
#[derive(Default)]
struct Common {
    files: HashMap<Sha256, Arc<Files>>,
    deltas: HashMap<(Name, Sha256, Sha256), Arc<OnceLock<Coded>>>,
}

/// From how many earlier bundles a delta can be had.
const MOST_BEFORE: usize = 4;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// One body in every coding that was asked for so far.
pub struct Coded {
    identity: Encoded,
    gzip: OnceLock<Encoded>,
    zstd: OnceLock<Encoded>,
}

/// Bytes and their `Content-Digest`.
#[derive(Clone)]
pub struct Encoded {
    /// The bytes.
    pub bytes: Bytes,
    /// The value of `Content-Digest`.
    pub digest: HeaderValue,
}

impl Encoded {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = Sha256::of(&bytes).content_digest();
        Self {
            bytes: Bytes::from(bytes),
            digest: HeaderValue::try_from(digest).unwrap_or(HeaderValue::from_static("")),
        }
    }
}

impl Coded {
    fn new(bytes: Vec<u8>) -> Self {
        Self { identity: Encoded::new(bytes), gzip: OnceLock::new(), zstd: OnceLock::new() }
    }

    /// The body in a coding; compressed at the first request for it.
    pub fn get(&self, coding: Coding) -> &Encoded {
        let plain = &self.identity.bytes;
        match coding {
            Coding::Identity => &self.identity,
            Coding::Gzip => self.gzip.get_or_init(|| {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                // Writing into memory can't fail.
                let _ = encoder.write_all(plain);
                Encoded::new(encoder.finish().unwrap_or_default())
            }),
            Coding::Zstd => self.zstd.get_or_init(|| Encoded::new(zstd::bulk::compress(plain, 9).unwrap_or_default())),
        }
    }
}

impl Published {
    /// What every machine is served, its bodies not yet built.
    pub fn new(revision: Revision) -> Self {
        let served = revision.bundles.iter().map(|(machine, bundle)| {
            let served = Served {
                etag: etag(&bundle.digest),
                json: OnceLock::new(),
                tar: OnceLock::new(),
                before: Vec::new(),
                number: revision.number,
                created: revision.created,
                bundle: bundle.clone(),
            };
            (machine.clone(), Arc::new(served))
        });
        Self { served: served.collect(), revision, remembered: HashMap::new() }
    }

    /// Whether a machine that names this tag has nothing else to hear of than what it is served.
    pub fn is_known(&self, served: &Served, tag: &HeaderValue) -> bool {
        served.etag == *tag || self.remembered.get(&served.bundle.machine) == Some(tag)
    }

    /// The same, with the deltas from what was served until now.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let mut common = Common::default();
        for (machine, served) in &mut self.served {
            if let (Some(old), Some(new)) = (before.served.get(machine), Arc::get_mut(served)) {
                new.before = old.as_before(&new.bundle, &mut common);
            }
        }
        self
    }
}

impl Served {
    /// The revision that it came with.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What those lack who have the bundle with this digest, if that is known
    /// and nearly the same: files that they have come without their content.
    pub fn delta(&self, digest: &Sha256) -> Option<&Coded> {
        let before = self.before.iter().find(|before| before.digest == *digest)?;
        Some(before.delta.get_or_init(|| Coded::new(self.bundle.to_delta(self.number, &before.files))))
    }

    /// This one and those before it, for the bundle that is to follow.
    fn as_before(&self, next: &Bundle, common: &mut Common) -> Vec<Before> {
        let digest = self.bundle.digest;
        let files = || Arc::new(self.bundle.files.iter().map(|file| (file.path.clone(), file.sha256)).collect());
        let own = (digest, common.files.entry(digest).or_insert_with(files).clone());
        let known = self.before.iter().map(|before| (before.digest, before.files.clone()));
        let mut delta = |from| common.deltas.entry((next.role.clone(), from, next.digest)).or_default().clone();
        std::iter::once(own)
            .chain(known)
            .filter(|(digest, _)| *digest != next.digest)
            .take(MOST_BEFORE)
            .map(|(digest, files)| Before { digest, files, delta: delta(digest) })
            .collect()
    }

    /// `application/json`.
    pub fn json(&self) -> &Coded {
        self.json.get_or_init(|| Coded::new(self.bundle.to_json(self.number)))
    }

    /// The same tree as a tar (POSIX.1-2001), the same bytes for the same revision.
    pub fn tar(&self) -> &Coded {
        self.tar.get_or_init(|| Coded::new(tar(&self.bundle, self.created)))
    }
}

/// The tree of a bundle as a tar; `time` is every file's, in Unix seconds.
pub fn tar(bundle: &Bundle, time: i64) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in &bundle.files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode.bits());
        header.set_mtime(u64::try_from(time).unwrap_or(0));
        header.set_uid(file.owner.map_or(0, |owner| owner.uid.into()));
        header.set_gid(file.owner.map_or(0, |owner| owner.gid.into()));
        // Writing into memory can't fail; long paths get an extension header.
        let _ = archive.append_data(&mut header, file.path.as_str(), &*file.content);
    }
    archive.into_inner().unwrap_or_default()
}

/// A digest as a strong entity tag.
pub fn etag(digest: &Sha256) -> HeaderValue {
    HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::File;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn published(number: u64, machines: &[(&str, &str, &str)]) -> Published {
        let bundle = |(role, machine, text): &(&str, &str, &str)| {
            let files = ["a", "b"].map(|path| SafePath::new(path).unwrap());
            let [same, other] = files;
            let files = vec![File::plain(same, b"same".as_slice()), File::plain(other, text.as_bytes())];
            (name(machine), Arc::new(Bundle::new(name(role), name(machine), None, files).unwrap()))
        };
        let bundles = machines.iter().map(bundle).collect();
        Published::new(Revision { number, bundles, ..Revision::default() })
    }

    #[test]
    fn who_goes_from_the_same_to_the_same_in_a_role_is_sent_one_delta() {
        let before = published(1, &[("web", "w-1", "x"), ("web", "w-2", "x"), ("web", "w-3", "y"), ("db", "d-1", "x")]);
        let after = published(2, &[("web", "w-1", "z"), ("web", "w-2", "z"), ("web", "w-3", "z"), ("db", "d-1", "z")]);
        let after = after.after(&before);
        let served = |machine: &str| (before.served[&name(machine)].clone(), after.served[&name(machine)].clone());
        let delta = |machine: &str| {
            let (had, has) = served(machine);
            std::ptr::from_ref(has.delta(&had.bundle.digest).unwrap())
        };
        assert_eq!(delta("w-1"), delta("w-2"));
        assert_ne!(delta("w-1"), delta("w-3"), "it had something else");
        assert_ne!(delta("w-1"), delta("d-1"), "it has another role");
        for machine in ["w-1", "w-2", "w-3", "d-1"] {
            let (had, has) = served(machine);
            let body = &has.delta(&had.bundle.digest).unwrap().get(Coding::Identity).bytes;
            let (read, told) = Bundle::from_delta(body, &had.bundle).unwrap();
            assert_eq!((&read, told.revision), (&*has.bundle, 2), "{machine} is itself, and has what it is to have");
            assert!(!String::from_utf8_lossy(body).contains("same"));
        }
        // Once more: what was served two revisions ago is known too, and shared as well.
        let last = published(3, &[("web", "w-1", "x"), ("web", "w-2", "u"), ("web", "w-3", "u"), ("db", "d-1", "z")]);
        let last = last.after(&after);
        let digest = |machine: &str| before.served[&name(machine)].bundle.digest;
        let last = |machine: &str| last.served[&name(machine)].clone();
        assert!(last("w-1").delta(&digest("w-1")).is_none(), "it is back at what it had: nothing differs");
        assert!(last("w-2").delta(&digest("w-2")).is_some() && last("w-3").delta(&digest("w-3")).is_some());
        let middle = after.served[&name("w-2")].bundle.digest;
        assert!(std::ptr::eq(last("w-2").delta(&middle).unwrap(), last("w-3").delta(&middle).unwrap()));
    }
}
