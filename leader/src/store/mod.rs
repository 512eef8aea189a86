//! The embedded store: revisions and secrets in `SQLite`, content once and
//! encrypted. Nothing readable of a rendered file or a secret is on disk.
//!
//! | file | does |
//! |---|---|
//! | `schema.rs` | the tables, and how `SQLite` keeps them |
//! | `seal.rs` | packing and encryption |
//! | `content.rs` | content once; lists of it in pieces |
//! | `record.rs` | storing a revision |
//! | `revisions.rs` | reading revisions and what differs between them |
//! | `secrets.rs`, `drafts.rs` | secrets' values; those that wait for a revision |
//! | `access.rs`, `audit.rs` | API tokens; the audit's chain |
//! | `followers.rs`, `tokens.rs` | machines that joined; tokens to join with |
//! | `authority.rs` | the authorities of TLS; what followers say they trust |
//! | `proven.rs` | what machines ran, and when |
//! | `rollout.rs` | how revisions reach machines, and restart leases |
//! | `passphrase.rs` | the key under a passphrase |
//! | `place.rs` | whether the database still is where it was opened |
//! | `reserve.rs` | room for a start on a full disk |
//! | `snapshot.rs` | a consistent copy for backups, and checking one |
//! | `layout1.rs` | from the first layout |

mod access;
mod audit;
mod authority;
mod content;
mod drafts;
mod error;
mod followers;
mod layout1;
pub mod passphrase;
mod place;
mod proven;
mod record;
mod reserve;
mod revisions;
mod rollout;
mod schema;
mod seal;
mod secrets;
mod snapshot;
#[cfg(test)]
mod tests;
mod tokens;

pub use access::StoredToken;
pub use audit::{Broken, Chain, StoredRecord};
pub use drafts::{Place as SecretPlace, Told};
pub use error::StoreError;
pub use followers::{Disabled, StoredFollower};
pub use proven::Proven;
pub use revisions::{Head, Held, Holdings, Revision, Touch, Touched};
pub use tokens::{Revoked, StoredJoinToken, Used};

use error::{io_at, sql_at};
use lockstep_edge::durable;
use place::Place;
use rusqlite::{Connection, OpenFlags};
use seal::Sealer;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The database within the state folder.
pub const DATABASE: &str = "store.db";
/// The key of what is in it.
pub const KEY: &str = "store.key";
/// A database that is made and not yet in place.
const MAKING: &str = "store.db.new";
const LOCK: &str = "leader.lock";

/// The store, open.
pub struct Store {
    connection: Connection,
    place: Place,
    sealer: Sealer,
    /// Held, in a leader, as long as the store is open.
    lock: Option<File>,
}

