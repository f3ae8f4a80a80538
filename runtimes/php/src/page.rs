//! HTTP events: one php-cgi that lives on, spoken to through FastCGI over one connection.

use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lambfold_runtime_client::{Client, Error, FunctionError, Invocation, Linger, ResponseStream};

use crate::answer::{self, Head, HeadError, HeadReader, MAX_ANSWER_BYTES};
use crate::config::{Config, NoProgram};
use crate::conversation::{End, MaybeIo, Step, converse, converse_awake, is_silent};
use crate::event::{Format, HttpEvent};
use crate::fastcgi::{self, Reader, Record, RecordError};
use crate::home::{Home, Socket};
use crate::log;
use crate::params::{self, Script};
use crate::process::Process;

/// A php-cgi and the connection to it.
#[derive(Debug)]
pub(crate) struct Page {
    process: Process,
    /// Where it listens; gone once it is connected.
    socket: Option<Socket>,
    /// None before the first request: PHP closes a connection that says nothing for five seconds.
    /// One that has carried a request it keeps.
    stream: Option<UnixStream>,
    reader: Reader,
    /// Whether the connection is at the beginning of a request.
    is_clean: bool,
    served: u64,
    linger: Linger,
}

/// Why there is no php-cgi.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    #[error("PHP {0} while it started; what it said is in the log")]
    Died(String),
    #[error("PHP did not start in time")]
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
            other => FunctionError::new("Runtime.StartError", log::chain(other)),
        }
    }
}

/// What PHP said that it should not have said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    #[error("the connection to PHP failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl MaybeIo for TalkError {
    fn io_kind(&self) -> Option<ErrorKind> {
        match self {
            TalkError::Io(error) => Some(error.kind()),
            _ => None,
        }
    }
}

impl Page {
    /// Starts a php-cgi. It may still be starting when this returns: what is sent to it waits.
    pub(crate) fn start(home: &Home, config: &Config) -> Result<Page, StartError> {
        let (listener, socket) = home.listen()?;
        Ok(Page::new(launch(home, config, listener)?, socket))
    }

    fn new(process: Process, socket: Socket) -> Page {
        let (socket, reader) = (Some(socket), Reader::default());
        Page {
            process,
            socket,
            stream: None,
            reader,
            is_clean: true,
            served: 0,
            linger: Linger::new(),
        }
    }

    /// Starts a php-cgi and waits until it is there, so that what hinders it is known.
    pub(crate) fn start_and_wait(home: &Home, config: &Config) -> Result<Page, StartError> {
        let (listener, socket) = home.listen()?;
        // PHP closes a connection that only asks.
        let stream = connect(&socket)?;
        let mut page = Page::new(launch(home, config, listener)?, socket);
        let mut reader = Reader::default();
        let read = |stream: &mut &UnixStream| -> Result<Step<()>, TalkError> {
            let size = reader.fill(stream)?;
            match reader.next()? {
                Some(Record::Values) => Ok(Step::Done(())),
                _ if size == 0 => Ok(Step::Closed),
                _ => Ok(Step::More),
            }
        };
        // The platform itself limits the time of an init.
        match converse(&mut page.process, &stream, &fastcgi::question(), None, read) {
            Ok(End::Done(..)) => Ok(page),
            Ok(End::Died(how)) => Err(StartError::Died(how)),
            Ok(End::Stopped) => Err(StartError::Late),
            Err(error) => Err(StartError::Talk(error)),
        }
    }

    /// Whether it can take a request. One that has ended by itself, was left in the middle of an
    /// answer, or has served as many as it should, cannot.
    pub(crate) fn is_usable(&mut self, config: &Config) -> bool {
        let is_old = config.max_requests.is_some_and(|max| self.served >= max.get());
        let is_kept = self.stream.as_ref().is_none_or(is_silent);
        self.is_clean && !is_old && is_kept && self.process.status().is_none()
    }

