//! The log store: writers, the thread behind them, and the answers to queries.

use crate::capture::EVENT_BYTES;
use crate::group::{self, Group, Limits, Snapshot, Stream};
use crate::naming;
use crate::query::QueryError;
use crate::record::{self, RECORD_HEADER};
use lambfold_types::Scope;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sizes and times of the log store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most that a group keeps, bytes; the oldest segments are deleted beyond it.
    pub group_bytes: u64,
    /// Most of one stream that waits to be written, bytes (at most 8 MiB); beyond it events are
    /// dropped and counted. With [`Options::flush_interval`] this is the rate that one environment
    /// may log.
    pub stream_buffer_bytes: usize,
    /// Most of all streams together that waits to be written, bytes.
    pub total_buffer_bytes: usize,
    /// How long an event may wait to be written.
    pub flush_interval: Duration,
}

impl Default for Options {
    /// 256 MiB a group, 1 MiB a stream, 32 MiB in all, 50 ms.
    fn default() -> Self {
        Self {
            group_bytes: 256 << 20,
            stream_buffer_bytes: 1 << 20,
            total_buffer_bytes: 32 << 20,
            flush_interval: Duration::from_millis(50),
        }
    }
}

/// Why the log store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder could not be made.
    #[error("could not make the log folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("could not start the log writer thread")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Why a log group was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateGroupError {
    /// There is one.
    #[error("log group {group:?} exists already")]
    Exists {
        /// Its name.
        group: String,
    },
    /// The folder could not be made.
    #[error("could not make the folder of log group {group:?}")]
    Folder {
        /// Its name.
        group: String,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct ScopeGroups {
    /// The folder was looked at.
    listed: bool,
    groups: BTreeMap<String, Arc<Group>>,
}

#[derive(Debug, Default)]
struct Queue {
    dirty: Vec<Arc<Stream>>,
    /// Somebody has much: do not wait for the interval.
    urgent: bool,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    options: Options,
    scopes: RwLock<HashMap<Scope, ScopeGroups>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Held while dirty streams are taken and written, so that [`Logs::flush`] waits for the
    /// writer's round.
    round: Mutex<()>,
    buffered: AtomicUsize,
    sequence: AtomicU64,
    trash: AtomicU64,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// The log store; cheap to clone. The last one to go writes what is left.
#[derive(Debug, Clone)]
pub struct Logs {
    owner: Arc<Owner>,
}

/// Writes to one log stream; cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamWriter {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
}

impl StreamWriter {
    /// Appends one event: copies it to memory and returns. Events over [`EVENT_BYTES`] are cut
    /// there. When the buffer is full the event is dropped and counted, and the stream says so in
    /// a line of its own.
    pub fn push(&self, epoch_ms: u64, line: &[u8]) {
        let line = &line[..line.len().min(EVENT_BYTES)];
        let size = RECORD_HEADER + line.len();
        let options = &self.shared.options;
        let mut buffer = self.stream.buffer();
        let sequence = self.shared.next_sequence(epoch_ms);
        let fits = buffer.records.len() + size <= options.stream_buffer_bytes;
        if fits && self.shared.reserve(size) {
            record::push_record(&mut buffer.records, epoch_ms, sequence, line);
        } else {
            buffer.dropped.events += 1;
            buffer.dropped.bytes += line.len() as u64;
            buffer.dropped.last_ms = epoch_ms;
            buffer.dropped.last_sequence = sequence;
        }
        let half = options.stream_buffer_bytes / 2;
        let length = buffer.records.len();
        let urgent = length >= half && length - size.min(length) < half;
        let first = !std::mem::replace(&mut buffer.dirty, true);
        drop(buffer);
        if first || urgent {
            self.shared.wake_writer(first.then_some(&self.stream), urgent);
        }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.stream.name
    }
}

impl Shared {
    /// Larger than all before; about microseconds since the epoch.
    fn next_sequence(&self, epoch_ms: u64) -> u64 {
        let now = epoch_ms.saturating_mul(1000);
        let next = |last: u64| last.saturating_add(1).max(now);
        let before = self
            .sequence
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)))
            .unwrap_or_default();
        next(before)
    }

    fn reserve(&self, bytes: usize) -> bool {
        let before = self.buffered.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.options.total_buffer_bytes;
        if !fits {
            self.buffered.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_writer(&self, dirty: Option<&Arc<Stream>>, urgent: bool) {
        let mut queue = self.queue();
        let asleep = queue.dirty.is_empty();
        queue.dirty.extend(dirty.cloned());
        queue.urgent |= urgent;
        drop(queue);
        if asleep || urgent {
            self.wake.notify_one();
        }
    }

    /// Writes what was dirty when it began; false when something could not be written.
    fn write_round(&self) -> bool {
        let _round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dirty = {
            let mut queue = self.queue();
            queue.urgent = false;
            std::mem::take(&mut queue.dirty)
        };
        dirty.sort_by_key(|stream| Arc::as_ptr(&stream.group) as usize);
        let mut failed = Vec::new();
        for streams in dirty.chunk_by(|a, b| Arc::ptr_eq(&a.group, &b.group)) {
            let (written, result) = streams[0].group.flush(streams);
            self.buffered.fetch_sub(written, Ordering::Relaxed);
            if let Err(error) = result {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let group = &streams[0].group.name;
                    tracing::error!(%group, %error, "logs cannot be written; they are kept in memory up to the buffer's size");
                }
                failed.extend_from_slice(streams);
            }
        }
        if failed.is_empty() {
            self.failing.store(false, Ordering::Relaxed);
            return true;
        }
        for stream in &failed {
            stream.buffer().dirty = true;
        }
        self.queue().dirty.append(&mut failed);
        false
    }

    fn run_writer(&self) {
        let mut pause = self.options.flush_interval;
        loop {
            let queue = self.queue();
            let idle = |queue: &mut Queue| queue.dirty.is_empty() && !queue.closed;
            let queue = self.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
            let calm = |queue: &mut Queue| !queue.urgent && !queue.closed;
            let (queue, _) = self
                .wake
                .wait_timeout_while(queue, pause, calm)
                .unwrap_or_else(PoisonError::into_inner);
            let closed = queue.closed;
            drop(queue);
            let written = self.write_round();
            if closed {
                return;
            }
            pause = if written { self.options.flush_interval } else { Duration::from_secs(1) };
        }
    }

    fn scope_dir(&self, scope: &Scope) -> PathBuf {
        self.dir.join(scope.account.as_str()).join(scope.region.as_str())
    }

    fn known(&self, scope: &Scope, group: &str) -> Option<Arc<Group>> {
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        scopes.get(scope)?.groups.get(group).cloned()
    }

    fn group(&self, scope: &Scope, group: &str) -> Arc<Group> {
        if let Some(known) = self.known(scope, group) {
            return known;
        }
        let dir = self.scope_dir(scope).join(naming::folder(group));
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        let groups = &mut scopes.entry(scope.clone()).or_default().groups;
        let make = || Group::new(group, dir, self.limits());
        Arc::clone(groups.entry(group.to_owned()).or_insert_with(make))
    }

    fn limits(&self) -> Limits {
        let group_bytes = self.options.group_bytes.max(128 << 10);
        Limits { group_bytes, segment_bytes: (group_bytes / 32).clamp(64 << 10, 8 << 20) }
    }

    /// For queries: does not remember groups that do not exist, so that questions cost nothing.
    pub(crate) fn existing(&self, scope: &Scope, group: &str) -> Result<Arc<Group>, QueryError> {
        if let Some(known) = self.known(scope, group) {
            return Ok(known);
        }
        if self.scope_dir(scope).join(naming::folder(group)).is_dir() {
            return Ok(self.group(scope, group));
        }
        Err(QueryError::NoGroup { group: group.to_owned() })
    }

    /// What a group holds now, without summaries.
    pub(crate) fn peek(&self, group: &Group) -> Result<Snapshot, QueryError> {
        let (snapshot, written) = group
            .snapshot()
            .map_err(|source| QueryError::Read { group: group.name.clone(), source })?;
        self.buffered.fetch_sub(written, Ordering::Relaxed);
        Ok(snapshot)
    }

    /// What a group holds now.
    pub(crate) fn snapshot(&self, group: &Group) -> Result<Snapshot, QueryError> {
        let mut snapshot = self.peek(group)?;
        if !snapshot.exists {
            return Err(QueryError::NoGroup { group: group.name.clone() });
        }
        group
            .summarize(&mut snapshot)
            .map_err(|source| QueryError::Read { group: group.name.clone(), source })?;
        Ok(snapshot)
    }

    /// The groups of a scope in order of name, those of earlier runs included.
    pub(crate) fn groups(&self, scope: &Scope) -> Vec<Arc<Group>> {
        self.list(scope);
        let scopes = self.scopes.read().unwrap_or_else(PoisonError::into_inner);
        let groups = scopes.get(scope).map(|scope| scope.groups.values());
        groups.into_iter().flatten().cloned().collect()
    }

    /// Makes known the groups that earlier runs left in the scope's folder.
    fn list(&self, scope: &Scope) {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        let known = scopes.entry(scope.clone()).or_default();
        if std::mem::replace(&mut known.listed, true) {
            return;
        }
        let Ok(entries) = fs::read_dir(self.scope_dir(scope)) else { return };
        for entry in entries.flatten() {
            let Ok(folder) = entry.file_name().into_string() else { continue };
            if folder.starts_with(naming::TRASH) {
                continue;
            }
            let name = naming::group(&folder).or_else(|| {
                let name = group::recorded_name(&entry.path())?;
                (naming::folder(&name) == folder).then_some(name)
            });
            let Some(name) = name else {
                tracing::warn!(path = %entry.path().display(), "this is not the folder of a log group");
                continue;
            };
            let limits = self.limits();
            known
                .groups
                .entry(name)
                .or_insert_with_key(|name| Group::new(name, entry.path(), limits));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Logs {
    /// Opens the store in a folder, which is made when it is not there, and starts its writer.
    ///
    /// # Errors
    /// When the folder cannot be made or the thread cannot be started.
    pub fn open(dir: &Path, mut options: Options) -> Result<Self, OpenError> {
        fs::create_dir_all(dir)
            .map_err(|source| OpenError::Folder { path: dir.to_owned(), source })?;
        remove_trash(dir);
        options.stream_buffer_bytes = options.stream_buffer_bytes.min(record::MAX_BUFFER);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options,
            scopes: RwLock::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            round: Mutex::new(()),
            buffered: AtomicUsize::new(0),
            sequence: AtomicU64::new(0),
            trash: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || for_writer.run_writer())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self { owner: Arc::new(Owner { shared, writer: Some(writer) }) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// A writer for a stream; group and stream begin to exist with the first event.
    #[must_use]
    pub fn stream(&self, scope: &Scope, group: &str, stream: &str) -> StreamWriter {
        let stream = self.shared().group(scope, group).stream(stream);
        StreamWriter { shared: Arc::clone(self.shared()), stream }
    }

    /// Writes everything that waits, now; for shutdown and tests.
    pub fn flush(&self) {
        self.shared().write_round();
    }

    /// CreateLogGroup.
    ///
    /// # Errors
    /// When it exists, or its folder cannot be made.
    pub fn create_group(
        &self,
        scope: &Scope,
        group: &str,
        now_ms: u64,
    ) -> Result<(), CreateGroupError> {
        let name = || group.to_owned();
        match self.shared().group(scope, group).create(now_ms) {
            Ok(true) => Ok(()),
            Ok(false) => Err(CreateGroupError::Exists { group: name() }),
            Err(source) => Err(CreateGroupError::Folder { group: name(), source }),
        }
    }

    /// DeleteLogGroup: all its streams and events. Writers that still have it begin it anew.
    ///
    /// # Errors
    /// When it does not exist or its files cannot be removed.
    pub fn delete_group(&self, scope: &Scope, group: &str) -> Result<(), QueryError> {
        let shared = self.shared();
        let found = shared.existing(scope, group)?;
        let number = shared.trash.fetch_add(1, Ordering::Relaxed);
        let trash = shared.scope_dir(scope).join(format!("{}{number}", naming::TRASH));
        let freed = found
            .delete(&trash)
            .map_err(|source| QueryError::Read { group: group.to_owned(), source })?;
        match freed {
            Some(bytes) => {
                shared.buffered.fetch_sub(bytes, Ordering::Relaxed);
                Ok(())
            }
            None => Err(QueryError::NoGroup { group: group.to_owned() }),
        }
    }
}

/// Removes what a deletion that was cut short left behind.
fn remove_trash(dir: &Path) {
    let folders = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    for region in folders(dir).flat_map(|account| folders(&account.path())) {
        for entry in folders(&region.path()) {
            if entry.file_name().to_string_lossy().starts_with(naming::TRASH)
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a deleted log group stays on disk");
            }
        }
    }
}
