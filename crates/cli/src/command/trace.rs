//! `lambfold trace`: prints the calls of a function's Runtime API as the server shows them, and
//! records events.

mod show;

use super::shared;
use crate::args::{Format, Trace};
use crate::client::{Client, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::interrupt::on_interrupt;
use crate::output;
use lambfold_trace::{EVENTS, Line, Recorder, State};
use lambfold_types::limits::RESPONSE_BYTES;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines that are read and not yet printed. When there are more, the server waits and then drops.
const AHEAD: usize = 16;
/// Longest trace, milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Largest recording, bytes.
const FILE_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: &Trace) -> Result<Exit, Failure> {
    let function = shared::function(&args.function)?;
    let time_ms = match &args.time {
        Some(text) => Some(shared::duration_ms(text, "--for 10m")?),
        None => None,
    };
    if time_ms.is_some_and(|ms| ms > DAY_MS) {
        return Err(Failure::usage("--for is a day at most").hint("for example --for 24h"));
    }
    let client = shared::connect(&args.connection)?;
    // The file is made before anything is asked of the server, which it would be in vain.
    let recording = args.record.as_deref().map(Recording::create).transpose()?;
    let lines = open(&client, args, time_ms)?;
    let mut session = Session { args, name: function.name.as_str(), recording, calls: 0 };
    session.follow(&lines)
}

fn open(client: &Client, args: &Trace, time_ms: Option<i64>) -> Result<Receiver<Event>, Failure> {
    let path = format!("/_lambfold/v1/functions/{}/trace", encode(&args.function));
    let body_bytes = match args.record {
        Some(_) => RESPONSE_BYTES,
        None => usize::try_from(args.body).unwrap_or(RESPONSE_BYTES),
    };
    let mut request =
        Request::new(Service::Lambda, "GET", path).query("body", &body_bytes.to_string()).patient();
    if let Some(qualifier) = &args.qualifier {
        request = request.query("qualifier", qualifier);
    }
    if let Some(ms) = time_ms {
        request = request.query("seconds", &(ms / 1_000).to_string());
    }
    if let (Some(count), None) = (args.count, &args.record) {
        request = request.query("count", &count.to_string());
    }
    let stream =
        client.stream(request).map_err(|error| shared::explain_function(&error, &args.function))?;
    let (sender, receiver) = sync_channel(AHEAD);
    let interrupted = sender.clone();
    on_interrupt(move || {
        let _ = interrupted.send(Event::Interrupt);
    });
    std::thread::spawn(move || read(BufReader::with_capacity(64 << 10, stream), &sender));
    Ok(receiver)
}

enum Event {
    /// A line with its end.
    Line(Vec<u8>),
    Lost(std::io::Error),
    Over,
    Interrupt,
}

fn read(mut stream: impl BufRead, to: &SyncSender<Event>) {
    loop {
        let mut line = Vec::new();
        let event = match stream.read_until(b'\n', &mut line) {
            Ok(0) => Event::Over,
            Ok(_) => Event::Line(line),
            Err(error) => Event::Lost(error),
        };
        let is_last = !matches!(event, Event::Line(_));
        if to.send(event).is_err() || is_last {
            return;
        }
    }
}

struct Session<'a> {
    args: &'a Trace,
    name: &'a str,
    recording: Option<Recording>,
    calls: u64,
}

