//! The tables, and how `SQLite` is told to keep them.

use rusqlite::Connection;

/// The layout that this version reads and writes.
pub(super) const VERSION: i64 = 2;

/// `content` has rows with numbers of their own, so that a publication appends
/// pages instead of spreading over the whole file: ids are random. `bundle` has
/// a row where a machine's bundle is another than in the revision before
/// (sealed nothing: it left), so that a revision costs what it changes, however
/// many machines there are.
const TABLES: &str = "
CREATE TABLE content (key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL) STRICT;
CREATE TABLE revision (number INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE bundle (
    machine TEXT NOT NULL, revision INTEGER NOT NULL REFERENCES revision, sealed BLOB NOT NULL,
    PRIMARY KEY (machine, revision)) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_revision ON bundle (revision);
CREATE TABLE IF NOT EXISTS secret (
    name TEXT NOT NULL, holder TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (name, holder)) STRICT;
CREATE TABLE IF NOT EXISTS rendered_secret (id BLOB PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE proven (key INTEGER PRIMARY KEY, machine TEXT NOT NULL, at INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE INDEX proven_machine ON proven (machine, at);
";

/// Makes the tables. Within a transaction of the caller's, where there is something to lose.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)
}

/// Makes the tables that came later without a new layout: whoever doesn't know them does without.
pub(super) fn complete(connection: &Connection) -> rusqlite::Result<()> {
    use super::{access, audit, authority, drafts, followers, rollout, tokens};
    let tables = [
        drafts::SCHEMA,
        audit::SCHEMA,
        access::SCHEMA,
        rollout::SCHEMA,
        authority::SCHEMA,
        followers::SCHEMA,
        tokens::SCHEMA,
    ];
    connection.execute_batch(&tables.concat())
}

/// What a new file is made with: pages of 8 KB hold a few packed files of usual
/// size each; with the default of 4 KB a third of the space stays empty.
pub(super) fn fresh(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA page_size = 8192;")
}

/// - WAL: a reader never waits for a publication, and a torn one is recognized by its checksums.
/// - FULL: a commit is on the disk when it returns; NORMAL may lose the last ones in a power cut.
/// - `cell_size_check`: a damaged page is told as damaged, not read as something else.
/// - `trusted_schema` off: nothing in a file that somebody put here is executed.
/// - Who commits waits for the log to be brought into the database only once it is long ([`tidies`] does before).
/// - Temporary tables in memory: nothing of the content lies elsewhere on the disk.
pub(super) fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 4000;",
    )
}

/// Has this connection bring the log into the database with a commit of its own, from 8 MiB on.
pub(super) fn tidies(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA wal_autocheckpoint = 1000;")
}
