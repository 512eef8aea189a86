//! The embedded store: revisions and secrets in `SQLite`, content once and
//! encrypted. Nothing readable of a rendered file or a secret is on disk.

use crate::source::{Source, SourceFile};
use lockstep_edge::{durable, key, random};
use lockstep_shared::{Bundle, File, Mode, Name, OnChange, Owner, SafePath, Sha256};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File as OsFile;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS blob (id BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revision (
    number INTEGER PRIMARY KEY, created INTEGER NOT NULL, author TEXT NOT NULL, message TEXT NOT NULL,
    release TEXT NOT NULL, source BLOB NOT NULL REFERENCES blob) STRICT;
CREATE TABLE IF NOT EXISTS bundle (
    revision INTEGER NOT NULL REFERENCES revision, machine TEXT NOT NULL, role TEXT NOT NULL,
    digest TEXT NOT NULL, manifest BLOB NOT NULL REFERENCES blob, PRIMARY KEY (revision, machine)) STRICT;
CREATE TABLE IF NOT EXISTS secret (
    name TEXT NOT NULL, holder TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (name, holder)) STRICT;
CREATE TABLE IF NOT EXISTS rendered_secret (id BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";
/// The layout that this version reads and writes.
const VERSION: i64 = 1;

/// An immutable revision: what was published, by whom, from what.
#[derive(Debug, Clone)]
pub struct Revision {
    /// From 1, without gaps.
    pub number: u64,
    /// Unix seconds.
    pub created: i64,
    /// Who published it.
    pub author: String,
    /// Why.
    pub message: String,
    /// The release of the templates.
    pub release: String,
    /// What it was rendered from.
    pub source: Source,
    /// By machine.
    pub bundles: BTreeMap<Name, Arc<Bundle>>,
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the state folder.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another leader has it open.
    #[error(
        "{0} is in use by another leader: stop it first (scripts/stop-config-leader), or give this one its own root"
    )]
    Locked(PathBuf),
    /// The key file is readable by others or isn't a key.
    #[error(transparent)]
    Key(#[from] key::KeyError),
    /// `SQLite` says no.
    #[error("the store {path} failed: {source}")]
    Sql {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Made by a later version.
    #[error("the store {path} has layout {found}, this version knows {VERSION}: install the version that wrote it")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// Something doesn't decrypt or parse.
    #[error("the store {0} is damaged or store.key beside it is not its key: restore both from the same backup")]
    Damaged(PathBuf),
}

/// The store, open.
pub struct Store {
    connection: Connection,
    path: PathBuf,
    sealer: Sealer,
    _lock: Option<OsFile>,
}

impl Store {
    /// Opens or makes the store in the state folder, for one leader at a time.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        durable::private_folder(state).map_err(io_at(state))?;
        let lock_path = state.join("leader.lock");
        let lock = OsFile::options().create(true).append(true).open(&lock_path).map_err(io_at(&lock_path))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked(state.to_owned())),
            Err(errno) => return Err(io_at(&lock_path)(errno.into())),
        }
        Self::connect(state, Some(lock))
    }

    /// Opens an existing store for reading beside a running leader; `None` where there is none.
    pub fn peek(state: &Path) -> Result<Option<Self>, StoreError> {
        if state.join("store.db").exists() && state.join("store.key").exists() {
            Self::connect(state, None).map(Some)
        } else {
            Ok(None)
        }
    }

    fn connect(state: &Path, lock: Option<OsFile>) -> Result<Self, StoreError> {
        let path = state.join("store.db");
        let sealer = Sealer::load(&state.join("store.key"), path.exists())?;
        let sql = |source| StoreError::Sql { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(sql)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;")
            .map_err(sql)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sql)?;
        if found > VERSION {
            return Err(StoreError::Newer { path, found });
        }
        if found < VERSION {
            connection.execute_batch(SCHEMA).map_err(sql)?;
        }
        Ok(Self { connection, path, sealer, _lock: lock })
    }

    /// The last published revision.
    pub fn latest(&self) -> Result<Option<Revision>, StoreError> {
        let number =
            self.connection.query_row("SELECT max(number) FROM revision", [], |row| row.get::<_, Option<u64>>(0));
        number.map_err(self.sql())?.map(|number| self.revision(number)).transpose().map(Option::flatten)
    }

    /// A revision by its number.
    pub fn revision(&self, number: u64) -> Result<Option<Revision>, StoreError> {
        let head = self
            .connection
            .query_row(
                "SELECT created, author, message, release, source FROM revision WHERE number = ?1",
                [number],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, Vec<u8>>(4)?)),
            )
            .optional()
            .map_err(self.sql())?;
        let Some((created, author, message, release, source)) = head else { return Ok(None) };
        let mut select = self
            .connection
            .prepare("SELECT machine, role, manifest FROM bundle WHERE revision = ?1")
            .map_err(self.sql())?;
        let rows = select
            .query_map([number], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .map_err(self.sql())?;
        let mut bundles = BTreeMap::new();
        for row in rows {
            let (machine, role, manifest) = row.map_err(self.sql())?;
            let bundle = self.bundle(machine, role, &manifest)?;
            bundles.insert(bundle.machine.clone(), Arc::new(bundle));
        }
        let source = self.source(&source)?;
        Ok(Some(Revision { number, created, author, message, release, source, bundles }))
    }

    /// Stores a revision, and the secrets' values that it may hold; all of it or nothing; durable on return.
    pub fn insert(&mut self, revision: &Revision, secrets: &BTreeSet<String>) -> Result<(), StoreError> {
        let sql = |source| StoreError::Sql { path: self.path.clone(), source };
        let transaction = self.connection.transaction().map_err(sql)?;
        let put = |bytes: &[u8]| -> Result<[u8; 32], StoreError> {
            let id = self.sealer.id(&Sha256::of(bytes));
            let known = transaction
                .query_row("SELECT 1 FROM blob WHERE id = ?1", [&id[..]], |_| Ok(()))
                .optional()
                .map_err(sql)?;
            if known.is_none() {
                let sealed = self.sealer.seal(&id, bytes);
                transaction
                    .execute("INSERT INTO blob (id, sealed) VALUES (?1, ?2)", params![&id[..], sealed])
                    .map_err(sql)?;
            }
            Ok(id)
        };
        let mut names = Vec::with_capacity(revision.source.files.len());
        for (name, file) in &revision.source.files {
            put(&file.bytes)?;
            names.push(StoredSource { name: name.clone(), executable: file.executable, sha256: file.sha256 });
        }
        let source = put(&serde_json::to_vec(&names).unwrap_or_default())?;
        transaction
            .execute(
                "INSERT INTO revision (number, created, author, message, release, source) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![revision.number, revision.created, revision.author, revision.message, revision.release, &source[..]],
            )
            .map_err(sql)?;
        for bundle in revision.bundles.values() {
            for file in &bundle.files {
                put(&file.content)?;
            }
            let manifest = put(&serde_json::to_vec(&StoredBundle::from(&**bundle)).unwrap_or_default())?;
            transaction
                .execute(
                    "INSERT INTO bundle (revision, machine, role, digest, manifest) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        revision.number,
                        bundle.machine.as_str(),
                        bundle.role.as_str(),
                        bundle.digest.to_string(),
                        &manifest[..]
                    ],
                )
                .map_err(sql)?;
        }
        for value in secrets {
            let id = self.sealer.id(&Sha256::of(value.as_bytes()));
            let sealed = self.sealer.seal(&id, value.as_bytes());
            transaction
                .execute("INSERT OR IGNORE INTO rendered_secret (id, sealed) VALUES (?1, ?2)", params![&id[..], sealed])
                .map_err(sql)?;
        }
        transaction.commit().map_err(sql)
    }

    /// A secret's value; `holder` is the role or machine it belongs to, or empty.
    pub fn secret(&self, name: &str, holder: &str) -> Result<Option<String>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT sealed FROM secret WHERE name = ?1 AND holder = ?2", [name, holder], |row| row.get(0))
            .optional()
            .map_err(self.sql())?;
        let Some(sealed) = sealed else { return Ok(None) };
        let bytes = self.open_sealed(secret_id(name, holder).as_bytes(), sealed)?;
        String::from_utf8(bytes).map(Some).map_err(|_| StoreError::Damaged(self.path.clone()))
    }

    /// Stores a secret's value; durable on return.
    pub fn put_secret(&self, name: &str, holder: &str, value: &str) -> Result<(), StoreError> {
        let sealed = self.sealer.seal(secret_id(name, holder).as_bytes(), value.as_bytes());
        self.connection
            .execute(
                "INSERT OR REPLACE INTO secret (name, holder, sealed) VALUES (?1, ?2, ?3)",
                params![name, holder, sealed],
            )
            .map_err(self.sql())?;
        Ok(())
    }

    /// Every secret's value that a stored revision may hold, also those that are no secret's value any more.
    pub fn rendered_secrets(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut select = self.connection.prepare("SELECT id, sealed FROM rendered_secret").map_err(self.sql())?;
        let rows = select
            .query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .map_err(self.sql())?;
        let mut values = BTreeSet::new();
        for row in rows {
            let (id, sealed) = row.map_err(self.sql())?;
            let value = String::from_utf8(self.open_sealed(&id, sealed)?);
            values.insert(value.map_err(|_| StoreError::Damaged(self.path.clone()))?);
        }
        Ok(values)
    }

    fn sql(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |source| StoreError::Sql { path: self.path.clone(), source }
    }

    fn blob(&self, id: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = self.connection.query_row("SELECT sealed FROM blob WHERE id = ?1", [id], |row| row.get(0));
        self.open_sealed(id, sealed.map_err(self.sql())?)
    }

    fn content(&self, sha256: &Sha256) -> Result<Arc<[u8]>, StoreError> {
        self.blob(&self.sealer.id(sha256)).map(Into::into)
    }

    fn open_sealed(&self, id: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.sealer.open(id, sealed).ok_or_else(|| StoreError::Damaged(self.path.clone()))
    }

    fn source(&self, id: &[u8]) -> Result<Source, StoreError> {
        let stored: Vec<StoredSource> = self.json(id)?;
        let mut source = Source::default();
        for file in stored {
            let bytes = self.content(&file.sha256)?;
            source.files.insert(file.name, SourceFile { bytes, sha256: file.sha256, executable: file.executable });
        }
        Ok(source)
    }

    fn bundle(&self, machine: String, role: String, manifest: &[u8]) -> Result<Bundle, StoreError> {
        let damaged = || StoreError::Damaged(self.path.clone());
        let stored: StoredBundle = self.json(manifest)?;
        let mut files = Vec::with_capacity(stored.files.len());
        for file in stored.files {
            files.push(File {
                content: self.content(&file.sha256)?,
                path: file.path,
                mode: file.mode,
                owner: file.owner,
                sha256: file.sha256,
                on_change: file.on_change,
                services: file.services,
                containers: file.containers,
                check: file.check,
            });
        }
        let (role, machine) = (Name::new(role).map_err(|_| damaged())?, Name::new(machine).map_err(|_| damaged())?);
        Bundle::new(role, machine, stored.compose, files).map_err(|_| damaged())
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, id: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(&self.blob(id)?).map_err(|_| StoreError::Damaged(self.path.clone()))
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { path: path.to_owned(), source }
}

