//! The guests' output and the platform's own words on their way to the log and to telemetry
//! subscribers: cut into lines, limited in rate, filtered by level, tailed. One order for all.

use crate::hint::{self, MissingPrograms};
use lambfold_logs::{
    Audience, Level, LineSplitter, LogTail, PlatformEvent, StreamWriter, line_json, passes,
};
use lambfold_runtime_api::{DroppedRecord, LogsSchema, Record, RecordKind, Relay};
use lambfold_types::{Clock, LogFormat, LoggingConfig};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use tokio::time::Instant;

/// What one environment may log for as long as it likes, bytes a second; beyond it, lines are
/// dropped and counted. A limit of ours.
pub const LOG_RATE_BYTES_PER_S: u64 = 4 << 20;
/// What it may log at once beyond the rate, bytes.
pub const LOG_BURST_BYTES: u64 = 8 << 20;

/// Read at a time, on the stack.
const CHUNK_BYTES: usize = 16 << 10;
/// Read first at the end of a phase: most have left nothing.
const FIRST_CHUNK_BYTES: usize = 512;
/// Read at most at the end of a phase: a pipe holds less, a guest that writes on and on would
/// otherwise hold the phase open.
const DRAIN_BYTES: usize = 1 << 20;

/// Where log events go.
pub(crate) trait Sink: Send {
    fn push(&self, epoch_ms: u64, event: &[u8]);
}

impl Sink for StreamWriter {
    fn push(&self, epoch_ms: u64, event: &[u8]) {
        StreamWriter::push(self, epoch_ms, event);
    }
}

/// The moment at which something is logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Wall time, for the log.
    pub(crate) epoch_ms: u64,
    /// Monotonic time, for the rate.
    pub(crate) monotonic_us: u64,
}

/// What a read of the pipe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipe {
    /// Nothing more at this moment.
    Empty,
    /// Perhaps more.
    Read(usize),
    /// Nobody can write any more.
    Closed,
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Function,
    Extensions,
}

pub(crate) struct Output {
    function: Source,
    /// Of all external extensions together.
    extensions: Option<Source>,
    lines: Lines,
}

/// One pipe.
struct Source {
    pipe: Arc<File>,
    splitter: LineSplitter,
}

impl Source {
    fn new(pipe: Arc<File>) -> Self {
        Self { pipe, splitter: LineSplitter::new() }
    }
}

/// The levels from which on lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Levels {
    application: Level,
    system: Level,
}

impl Levels {
    /// `None`: the text format, which has none.
    fn of(logging: &LoggingConfig) -> Option<Self> {
        if logging.format == LogFormat::Text {
            return None;
        }
        let level =
            |text: &Option<String>| text.as_deref().and_then(Level::parse).unwrap_or(Level::Info);
        Some(Self {
            application: level(&logging.application_level),
            system: level(&logging.system_level),
        })
    }
}

/// Everything behind the splitters.
struct Lines {
    sink: Box<dyn Sink>,
    /// Of the JSON format.
    levels: Option<Levels>,
    /// Present while somebody subscribed or still may.
    relay: Option<Relay>,
    tail: Option<LogTail>,
    rate: Rate,
    missing: Arc<MissingPrograms>,
    /// Programs that were named already.
    named: Vec<String>,
}

impl Output {
    pub(crate) fn new(
        function: Arc<File>,
        extensions: Option<Arc<File>>,
        sink: Box<dyn Sink>,
        logging: &LoggingConfig,
        missing: Arc<MissingPrograms>,
    ) -> Self {
        Self {
            function: Source::new(function),
            extensions: extensions.map(Source::new),
            lines: Lines {
                sink,
                levels: Levels::of(logging),
                relay: None,
                tail: None,
                rate: Rate::new(),
                missing,
                named: Vec::new(),
            },
        }
    }

    /// Takes one chunk of what the guests wrote.
    pub(crate) fn read(&mut self, writer: Writer, now: Moment) -> Pipe {
        self.read_with(&mut [0; CHUNK_BYTES], writer, now)
    }

