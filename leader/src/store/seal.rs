//! Encrypts what is stored (ChaCha20-Poly1305, RFC 8439), each piece bound to
//! what it is: a piece that stands in another's place doesn't open.
//!
//! Content is packed (zstd, RFC 8878) before it is sealed. That lets a reader of
//! the bare database see packed lengths. They tell about a secret only to
//! somebody who can choose the text beside it again and again: who may edit
//! templates may have secrets rendered anyway.

use super::error::{StoreError, io_at};
use super::passphrase;
use lockstep_edge::{durable, key, random};
use lockstep_shared::Sha256;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

/// 3 packs a configuration file in a tenth of a millisecond; higher levels gain little on some KB.
const LEVEL: i32 = 3;

/// The key of a store, at work.
pub(super) struct Sealer {
    aead: LessSafeKey,
    pub(super) ids: hmac::Key,
    packer: RefCell<Compressor<'static>>,
    unpacker: RefCell<Decompressor<'static>>,
}

impl Sealer {
    /// Makes the key of a new store.
    pub(super) fn make(path: &Path) -> Result<(), StoreError> {
        durable::replace(path, &random::bytes::<32>(), 0o600).map_err(io_at(path))
    }

    /// Reads `store.key`.
    pub(super) fn load(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            let source = io::Error::new(
                io::ErrorKind::NotFound,
                "the key of the store is missing: restore it from a backup (lockstep restore FILE)",
            );
            return Err(StoreError::Io { path: path.to_owned(), source });
        }
        key::refuse_loose(path)?;
        let bytes = passphrase::open(path, zeroize::Zeroizing::new(std::fs::read(path).map_err(io_at(path))?))?;
        let short = || StoreError::Io { path: path.to_owned(), source: io::Error::other("32 bytes are expected") };
        let aead = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| short())?;
        Self::of(LessSafeKey::new(aead), hmac::Key::new(hmac::HMAC_SHA256, &bytes)).map_err(io_at(path))
    }

    fn of(aead: LessSafeKey, ids: hmac::Key) -> io::Result<Self> {
        let (packer, unpacker) = (RefCell::new(Compressor::new(LEVEL)?), RefCell::new(Decompressor::new()?));
        Ok(Self { aead, ids, packer, unpacker })
    }

    /// The same key, for another connection.
    pub(super) fn again(&self) -> Result<Self, StoreError> {
        Self::of(self.aead.clone(), self.ids.clone()).map_err(io_at(Path::new(super::KEY)))
    }

    /// The id of content: keyed, so that the store doesn't tell whether it holds a guessed text.
    pub(super) fn id(&self, sha256: &Sha256) -> [u8; 32] {
        let mut id = [0; 32];
        id.copy_from_slice(hmac::sign(&self.ids, &sha256.0).as_ref());
        id
    }

    /// Packs and encrypts `bytes` as the piece named `what`.
    pub(super) fn seal(&self, what: &[u8], bytes: &[u8]) -> io::Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = random::bytes();
        let mut packed = self.packer.borrow_mut().compress(bytes)?;
        self.aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(what), &mut packed)
            .map_err(|_| io::Error::other("more bytes than one piece can have"))?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + packed.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&packed);
        Ok(sealed)
    }

    /// The bytes of the piece named `what`; `None` where this is not that piece, or the key is another.
    pub(super) fn open(&self, what: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (nonce, packed) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let packed = self.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(what), packed).ok()?;
        // What opens was written by a leader: its announced size can be trusted.
        match zstd_safe::get_frame_content_size(packed) {
            Ok(Some(size)) => self.unpacker.borrow_mut().decompress(packed, usize::try_from(size).ok()?).ok(),
            _ => zstd::stream::decode_all(&*packed).ok(),
        }
    }
}
