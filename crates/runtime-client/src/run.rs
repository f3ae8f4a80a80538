use std::convert::Infallible;
use std::env;
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{mpsc, Arc};
use std::thread;

use crate::{workers_from_env, Client, Error, FunctionError, Invocation};

/// What a handler answers: bytes and their media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Passed on to the caller; `application/json` unless set.
    pub content_type: String,
    /// The answer's bytes; JSON, where the caller expects JSON.
    pub body: Vec<u8>,
}

impl<B: Into<Vec<u8>>> From<B> for Response {
    fn from(body: B) -> Response {
        Response { content_type: "application/json".to_owned(), body: body.into() }
    }
}

/// Runs a handler for as long as the platform sends events, in as many workers as the platform asks
/// for. Returns when the runtime has to exit; why stands on stderr, that is, in the log.
pub fn run<H, R>(handler: H) -> ExitCode
where
    H: Fn(&Invocation) -> Result<R, FunctionError> + Send + Sync + 'static,
    R: Into<Response>,
{
    run_with_init(|| Ok(handler))
}

/// As [`run`], with an init that may fail: its error is reported as the function's init error, and
/// the process exits with 1.
pub fn run_with_init<I, H, R>(init: I) -> ExitCode
where
    I: FnOnce() -> Result<H, FunctionError>,
    H: Fn(&Invocation) -> Result<R, FunctionError> + Send + Sync + 'static,
    R: Into<Response>,
{
    let result = init_and_serve(init);
    if let Err(error) = result {
        log(&error);
    }
    ExitCode::FAILURE
}

fn init_and_serve<I, H, R>(init: I) -> Result<(), Error>
where
    I: FnOnce() -> Result<H, FunctionError>,
    H: Fn(&Invocation) -> Result<R, FunctionError> + Send + Sync + 'static,
    R: Into<Response>,
{
    let mut client = Client::from_env()?;
    let workers = workers_from_env()?;
    match init() {
        Ok(handler) => serve(client, workers, handler).map(|never| match never {}),
        Err(error) => Err(client.fail_init(&error)),
    }
}

/// Serves events with `workers` workers until one of them has to stop. `client` is the first
/// worker's; the others get their own to the same endpoint.
///
/// # Errors
/// Whatever stopped the first worker that stopped. The others may still wait for events; the
/// process should end, since a runtime with fewer workers would silently serve less.
pub fn serve<H, R>(client: Client, workers: usize, handler: H) -> Result<Infallible, Error>
where
    H: Fn(&Invocation) -> Result<R, FunctionError> + Send + Sync + 'static,
    R: Into<Response>,
{
    if workers <= 1 {
        return work(client, true, &handler);
    }
    let handler = Arc::new(handler);
    let (stopped, first_stop) = mpsc::channel();
    for _ in 0..workers {
        let (handler, stopped, client) = (handler.clone(), stopped.clone(), client.another()?);
        thread::spawn(move || {
            // Nobody listens for the second worker that stops.
            let _ = stopped.send(work(client, false, &*handler));
        });
    }
    let Ok(result) = first_stop.recv() else { unreachable!("this thread holds a sender") };
    result
}

fn work<H, R>(mut client: Client, alone: bool, handler: &H) -> Result<Infallible, Error>
where
    H: Fn(&Invocation) -> Result<R, FunctionError>,
    R: Into<Response>,
{
    loop {
        let event = client.next()?;
        if alone {
            set_trace_id(event.trace_id());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(&event)));
        let posted = match outcome {
            Ok(Ok(response)) => {
                let Response { content_type, body } = response.into();
                client.respond(event.request_id(), &content_type, &body)
            }
            Ok(Err(error)) => client.error(event.request_id(), &error),
            Err(panic) => client.error(event.request_id(), &panic_error(&*panic)),
        };
        match posted {
            Err(error) if error.is_about_this_event() => log(&error),
            posted => posted?,
        }
    }
}

/// One process environment cannot hold the trace ids of two events, so only a lone worker does it.
#[expect(
    clippy::disallowed_methods,
    reason = "the Runtime API asks for it; no other thread of this crate reads the environment"
)]
fn set_trace_id(trace_id: Option<&str>) {
    match trace_id {
        Some(id) if !id.contains('\0') => env::set_var("_X_AMZN_TRACE_ID", id),
        _ => env::remove_var("_X_AMZN_TRACE_ID"),
    }
}

fn panic_error(panic: &(dyn std::any::Any + Send)) -> FunctionError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    FunctionError::new("Function.Panic", text.unwrap_or("the handler panicked"))
}

fn log(error: &Error) {
    let mut line = format!("runtime: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        source = inner.source();
    }
    line.push('\n');
    // The log is all there is; if it is closed, nobody can be told.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