    fn read_with(&mut self, chunk: &mut [u8], writer: Writer, now: Moment) -> Pipe {
        let source = match (writer, &mut self.extensions) {
            (Writer::Function, _) => &mut self.function,
            (Writer::Extensions, Some(source)) => source,
            (Writer::Extensions, None) => return Pipe::Closed,
        };
        let count = loop {
            match (&*source.pipe).read(chunk) {
                Ok(0) => return Pipe::Closed,
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Pipe::Empty,
                Err(error) => {
                    tracing::warn!(%error, "cannot read a guest's output");
                    return Pipe::Closed;
                }
            }
        };
        let lines = &mut self.lines;
        source.splitter.feed(&chunk[..count], |line| lines.guest(writer, now, line));
        Pipe::Read(count)
    }

    /// Takes everything that the guests wrote until now, unfinished lines included.
    pub(crate) fn drain(&mut self, now: Moment) {
        for writer in [Writer::Function, Writer::Extensions] {
            let first = self.read_with(&mut [0; FIRST_CHUNK_BYTES], writer, now);
            if !matches!(first, Pipe::Read(_)) {
                continue;
            }
            let mut total = 0;
            while total < DRAIN_BYTES
                && let Pipe::Read(count) = self.read(writer, now)
            {
                total += count;
            }
        }
        let Self { function, extensions, lines } = self;
        function.splitter.finish(|line| lines.guest(Writer::Function, now, line));
        if let Some(source) = extensions {
            source.splitter.finish(|line| lines.guest(Writer::Extensions, now, line));
        }
        lines.admit_dropped(now);
    }

    /// Logs what the platform says, and tells subscribers.
    pub(crate) fn platform(&mut self, now: Moment, event: &PlatformEvent<'_>) {
        let lines = &mut self.lines;
        match lines.levels {
            None => {
                if let Some(line) = event.text() {
                    lines.push(now, line.as_bytes());
                }
            }
            Some(levels) if event.level().is_some_and(|level| level >= levels.system) => {
                lines.push(now, (event.json(now.epoch_ms) + "\n").as_bytes());
            }
            Some(_) => {}
        }
        let audience = event.audience();
        lines.tell(RecordKind::Platform, audience, || event.json(now.epoch_ms));
    }

    /// True when nobody wants more than the lines of the text format.
    pub(crate) fn is_plain(&self) -> bool {
        self.lines.levels.is_none() && self.lines.relay.is_none()
    }

    /// Takes subscriptions from here on, and forgets those that were.
    pub(crate) fn open_telemetry(&mut self, clock: &Arc<dyn Clock>) {
        self.lines.relay = Some(Relay::new(dropped_record(Arc::clone(clock))));
    }

    /// Subscribers, while there are any or may be.
    pub(crate) fn telemetry(&mut self) -> Option<&mut Relay> {
        self.lines.relay.as_mut()
    }

