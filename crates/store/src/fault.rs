use std::fmt;
use std::sync::Arc;

/// A moment between two steps of a write at which a crash must do no harm; tests stop the
/// process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// The lock is held, nothing else exists.
    FolderLocked,
    /// `id` is on disk, `format` is not.
    FolderIdWritten,
    /// `format` is on disk, the database is not.
    FolderFormatWritten,
    /// The database file exists, its tables do not.
    DatabaseCreated,
    /// A transaction has begun, nothing is written.
    TransactionBegun,
    /// Some writes of a group are in the transaction, not all.
    TransactionPartial,
    /// All writes are in the transaction, it is not committed.
    TransactionFilled,
    /// The transaction is committed and synced, nobody knows yet.
    TransactionCommitted,
    /// The callers were told.
    TransactionAnswered,
    /// The temporary file of a blob exists and is empty.
    BlobCreated,
    /// The temporary file holds a part of the blob.
    BlobPartial,
    /// The temporary file is complete, not synced.
    BlobFilled,
    /// The temporary file is synced, not renamed.
    BlobSynced,
    /// The blob has its name, its folder is not synced.
    BlobRenamed,
    /// The folder is synced, nobody knows yet.
    BlobDurable,
    /// The blob is unlinked, its folder is not synced.
    BlobUnlinked,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::FolderLocked,
        Self::FolderIdWritten,
        Self::FolderFormatWritten,
        Self::DatabaseCreated,
        Self::TransactionBegun,
        Self::TransactionPartial,
        Self::TransactionFilled,
        Self::TransactionCommitted,
        Self::TransactionAnswered,
        Self::BlobCreated,
        Self::BlobPartial,
        Self::BlobFilled,
        Self::BlobSynced,
        Self::BlobRenamed,
        Self::BlobDurable,
        Self::BlobUnlinked,
    ];
}

/// Called at every [`CrashPoint`] that is passed; for tests.
#[derive(Clone, Default)]
pub struct Hook(Option<Arc<dyn Fn(CrashPoint) + Send + Sync>>);

impl Hook {
    /// Calls `function` at every point.
    pub fn new(function: impl Fn(CrashPoint) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    pub(crate) fn pass(&self, point: CrashPoint) {
        if let Some(function) = &self.0 {
            function(point);
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hook(set)" } else { "Hook(none)" })
    }
}
