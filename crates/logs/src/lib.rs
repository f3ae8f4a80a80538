//! Log groups and streams on disk, and the queries of the CloudWatch Logs subset.
//!
//! In flow events: the output of guests, cut into lines by [`LineSplitter`], and the
//! platform's own lines ([`start_line`], [`report_line`], …), pushed to a [`StreamWriter`]. Out flow
//! pages of events, streams and groups; what was pushed is seen by the next query, flushed or
//! not. Pushing touches memory only; one thread writes behind. Segments are not fsynced: a
//! power cut may cost the last seconds, a killed process costs what was pushed in the last
//! [`Options::flush_interval`].
//!
//! Forbidden here: HTTP, AWS's error names, async, and being depended on by `sandbox`.

mod answer;
mod capture;
mod group;
mod line;
mod naming;
mod pattern;
mod platform;
mod query;
mod record;
mod select;
mod service;
mod token;

pub use capture::{EVENT_BYTES, LineSplitter, LogTail};
pub use line::{
    InitPhase, Report, Status, end_line, fault_line, init_report_line, init_start_line,
    milliseconds, report_line, start_line, stream_name, timeout_line, timestamp,
};
pub use pattern::{FilterPattern, PatternError};
pub use platform::{Audience, Level, Outcome, PlatformEvent, Span, line_json, passes};
pub use query::{
    Event, EventsPage, EventsQuery, FilterPage, FilterQuery, GroupInfo, GroupsPage, GroupsQuery,
    QueryError, StreamFilter, StreamInfo, StreamOrder, StreamsPage, StreamsQuery,
};
pub use service::{CreateGroupError, Logs, OpenError, Options, StreamWriter};