impl Session<'_> {
    fn follow(&mut self, events: &Receiver<Event>) -> Result<Exit, Failure> {
        let lost = |failure: Failure| Err(failure.hint("is the server still running?"));
        loop {
            let line = match events.recv() {
                Ok(Event::Line(line)) => line,
                Ok(Event::Lost(error)) => {
                    return lost(Failure::failed("the trace broke off").cause(&error));
                }
                Ok(Event::Over) => return lost(Failure::failed("the trace broke off")),
                Ok(Event::Interrupt) | Err(_) => break,
            };
            if self.take(&line)? {
                break;
            }
        }
        match &mut self.recording {
            Some(recording) => recording.finish()?,
            None if self.calls == 0 => output::talk("no calls were seen"),
            None => {}
        }
        Ok(Exit::Done)
    }

    /// True when it was the last one.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let line = Line::parse(bytes).map_err(|error| {
            Failure::failed("the server sent a line that is not one of a trace").cause(&error)
        })?;
        if self.args.printing.format == Format::Json {
            self.print_json(bytes, &line)?;
        }
        let is_text = self.args.printing.format == Format::Text;
        match line {
            Line::Begin { function, format, .. } => {
                if format > lambfold_trace::FORMAT {
                    let text = format!("the server's trace has format {format}");
                    return Err(Failure::failed(text).hint("use the lambfold of the server"));
                }
                output::talk(&format!("tracing {}; Ctrl-C ends it", self.name));
                if let Some(recording) = &mut self.recording {
                    recording.begin(&function)?;
                }
            }
            Line::Call(call) => {
                self.calls += u64::from(call.state != State::Waiting);
                if is_text {
                    let limit = usize::try_from(self.args.body).unwrap_or(usize::MAX);
                    output::data(show::call(&call, limit).as_bytes())?;
                }
                if let Some(recording) = &mut self.recording {
                    return recording.take(&call, self.args.count);
                }
            }
            Line::Dropped { count } => {
                output::warn(&format!(
                    "{count} calls are missing here: they came faster than they were read"
                ));
            }
            Line::End { reason } => {
                if reason == "shutdown" {
                    output::warn("the server is shutting down");
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The server's own line, unless more was asked of it than is to be shown.
    fn print_json(&self, bytes: &[u8], line: &Line) -> Result<(), Failure> {
        let (Some(_), Line::Call(call)) = (&self.recording, line) else {
            return output::data(bytes);
        };
        let limit = usize::try_from(self.args.body).unwrap_or(usize::MAX);
        output::data(&Line::Call(Box::new(show::shortened(call, limit))).to_bytes())
    }
}

/// The file of `--record`.
struct Recording {
    path: PathBuf,
    file: File,
    recorder: Recorder,
    events: u64,
    bytes: u64,
}

impl Recording {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::failed(format!("could not write {}", path.display())).cause(&error)
        })?;
        Ok(Self { path: path.into(), file, recorder: Recorder::default(), events: 0, bytes: 0 })
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.bytes += line.len() as u64;
        self.file.write_all(line).map_err(|error| {
            Failure::failed(format!("could not write {}", self.path.display())).cause(&error)
        })
    }

    fn begin(&mut self, function: &str) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.write(&Recorder::head(function, now_ms))
    }

    /// True when it is full, or holds as much as was asked for.
    fn take(&mut self, call: &lambfold_trace::Call, count: Option<u64>) -> Result<bool, Failure> {
        let Some(line) = self.recorder.take(call) else { return Ok(false) };
        if self.bytes + line.len() as u64 > FILE_BYTES {
            output::warn(&format!(
                "the recording ends here: a file has {FILE_BYTES} bytes at most"
            ));
            return Ok(true);
        }
        self.write(&line)?;
        self.events += 1;
        if count.is_none() && self.events >= EVENTS as u64 {
            output::warn(&format!("the recording ends here: a file has {EVENTS} events at most"));
        }
        Ok(self.events >= count.unwrap_or(EVENTS as u64).min(EVENTS as u64))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let path = self.path.display();
        let unanswered = self.recorder.unanswered();
        let events = if self.events == 1 { "event" } else { "events" };
        output::talk(&format!("{} {events} recorded in {path}", self.events));
        if unanswered > 0 {
            output::warn(&format!("{unanswered} more had no answer and are not in it"));
        }
        if self.events > 0 {
            output::hint(&format!("send them again: lambfold invoke FUNCTION --replay {path}"));
        }
        Ok(())
    }
}
