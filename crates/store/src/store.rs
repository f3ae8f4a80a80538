use crate::backend::{Backend, Document, Event, EventId, NewEvent, Write};
use crate::blob::Blobs;
use crate::change::Watch;
use crate::error::{CommitError, OpenError, StoreError};
use crate::fault::Hook;
use crate::folder::{Folder, sync_dir};
use crate::queue::Leases;
use crate::reader::{Readers, range_end};
use crate::schema;
use crate::writer::{Operation, Writer};
use crate::{KEY_BYTES, VALUE_BYTES};
use lambfold_types::Digest;
use rusqlite::{OptionalExtension as _, params};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot, watch};

/// Changes that a slow watcher may be behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// True: everything is synced to disk before it is acknowledged.
    pub sync: bool,
    /// Called at every crash point; for tests.
    pub hook: Hook,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync: true, hook: Hook::default() }
    }
}

/// The embedded backend: SQLite and files in a data folder that this process has locked.
/// Clones share it; the last one that is dropped closes the database and frees the lock.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operations: Option<mpsc::Sender<Operation>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    blobs: Blobs,
    leases: Arc<Leases>,
    changes: broadcast::Sender<Arc<[crate::Change]>>,
    queue_changes: watch::Receiver<u64>,
    folder: Folder,
    /// Removed last.
    _temporary: Option<TempDir>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when its senders are gone; the lock outlives it.
        self.operations = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

