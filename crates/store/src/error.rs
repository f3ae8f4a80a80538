use std::path::PathBuf;
use std::sync::Arc;

/// Why a data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server holds the lock.
    #[error("data folder {} is in use by another server ({}); stop it or choose another folder",
        .dir.display(), match .pid { Some(pid) => format!("process {pid}"), None => "process unknown".to_owned() })]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who holds it, as far as it is known.
        pid: Option<u32>,
    },
    /// A later program wrote it.
    #[error("data folder {} has format {found}, this program knows formats up to {known}; use a newer program", .dir.display())]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// What its `format` file says.
        found: u64,
        /// The newest that is understood here.
        known: u64,
    },
    /// `id` or `format` do not hold what they should.
    #[error("{} of the data folder is damaged: {why}; restore it from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The folder holds something else.
    #[error("folder {} is no data folder: it holds {entry:?} and no file named format; choose an empty one", .dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// An entry that is not ours.
        entry: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot open the database {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why an operation failed. Cheap to clone: one failed transaction answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database refused, for example because the disk is full.
    #[error("cannot {action} in the database")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A key is empty or over [`crate::KEY_BYTES`].
    #[error("key of {bytes} bytes; it must have 1 to {} bytes", crate::KEY_BYTES)]
    KeySize {
        /// Its length.
        bytes: usize,
    },
    /// A value or payload is over [`crate::VALUE_BYTES`].
    #[error("value of {bytes} bytes for {key:?}; the limit is {} bytes", crate::VALUE_BYTES)]
    ValueSize {
        /// Whose value.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// One commit names a key twice.
    #[error("key {key:?} occurs twice in one commit")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// A moment or id is beyond what the database can hold.
    #[error("{what} {value} is over {}", i64::MAX)]
    NumberSize {
        /// Of which field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The store was closed, or its writer died.
    #[error("the store is closed")]
    Closed,
}

/// Why a commit was refused or failed; nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// An expectation does not hold.
    #[error("{key:?} is not as expected: {}", match .found { Some(revision) => format!("it is at revision {revision}"), None => "it does not exist".to_owned() })]
    Conflict {
        /// The first such key.
        key: String,
        /// Its revision, if it exists.
        found: Option<u64>,
    },
    /// It could not be carried out.
    #[error(transparent)]
    Store(#[from] StoreError),
}
