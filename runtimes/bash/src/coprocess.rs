//! The bash that stays: sources the handler file once and takes events.
//!
//! An event is handed over in three steps: its bytes go into a new memory file, its other fields
//! (and its bytes once more, if they are few) into the context file of its lane, its number into that
//! lane's command pipe. The context file is open in bash too, with the same position, which is put
//! back to the beginning first. It begins with the number: a shell that reads another one from the
//! pipe throws that away. A subshell empties the file before it runs the handler.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use lambfold_runtime_client::{FunctionError, Invocation};
use rustix::process::Signal;

use crate::config::Config;
use crate::failure;
use crate::handler::Handler;
use crate::lane::{self, Lane, command, memory_file, write_all};
use crate::output::Pipe;
use crate::process::Process;
use crate::report::{Failure, Message};
use crate::shell::{DRIVER, push_assignment};

/// How often a shell looks for the next event: for about [`lambfold_runtime_client::Linger::SOON`].
const LOOKS: &[u8] = b"40";
/// A lane is there as soon as a shell has been copied.
const LANE_WITHIN: Duration = Duration::from_secs(1);
/// Event numbers have seven digits, and begin again.
const MAX_NUMBER: u64 = 9_999_999;
/// An event up to this size, in bytes, and without NULs, is read along with its context.
pub(crate) const MAX_INLINE_BYTES: usize = 16 * 1024;

/// Places for what shells open by number. A subshell whose main shell has died may live on for a
/// while, and must not find what belongs to the next one under the numbers it knows.
static PLACES: AtomicI32 = AtomicI32::new(0);
const FIRST_PLACE: i32 = 64;
const PLACES_OF_ONE: i32 = 8;
const _: () = assert!(2 * lane::PLACES <= PLACES_OF_ONE);
const GENERATIONS: i32 = 100;

/// What a handler's standard input and output are, for one event.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) stdin: OwnedFd,
    pub(crate) output: Pipe,
}

impl Files {
    /// The event is still to be written.
    pub(crate) fn new() -> io::Result<Files> {
        // Memory for the first byte is memory for a small event, and it is found ahead of time.
        Ok(Files { stdin: memory_file(&[0])?, output: Pipe::new()? })
    }

    pub(crate) fn write(&self, event: &[u8]) -> io::Result<()> {
        if event.is_empty() {
            rustix::fs::ftruncate(&self.stdin, 0)?;
        }
        write_all(&self.stdin, event)
    }
}

/// Variables that seldom change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    function_arn: String,
    content_type: String,
}

#[derive(Debug)]
pub(crate) struct Coprocess {
    pub(crate) process: Process,
    pub(crate) lanes: Vec<Lane>,
    /// The folder in which the shell finds what it opens.
    fds: String,
    number: u64,
    /// For the next event. A shell that stays has them open by now.
    files: Files,
    /// For the event after that: made while nobody waits.
    spare: Option<Files>,
    persist: bool,
    /// What the shell knows of the last event, if that had the usual variables.
    told: Option<Told>,
}

/// Why there is no bash with the handler in it.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The function's fault, or the configuration's.
    Function(FunctionError),
    Io(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::Io(error)
    }
}

