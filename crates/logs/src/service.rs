use crate::query::*;
use lambfold_types::Scope;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Sizes and times of the log store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most that a group keeps, bytes; the oldest segments are deleted beyond it.
    pub group_bytes: u64,
    /// Most of one stream that waits to be written, bytes; beyond it events are dropped and
    /// counted. With [`Options::flush_interval`] this is the rate that one environment may log.
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

/// The log store; cheap to clone. The last one to go writes what is left.
#[derive(Debug, Clone)]
pub struct Logs {}

/// Writes to one log stream; cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamWriter {}

impl StreamWriter {
    /// Appends one event: copies it to memory and returns. Events over [`crate::EVENT_BYTES`] are
    /// cut there. When the buffer is full the event is dropped and counted, and the stream says
    /// so in a line of its own.
    pub fn push(&self, epoch_ms: u64, line: &[u8]) {
        let _ = (epoch_ms, line);
        unimplemented!()
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        unimplemented!()
    }
}

impl Logs {
    /// Opens the store in a folder, which is made when it is not there, and starts its writer.
    ///
    /// # Errors
    /// When the folder cannot be made or the thread cannot be started.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let _ = (dir, options);
        unimplemented!()
    }

    /// A writer for a stream; group and stream begin to exist with the first event.
    #[must_use]
    pub fn stream(&self, scope: &Scope, group: &str, stream: &str) -> StreamWriter {
        let _ = (scope, group, stream);
        unimplemented!()
    }

    /// Writes everything that waits, now; for shutdown and tests.
    pub fn flush(&self) {
        unimplemented!()
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
        let _ = (scope, group, now_ms);
        unimplemented!()
    }

    /// DeleteLogGroup: all its streams and events.
    ///
    /// # Errors
    /// When it does not exist or its files cannot be removed.
    pub fn delete_group(&self, scope: &Scope, group: &str) -> Result<(), QueryError> {
        let _ = (scope, group);
        unimplemented!()
    }

    /// FilterLogEvents. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn filter(&self, query: &FilterQuery<'_>) -> Result<FilterPage, QueryError> {
        let _ = query;
        unimplemented!()
    }

    /// GetLogEvents. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn events(&self, query: &EventsQuery<'_>) -> Result<EventsPage, QueryError> {
        let _ = query;
        unimplemented!()
    }

    /// DescribeLogStreams. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn streams(&self, query: &StreamsQuery<'_>) -> Result<StreamsPage, QueryError> {
        let _ = query;
        unimplemented!()
    }

    /// DescribeLogGroups. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn groups(&self, query: &GroupsQuery<'_>) -> Result<GroupsPage, QueryError> {
        let _ = query;
        unimplemented!()
    }
}
