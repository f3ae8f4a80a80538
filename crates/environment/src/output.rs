//! The guest's output on its way to the log: cut into lines, limited in rate, tailed.

use crate::hint::{self, MissingPrograms};
use lambfold_logs::{LineSplitter, LogTail, StreamWriter};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

/// What one environment may log for as long as it likes, bytes a second; beyond it, lines are
/// dropped and counted. A limit of ours.
pub const LOG_RATE_BYTES_PER_S: u64 = 4 << 20;
/// What it may log at once beyond the rate, bytes.
pub const LOG_BURST_BYTES: u64 = 8 << 20;

/// Read at a time, on the stack.
const CHUNK_BYTES: usize = 16 << 10;
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

pub(crate) struct Output {
    pipe: Arc<File>,
    splitter: LineSplitter,
    lines: Lines,
}

/// Everything behind the splitter.
struct Lines {
    sink: Box<dyn Sink>,
    tail: Option<LogTail>,
    rate: Rate,
    missing: Arc<MissingPrograms>,
    /// Programs that were named already.
    named: Vec<String>,
}

impl Output {
    pub(crate) fn new(pipe: Arc<File>, sink: Box<dyn Sink>, missing: Arc<MissingPrograms>) -> Self {
        Self {
            pipe,
            splitter: LineSplitter::new(),
            lines: Lines { sink, tail: None, rate: Rate::new(), missing, named: Vec::new() },
        }
    }

    /// Takes one chunk of what the guest wrote.
    pub(crate) fn read(&mut self, now: Moment) -> Pipe {
        let mut chunk = [0; CHUNK_BYTES];
        let count = loop {
            match (&*self.pipe).read(&mut chunk) {
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
        let Self { splitter, lines, .. } = self;
        splitter.feed(&chunk[..count], |line| lines.guest(now, line));
        Pipe::Read(count)
    }

    /// Takes everything that the guest wrote until now, unfinished lines included.
    pub(crate) fn drain(&mut self, now: Moment) {
        let mut total = 0;
        while total < DRAIN_BYTES
            && let Pipe::Read(count) = self.read(now)
        {
            total += count;
        }
        let Self { splitter, lines, .. } = self;
        splitter.finish(|line| lines.guest(now, line));
        lines.admit_dropped(now);
    }

    /// Logs a line of the platform's own.
    pub(crate) fn platform(&mut self, now: Moment, line: &str) {
        self.lines.push(now, line.as_bytes());
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
        self.push(now, format!("[lambfold] {text}\n").as_bytes());
    }

    fn guest(&mut self, now: Moment, line: &[u8]) {
        if !self.rate.admits(now.monotonic_us, line.len()) {
            return;
        }
        self.admit_dropped(now);
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

#[cfg(test)]
mod tests;