fn secret_id(name: &str, holder: &str) -> String {
    format!("secret\0{name}\0{holder}")
}

#[derive(Serialize, Deserialize)]
struct StoredSource {
    name: String,
    executable: bool,
    sha256: Sha256,
}

#[derive(Serialize, Deserialize)]
struct StoredBundle {
    compose: Option<SafePath>,
    files: Vec<StoredFile>,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    path: SafePath,
    mode: Mode,
    owner: Option<Owner>,
    sha256: Sha256,
    on_change: Option<OnChange>,
    services: Vec<String>,
    containers: Vec<String>,
    check: Vec<String>,
}

impl From<&Bundle> for StoredBundle {
    fn from(bundle: &Bundle) -> Self {
        let file = |file: &File| StoredFile {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner,
            sha256: file.sha256,
            on_change: file.on_change.clone(),
            services: file.services.clone(),
            containers: file.containers.clone(),
            check: file.check.clone(),
        };
        Self { compose: bundle.compose.clone(), files: bundle.files.iter().map(file).collect() }
    }
}

/// Encrypts what is stored (ChaCha20-Poly1305, RFC 8439), each piece bound to its id.
struct Sealer {
    aead: LessSafeKey,
    ids: hmac::Key,
}

impl Sealer {
    /// Reads `store.key`, or makes it where there is no store yet.
    fn load(path: &Path, store_exists: bool) -> Result<Self, StoreError> {
        if !path.exists() {
            if store_exists {
                return Err(StoreError::Io {
                    path: path.to_owned(),
                    source: io::Error::new(
                        io::ErrorKind::NotFound,
                        "the key of the store is missing: restore it from a backup",
                    ),
                });
            }
            durable::replace(path, &random::bytes::<32>(), 0o600).map_err(io_at(path))?;
        }
        key::refuse_loose(path)?;
        let bytes = std::fs::read(path).map_err(io_at(path))?;
        let short = || StoreError::Io { path: path.to_owned(), source: io::Error::other("32 bytes are expected") };
        let aead = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| short())?;
        Ok(Self { aead: LessSafeKey::new(aead), ids: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// The id of content: keyed, so that the store doesn't tell whether it holds a guessed text.
    fn id(&self, sha256: &Sha256) -> [u8; 32] {
        let mut id = [0; 32];
        id.copy_from_slice(hmac::sign(&self.ids, &sha256.0).as_ref());
        id
    }

    fn seal(&self, id: &[u8], bytes: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random::bytes();
        let mut packed = zstd::bulk::compress(bytes, 3).unwrap_or_default();
        // Fails only past 256 GiB.
        let _ = self.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut packed);
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&packed);
        sealed
    }

