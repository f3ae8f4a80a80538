//! The runtime's loop: next event, hand it over, answer; one per event that is handled at a time.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use lambfold_runtime_client::{Client, Error, FunctionError, Invocation, Linger, workers_from_env};

use crate::attend::{AttendError, Attendance, Runner, Stop};
use crate::config::{Config, ConfigError};
use crate::coprocess::{Coprocess, Files, MAX_INLINE_BYTES, StartError};
use crate::handler::{Handler, HandlerError};
use crate::output::Late;
use crate::script::{MAX_ARGUMENT_BYTES, Script};

/// As much as a pipe holds.
const BUFFER_BYTES: usize = 64 * 1024;
const USER_AGENT: &str = concat!("lambfold-bash/", env!("CARGO_PKG_VERSION"));

/// What ends the runtime.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error(transparent)]
    Attend(#[from] AttendError),
    #[error("bash cannot be started")]
    Start(#[source] io::Error),
    /// A shell that ended has no successor.
    #[error("init failed: {0}")]
    Restart(String),
}

/// Runs the bash runtime until the platform ends it. Returns only if it cannot go on; why stands in
/// the log.
pub fn run() -> ExitCode {
    if let Err(error) = try_run() {
        log(&error);
    }
    ExitCode::FAILURE
}

fn try_run() -> Result<(), RunError> {
    let mut client = client()?;
    let workers = workers_from_env()?;
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return Err(client.fail_init(&config_error(&error)).into()),
    };
    if config.compat {
        // Where that layer had the AWS CLI look.
        let _ = std::fs::create_dir_all("/tmp/.aws");
    }
    if workers == 1 {
        return Worker::new(client, config)?.work();
    }
    let (stopped, first_stop) = mpsc::channel();
    for _ in 0..workers {
        let (stopped, config, client) = (stopped.clone(), config.clone(), self::client()?);
        thread::spawn(move || {
            let result = Worker::new(client, config).and_then(Worker::work);
            // Nobody listens for the second worker that stops.
            let _ = stopped.send(result);
        });
    }
    // A runtime with fewer workers would silently serve less.
    first_stop.recv().unwrap_or(Ok(()))
}

fn client() -> Result<Client, Error> {
    Ok(Client::from_env()?.with_user_agent(USER_AGENT))
}

fn config_error(error: &ConfigError) -> FunctionError {
    let is_compat = env::var_os("LAMBFOLD_BASH_COMPAT").is_some_and(|value| value == "gkrizek");
    match error {
        ConfigError::Handler(HandlerError::NoFile { handler, .. }) if is_compat => {
            let (module, function) = handler.rsplit_once('.').unwrap_or((handler, ""));
            let message = format!("Failed to load handler '{function}' from module '{module}'");
            FunctionError::new("InvalidHandlerException", message)
        }
        error => error.to_function_error(),
    }
}

struct Worker {
    client: Client,
    config: Config,
    name: String,
    engine: Engine,
    late: Late,
    /// For a function that runs in a shell that stays.
    linger: Option<Linger>,
    /// Of the event before, which nobody waits for any more.
    spent: Option<Files>,
    buffer: Vec<u8>,
}

enum Engine {
    Function(Coprocess),
    Script(Script),
}

