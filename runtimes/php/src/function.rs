//! All other events: one php that lives on, with the callable that the handler's file returns.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use lambfold_runtime_client::{Client, Error, Frame, FunctionError, Invocation, Linger};
use serde::Deserialize;

use crate::config::{Config, NoProgram};
use crate::conversation::{End, MaybeIo, Step, converse, converse_awake, is_silent};
use crate::home::Home;
use crate::log;
use crate::page::posted;
use crate::params::invocation_context;
use crate::process::Process;

/// A message longer than this, in bytes, is not read: no answer can be that long.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A php with the handler's file loaded, and the connection to it.
#[derive(Debug)]
pub(crate) struct Function {
    process: Process,
    stream: UnixStream,
    messages: Messages,
    is_clean: bool,
    linger: Linger,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    /// The handler's file does not give a callable.
    #[error("{}: {}", .0.error_type(), .0.message())]
    Function(FunctionError),
    #[error("PHP {0} while it loaded the handler; what it said is in the log")]
    Died(String),
    #[error("the handler was not loaded in time")]
    Late,
    #[error("PHP cannot be started")]
    Io(#[from] io::Error),
    #[error("PHP did not start well")]
    Talk(#[source] TalkError),
}

impl StartError {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        match self {
            StartError::NoProgram(error) => error.to_function_error(),
            StartError::Function(error) => error.clone(),
            StartError::Late => FunctionError::new("Function.Timeout", self.to_string()),
            other => FunctionError::new("Runtime.StartError", log::chain(other)),
        }
    }
}

/// What PHP said that it should not have said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    #[error("the connection to PHP failed")]
    Io(#[from] io::Error),
    #[error("PHP sent a message of kind {0:#04x}, which there is not")]
    Kind(u8),
    #[error("PHP sent a message of {0} bytes; {MAX_MESSAGE_BYTES} is the most")]
    Length(usize),
    #[error("PHP sent an error that cannot be read")]
    Report(#[source] serde_json::Error),
}

impl MaybeIo for TalkError {
    fn io_kind(&self) -> Option<ErrorKind> {
        match self {
            TalkError::Io(error) => Some(error.kind()),
            _ => None,
        }
    }
}

/// What the driver says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// The handler is loaded.
    Ready,
    /// The answer, as JSON.
    Answer(Vec<u8>),
    /// The event, or loading the handler, failed; whether PHP ends now.
    Failed(Vec<u8>, bool),
}

#[derive(Debug, Deserialize)]
struct Report {
    #[serde(rename = "type")]
    error_type: String,
    message: String,
    stack: Vec<ReportFrame>,
}

#[derive(Debug, Deserialize)]
struct ReportFrame {
    path: String,
    line: u32,
    label: String,
}

impl Report {
    fn parse(bytes: &[u8]) -> Result<FunctionError, TalkError> {
        let report: Report = serde_json::from_slice(bytes).map_err(TalkError::Report)?;
        let stack = report.stack.into_iter();
        let stack = stack.map(|f| Frame { path: f.path, line: f.line, label: f.label }).collect();
        Ok(FunctionError::new(report.error_type, report.message).with_stack(stack))
    }
}

/// Puts messages together: a kind, a length in four bytes, and that many bytes.
#[derive(Debug, Default)]
struct Messages {
    buffer: Vec<u8>,
}

impl Messages {
    /// Reads once.
    fn read(&mut self, source: &mut impl Read) -> Result<Step<Message>, TalkError> {
        let mut part = [0; 64 * 1024];
        let size = source.read(&mut part)?;
        if size == 0 {
            return Ok(Step::Closed);
        }
        self.buffer.extend_from_slice(&part[..size]);
        Ok(self.take()?.map_or(Step::More, Step::Done))
    }

