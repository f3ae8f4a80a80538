//! The database: connections and tables.

use crate::error::OpenError;
use crate::fault::{CrashPoint, Hook};
use rusqlite::{Connection, OpenFlags};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// The tables, of format 1. Keys are blobs, so that their order is that of their bytes and a
/// prefix is a range.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS document (
        key BLOB PRIMARY KEY,
        revision INTEGER NOT NULL,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        scope BLOB NOT NULL,
        enqueued_ms INTEGER NOT NULL,
        not_before_ms INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS event_due ON event (not_before_ms, id);
    CREATE INDEX IF NOT EXISTS event_scope ON event (scope, not_before_ms, id);
    CREATE TABLE IF NOT EXISTS counter (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT OR IGNORE INTO counter VALUES ('revision', 0);
";

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    // Only a checkpoint can make anyone wait: there is one writer, and readers never block.
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -1024)?;
    Ok(connection)
}

/// The one connection that writes; makes the tables.
pub(crate) fn writer(path: &Path, sync: bool, hook: &Hook) -> Result<Connection, OpenError> {
    if !path.exists() {
        // The write-ahead log inherits these permissions.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Io {
                action: "create the database",
                path: path.to_owned(),
                source,
            })?;
    }
    let open = || -> rusqlite::Result<Connection> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "OFF" })?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        hook.pass(CrashPoint::DatabaseCreated);
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT;"))?;
        Ok(connection)
    };
    open().map_err(|source| OpenError::Database { path: path.to_owned(), source })
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}
