//! What can be asked of the logs, and the pages that come back.

use crate::pattern::FilterPattern;
use lambfold_types::Scope;
use std::sync::Arc;

/// One log event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The stream that it is in.
    pub stream: Arc<str>,
    /// When it was written, milliseconds since the epoch, as the pusher said.
    pub epoch_ms: u64,
    /// When it was pushed, by the server's own order: unique, and growing within a stream.
    /// About microseconds since the epoch.
    pub sequence: u64,
    /// As pushed; `\n` at the end included where there was one.
    pub bytes: Vec<u8>,
}

impl Event {
    /// AWS's `eventId`: 56 digits, stable, ordered by time and then by arrival.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:028}{:028}", self.epoch_ms, self.sequence)
    }

    /// `ingestionTime`, milliseconds since the epoch.
    #[must_use]
    pub fn ingestion_ms(&self) -> u64 {
        self.sequence / 1000
    }

    /// The message as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Which streams of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StreamFilter {
    /// All.
    #[default]
    All,
    /// These.
    Names(Vec<String>),
    /// Those whose name begins so.
    Prefix(String),
}

impl StreamFilter {
    pub(crate) fn matches(&self, stream: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|name| name == stream),
            Self::Prefix(prefix) => stream.starts_with(prefix.as_str()),
        }
    }
}

/// FilterLogEvents.
#[derive(Debug, Clone)]
pub struct FilterQuery<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// The log group.
    pub group: &'a str,
    /// Which of its streams.
    pub streams: StreamFilter,
    /// From this time on, inclusive, milliseconds since the epoch.
    pub start_ms: Option<u64>,
    /// Up to this time, inclusive, milliseconds since the epoch.
    pub end_ms: Option<u64>,
    /// Which messages.
    pub pattern: FilterPattern,
    /// Most events in the page, 1 to 10,000.
    pub limit: usize,
    /// `token` of the page before.
    pub token: Option<&'a str>,
}

/// A page of FilterLogEvents: ordered by time, then by arrival; at most 1 MiB of messages
/// unless a single event is larger.
#[derive(Debug, Clone, Default)]
pub struct FilterPage {
    /// The events.
    pub events: Vec<Event>,
    /// Present when there is more.
    pub token: Option<String>,
}

/// GetLogEvents.
#[derive(Debug, Clone)]
pub struct EventsQuery<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// The log group.
    pub group: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// From this time on, inclusive, milliseconds since the epoch.
    pub start_ms: Option<u64>,
    /// Before this time, exclusive, milliseconds since the epoch.
    pub end_ms: Option<u64>,
    /// The earliest events instead of the latest; without meaning when a token is given.
    pub start_from_head: bool,
    /// Most events in the page, 1 to 10,000.
    pub limit: usize,
    /// `forward` or `backward` of an earlier page.
    pub token: Option<&'a str>,
}

/// A page of GetLogEvents, ordered by time, then by arrival; at most 1 MiB of messages unless
/// a single event is larger. The end is reached when a token comes back unchanged.
#[derive(Debug, Clone, Default)]
pub struct EventsPage {
    /// The events.
    pub events: Vec<Event>,
    /// `nextForwardToken`
    pub forward: String,
    /// `nextBackwardToken`
    pub backward: String,
}

/// DescribeLogGroups.
#[derive(Debug, Clone)]
pub struct GroupsQuery<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// Names that begin so.
    pub prefix: Option<&'a str>,
    /// Names that contain this.
    pub contains: Option<&'a str>,
    /// Most groups in the page.
    pub limit: usize,
    /// `token` of the page before.
    pub token: Option<&'a str>,
}

/// One log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// What it takes on disk, bytes.
    pub stored_bytes: u64,
}

/// A page of DescribeLogGroups, ordered by name.
#[derive(Debug, Clone, Default)]
pub struct GroupsPage {
    /// The groups.
    pub groups: Vec<GroupInfo>,
    /// Present when there is more.
    pub token: Option<String>,
}

/// Order of DescribeLogStreams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StreamOrder {
    /// `LogStreamName`
    #[default]
    Name,
    /// `LastEventTime`
    LastEvent,
}

/// DescribeLogStreams.
#[derive(Debug, Clone)]
pub struct StreamsQuery<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// The log group.
    pub group: &'a str,
    /// Names that begin so.
    pub prefix: Option<&'a str>,
    /// Order.
    pub order: StreamOrder,
    /// Z to A, newest first.
    pub descending: bool,
    /// Most streams in the page.
    pub limit: usize,
    /// `token` of the page before.
    pub token: Option<&'a str>,
}

/// One log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Time of the first event that is still kept, milliseconds since the epoch.
    pub first_event_ms: u64,
    /// Time of the last event, milliseconds since the epoch.
    pub last_event_ms: u64,
    /// Arrival of the last event, milliseconds since the epoch.
    pub last_ingestion_ms: u64,
}

/// A page of DescribeLogStreams.
#[derive(Debug, Clone, Default)]
pub struct StreamsPage {
    /// The streams.
    pub streams: Vec<StreamInfo>,
    /// Present when there is more.
    pub token: Option<String>,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No such group.
    #[error("log group {group:?} does not exist")]
    NoGroup {
        /// The group asked for.
        group: String,
    },
    /// No such stream in the group.
    #[error("log stream {stream:?} does not exist in log group {group:?}")]
    NoStream {
        /// The group asked for.
        group: String,
        /// The stream asked for.
        stream: String,
    },
    /// The token is none of ours, or one of another operation.
    #[error("page token {token:?} is not valid; take it from the page before, unchanged")]
    Token {
        /// As given, cut to 200 characters.
        token: String,
    },
    /// A segment file could not be read.
    #[error("could not read the segments of log group {group:?}")]
    Read {
        /// The group.
        group: String,
        /// What the system said.
        source: std::io::Error,
    },
}