impl Coprocess {
    /// Starts bash and waits until it has sourced the handler file.
    pub(crate) fn start(config: &Config) -> Result<Coprocess, StartError> {
        let Handler::Function { file, function } = &config.handler else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        };
        let generation = PLACES.fetch_add(1, Ordering::Relaxed).rem_euclid(GENERATIONS);
        let place = FIRST_PLACE + generation * PLACES_OF_ONE;
        let first = Lane::new(place)?;
        let files = Files::new()?;
        let mut text = Vec::with_capacity(DRIVER.len() + 1024);
        let fds = format!("/proc/{}/fd/", std::process::id());
        let path = |number: i32| format!("{fds}{number}");
        push_assignment(&mut text, "__lambfold_reports", path(first.reports.pipe.number()));
        push_assignment(&mut text, "__lambfold_commands", path(first.commands.number()));
        push_assignment(&mut text, "__lambfold_context", path(first.context.number()));
        push_assignment(&mut text, "__lambfold_stdin", path(files.stdin.as_raw_fd()));
        push_assignment(&mut text, "__lambfold_stdout", path(files.output.number()));
        push_assignment(&mut text, "__lambfold_file", file);
        push_assignment(&mut text, "__lambfold_function", function);
        let mode = if config.persist { "persist" } else { "isolate" };
        push_assignment(&mut text, "__lambfold_mode", mode);
        push_assignment(&mut text, "__lambfold_compat", if config.compat { "1" } else { "" });
        let mut command = bash(config);
        command.stdin(Stdio::from(first.context.try_clone()?));
        let mut lanes = vec![first];
        if !config.persist {
            let other = Lane::new(place + lane::PLACES)?;
            let number = other.reports.pipe.number();
            push_assignment(&mut text, "__lambfold_other_reports", path(number));
            push_assignment(&mut text, "__lambfold_other_commands", path(other.commands.number()));
            push_assignment(&mut text, "__lambfold_other_context", path(other.context.number()));
            command.stdout(Stdio::from(other.context.try_clone()?));
            lanes.push(other);
        }
        text.extend_from_slice(DRIVER);
        let driver = memory_file(&text)?;
        command.arg("-c").arg(format!("source {} >&2", path(driver.as_raw_fd())));
        let process = Process::start(command.arg(&config.own_path))?;
        let mut coprocess = Coprocess {
            process,
            lanes,
            fds,
            number: 0,
            files,
            spare: None,
            persist: config.persist,
            told: Some(Told::default()),
        };
        coprocess.prepare();
        coprocess.wait_until_ready(config)?;
        Ok(coprocess)
    }

    fn wait_until_ready(&mut self, config: &Config) -> Result<(), StartError> {
        let mut detail = None;
        loop {
            // Looked at before the reports: what it said before its end has then arrived.
            let status = self.process.status();
            let reports = &mut self.lanes[0].reports;
            while let Some(report) = reports.next()? {
                match report.message {
                    Message::Ready => return Ok(()),
                    Message::Detail(failure) => detail = Some(failure),
                    Message::Fail { error_type, message, stack } => {
                        let error = FunctionError::new(error_type, message).with_stack(stack);
                        return Err(StartError::Function(error));
                    }
                    Message::Old(version) => {
                        let message = format!(
                            "bash 4.4 or newer is needed, {} is {version}",
                            config.bash.display()
                        );
                        return Err(StartError::Function(FunctionError::new(
                            "Runtime.InvalidConfiguration",
                            message,
                        )));
                    }
                    Message::Missing => return Err(StartError::Function(missing(config))),
                    _ => {}
                }
            }
            if let Some(status) = status {
                return Err(StartError::Function(ended_in_init(config, status, detail)));
            }
            crate::attend::wait(&[reports.pipe.reader()], &[self.process.end()], None)?;
            reports.wake();
        }
    }

    /// Whether all its shells are there; ends those that are left if not.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.lanes.iter_mut().any(|lane| lane.is_gone()) {
            self.process.signal(Signal::KILL);
            return false;
        }
        self.process.is_alive()
    }

    /// Waits until the lane of the next event has its shell; ends all if that does not come, since
    /// nobody would say then that the event is lost.
    pub(crate) fn await_lane(&mut self) -> io::Result<bool> {
        let until = Instant::now() + LANE_WITHIN;
        let lane = self.lane(self.number % MAX_NUMBER + 1);
        while self.lanes.len() > 1 && !self.lanes[lane].has_shell() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.process.is_alive() {
                self.process.signal(Signal::KILL);
                return Ok(false);
            }
            let reports = [self.lanes[lane].reports.pipe.reader()];
            crate::attend::wait(&reports, &[self.process.end()], Some(left))?;
        }
        Ok(true)
    }

    /// The lane of an event.
    pub(crate) fn lane(&self, number: u64) -> usize {
        if self.lanes.len() > 1 { usize::from(number.is_multiple_of(2)) } else { 0 }
    }

    /// Hands an event over; gives its number and what its input and output are. A shell that stays
    /// looks for the next one before it sleeps if that is expected soon.
    pub(crate) fn give(
        &mut self,
        event: &Invocation,
        is_next_soon: bool,
    ) -> io::Result<(u64, Files)> {
        self.number = self.number % MAX_NUMBER + 1;
        let number = command(self.number);
        let next = self.spare.take().map_or_else(Files::new, Ok)?;
        let files = std::mem::replace(&mut self.files, next);
        files.write(event.body())?;
        let variables = self.variables(event);
        let path = |number: i32| format!("{}{number}", self.fds);
        let is_inline = event.body().len() <= MAX_INLINE_BYTES && !event.body().contains(&0);
        let body = path(files.stdin.as_raw_fd());
        // A shell that stays opens its files before their event comes.
        let opens = if self.persist { &self.files } else { &files };
        let unusual: &[u8] = match (is_inline, &variables) {
            (false, _) => b"file",
            (true, Variables::Trace(_)) => b"",
            (true, _) => b"variables",
        };
        let mut fields = Vec::with_capacity(1024 + event.body().len().min(MAX_INLINE_BYTES));
        // What a longer event left in the file is behind the fields that are counted.
        push_field(&mut fields, number.as_bytes());
        push_field(&mut fields, if is_inline { event.body() } else { body.as_bytes() });
        push_field(&mut fields, unusual);
        push_field(&mut fields, path(opens.stdin.as_raw_fd()).as_bytes());
        push_field(&mut fields, path(opens.output.number()).as_bytes());
        push_field(&mut fields, event.request_id().as_bytes());
        push_field(&mut fields, event.deadline_ms().to_string().as_bytes());
        push_field(&mut fields, if is_next_soon { LOOKS } else { b"0" });
        variables.push(&mut fields);
        let lane = self.lane(self.number);
        let lane = &mut self.lanes[lane];
        lane.context.write(&fields)?;
        rustix::io::write(lane.commands.writer(), number.as_bytes())?;
        Ok((self.number, files))
    }

    /// How the variables of an event are told to the shell, which then knows them.
    fn variables<'a>(&mut self, event: &'a Invocation) -> Variables<'a> {
        let told = Told {
            function_arn: event.function_arn().to_owned(),
            content_type: event.content_type().to_owned(),
        };
        let only_trace = [event.client_context(), event.cognito_identity(), event.tenant_id()]
            .iter()
            .all(Option::is_none);
        match (event.trace_id(), &self.told) {
            (Some(trace_id), Some(before)) if only_trace => {
                if self.persist && *before == told {
                    return Variables::Trace(trace_id);
                }
                self.told = Some(told);
                Variables::Usual(trace_id, event.function_arn(), event.content_type())
            }
            (trace_id, _) => {
                // A subshell leaves nothing behind.
                if self.persist {
                    self.told = trace_id.filter(|_| only_trace).map(|_| told);
                }
                Variables::All(context(event))
            }
        }
    }

    /// Makes what the next event will need.
    pub(crate) fn prepare(&mut self) {
        if self.spare.is_none() {
            self.spare = Files::new().ok();
        }
    }
}