    fn open(&self, id: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (nonce, packed) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let packed = self.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(id), packed).ok()?;
        zstd::stream::decode_all(&*packed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64, content: &str) -> Revision {
        let file = File::plain(SafePath::new("a/b").unwrap(), content.as_bytes());
        let name = |text: &str| Name::new(text).unwrap();
        let bundle = Bundle::new(name("core"), name("core-1"), None, vec![file]).unwrap();
        let mut source = Source::default();
        source.files.insert("platform.yml".into(), SourceFile::new(content.as_bytes(), false));
        Revision {
            number,
            created: 5,
            author: "me".into(),
            message: "why".into(),
            release: "1.0".into(),
            source,
            bundles: BTreeMap::from([(name("core-1"), Arc::new(bundle))]),
        }
    }

    #[test]
    fn what_goes_in_comes_out_and_is_not_readable() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut store = Store::open(&state).unwrap();
        assert!(store.latest().unwrap().is_none());
        store.insert(&revision(1, "canary-one"), &BTreeSet::new()).unwrap();
        store.insert(&revision(2, "canary-two"), &BTreeSet::from(["canary-four".to_owned()])).unwrap();
        store.put_secret("KEY", "", "canary-three").unwrap();
        assert!(matches!(Store::open(&state), Err(StoreError::Locked(_))));
        drop(store);
        let store = Store::open(&state).unwrap();
        let latest = store.latest().unwrap().unwrap();
        assert_eq!((latest.number, &latest.bundles), (2, &revision(2, "canary-two").bundles));
        assert_eq!(store.revision(1).unwrap().unwrap().source, revision(1, "canary-one").source);
        assert_eq!(store.secret("KEY", "").unwrap().as_deref(), Some("canary-three"));
        assert_eq!(store.secret("KEY", "core").unwrap(), None);
        assert_eq!(store.rendered_secrets().unwrap(), BTreeSet::from(["canary-four".to_owned()]));
        for entry in std::fs::read_dir(&state).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
        }
    }

    #[test]
    fn a_foreign_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.insert(&revision(1, "x"), &BTreeSet::new()).unwrap();
        drop(store);
        durable::replace(&folder.path().join("store.key"), &[7; 32], 0o600).unwrap();
        // Content is found by keyed ids: with another key it isn't there, or doesn't open.
        assert!(Store::open(folder.path()).unwrap().latest().is_err());
    }
}