    fn take(&mut self) -> Result<Option<Message>, TalkError> {
        let &[kind, a, b, c, d, ..] = self.buffer.as_slice() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !matches!(kind, b'R' | b'A' | b'E' | b'F') {
            return Err(TalkError::Kind(kind));
        }
        if length > MAX_MESSAGE_BYTES {
            return Err(TalkError::Length(length));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        let content = self.buffer[5..5 + length].to_vec();
        self.buffer.drain(..5 + length);
        Ok(Some(match kind {
            b'R' => Message::Ready,
            b'A' => Message::Answer(content),
            kind => Message::Failed(content, kind == b'F'),
        }))
    }
}

fn framed(context: &str, event: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(context.len() + event.len() + 8);
    for part in [context.as_bytes(), event] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl Function {
    /// Starts a php and waits until the handler's file is loaded, or `stop_at`.
    pub(crate) fn start(
        home: &Home,
        config: &Config,
        stop_at: Option<Instant>,
    ) -> Result<Function, StartError> {
        let program = config.php.cli.as_ref().map_err(Clone::clone)?;
        let (listener, socket) = home.listen()?;
        listener.set_nonblocking(true)?;
        let mut command = home.command(program, config);
        command.arg(home.driver()).arg(&config.file).stdin(Stdio::null());
        command.env("LAMBFOLD_PHP_SOCKET", socket.path());
        let mut process = Process::start(&mut command)?;
        let stream = loop {
            use std::os::fd::AsFd;
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = process.status() {
                return Err(StartError::Died(crate::process::describe(status)));
            }
            if stop_at.is_some_and(|at| at <= Instant::now()) {
                return Err(StartError::Late);
            }
            process.wait(listener.as_fd(), rustix::event::PollFlags::IN, stop_at)?;
        };
        stream.set_nonblocking(true)?;
        let mut messages = Messages::default();
        let read = |stream: &mut &UnixStream| messages.read(stream);
        match converse(&mut process, &stream, &[], stop_at, read) {
            Ok(End::Done(Message::Ready, _)) => {
                let linger = Linger::new();
                Ok(Function { process, stream, messages, is_clean: true, linger })
            }
            Ok(End::Done(Message::Failed(report, _), _)) => {
                Err(StartError::Function(Report::parse(&report).map_err(StartError::Talk)?))
            }
            Ok(End::Done(Message::Answer(_), _)) => Err(StartError::Talk(TalkError::Kind(b'A'))),
            Ok(End::Died(how)) => Err(StartError::Died(how)),
            Ok(End::Stopped) => Err(StartError::Late),
            Err(error) => Err(StartError::Talk(error)),
        }
    }

    /// Whether it can take an event.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.is_clean && is_silent(&self.stream) && self.process.status().is_none()
    }

    /// Answers one event. An error ends the runtime.
    pub(crate) fn serve(
        &mut self,
        client: &mut Client,
        config: &Config,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        let remaining = invocation.remaining();
        let stop_at = config.stop_at(Instant::now(), remaining);
        let bytes = framed(&invocation_context(invocation), invocation.body());
        let Function { process, stream, messages, is_clean, linger } = self;
        *is_clean = false;
        let read = |stream: &mut &UnixStream| messages.read(stream);
        let failure = match converse_awake(linger, process, stream, &bytes, stop_at, read) {
            Ok(End::Done(Message::Answer(answer), is_sent)) => {
                *is_clean = is_sent;
                let request_id = invocation.request_id();
                return posted(client.respond(request_id, "application/json", &answer));
            }
            Ok(End::Done(Message::Failed(report, ends), is_sent)) => match Report::parse(&report) {
                Ok(error) => {
                    *is_clean = is_sent && !ends;
                    error
                }
                Err(error) => wrong(&error),
            },
            Ok(End::Done(Message::Ready, _)) => wrong(&TalkError::Kind(b'R')),
            Ok(End::Died(how)) => FunctionError::new(
                "Function.WorkerDied",
                format!("PHP {how} while it ran {}", config.name),
            ),
            Ok(End::Stopped) => timeout(config, remaining),
            Err(error) => wrong(&error),
        };
        posted(client.error(invocation.request_id(), &failure))
    }
}

/// What a handler is told to have done that had to be stopped.
pub(crate) fn timeout(config: &Config, remaining: std::time::Duration) -> FunctionError {
    let margin = config.stop_margin(remaining).as_millis();
    let message = format!("{} was stopped {margin} ms before its deadline", config.name);
    FunctionError::new("Function.Timeout", message)
}

fn wrong(error: &TalkError) -> FunctionError {
    FunctionError::new("Function.InvalidAnswer", log::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u32::try_from(content.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn read(bytes: &[u8], size: usize) -> Result<Vec<Message>, TalkError> {
        let (mut messages, mut found) = (Messages::default(), Vec::new());
        for mut part in bytes.chunks(size) {
            if let Step::Done(message) = messages.read(&mut part)? {
                found.push(message);
            }
            while let Some(message) = messages.take()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_have_kinds_and_a_length() {
        assert!(matches!(read(b"X\0\0\0\0", 9), Err(TalkError::Kind(b'X'))));
        let long = u32::try_from(MAX_MESSAGE_BYTES).expect("fits") + 1;
        let long = [b"A", &long.to_be_bytes()[..]].concat();
        assert!(matches!(read(&long, 9), Err(TalkError::Length(_))));
        assert!(Report::parse(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn messages_read_back_however_they_are_cut(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..5),
            size in 1usize..50,
        ) {
            let bytes: Vec<u8> = contents.iter().flat_map(|c| message(b'A', c)).collect();
            let expected: Vec<_> = contents.into_iter().map(Message::Answer).collect();
            prop_assert_eq!(read(&bytes, size).expect("valid"), expected);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes, 7);
        }
    }
}
