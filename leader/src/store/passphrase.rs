//! The store's key under a passphrase: `store.key` then holds the key sealed
//! (ChaCha20-Poly1305) under one that Argon2id (RFC 9106) makes from the
//! passphrase, with the salt and the costs beside it. The store itself stays as
//! it is, so that going over and back takes one small file.

use super::error::{StoreError, io_at};
use super::{KEY, lock};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lockstep_edge::{durable, random};
use lockstep_shared::Sha256;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// The environment variable with the passphrase.
pub const ENV: &str = "LOCKSTEP_STORE_PASSPHRASE";
/// The form of the file.
const FORM: &str = "lockstep-store-key-v1";
/// RFC 9106's second recommended choice: 64 MiB, 3 passes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Costs that a file may ask for: one that was made up can't take the machine's memory.
const MOST_MEMORY_KIB: u32 = 4 * 1024 * 1024;
/// The shortest passphrase, in characters.
const SHORTEST: usize = 12;

/// A store's key.
pub(super) type Key = Zeroizing<Vec<u8>>;

#[derive(Serialize, Deserialize)]
struct Locked {
    form: String,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

/// The key that was opened last, by the file it came from: Argon2id is slow on
/// purpose, and a leader opens its store more than once.
static OPENED: Mutex<Option<(Sha256, Key)>> = Mutex::new(None);

/// The key that a file's bytes hold: themselves, or what the passphrase of the environment opens.
pub(super) fn open(path: &Path, bytes: Key) -> Result<Key, StoreError> {
    if !is_locked(&bytes) {
        if passphrase().is_some() {
            tracing::warn!(
                "{ENV} is set, but store.key is in the clear: lockstep secrets lock puts it under the passphrase"
            );
        }
        return Ok(bytes);
    }
    let file = Sha256::of(&bytes);
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, key)) = opened.as_ref().filter(|(known, _)| *known == file) {
        return Ok(key.clone());
    }
    let passphrase = passphrase()
        .ok_or_else(|| failed(path, format!("the store's key is under a passphrase: set {ENV} in the environment")))?;
    let key = unlocked(path, &bytes, &passphrase)?;
    *opened = Some((file, key.clone()));
    Ok(key)
}

/// Puts `store.key` under the passphrase of the environment. No leader may run.
pub fn lock_key(state: &Path) -> Result<(), StoreError> {
    let _lock = lock(state)?;
    let path = state.join(KEY);
    let bytes = Zeroizing::new(std::fs::read(&path).map_err(io_at(&path))?);
    if is_locked(&bytes) {
        return Err(failed(
            &path,
            format!("it is under a passphrase already: lockstep secrets unlock first, with that one in {ENV}"),
        ));
    }
    let passphrase =
        passphrase().ok_or_else(|| failed(&path, format!("set {ENV} to the passphrase that is to open it")))?;
    if passphrase.chars().count() < SHORTEST {
        return Err(failed(&path, format!("{ENV} has fewer than {SHORTEST} characters: take a longer passphrase")));
    }
    let locked = locked(&path, &bytes, &passphrase, MEMORY_KIB, PASSES)?;
    // Read back before the only key there is makes way for it.
    if *unlocked(&path, &locked, &passphrase)? != *bytes {
        return Err(failed(&path, "what was locked does not open again; nothing was changed".to_owned()));
    }
    durable::replace(&path, &locked, 0o600).map_err(io_at(&path))
}

/// Puts `store.key` back in the clear. No leader may run.
pub fn unlock_key(state: &Path) -> Result<(), StoreError> {
    let _lock = lock(state)?;
    let path = state.join(KEY);
    let bytes = Zeroizing::new(std::fs::read(&path).map_err(io_at(&path))?);
    if !is_locked(&bytes) {
        return Err(failed(&path, "it is not under a passphrase".to_owned()));
    }
    let key = open(&path, bytes)?;
    durable::replace(&path, &key, 0o600).map_err(io_at(&path))
}

fn is_locked(bytes: &[u8]) -> bool {
    bytes.len() != 32 && bytes.first() == Some(&b'{')
}

fn passphrase() -> Option<Zeroizing<String>> {
    std::env::var(ENV).ok().filter(|text| !text.is_empty()).map(Zeroizing::new)
}

fn locked(path: &Path, key: &[u8], passphrase: &str, memory_kib: u32, passes: u32) -> Result<Vec<u8>, StoreError> {
    let (salt, nonce) = (random::bytes::<16>(), random::bytes::<12>());
    let aead = sealer(path, passphrase, &salt, (memory_kib, passes, 1))?;
    let mut sealed = key.to_vec();
    aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(FORM), &mut sealed)
        .map_err(|_| failed(path, "it can't be sealed".to_owned()))?;
    let file = Locked {
        form: FORM.to_owned(),
        kdf: "argon2id".to_owned(),
        memory_kib,
        passes,
        lanes: 1,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        sealed: STANDARD.encode(sealed),
    };
    serde_json::to_vec(&file).map_err(|error| failed(path, error.to_string()))
}

fn unlocked(path: &Path, bytes: &[u8], passphrase: &str) -> Result<Key, StoreError> {
    let bad = || failed(path, "it is no key that this version knows: restore it from a backup".to_owned());
    let file: Locked = serde_json::from_slice(bytes).map_err(|_| bad())?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| bad());
    if file.form != FORM || file.kdf != "argon2id" || file.memory_kib > MOST_MEMORY_KIB {
        return Err(bad());
    }
    let nonce: [u8; 12] = decode(&file.nonce)?.try_into().map_err(|_| bad())?;
    let aead = sealer(path, passphrase, &decode(&file.salt)?, (file.memory_kib, file.passes, file.lanes))?;
    let mut sealed = Zeroizing::new(decode(&file.sealed)?);
    let key = aead
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(FORM), &mut sealed)
        .map_err(|_| failed(path, format!("{ENV} is not the passphrase that opens it, or the file is damaged")))?;
    Ok(Zeroizing::new(key.to_vec()))
}

fn sealer(path: &Path, passphrase: &str, salt: &[u8], costs: (u32, u32, u32)) -> Result<LessSafeKey, StoreError> {
    let (memory, passes, lanes) = costs;
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(memory, passes, lanes, Some(key.len()));
    params
        .and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                passphrase.as_bytes(),
                salt,
                &mut *key,
            )
        })
        .map_err(|error| failed(path, format!("Argon2id: {error}")))?;
    UnboundKey::new(&CHACHA20_POLY1305, &*key)
        .map(LessSafeKey::new)
        .map_err(|_| failed(path, "32 bytes are expected".to_owned()))
}

fn failed(path: &Path, why: String) -> StoreError {
    StoreError::Io { path: path.to_owned(), source: io::Error::other(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_it() {
        let path = Path::new("store.key");
        let key = [7; 32];
        let file = locked(path, &key, "correct horse battery", 64, 1).unwrap();
        assert!(is_locked(&file) && !is_locked(&key));
        assert_eq!(*unlocked(path, &file, "correct horse battery").unwrap(), key);
        let told = unlocked(path, &file, "correct horse").unwrap_err().to_string();
        assert!(told.contains("is not the passphrase") && !told.contains("horse"), "{told}");
        let costly = String::from_utf8(file).unwrap().replace("\"memory_kib\":64", "\"memory_kib\":4000000000");
        assert!(unlocked(path, costly.as_bytes(), "correct horse battery").unwrap_err().to_string().contains("no key"));
    }
}