    /// Answers one event. An error ends the runtime.
    pub(crate) fn serve(
        &mut self,
        client: &mut Client,
        config: &Config,
        event: &HttpEvent<'_>,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        let request_id = invocation.request_id();
        let is_stream = config.stream.unwrap_or_else(|| invocation.caller_streams());
        let script = Script { file: &config.file };
        let bytes = match params::request(script, event, invocation) {
            Ok(request) => request.with_body(&event.body),
            Err(error) => {
                log::error(&error);
                let head = Head { status: 431, reason: None, headers: Vec::new() };
                let mut reply = Reply::new(client, is_stream, request_id);
                reply.begin(head, &[])?;
                return reply.finish(event.format);
            }
        };
        let remaining = invocation.remaining();
        let stop_at = config.stop_at(Instant::now(), remaining);
        let mut reply = Reply::new(client, is_stream, request_id);
        let ended = self.exchange(&bytes, stop_at, &mut reply);
        let failure = match ended {
            Err(Failed::Client(error)) => return Err(error),
            Ok(End::Done((), _)) if reply.head.is_some() => {
                if reply.is_bare() && event.method != "HEAD" {
                    hint(config);
                }
                return reply.finish(event.format);
            }
            Ok(End::Done((), _)) => wrong_answer(&HeadError::Cut),
            Ok(End::Died(how)) => FunctionError::new(
                "Function.WorkerDied",
                format!("PHP {how} while it ran {}", config.name),
            ),
            Ok(End::Stopped) => FunctionError::new(
                "Function.Timeout",
                format!(
                    "{} was stopped {} ms before its deadline",
                    config.name,
                    config.stop_margin(remaining).as_millis()
                ),
            ),
            Err(Failed::Talk(error)) => wrong_answer(&error),
        };
        reply.fail(&failure)
    }

    fn exchange(
        &mut self,
        bytes: &[u8],
        stop_at: Option<Instant>,
        reply: &mut Reply<'_>,
    ) -> Result<End<()>, Failed> {
        let Page { process, socket, stream, reader, is_clean, served, linger } = self;
        *served += 1;
        *is_clean = false;
        if let Some(socket) = socket.take() {
            *stream = Some(connect(&socket).map_err(TalkError::from)?);
        }
        let Some(stream) = stream else { return Ok(End::Died("closed its socket".to_owned())) };
        reader.restart().map_err(TalkError::from)?;
        let read = |stream: &mut &UnixStream| -> Result<Step<()>, Failed> {
            let size = reader.fill(stream).map_err(TalkError::from)?;
            if size == 0 {
                return Ok(Step::Closed);
            }
            while let Some(record) = reader.next().map_err(TalkError::from)? {
                match record {
                    Record::Output(part) => reply.push(part)?,
                    Record::Log(text) => log::foreign(text),
                    Record::End => return Ok(Step::Done(())),
                    Record::Values => {}
                }
            }
            Ok(Step::More)
        };
        let ended = converse_awake(linger, process, stream, bytes, stop_at, read);
        *is_clean = matches!(ended, Ok(End::Done((), true)));
        ended
    }
}

/// Says once what an empty page may mean.
fn hint(config: &Config) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let text = std::fs::read_to_string(&config.file).unwrap_or_default();
    let callables = ["return function", "return static f", "return fn", "return new "];
    let has_callable = callables.iter().any(|callable| text.contains(callable));
    if has_callable && !SAID.swap(true, Ordering::Relaxed) {
        log::line(&format!(
            "the page is empty: HTTP events run {} as a web server would. If what it returns should \
             be called with them, set LAMBFOLD_PHP_MODE=function",
            config.name
        ));
    }
}

/// Connects before there is anybody to accept, so that nobody has to be waited for.
fn connect(socket: &Socket) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket.path())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn launch(home: &Home, config: &Config, listener: UnixListener) -> Result<Process, StartError> {
    let program = config.php.cgi.as_ref().map_err(Clone::clone)?;
    let mut command = home.command(program, config);
    // A listening socket as standard input is how FastCGI programs know what they are.
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    command.env("PHP_FCGI_CHILDREN", "0");
    // For ever: when it is renewed, this runtime says, since it knows when nothing is on its way.
    command.env("PHP_FCGI_MAX_REQUESTS", "0");
    // With one of these it would take itself for a CGI program.
    for name in ["GATEWAY_INTERFACE", "REQUEST_METHOD", "SERVER_SOFTWARE"] {
        command.env_remove(name);
    }
    Ok(Process::start(&mut command)?)
}

