//! The guest side of the Lambda Runtime API: what a custom runtime is written with.
//!
//! In: the address of the Runtime API (`AWS_LAMBDA_RUNTIME_API`) and, over one kept-alive
//! connection, events. Out: answers, errors and streamed responses. Everything blocks; a runtime
//! handles one event at a time, and where the platform asks for more
//! (`AWS_LAMBDA_MAX_CONCURRENCY`), one thread with its own [`Client`] stands for each.
//!
//! Forbidden here: an async runtime, any crate of the platform's own side, and every dependency
//! that would be linked into a guest. A static runtime on this crate is a few hundred KiB.
//!
//! # A runtime in a few lines
//!
//! ```no_run
//! use lambfold_runtime_client::{run, Invocation};
//!
//! fn main() -> std::process::ExitCode {
//!     run(|event: &Invocation| {
//!         let text = String::from_utf8(event.body().to_vec())?;
//!         Ok(format!("{{\"length\":{}}}", text.len()))
//!     })
//! }
//! ```
//!
//! # The same flow by hand
//!
//! ```no_run
//! use std::io::Write;
//! use lambfold_runtime_client::{Client, Error, FunctionError};
//!
//! fn main() -> Result<(), Error> {
//!     let mut client = Client::from_env()?;
//!     loop {
//!         let event = client.next()?;
//!         if event.body() == b"\"stream\"" {
//!             let mut stream = client.stream(event.request_id(), "text/plain")?;
//!             let _ = writeln!(stream, "as it comes");
//!             stream.finish()?;
//!         } else if event.body() == b"\"fail\"" {
//!             client.error(event.request_id(), &FunctionError::new("Function.Refused", "no"))?;
//!         } else {
//!             client.respond(event.request_id(), "application/json", event.body())?;
//!         }
//!     }
//! }
//! ```

mod client;
mod connection;
mod error;
mod function_error;
mod http;
mod invocation;
mod json;
mod linger;
mod run;
#[cfg(feature = "scripted-server")]
pub mod scripted;
mod stream;

pub use client::{workers_from_env, Client};
pub use error::Error;
pub use function_error::{Frame, FunctionError, MAX_CAUSE_BYTES};
pub use http::HttpError;
pub use invocation::Invocation;
pub use json::quote;
pub use linger::Linger;
pub use run::{run, run_with_init, serve, Response};
pub use stream::ResponseStream;

/// The largest event that is read, in bytes; a Runtime API that announces more is not believed.
/// Lambda's own limit is 6 MiB for a synchronous event; the rest is room for other platforms.
pub const MAX_EVENT_BYTES: usize = http::MAX_BODY_BYTES;