impl Worker {
    /// Does the init: a function's file is sourced here.
    fn new(mut client: Client, config: Config) -> Result<Worker, RunError> {
        let engine = match &config.handler {
            Handler::Function { .. } => match Coprocess::start(&config) {
                Ok(coprocess) => Engine::Function(coprocess),
                Err(StartError::Function(error)) => return Err(client.fail_init(&error).into()),
                Err(StartError::Io(error)) => return Err(RunError::Start(error)),
            },
            Handler::Script(path) => match Script::new(path) {
                Ok(script) => Engine::Script(script),
                Err(error) => {
                    let message = format!("{} cannot be read: {error}", path.display());
                    let error = FunctionError::new("Runtime.ImportModuleError", message);
                    return Err(client.fail_init(&error).into());
                }
            },
        };
        let name = env::var("_HANDLER").unwrap_or_default();
        let linger = config.persist.then(Linger::new);
        Ok(Worker {
            client,
            config,
            name,
            engine,
            late: Late::default(),
            linger,
            spent: None,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn work(mut self) -> Result<(), RunError> {
        loop {
            // A handler in the main shell may have ended it. The caller has its answer by now, so
            // that the new init costs nobody's time.
            self.revive()?;
            let event = self.client.next()?;
            if let Err(RunError::Restart(message)) = self.make_ready() {
                let error = FunctionError::new("Runtime.InitError", message.as_str());
                self.client.error(event.request_id(), &error)?;
                return Err(RunError::Restart(message));
            }
            self.serve(&event)?;
        }
    }

    fn revive(&mut self) -> Result<(), RunError> {
        let Engine::Function(coprocess) = &mut self.engine else { return Ok(()) };
        if !coprocess.is_alive() {
            *coprocess = Coprocess::start(&self.config).map_err(|error| match error {
                StartError::Function(error) => RunError::Restart(error.message().to_owned()),
                StartError::Io(error) => RunError::Start(error),
            })?;
        }
        Ok(())
    }

    /// The same, with an event that waits for the shell.
    fn make_ready(&mut self) -> Result<(), RunError> {
        loop {
            self.revive()?;
            match &mut self.engine {
                Engine::Function(coprocess) => {
                    if coprocess.await_lane().map_err(RunError::Start)? {
                        return Ok(());
                    }
                }
                Engine::Script(_) => return Ok(()),
            }
        }
    }

    fn serve(&mut self, event: &Invocation) -> Result<(), RunError> {
        let stop = Stop::new(Instant::now(), event.remaining(), self.config.stop_before);
        if event.body().contains(&0) {
            log_line(
                "the event holds NUL bytes, which bash cannot: $1 is without them, stdin has them",
            );
        }
        match &mut self.engine {
            Engine::Function(coprocess) => {
                let linger = self.linger.as_mut();
                let is_next_soon = linger.is_some_and(|linger| linger.begin(Instant::now()));
                let (number, files) =
                    coprocess.give(event, is_next_soon).map_err(AttendError::Io)?;
                // What else there is to do is done while bash is busy.
                if let Some(spent) = self.spent.take() {
                    self.late.add(spent.output);
                }
                self.late.forward(&mut self.buffer);
                coprocess.prepare();
                let lane = coprocess.lane(number);
                let lane = &mut coprocess.lanes[lane];
                let attendance = Attendance {
                    event,
                    number,
                    handler: &self.name,
                    compat: self.config.compat,
                    runner: Runner::Shell {
                        commands: &lane.commands,
                        context: &lane.context,
                        shell: &mut lane.shell,
                        ended_slot: &mut lane.ended_slot,
                        persist: self.linger.as_mut(),
                    },
                    process: &mut coprocess.process,
                    reports: &mut lane.reports,
                    output: &files.output,
                    late: &mut self.late,
                    buffer: &mut self.buffer,
                    stop,
                };
                attendance.attend(&mut self.client)?;
                if event.body().len() <= MAX_INLINE_BYTES {
                    self.spent = Some(files);
                } else {
                    self.late.add(files.output);
                }
            }
            Engine::Script(script) => {
                self.late.forward(&mut self.buffer);
                let files = Files::new().map_err(AttendError::Io)?;
                files.write(event.body()).map_err(AttendError::Io)?;
                let mut started = match script.start(&self.config, event, &files) {
                    Ok(started) => started,
                    Err(error) => {
                        let mut message = format!("{} cannot be started: {error}", self.name);
                        if event.body().len() > MAX_ARGUMENT_BYTES / 2 {
                            message.push_str(
                                "; the event is passed as an argument up to 131071 bytes",
                            );
                        }
                        let error = FunctionError::new("Function.StartError", message);
                        self.client.error(event.request_id(), &error)?;
                        return Ok(());
                    }
                };
                let attendance = Attendance {
                    event,
                    number: started.number,
                    handler: &self.name,
                    compat: false,
                    runner: Runner::Script,
                    process: &mut started.process,
                    reports: &mut script.reports,
                    output: &files.output,
                    late: &mut self.late,
                    buffer: &mut self.buffer,
                    stop,
                };
                attendance.attend(&mut self.client)?;
                self.late.add(files.output);
            }
        }
        Ok(())
    }
}

/// Writes an error and its sources to the log, on one line.
pub(crate) fn log(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    log_line(&text);
}

fn log_line(text: &str) {
    // The log is all there is; if it is closed, nobody can be told.
    let _ = io::stderr().write_all(format!("bash runtime: {text}\n").as_bytes());
}