impl Store {
    /// Opens the data folder, or makes it: takes its lock, checks its format, opens its
    /// database. Blocking.
    ///
    /// # Errors
    /// When another process holds the lock, a newer program wrote the folder, it is not a data
    /// folder, or the disk fails.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Options::default())
    }

    /// [`Store::open`] with options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::start(dir, options, None)
    }

    /// A store in a temporary folder that goes with it; nothing is synced. Blocking.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn ephemeral() -> Result<Self, OpenError> {
        let dir = tempfile::Builder::new().prefix("lambfold-").tempdir().map_err(|source| {
            OpenError::Io { action: "create a folder in", path: std::env::temp_dir(), source }
        })?;
        let path = dir.path().to_owned();
        Self::start(&path, Options { sync: false, ..Options::default() }, Some(dir))
    }

    fn start(dir: &Path, options: Options, temporary: Option<TempDir>) -> Result<Self, OpenError> {
        let Options { sync, hook } = options;
        let folder = Folder::open(dir, sync, &hook)?;
        let database = folder.dir.join("store.db");
        let connection = schema::writer(&database, sync, &hook)?;
        if sync {
            sync_dir(&folder.dir).map_err(|source| OpenError::Io {
                action: "sync the data folder",
                path: folder.dir.clone(),
                source,
            })?;
        }
        let leases = Arc::new(Leases::default());
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (queue_sender, queue_changes) = watch::channel(0);
        let (operations, receiver) = mpsc::channel();
        let writer = Writer {
            connection,
            leases: leases.clone(),
            changes: changes.clone(),
            queue_changes: queue_sender,
            hook: hook.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| OpenError::Io {
                action: "start the writer of",
                path: database.clone(),
                source,
            })?;
        Ok(Self(Arc::new(Inner {
            operations: Some(operations),
            writer: Mutex::new(Some(thread)),
            readers: Arc::new(Readers::new(database)),
            blobs: Blobs::new(folder.dir.join("blobs"), sync, hook),
            leases,
            changes,
            queue_changes,
            folder,
            _temporary: temporary,
        })))
    }

    /// 16 hexadecimal digits, random, made with the folder: names everything that the kernel
    /// holds for it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.folder.id
    }

    /// The data folder, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.folder.dir
    }

    fn send(&self, operation: Operation) -> Result<(), StoreError> {
        let operations = self.0.operations.as_ref().ok_or(StoreError::Closed)?;
        operations.send(operation).map_err(|_| StoreError::Closed)
    }

    async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.0.readers.clone();
        blocking(move || readers.with(action, read)).await
    }

    /// [`Backend::get`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        let key = key.as_bytes().to_vec();
        self.read("read a document", move |connection| {
            connection
                .prepare_cached("SELECT value, revision FROM document WHERE key = ?")?
                .query_row(params![key], |row| {
                    Ok(Document {
                        value: row.get(0)?,
                        revision: row.get::<_, i64>(1)?.cast_unsigned(),
                    })
                })
                .optional()
        })
        .await
    }

    /// [`Backend::scan`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, StoreError> {
        let start = prefix.as_bytes().to_vec();
        let end = range_end(&start);
        let after = after.map(|after| after.as_bytes().to_vec());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read("read documents", move |connection| {
            connection
                .prepare_cached(
                    "SELECT key, value, revision FROM document
                     WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND (?3 IS NULL OR key > ?3)
                     ORDER BY key LIMIT ?4",
                )?
                .query_map(
                    params![start.max(after.clone().unwrap_or_default()), end, after, limit],
                    |row| {
                        let key = String::from_utf8_lossy(row.get_ref(0)?.as_blob()?).into_owned();
                        let revision = row.get::<_, i64>(2)?.cast_unsigned();
                        Ok((key, Document { value: row.get(1)?, revision }))
                    },
                )?
                .collect()
        })
        .await
    }

    /// [`Backend::commit`].
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when an expectation does not hold; else when the writes are
    /// not valid or the database fails. Nothing was written then.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, CommitError> {
        check(&writes)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let (sender, receiver) = oneshot::channel();
        self.send(Operation::Commit(writes, sender))?;
        receiver.await.unwrap_or(Err(CommitError::Store(StoreError::Closed)))
    }

    /// [`Backend::watch`].
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.0.changes.subscribe())
    }

    /// [`Backend::put_blob`].
    ///
    /// # Errors
    /// When the reader or the disk fails; no blob is left then.
    pub async fn put_blob(
        &self,
        reader: impl Read + Send + 'static,
    ) -> Result<(Digest, u64), StoreError> {
        let blobs = self.0.blobs.clone();
        blocking(move || blobs.put(reader)).await
    }

    /// [`Backend::open_blob`].
    ///
    /// # Errors
    /// When the file exists and cannot be opened.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let (blobs, digest) = (self.0.blobs.clone(), digest.clone());
        blocking(move || blobs.open(&digest)).await
    }

    /// [`Backend::delete_blob`].
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let (blobs, digest) = (self.0.blobs.clone(), digest.clone());
        blocking(move || blobs.delete(&digest)).await
    }

    /// [`Backend::list_blobs`].
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn list_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let blobs = self.0.blobs.clone();
        blocking(move || blobs.list()).await
    }

    /// [`Backend::enqueue`].
    ///
    /// # Errors
    /// When the event is too large or the database fails.
    pub async fn enqueue(&self, event: NewEvent) -> Result<EventId, StoreError> {
        match self.commit(vec![Write::Enqueue(event)]).await {
            Ok(ids) => ids.first().map(|id| EventId(*id)).ok_or(StoreError::Closed),
            Err(CommitError::Store(error)) => Err(error),
            Err(CommitError::Conflict { .. }) => Err(StoreError::Closed),
        }
    }

    /// [`Backend::due`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn due(&self, now_ms: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let leases = self.0.leases.clone();
        self.read("read events", move |connection| leases.take(connection, now_ms, limit)).await
    }

    /// [`Backend::due_fair`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn due_fair(
        &self,
        now_ms: u64,
        room: usize,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let leases = self.0.leases.clone();
        let take = move |connection: &_| leases.take_fair(connection, now_ms, room, limit);
        self.read("read events", take).await
    }

    /// [`Backend::next_due_ms`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next_due_ms(&self) -> Result<Option<u64>, StoreError> {
        let leases = self.0.leases.clone();
        self.read("read events", move |connection| leases.next_due_ms(connection)).await
    }

    /// [`Backend::ack`].
    ///
    /// # Errors
    /// When the database fails; the event stays leased then.
    pub async fn ack(&self, id: EventId) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Operation::Ack(id.0, sender))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// [`Backend::retry`].
    ///
    /// # Errors
    /// When the database fails; the event stays leased then.
    pub async fn retry(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        self.hand_back(id, not_before_ms, 1).await
    }

    /// [`Backend::postpone`].
    ///
    /// # Errors
    /// When the database fails; the event stays leased then.
    pub async fn postpone(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        self.hand_back(id, not_before_ms, 0).await
    }

    async fn hand_back(
        &self,
        id: EventId,
        not_before_ms: u64,
        attempts: u32,
    ) -> Result<(), StoreError> {
        fits("the due time", not_before_ms)?;
        let (done, receiver) = oneshot::channel();
        self.send(Operation::HandBack { id: id.0, not_before_ms, attempts, done })?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// [`Backend::purge`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purge(&self, prefix: &str) -> Result<u64, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Operation::Purge(prefix.to_owned(), sender))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// [`Backend::queue_changes`].
    #[must_use]
    pub fn queue_changes(&self) -> watch::Receiver<u64> {
        self.0.queue_changes.clone()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

fn fits(what: &'static str, value: u64) -> Result<(), StoreError> {
    if i64::try_from(value).is_ok() { Ok(()) } else { Err(StoreError::NumberSize { what, value }) }
}

fn check_value(key: &str, value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES {
        return Err(StoreError::ValueSize { key: key.to_owned(), bytes: value.len() });
    }
    Ok(())
}

fn check(writes: &[Write]) -> Result<(), StoreError> {
    let mut keys = HashSet::new();
    for write in writes {
        let key = match write {
            Write::Put { key, value, .. } => {
                check_value(key, value)?;
                key
            }
            Write::Delete { key, .. } | Write::Check { key, .. } => key,
            Write::Enqueue(event) => {
                check_value(&event.scope, &event.payload)?;
                fits("the enqueue time", event.enqueued_ms)?;
                fits("the due time", event.not_before_ms)?;
                if event.scope.len() > KEY_BYTES {
                    return Err(StoreError::KeySize { bytes: event.scope.len() });
                }
                continue;
            }
        };
        if !(1..=KEY_BYTES).contains(&key.len()) {
            return Err(StoreError::KeySize { bytes: key.len() });
        }
        if !keys.insert(key) {
            return Err(StoreError::KeyTwice { key: key.clone() });
        }
    }
    Ok(())
}

impl Backend for Store {
    async fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        Self::get(self, key).await
    }
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, StoreError> {
        Self::scan(self, prefix, after, limit).await
    }
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, CommitError> {
        Self::commit(self, writes).await
    }
    fn watch(&self, prefix: &str) -> Watch {
        Self::watch(self, prefix)
    }
    async fn put_blob(
        &self,
        reader: impl Read + Send + 'static,
    ) -> Result<(Digest, u64), StoreError> {
        Self::put_blob(self, reader).await
    }
    async fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        Self::open_blob(self, digest).await
    }
    async fn delete_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        Self::delete_blob(self, digest).await
    }
    async fn list_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        Self::list_blobs(self).await
    }
    async fn enqueue(&self, event: NewEvent) -> Result<EventId, StoreError> {
        Self::enqueue(self, event).await
    }
    async fn due(&self, now_ms: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Self::due(self, now_ms, limit).await
    }

    async fn due_fair(
        &self,
        now_ms: u64,
        room: usize,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        Self::due_fair(self, now_ms, room, limit).await
    }
    async fn next_due_ms(&self) -> Result<Option<u64>, StoreError> {
        Self::next_due_ms(self).await
    }
    async fn ack(&self, id: EventId) -> Result<(), StoreError> {
        Self::ack(self, id).await
    }
    async fn retry(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        Self::retry(self, id, not_before_ms).await
    }
    async fn postpone(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        Self::postpone(self, id, not_before_ms).await
    }
    async fn purge(&self, prefix: &str) -> Result<u64, StoreError> {
        Self::purge(self, prefix).await
    }
    fn queue_changes(&self) -> watch::Receiver<u64> {
        Self::queue_changes(self)
    }
}