impl Store {
    /// Opens or makes the store in the state folder, for one leader at a time.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let lock = lock(state)?;
        reserve::use_or_keep(state);
        if !present(state)? {
            make(state)?;
        }
        let mut store = Self::connect(state)?;
        match store.layout()? {
            schema::VERSION => {}
            1 => {
                store.leave_layout_1()?;
                tracing::info!(store = %store.path().display(), "the store was brought to this version's layout");
            }
            0 => return Err(store.damaged("it holds no tables: it was cut off or overwritten")),
            found => return Err(StoreError::Newer { path: store.path().to_owned(), found }),
        }
        schema::complete(&store.connection).map_err(store.sql())?;
        store.lock = Some(lock);
        Ok(store)
    }

    /// Opens an existing store for reading, also beside a running leader; `None` where there is none.
    pub fn peek(state: &Path) -> Result<Option<Self>, StoreError> {
        if !present(state)? {
            return Ok(None);
        }
        let store = Self::connect(state)?;
        match store.layout()? {
            schema::VERSION => {
                schema::complete(&store.connection).map_err(store.sql())?;
                Ok(Some(store))
            }
            found if found > schema::VERSION => Err(StoreError::Newer { path: store.path().to_owned(), found }),
            found => {
                // Nobody's at the moment: it may be brought up to date. Otherwise its leader has to.
                drop(Self::open(state).map_err(|error| match error {
                    StoreError::Locked(_) => StoreError::Older { path: store.path().to_owned(), found },
                    other => other,
                })?);
                Ok(Some(store))
            }
        }
    }

    /// Another connection beside this one, for what must not wait for it.
    pub fn beside(&self) -> Result<Self, StoreError> {
        Self::with_sealer(self.path(), self.sealer.again()?)
    }

    /// Makes this the connection that keeps the log short, so that no publication waits for it.
    pub fn tidies(&self) -> Result<(), StoreError> {
        schema::tidies(&self.connection).map_err(self.sql())
    }

    fn connect(state: &Path) -> Result<Self, StoreError> {
        Self::with_sealer(&state.join(DATABASE), Sealer::load(&state.join(KEY))?)
    }

    fn with_sealer(path: &Path, sealer: Sealer) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(sql_at(path))?;
        schema::tune(&connection).map_err(sql_at(path))?;
        // The first read opens the write-ahead log.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(sql_at(path))?;
        let place = Place::of(path)?;
        Ok(Self { connection, place, sealer, lock: None })
    }

    /// The database.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn layout(&self) -> Result<i64, StoreError> {
        self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(self.sql())
    }

    fn sql(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        sql_at(self.place.path())
    }

    fn damaged(&self, what: impl Display) -> StoreError {
        StoreError::Damaged { path: self.path().to_owned(), what: what.to_string() }
    }

    fn seal(&self, what: &[u8], bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.sealer.seal(what, bytes).map_err(io_at(self.path()))
    }

    fn open_sealed(&self, what: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.sealer.open(what, sealed).ok_or_else(|| self.damaged("a piece of it does not decrypt"))
    }
}

/// Takes the state folder for one leader, or another that must not run beside one; held until it is dropped.
pub fn lock(state: &Path) -> Result<File, StoreError> {
    durable::private_folder(state).map_err(io_at(state))?;
    let path = state.join(LOCK);
    let lock = File::options().create(true).append(true).open(&path).map_err(io_at(&path))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(state.to_owned())),
        Err(errno) => Err(io_at(&path)(errno.into())),
    }
}

/// Whether there is a store. A key without its database is none that could be
/// made anew: that would give every generated secret another value.
fn present(state: &Path) -> Result<bool, StoreError> {
    let (database, making) = (state.join(DATABASE), state.join(MAKING));
    match (database.exists(), state.join(KEY).exists()) {
        (true, _) => Ok(true),
        (false, false) => Ok(false),
        // Interrupted while it was made: it is whole, or the key would not be there.
        (false, true) if making.exists() => {
            fs::rename(&making, &database).and_then(|()| durable::sync_folder(state)).map_err(io_at(&database))?;
            Ok(true)
        }
        (false, true) => Err(StoreError::Missing(database)),
    }
}

/// Makes a store beside its place, then its key, then moves it in: whatever is
/// interrupted, a database that is in place is whole and has its key.
fn make(state: &Path) -> Result<(), StoreError> {
    let (database, making) = (state.join(DATABASE), state.join(MAKING));
    for leftover in [making.clone(), PathBuf::from(format!("{}-journal", making.display()))] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_at(&leftover)(error)),
            _ => {}
        }
    }
    // Its owner's from the first moment; what SQLite puts beside it takes the same mode.
    File::options().write(true).create_new(true).mode(0o600).open(&making).map_err(io_at(&making))?;
    let connection = Connection::open(&making).map_err(sql_at(&making))?;
    schema::fresh(&connection).and_then(|()| schema::create(&connection)).map_err(sql_at(&making))?;
    drop(connection);
    File::open(&making).and_then(|file| file.sync_all()).map_err(io_at(&making))?;
    Sealer::make(&state.join(KEY))?;
    fs::rename(&making, &database).and_then(|()| durable::sync_folder(state)).map_err(io_at(&database))
}
