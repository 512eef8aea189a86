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
        Self { served: served.collect(), revision }
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
