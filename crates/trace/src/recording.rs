//! Recordings: whole events with what became of them, as lines of JSON. The first line says which
//! format and which function; every further one is an event. docs/trace.md has the fields.

use crate::body::Body;
use crate::call::{Call, State};
use crate::compare::Answered;
use crate::line::FORMAT;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read as _};

/// Most events of a recording.
pub const EVENTS: usize = 10_000;
/// Longest line of a recording, bytes: an event and an answer of 6 MiB each, of characters that
/// JSON writes as six, and what stands around them.
pub const LINE_BYTES: usize = 80 << 20;
/// Longest first line, bytes.
const HEAD_BYTES: usize = 64 << 10;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

/// How a runtime answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It posted to `response`.
    Response,
    /// It posted to `error`.
    Error,
}

/// The answer of a runtime to an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Which of the two.
    pub outcome: Outcome,
    /// Headers of the post, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The answer; its beginning where it is longer than a recording holds.
    pub body: Body,
}

/// One event and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// When it was answered, milliseconds since the Unix epoch.
    pub at: u64,
    /// The version of the function that answered.
    pub version: String,
    /// The request id of then; a replay has ids of its own.
    pub request_id: String,
    /// Headers of the event, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The event.
    pub event: Body,
    /// What became of it.
    pub answer: Given,
    /// From the event to the whole answer, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

impl Recorded {
    /// The answer, to compare another one with; `None` where it is not whole, or its event is not.
    #[must_use]
    pub fn answered(&self) -> Option<Answered> {
        let body = &self.answer.body;
        (self.event.is_whole() && body.is_whole()).then(|| Answered {
            is_error: self.answer.outcome == Outcome::Error,
            body: body.kept().clone(),
        })
    }

    /// The client context that the event came with, as it may be sent again.
    #[must_use]
    pub fn client_context(&self) -> Option<&str> {
        self.headers.get("lambda-runtime-client-context").map(String::as_str)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum Entry {
    Recording { format: u32, function: String, recorded_at: u64 },
    Event(Box<Recorded>),
}

fn line(entry: &Entry) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(entry).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Makes a recording of the calls of a watch that keeps whole bodies.
#[derive(Debug, Default)]
pub struct Recorder {
    /// By environment: an environment has one event at a time.
    open: HashMap<String, Open>,
    unanswered: u64,
}

#[derive(Debug)]
struct Open {
    since_ms: u64,
    request_id: String,
    headers: BTreeMap<String, String>,
    event: Body,
}

impl Recorder {
    /// The first line of a recording.
    #[must_use]
    pub fn head(function: &str, now_ms: u64) -> Vec<u8> {
        let function = function.to_owned();
        line(&Entry::Recording { format: FORMAT, function, recorded_at: now_ms })
    }

    /// Takes a call; gives the line of the event whose answer it is.
    pub fn take(&mut self, call: &Call) -> Option<Vec<u8>> {
        let answer = call.answer.as_ref().filter(|_| call.state == State::Answered)?;
        let id = call.request_id()?;
        if call.path == NEXT {
            let open = Open {
                since_ms: call.at,
                request_id: id.to_owned(),
                headers: answer.message.headers.clone(),
                event: answer.message.body.clone(),
            };
            if let Some(before) = self.open.insert(call.environment.clone(), open)
                && before.request_id != id
            {
                self.unanswered += 1;
            }
            return None;
        }
        let outcome = match call.path.rsplit('/').next() {
            Some("response") => Outcome::Response,
            Some("error") => Outcome::Error,
            _ => return None,
        };
        let is_taken = answer.status == 202;
        let open = self.open.get(&call.environment);
        open.filter(|open| is_taken && open.request_id.eq_ignore_ascii_case(id))?;
        let open = self.open.remove(&call.environment)?;
        let recorded = Recorded {
            at: call.at,
            version: call.version.clone(),
            request_id: open.request_id,
            headers: open.headers,
            event: open.event,
            answer: Given {
                outcome,
                headers: call.request.headers.clone(),
                body: call.request.body.clone(),
            },
            took_us: Some(call.at.saturating_sub(open.since_ms) * 1_000),
        };
        Some(line(&Entry::Event(Box::new(recorded))))
    }

    /// Events that have no answer in the recording: their runtime ended or was stopped, or has
    /// not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered + self.open.len() as u64
    }
}

/// Why a file is not read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system does not give it.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// Its first line is not that of a recording.
    #[error("it is no recording: its first line is not {{\"type\":\"recording\",…}}")]
    NoRecording,
    /// It is of a later version.
    #[error("it has format {format}, and this program reads formats up to {FORMAT}")]
    Newer {
        /// Of the file.
        format: u32,
    },
    /// A line is not one of a recording.
    #[error("line {line} is no event of a recording")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line is too long.
    #[error("line {line} is longer than {LINE_BYTES} bytes")]
    LongLine {
        /// Counted from 1.
        line: usize,
    },
    /// It goes on and on.
    #[error("it has more than {EVENTS} events")]
    TooMany,
}