/// What an event says beside its id and its deadline.
enum Variables<'a> {
    /// The trace id; the rest is as it was.
    Trace(&'a str),
    /// Trace id, ARN and content type, and nothing else.
    Usual(&'a str, &'a str, &'a str),
    /// Names and values.
    All(Vec<(&'static str, Cow<'a, str>)>),
}

impl Variables<'_> {
    fn push(&self, fields: &mut Vec<u8>) {
        match self {
            Variables::Trace(trace_id) => {
                push_field(fields, b"trace");
                push_field(fields, trace_id.as_bytes());
            }
            Variables::Usual(trace_id, function_arn, content_type) => {
                push_field(fields, b"usual");
                push_field(fields, trace_id.as_bytes());
                push_field(fields, function_arn.as_bytes());
                push_field(fields, content_type.as_bytes());
            }
            Variables::All(variables) => {
                push_field(fields, variables.len().to_string().as_bytes());
                for (name, value) in variables {
                    fields.extend_from_slice(name.as_bytes());
                    fields.push(b'=');
                    push_field(fields, value.as_bytes());
                }
            }
        }
    }
}

fn push_field(fields: &mut Vec<u8>, field: &[u8]) {
    fields.extend(field.iter().filter(|byte| **byte != 0));
    fields.push(0);
}