    /// Takes no further subscription.
    pub(crate) fn close_telemetry(&mut self) {
        if self.lines.relay.as_mut().is_some_and(|relay| !relay.close()) {
            self.lines.relay = None;
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn end_telemetry(&mut self) {
        self.lines.relay = None;
    }

    /// Logs what the platform wants the function's owner to know.
    pub(crate) fn notice(&mut self, now: Moment, text: &str) {
        self.lines.notice(now, text);
    }

    /// Collects the tail from here on.
    pub(crate) fn start_tail(&mut self) {
        self.lines.tail = Some(LogTail::new());
    }

    /// The tail, if one was started.
    pub(crate) fn take_tail(&mut self) -> Option<Vec<u8>> {
        self.lines.tail.take().map(LogTail::into_bytes)
    }
}

impl Lines {
    fn push(&mut self, now: Moment, line: &[u8]) {
        self.sink.push(now.epoch_ms, line);
        if let Some(tail) = &mut self.tail {
            tail.push(line);
        }
    }

    fn notice(&mut self, now: Moment, text: &str) {
        let line = match self.levels {
            None => format!("[lambfold] {text}\n"),
            Some(_) => line_json(now.epoch_ms, "lambfold.notice", text.as_bytes(), false) + "\n",
        };
        self.push(now, line.as_bytes());
    }

    /// Tells subscribers, if there are any or may be.
    fn tell(&mut self, kind: RecordKind, audience: Audience, json: impl FnOnce() -> String) {
        let Some(relay) = &mut self.relay else { return };
        let (telemetry, logs) = match audience {
            Audience::Both => (true, Some(LogsSchema::V2020)),
            Audience::Telemetry => (true, None),
            Audience::TelemetryAndNewLogs => (true, Some(LogsSchema::V2021)),
            Audience::Logs => (false, Some(LogsSchema::V2020)),
        };
        relay.push(Instant::now(), Record { kind, telemetry, logs, json: json().into() });
    }

    fn guest(&mut self, writer: Writer, now: Moment, line: &[u8]) {
        if !self.rate.admits(now.monotonic_us, line.len()) {
            return;
        }
        self.admit_dropped(now);
        let (kind, name) = match writer {
            Writer::Function => (RecordKind::Function, "function"),
            Writer::Extensions => (RecordKind::Extension, "extension"),
        };
        // Objects are told as such where the function says that it writes them.
        let object = self.levels.is_some() && writer == Writer::Function;
        self.tell(kind, Audience::Both, || line_json(now.epoch_ms, name, line, object));
        let least = self.levels.filter(|_| writer == Writer::Function);
        if least.is_some_and(|levels| !passes(line, levels.application)) {
            return;
        }
        self.push(now, line);
        let Some((program, package)) = hint::missing(line, &self.missing) else { return };
        if self.named.iter().any(|named| named == program) {
            return;
        }
        self.named.push(program.to_owned());
        let text = format!(
            "{program} is part of Amazon Linux but not of this machine; install it with: apt-get install {package}"
        );
        self.notice(now, &text);
    }

    /// Says how much was dropped, once it is over or the phase is.
    fn admit_dropped(&mut self, now: Moment) {
        let Dropped { lines, bytes } = std::mem::take(&mut self.rate.dropped);
        if lines > 0 {
            let rate = LOG_RATE_BYTES_PER_S >> 20;
            let text = format!(
                "{lines} lines ({bytes} bytes) of output were dropped: an environment may log {rate} MiB a second"
            );
            self.notice(now, &text);
        }
    }
}

/// A token bucket.
struct Rate {
    bytes: u64,
    at_us: u64,
    dropped: Dropped,
}

#[derive(Default)]
struct Dropped {
    lines: u64,
    bytes: u64,
}

impl Rate {
    fn new() -> Self {
        Self { bytes: LOG_BURST_BYTES, at_us: 0, dropped: Dropped::default() }
    }

    fn admits(&mut self, now_us: u64, line_bytes: usize) -> bool {
        let passed_us = now_us.saturating_sub(self.at_us);
        let earned = u128::from(passed_us) * u128::from(LOG_RATE_BYTES_PER_S) / 1_000_000;
        // Time that earned less than a byte is kept for later.
        if earned > 0 {
            self.at_us = now_us;
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.bytes = self.bytes.saturating_add(earned).min(LOG_BURST_BYTES);
        }
        let line_bytes = u64::try_from(line_bytes).unwrap_or(u64::MAX);
        // Once lines are dropped, a quarter of a second's worth must be there again: else single
        // lines would alternate with notices about the others.
        let wanted = if self.dropped.lines > 0 {
            line_bytes.max(LOG_RATE_BYTES_PER_S / 4)
        } else {
            line_bytes
        };
        if self.bytes < wanted {
            self.dropped.lines += 1;
            self.dropped.bytes += line_bytes;
            return false;
        }
        self.bytes -= line_bytes;
        true
    }
}

/// What a subscriber is told in place of what it was too slow for.
fn dropped_record(clock: Arc<dyn Clock>) -> DroppedRecord {
    Arc::new(move |records, bytes| {
        let reason =
            "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.";
        let event = PlatformEvent::LogsDropped { bytes, records, reason };
        event.json(clock.epoch_ms()).into()
    })
}

#[cfg(test)]
mod tests;