/// A recording that is read, event by event.
#[derive(Debug)]
pub struct Recording<R> {
    /// The function that was recorded, by its ARN.
    pub function: String,
    /// When that began, milliseconds since the Unix epoch.
    pub recorded_at: u64,
    reader: R,
    line: usize,
    events: usize,
    is_over: bool,
}

impl<R: BufRead> Recording<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// When it is not that of a recording, or of a later version.
    pub fn open(mut reader: R) -> Result<Self, RecordingError> {
        let head = match read_line(&mut reader, HEAD_BYTES) {
            Ok(Some(head)) => head,
            Ok(None) | Err(None) => return Err(RecordingError::NoRecording),
            Err(Some(error)) => return Err(RecordingError::Read(error)),
        };
        // What a later version says beyond this is not looked at.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version = serde_json::from_slice::<Version>(&head);
        if let Ok(Version { format }) = version
            && format > FORMAT
        {
            return Err(RecordingError::Newer { format });
        }
        match serde_json::from_slice(&head) {
            Ok(Entry::Recording { function, recorded_at, .. }) => {
                Ok(Self { function, recorded_at, reader, line: 1, events: 0, is_over: false })
            }
            Ok(Entry::Event(_)) | Err(_) => Err(RecordingError::NoRecording),
        }
    }

    fn read(&mut self) -> Result<Option<Recorded>, RecordingError> {
        loop {
            self.line += 1;
            let line = self.line;
            let text = match read_line(&mut self.reader, LINE_BYTES) {
                Ok(Some(text)) => text,
                Ok(None) => return Ok(None),
                Err(None) => return Err(RecordingError::LongLine { line }),
                Err(Some(error)) => return Err(RecordingError::Read(error)),
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            if self.events == EVENTS {
                return Err(RecordingError::TooMany);
            }
            self.events += 1;
            let entry = serde_json::from_slice(&text)
                .map_err(|source| RecordingError::Line { line, source })?;
            return match entry {
                Entry::Event(event) => Ok(Some(*event)),
                Entry::Recording { .. } => {
                    let source = serde::de::Error::custom("a second first line");
                    Err(RecordingError::Line { line, source })
                }
            };
        }
    }
}

impl<R: BufRead> Iterator for Recording<R> {
    type Item = Result<Recorded, RecordingError>;

    /// The next event; nothing more after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// A line of at most so many bytes, its end included; `Err(None)` when it is longer.
fn read_line(
    reader: &mut impl BufRead,
    limit: usize,
) -> Result<Option<Vec<u8>>, Option<std::io::Error>> {
    let mut line = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let count = reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(Some)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        // The file's end, or the limit's.
        Some(_) if count < limit => Ok(Some(line)),
        Some(_) => match reader.fill_buf().map_err(Some)? {
            [] => Ok(Some(line)),
            _ => Err(None),
        },
    }
}

#[cfg(test)]
mod tests;