fn wrong_answer(error: &dyn std::error::Error) -> FunctionError {
    FunctionError::new("Function.InvalidAnswer", log::chain(error))
}

/// Why an exchange failed: because of PHP, or because of the platform.
#[derive(Debug)]
enum Failed {
    Talk(TalkError),
    Client(Error),
}

impl<E: Into<TalkError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Talk(error.into())
    }
}

impl MaybeIo for Failed {
    fn io_kind(&self) -> Option<ErrorKind> {
        match self {
            Failed::Talk(error) => error.io_kind(),
            Failed::Client(_) => None,
        }
    }
}

/// The answer to one event as it comes in.
struct Reply<'c> {
    request_id: &'c str,
    is_stream: bool,
    /// Lent to the stream, if one begins.
    client: Option<&'c mut Client>,
    stream: Option<ResponseStream<'c>>,
    /// Whether the caller still takes what is streamed.
    stream_is_broken: bool,
    reader: HeadReader,
    head: Option<Head>,
    body: Vec<u8>,
}

impl<'c> Reply<'c> {
    fn new(client: &'c mut Client, is_stream: bool, request_id: &'c str) -> Reply<'c> {
        Reply {
            request_id,
            is_stream,
            client: Some(client),
            stream: None,
            stream_is_broken: false,
            reader: HeadReader::default(),
            head: None,
            body: Vec::new(),
        }
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Failed> {
        if self.head.is_some() {
            self.write(part);
            return Ok(());
        }
        match self.reader.push(part).map_err(TalkError::from)? {
            Some((head, body)) => self.begin(head, &body).map_err(Failed::Client),
            None => Ok(()),
        }
    }

    /// Whether the page has said nothing at all.
    fn is_bare(&self) -> bool {
        let is_ok = self.head.as_ref().is_some_and(|head| head.status == 200);
        is_ok && !self.is_stream && self.body.is_empty()
    }

    fn begin(&mut self, head: Head, body: &[u8]) -> Result<(), Error> {
        if self.is_stream
            && let Some(client) = self.client.take()
        {
            let mut prelude = answer::prelude(&head).into_bytes();
            prelude.extend_from_slice(&answer::STREAM_DELIMITER);
            self.stream = Some(client.stream(self.request_id, answer::STREAM_TYPE)?);
            self.write(&prelude);
        }
        self.head = Some(head);
        self.write(body);
        Ok(())
    }

    fn write(&mut self, part: &[u8]) {
        match &mut self.stream {
            Some(stream) if !self.stream_is_broken && !part.is_empty() => {
                // Why it broke is what the end of the stream brings.
                self.stream_is_broken = stream.write_all(part).is_err();
            }
            Some(_) => {}
            None => {
                let room = MAX_ANSWER_BYTES + 1 - self.body.len();
                self.body.extend_from_slice(&part[..part.len().min(room)]);
            }
        }
    }

    fn finish(mut self, format: Format) -> Result<(), Error> {
        let head = self.head.take().unwrap_or(Head { status: 200, reason: None, headers: vec![] });
        match (self.stream.take(), self.client.take()) {
            (Some(stream), _) => posted(stream.finish()),
            (None, Some(client)) => {
                if answer::loses_cookies(format, &head) {
                    log::line(
                        "of several cookies only the last one is sent: turn on the multi-value \
                         headers of the load balancer's target group",
                    );
                }
                let answer = answer::whole(format, &head, &self.body);
                posted(client.respond(self.request_id, "application/json", &answer))
            }
            (None, None) => Ok(()),
        }
    }

    fn fail(mut self, error: &FunctionError) -> Result<(), Error> {
        match (self.stream.take(), self.client.take()) {
            (Some(stream), _) => posted(stream.fail(error)),
            (None, Some(client)) => posted(client.error(self.request_id, error)),
            (None, None) => Ok(()),
        }
    }
}

/// What the platform did not want of one answer is no reason to end.
pub(crate) fn posted(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_about_this_event() => {
            log::error(&error);
            Ok(())
        }
        result => result,
    }
}
