//! The function's log and what is said of each request, in the order in which they belong together:
//! a request's line comes behind what its function wrote.

use super::screen::Screen;
use crate::client::{Client, ClientError};
use crate::command::logs::{Cursor, fetch};
use crate::failure::Failure;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(100);
/// The same while the lines of an answered request are on their way to it.
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// How long the line of a request waits for those of its function.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an invocation used, by its REPORT line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Report {
    pub(super) duration_ms: Option<f64>,
    pub(super) memory_mib: Option<u64>,
    pub(super) init_ms: Option<f64>,
}

impl Report {
    /// From the end of a log.
    pub(super) fn of(log: &str) -> Self {
        let line = log.lines().rev().find(|line| line.starts_with("REPORT RequestId: "));
        let field = |name: &str| {
            let fields = line?.split('\t').map(str::trim);
            let value = fields.filter_map(|field| field.strip_prefix(name)).next()?;
            value.trim_start_matches(':').split_whitespace().next().map(str::to_owned)
        };
        Self {
            duration_ms: field("Duration:").and_then(|value| value.parse().ok()),
            // Where memory cannot be measured it is 0.
            memory_mib: field("Max Memory Used:")
                .and_then(|value| value.parse().ok())
                .filter(|n| *n > 0),
            init_ms: field("Init Duration:").and_then(|value| value.parse().ok()),
        }
    }
}

/// What is to be printed behind the log of an invocation; an empty id has none.
#[derive(Debug)]
pub(super) enum Note {
    Request {
        id: String,
        method: String,
        target: String,
        status: u16,
        elapsed: Duration,
        version: String,
        cold: bool,
        report: Option<Report>,
    },
    Response {
        id: String,
        payload: Vec<u8>,
        error: Option<String>,
        elapsed: Duration,
        cold: bool,
        report: Report,
    },
    Failure(Failure),
    Stop,
}

impl Note {
    fn id(&self) -> &str {
        match self {
            Self::Request { id, .. } | Self::Response { id, .. } => id,
            Self::Failure(_) | Self::Stop => "",
        }
    }
}

/// A thread that prints. [`Lines::stop`] ends it.
pub(super) struct Lines {
    notes: Sender<Note>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lines {
    pub(super) fn start(client: &Arc<Client>, function: &str, screen: Arc<Screen>) -> Self {
        let (notes, receiver) = channel();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut log = Log {
            client: client.clone(),
            group: format!("/aws/lambda/{function}"),
            cursor: Cursor::new(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)),
            screen,
        };
        let thread = std::thread::spawn(move || log.run(&receiver));
        Self { notes, thread: Mutex::new(Some(thread)) }
    }

    pub(super) fn sender(&self) -> Sender<Note> {
        self.notes.clone()
    }

    /// Prints what is left and ends.
    pub(super) fn stop(&self) {
        let _ = self.notes.send(Note::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

struct Log {
    client: Arc<Client>,
    group: String,
    cursor: Cursor,
    screen: Arc<Screen>,
}

impl Log {
    fn run(&mut self, notes: &Receiver<Note>) {
        // With the moment at which each is printed at the latest.
        let mut waiting: Vec<(Note, Instant)> = Vec::new();
        // Invocations whose lines have all been printed before their note came.
        let mut ended: Vec<String> = Vec::new();
        loop {
            let patience = if waiting.is_empty() { LOOK } else { CLOSE_LOOK };
            let stop = match notes.recv_timeout(patience) {
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => true,
                Ok(note) => {
                    waiting.push((note, Instant::now() + PATIENCE));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
            };
            // A server that is gone is told by whoever needs it.
            let _ = self.look(&mut ended);
            let now = Instant::now();
            for (note, latest) in std::mem::take(&mut waiting) {
                let is_due = stop || note.id().is_empty() || latest <= now;
                let place = ended.iter().position(|id| id == note.id());
                if is_due || place.is_some() {
                    place.map(|place| ended.swap_remove(place));
                    self.screen.note(&note);
                } else {
                    waiting.push((note, latest));
                }
            }
            // Those of somebody else, who invokes the function directly.
            let surplus = ended.len().saturating_sub(1_000);
            ended.drain(..surplus);
            if stop {
                return;
            }
        }
    }

    fn look(&mut self, ended: &mut Vec<String>) -> Result<(), ClientError> {
        self.cursor.begin();
        let mut token: Option<String> = None;
        loop {
            let start = self.cursor.start_ms();
            let page = fetch(&self.client, &self.group, start, token.as_deref())?;
            for event in page.events {
                if !self.cursor.is_new(&event) {
                    continue;
                }
                if let Some(rest) = event.message.strip_prefix("REPORT RequestId: ") {
                    ended.extend(rest.split_whitespace().next().map(str::to_owned));
                }
                if is_of_function(&event.message) {
                    self.screen.log(event.timestamp, &event.message);
                }
            }
            match page.next_token {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(()),
            }
        }
    }
}

/// What the platform writes is said by the line of the request, but for an init that failed.
fn is_of_function(message: &str) -> bool {
    let platform = ["START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "INIT_START "];
    let init = message.starts_with("INIT_REPORT ") && !message.contains("Status: ");
    !init && !platform.iter().any(|start| message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_the_end_of_a_log() {
        let log = "START RequestId: a Version: 1\nhello\nEND RequestId: a\nREPORT RequestId: a\tDuration: 3.51 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 24 MB\tInit Duration: 12.30 ms\t\n";
        let report = Report::of(log);
        assert_eq!(report.duration_ms, Some(3.51));
        assert_eq!((report.memory_mib, report.init_ms), (Some(24), Some(12.3)));
        assert_eq!(Report::of("nothing"), Report::default());
    }

    #[test]
    fn lines_of_the_platform_are_told_apart() {
        for line in [
            "START RequestId: a Version: 1\n",
            "END RequestId: a\n",
            "REPORT RequestId: a\tDuration: 1 ms\n",
            "INIT_START Runtime Version: provided\n",
            "INIT_REPORT Init Duration: 3.00 ms\n",
        ] {
            assert!(!is_of_function(line), "{line}");
        }
        assert!(is_of_function("hello\n"));
        assert!(is_of_function("INIT_REPORT Init Duration: 3 ms\tPhase: init\tStatus: error\n"));
    }
}
