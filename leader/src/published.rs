//! A published revision, ready to be sent: every body built, hashed and
//! compressed once, none of it at request time.

use crate::store::Revision;
use bytes::Bytes;
use http::HeaderValue;
use lockstep_shared::{Bundle, Name, Sha256};
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
    /// `application/json`.
    pub json: Coded,
    tar: OnceLock<Coded>,
    created: i64,
}

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
    /// Builds every machine's bodies.
    pub fn new(revision: Revision) -> Self {
        let served = revision.bundles.iter().map(|(machine, bundle)| {
            let served = Served {
                etag: etag(&bundle.digest),
                json: Coded::new(bundle.to_json(revision.number)),
                tar: OnceLock::new(),
                created: revision.created,
                bundle: bundle.clone(),
            };
            (machine.clone(), Arc::new(served))
        });
        Self { served: served.collect(), revision }
    }
}

impl Served {
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
