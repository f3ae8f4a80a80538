//! One log group: its segments on disk, and the buffers of its streams.
//!
//! Lock order: the group's state, then a stream's buffer. Pushing takes the buffer's lock only.

use crate::query::Event;
use crate::record::{self, Blocks, Records};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const META: &str = "group.json";

#[derive(Serialize, Deserialize)]
struct Meta {
    name: String,
    created_ms: u64,
}

/// A stream with a writer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) group: Arc<Group>,
    pub(crate) name: Arc<str>,
    pub(crate) buffer: Mutex<Buffer>,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// In the form of [`Records`].
    pub(crate) records: Vec<u8>,
    pub(crate) dropped: Dropped,
    /// The writer knows that there is something.
    pub(crate) dirty: bool,
}

/// What found no room.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Dropped {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) last_ms: u64,
    pub(crate) last_sequence: u64,
}

impl Stream {
    pub(crate) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// First and last of a stream's events, within a segment or in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) last_sequence: u64,
}

impl Span {
    pub(crate) fn add(&mut self, other: Self) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.last_sequence = self.last_sequence.max(other.last_sequence);
    }
}

/// What a segment holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    pub(crate) streams: HashMap<Arc<str>, Span>,
}

impl Summary {
    fn add(&mut self, stream: &str, records: Records<'_>) {
        for record in records {
            let (ms, sequence) = (record.epoch_ms, record.sequence);
            let span = Span { first_ms: ms, last_ms: ms, last_sequence: sequence };
            match self.streams.get_mut(stream) {
                Some(known) => known.add(span),
                None => {
                    self.streams.insert(stream.into(), span);
                }
            }
        }
    }

    fn of(blocks: &mut Blocks<'_>) -> Self {
        let mut summary = Self::default();
        for (stream, records) in blocks {
            summary.add(stream, records);
        }
        summary
    }
}

/// A segment file, as far as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Read when a query first needs it.
    pub(crate) summary: Option<Arc<Summary>>,
    number: u64,
}

impl Segment {
    /// The bytes that are written; nothing when the file was deleted meanwhile.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => {
                file.take(self.bytes).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// The folder was looked at; all below is valid.
    loaded: bool,
    /// It is on disk.
    exists: bool,
    created_ms: u64,
    /// Oldest first.
    segments: Vec<Segment>,
    /// The last segment is checked and may be appended to.
    tail_open: bool,
    streams: HashMap<Arc<str>, Weak<Stream>>,
}

/// What a query works on: nothing is lost between buffer and file, and no lock is held.
pub(crate) struct Snapshot {
    pub(crate) exists: bool,
    pub(crate) created_ms: u64,
    pub(crate) segments: Vec<Segment>,
    /// Streams whose last events could not be written yet, with these.
    pub(crate) pending: Vec<(Arc<str>, Vec<u8>)>,
}

/// Sizes that a group obeys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) group_bytes: u64,
    pub(crate) segment_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    dir: PathBuf,
    limits: Limits,
    state: Mutex<State>,
}

