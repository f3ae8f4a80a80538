use crate::change::Watch;
use crate::error::{CommitError, StoreError};
use lambfold_types::Digest;
use std::fs::File;
use std::future::Future;
use std::io::Read;

/// A value and the revision of its last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// As it was put.
    pub value: Vec<u8>,
    /// Grows with every write in the store; never used twice, so that a document which was
    /// deleted and made anew is not taken for the old one.
    pub revision: u64,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything, or nothing.
    Any,
    /// No document.
    Absent,
    /// The document at this very revision.
    Revision(u64),
}

/// One event on its way into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Key prefix of what it belongs to, for example account, region and function.
    pub scope: String,
    /// Opaque.
    pub payload: Vec<u8>,
    /// Milliseconds since the epoch; kept as given.
    pub enqueued_ms: u64,
    /// It is not due before this moment, milliseconds since the epoch.
    pub not_before_ms: u64,
}

/// Names an event of the queue; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

/// An event that was leased to the caller of [`Backend::due`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// For [`Backend::ack`] and [`Backend::retry`].
    pub id: EventId,
    /// As enqueued.
    pub scope: String,
    /// As enqueued.
    pub payload: Vec<u8>,
    /// As enqueued.
    pub enqueued_ms: u64,
    /// The moment from which it is due.
    pub not_before_ms: u64,
    /// How often it was handed back by [`Backend::retry`]; 0 at first.
    pub attempt: u32,
}

/// One write of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Writes a document.
    Put {
        /// 1 to [`crate::KEY_BYTES`] bytes.
        key: String,
        /// At most [`crate::VALUE_BYTES`].
        value: Vec<u8>,
        /// Checked against the state before the commit.
        expected: Expected,
    },
    /// Removes a document; with [`Expected::Any`] a missing one is no error.
    Delete {
        /// Its key.
        key: String,
        /// Checked against the state before the commit.
        expected: Expected,
    },
    /// Changes nothing, but fails the commit when the expectation does not hold.
    Check {
        /// Its key.
        key: String,
        /// Checked against the state before the commit.
        expected: Expected,
    },
    /// Adds an event to the queue, in the same transaction.
    Enqueue(NewEvent),
}

/// What every backend offers. All of it is linearisable within one process.
///
/// The futures may be dropped at any time: a commit that was started is then still carried
/// out wholly or not at all.
pub trait Backend: Send + Sync + 'static {
    /// Reads one document.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Document>, StoreError>> + Send;

    /// Documents whose keys begin with `prefix`, in the order of their bytes, after the key
    /// `after` if it is given, at most `limit`.
    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(String, Document)>, StoreError>> + Send;

    /// Carries out all writes or none; durable when it returns. The answer has one number a
    /// write: the new revision of a put, the revision of the commit for a delete, 0 for a
    /// check, the id of an event. A key may occur only once.
    fn commit(
        &self,
        writes: Vec<Write>,
    ) -> impl Future<Output = Result<Vec<u64>, CommitError>> + Send;

    /// Every change from now on of keys that begin with `prefix`, after it is durable.
    fn watch(&self, prefix: &str) -> Watch;

    /// Stores what the reader gives under its SHA-256; durable when it returns. Answers the
    /// digest and the size in bytes.
    fn put_blob(
        &self,
        reader: impl Read + Send + 'static,
    ) -> impl Future<Output = Result<(Digest, u64), StoreError>> + Send;

    /// Opens a blob for reading; `None` when there is none.
    fn open_blob(
        &self,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<File>, StoreError>> + Send;

    /// Removes a blob; a missing one is no error. Files that are open stay readable.
    fn delete_blob(&self, digest: &Digest) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All blobs, in no order.
    fn list_blobs(&self) -> impl Future<Output = Result<Vec<Digest>, StoreError>> + Send;

    /// Adds an event to the queue; durable when it returns.
    fn enqueue(&self, event: NewEvent) -> impl Future<Output = Result<EventId, StoreError>> + Send;

    /// Leases up to `limit` events that are due, oldest due time first. A lease lasts until
    /// [`Backend::ack`], [`Backend::retry`] or [`Backend::postpone`], or the end of the
    /// process: after a crash every event that was not acknowledged is due again.
    fn due(
        &self,
        now_ms: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Event>, StoreError>> + Send;

    /// Leases up to `limit` events that are due, so that no scope keeps the others waiting: each
    /// in turn goes to the scope that holds the fewest leases (of these, to the one whose oldest
    /// event was due first), as long as it holds fewer than are left of `room`.
    ///
    /// With room for n leases and nobody else there, a scope gets n / 2 of them, so that there is
    /// always room for another.
    fn due_fair(
        &self,
        now_ms: u64,
        room: usize,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Event>, StoreError>> + Send;

    /// The earliest moment at which an event that is not leased is due; `None`: there is none.
    fn next_due_ms(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// The event is done: removes it. Unknown ids are no error.
    fn ack(&self, id: EventId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Hands the event back, counts one attempt. Unknown ids are no error.
    fn retry(
        &self,
        id: EventId,
        not_before_ms: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Hands the event back without counting an attempt. Unknown ids are no error.
    fn postpone(
        &self,
        id: EventId,
        not_before_ms: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes all events whose scope begins with `prefix`, leased ones too; answers how many.
    fn purge(&self, prefix: &str) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Counts up whenever an event was added or handed back.
    fn queue_changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