/// What handlers find in their environment about an event; what the platform did not say is absent.
pub(crate) fn context(event: &Invocation) -> Vec<(&'static str, Cow<'_, str>)> {
    let deadline = event.deadline_ms().to_string();
    let always = [
        ("AWS_LAMBDA_REQUEST_ID", Cow::Borrowed(event.request_id())),
        ("AWS_LAMBDA_DEADLINE_MS", Cow::Owned(deadline)),
        ("AWS_LAMBDA_FUNCTION_ARN", Cow::Borrowed(event.function_arn())),
        ("AWS_LAMBDA_CONTENT_TYPE", Cow::Borrowed(event.content_type())),
    ];
    let sometimes = OPTIONAL_CONTEXT.into_iter().zip([
        event.trace_id(),
        event.trace_id(),
        event.client_context(),
        event.cognito_identity(),
        event.tenant_id(),
    ]);
    let sometimes = sometimes.filter_map(|(name, value)| Some((name, Cow::Borrowed(value?))));
    always.into_iter().chain(sometimes).collect()
}

/// What an earlier event may have left in the environment.
pub(crate) const OPTIONAL_CONTEXT: [&str; 5] = [
    "AWS_LAMBDA_TRACE_ID",
    "_X_AMZN_TRACE_ID",
    "AWS_LAMBDA_CLIENT_CONTEXT",
    "AWS_LAMBDA_COGNITO_IDENTITY",
    "AWS_LAMBDA_TENANT_ID",
];

/// A command for the runtime's bash, in the function's folder.
pub(crate) fn bash(config: &Config) -> Command {
    let mut command = Command::new(&config.bash);
    command.args(["--noprofile", "--norc"]).current_dir(&config.root);
    // Many programs insist on a home that can be written to, and this is the one place.
    if std::env::var_os("HOME").is_none_or(|home: OsString| home.is_empty()) || config.compat {
        command.env("HOME", "/tmp");
    }
    command
}

fn missing(config: &Config) -> FunctionError {
    let Handler::Function { file, function } = &config.handler else {
        return FunctionError::default();
    };
    let message = match syntax_error(config) {
        // A file that cannot be read to its end defines only the functions before the mistake.
        Some(error) => return error,
        None => format!("{} does not define the function `{function}`", file.display()),
    };
    FunctionError::new("Runtime.HandlerNotFound", message)
}

fn ended_in_init(config: &Config, status: i32, detail: Option<Failure>) -> FunctionError {
    if let Some(error) = syntax_error(config) {
        return error;
    }
    let Handler::Function { file, .. } = &config.handler else { return FunctionError::default() };
    let is_known = detail.is_some();
    let failure = Failure { status, ..detail.unwrap_or_default() };
    let error = failure::function_error(&format!("init of {}", file.display()), failure);
    let mut message = error.message().to_owned();
    if !is_known {
        message
            .push_str("; bash needs /proc to reach this runtime, and its messages are in the log");
    }
    FunctionError::new("Runtime.InitError", message).with_stack(error.stack().to_vec())
}

/// What bash says about the handler file's syntax, if that is wrong. Asked only after a failure.
fn syntax_error(config: &Config) -> Option<FunctionError> {
    let Handler::Function { file, .. } = &config.handler else { return None };
    let output = bash(config).arg("-n").arg(file).stdin(Stdio::null()).output().ok()?;
    if output.status.success() {
        return None;
    }
    let mut text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if std::fs::read(file).is_ok_and(|bytes| bytes.windows(2).any(|two| two == b"\r\n")) {
        text.push_str("; the file has CR LF line ends, which bash does not know: convert it to LF");
    }
    Some(FunctionError::new("Runtime.UserCodeSyntaxError", text))
}