impl Group {
    pub(crate) fn new(name: &str, dir: PathBuf, limits: Limits) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), dir, limits, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of that name, shared by all its writers.
    pub(crate) fn stream(self: &Arc<Self>, name: &str) -> Arc<Stream> {
        let mut state = self.lock();
        if let Some(stream) = state.streams.get(name).and_then(Weak::upgrade) {
            return stream;
        }
        if state.streams.len() >= 16 && state.streams.len().is_power_of_two() {
            state.streams.retain(|_, stream| stream.strong_count() > 0);
        }
        let name: Arc<str> = name.into();
        let stream = Arc::new(Stream {
            group: Arc::clone(self),
            name: Arc::clone(&name),
            buffer: Mutex::default(),
        });
        state.streams.insert(name, Arc::downgrade(&stream));
        stream
    }

    /// Writes what the streams have buffered. What cannot be written stays in the buffers.
    /// Returns how many buffered bytes are written.
    pub(crate) fn flush<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a Arc<Stream>>,
    ) -> (usize, io::Result<()>) {
        self.flush_locked(&mut self.lock(), streams)
    }

    fn flush_locked<'a>(
        &self,
        state: &mut State,
        streams: impl IntoIterator<Item = &'a Arc<Stream>>,
    ) -> (usize, io::Result<()>) {
        let mut written = 0;
        for stream in streams {
            let (records, dropped) = {
                let mut buffer = stream.buffer();
                buffer.dirty = false;
                (std::mem::take(&mut buffer.records), std::mem::take(&mut buffer.dropped))
            };
            if records.is_empty() && dropped.events == 0 {
                continue;
            }
            let buffered = records.len();
            let mut block_records = records;
            if dropped.events > 0 {
                let notice = notice(dropped);
                let (ms, sequence) = (dropped.last_ms, dropped.last_sequence);
                record::push_record(&mut block_records, ms, sequence, notice.as_bytes());
            }
            if let Err(error) = self.append(state, &stream.name, &block_records) {
                block_records.truncate(buffered);
                let mut buffer = stream.buffer();
                block_records.extend_from_slice(&buffer.records);
                buffer.records = block_records;
                buffer.dropped.events += dropped.events;
                buffer.dropped.bytes += dropped.bytes;
                buffer.dropped.last_ms = buffer.dropped.last_ms.max(dropped.last_ms);
                buffer.dropped.last_sequence =
                    buffer.dropped.last_sequence.max(dropped.last_sequence);
                return (written, Err(error));
            }
            written += buffered;
        }
        (written, Ok(()))
    }

    fn append(&self, state: &mut State, stream: &str, records: &[u8]) -> io::Result<()> {
        self.load(state)?;
        if !state.exists {
            let created_ms = Records(records).next().map_or(0, |record| record.epoch_ms);
            self.make(state, created_ms)?;
        }
        self.open_tail(state)?;
        if !state.tail_open {
            let number = state.segments.last().map_or(1, |segment| segment.number + 1);
            let path = self.dir.join(format!("{number:016}.log"));
            let segment = Segment { path, bytes: 0, summary: Some(Arc::default()), number };
            let mut file = OpenOptions::new().write(true).create_new(true).open(&segment.path)?;
            state.segments.push(segment);
            state.tail_open = true;
            file.write_all(record::MAGIC)?;
        }
        let Some(tail) = state.segments.last_mut() else { return Ok(()) };
        let mut block = Vec::new();
        if tail.bytes == 0 {
            block.extend_from_slice(record::MAGIC);
        }
        record::push_block(&mut block, stream, records);
        let file = OpenOptions::new().write(true).open(&tail.path)?;
        // At the known end: a block that was cut by a full disk is written over.
        if let Err(error) = file.write_all_at(&block, tail.bytes) {
            let _ = file.set_len(tail.bytes);
            return Err(error);
        }
        tail.bytes += block.len() as u64;
        if let Some(summary) = &mut tail.summary {
            Arc::make_mut(summary).add(stream, Records(records));
        }
        self.enforce_cap(state);
        Ok(())
    }

    /// Checks the last segment of an earlier run and cuts off what is torn, so that it can be
    /// appended to; leaves it alone when it is full or no segment.
    fn open_tail(&self, state: &mut State) -> io::Result<()> {
        let Some(tail) = state.segments.last_mut() else { return Ok(()) };
        if tail.bytes >= self.limits.segment_bytes {
            state.tail_open = false;
            return Ok(());
        }
        if state.tail_open {
            return Ok(());
        }
        let bytes = tail.read()?;
        let mut blocks = Blocks::new(&bytes);
        tail.summary = Some(Arc::new(Summary::of(&mut blocks)));
        let intact = blocks.intact_end() as u64;
        if intact == 0 {
            return Ok(());
        }
        if intact < tail.bytes {
            tracing::warn!(group = %self.name, bytes = tail.bytes - intact, "a torn log record is cut off");
            OpenOptions::new().write(true).open(&tail.path)?.set_len(intact)?;
            tail.bytes = intact;
        }
        state.tail_open = true;
        Ok(())
    }

    fn enforce_cap(&self, state: &mut State) {
        let mut total: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
        while total > self.limits.group_bytes && state.segments.len() > 1 {
            let segment = &state.segments[0];
            if let Err(error) = fs::remove_file(&segment.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %segment.path.display(), %error, "an old log segment stays");
                return;
            }
            total -= segment.bytes;
            state.segments.remove(0);
        }
    }

    fn load(&self, state: &mut State) -> io::Result<()> {
        if state.loaded {
            return Ok(());
        }
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.loaded = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut segments = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok());
            if let Some(number) = number
                && entry.file_type()?.is_file()
            {
                let (path, bytes) = (entry.path(), entry.metadata()?.len());
                segments.push(Segment { path, bytes, summary: None, number });
            }
        }
        segments.sort_by_key(|segment| segment.number);
        state.created_ms = read_meta(&self.dir).map_or(0, |meta| meta.created_ms);
        state.segments = segments;
        state.exists = true;
        state.loaded = true;
        Ok(())
    }

    fn make(&self, state: &mut State, created_ms: u64) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let meta = Meta { name: self.name.clone(), created_ms };
        let temporary = self.dir.join("group.json.new");
        fs::write(&temporary, serde_json::to_vec(&meta)?)?;
        fs::rename(&temporary, self.dir.join(META))?;
        state.created_ms = created_ms;
        state.exists = true;
        Ok(())
    }

    /// Makes the group; false when there is one.
    pub(crate) fn create(&self, now_ms: u64) -> io::Result<bool> {
        let mut state = self.lock();
        self.load(&mut state)?;
        if state.exists {
            return Ok(false);
        }
        self.make(&mut state, now_ms)?;
        Ok(true)
    }

    /// Removes the group with what waits in its buffers; `trash` is a free name beside it.
    /// Returns how many buffered bytes are gone, `None` when there was no group.
    pub(crate) fn delete(&self, trash: &Path) -> io::Result<Option<usize>> {
        let mut state = self.lock();
        self.load(&mut state)?;
        let mut existed = state.exists;
        if state.exists {
            fs::rename(&self.dir, trash)?;
            let streams = std::mem::take(&mut state.streams);
            *state = State { loaded: true, streams, ..State::default() };
        }
        let mut freed = 0;
        for stream in state.streams.values().filter_map(Weak::upgrade) {
            let mut buffer = stream.buffer();
            freed += buffer.records.len();
            buffer.records = Vec::new();
            buffer.dropped = Dropped::default();
        }
        drop(state);
        if existed && let Err(error) = fs::remove_dir_all(trash) {
            tracing::warn!(path = %trash.display(), %error, "a deleted log group stays on disk until the next start");
        }
        existed |= freed > 0;
        Ok(existed.then_some(freed))
    }

    /// Everything that is there now. Writes what is buffered, as far as that succeeds.
    /// The second figure is how many buffered bytes are written.
    pub(crate) fn snapshot(&self) -> io::Result<(Snapshot, usize)> {
        let mut state = self.lock();
        self.load(&mut state)?;
        let live: Vec<_> = state.streams.values().filter_map(Weak::upgrade).collect();
        let (written, _) = self.flush_locked(&mut state, &live);
        self.open_tail(&mut state)?;
        let mut pending = Vec::new();
        for stream in live {
            let buffer = stream.buffer();
            if !buffer.records.is_empty() {
                pending.push((Arc::clone(&stream.name), buffer.records.clone()));
            }
        }
        let snapshot = Snapshot {
            exists: state.exists || !pending.is_empty(),
            created_ms: state.created_ms,
            segments: state.segments.clone(),
            pending,
        };
        Ok((snapshot, written))
    }

    /// Reads the summaries that a snapshot lacks, and keeps them.
    pub(crate) fn summarize(&self, snapshot: &mut Snapshot) -> io::Result<()> {
        for segment in snapshot.segments.iter_mut().filter(|segment| segment.summary.is_none()) {
            let summary = Arc::new(Summary::of(&mut Blocks::new(&segment.read()?)));
            segment.summary = Some(Arc::clone(&summary));
            let mut state = self.lock();
            if let Some(known) = state.segments.iter_mut().find(|s| s.number == segment.number) {
                known.summary.get_or_insert(summary);
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// All streams with their spans.
    pub(crate) fn streams(&self) -> HashMap<Arc<str>, Span> {
        let mut all: HashMap<Arc<str>, Span> = HashMap::new();
        let mut merge = |summary: &Summary| {
            for (name, span) in &summary.streams {
                all.entry(Arc::clone(name)).and_modify(|known| known.add(*span)).or_insert(*span);
            }
        };
        self.segments.iter().filter_map(|segment| segment.summary.as_deref()).for_each(&mut merge);
        let mut unwritten = Summary::default();
        for (name, records) in &self.pending {
            unwritten.add(name, Records(records));
        }
        merge(&unwritten);
        all
    }
}

impl Event {
    pub(crate) fn new(stream: Arc<str>, record: &record::Record<'_>) -> Self {
        let (epoch_ms, sequence) = (record.epoch_ms, record.sequence);
        Self { stream, epoch_ms, sequence, bytes: record.message.to_vec() }
    }
}

/// The name that a group's folder says it has.
pub(crate) fn recorded_name(dir: &Path) -> Option<String> {
    read_meta(dir).map(|meta| meta.name)
}

fn read_meta(dir: &Path) -> Option<Meta> {
    let mut bytes = Vec::new();
    File::open(dir.join(META)).ok()?.take(65_536).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn notice(dropped: Dropped) -> String {
    let Dropped { events, bytes, .. } = dropped;
    format!(
        "LOGS_DROPPED Records: {events}\tBytes: {bytes}\tReason: written faster than the log buffer is emptied\n"
    )
}
