//! Invocations: synchronous ones from request to answer, asynchronous ones through the durable
//! queue with their retries, and dry runs.
//!
//! In flow [`Request`]s; out flow [`Outcome`]s and typed errors whose [`ErrorKind`] the gateway
//! turns into a status. A synchronous invoke touches no disk; an asynchronous one is durable
//! before it is acknowledged and runs at least once, across crashes.
//!
//! Forbidden here: HTTP, sandboxes, and the real clock (time is a
//! [`Clock`](lambfold_types::Clock) and tokio's, which tests pause).

mod dispatch;
mod error;
mod event;
mod invoker;
mod payload;
mod port;
mod spoiled;
mod stream;

pub use error::{ErrorKind, InvokeError};
pub use invoker::{AsyncConfig, Invoker, LogTailReceiver, Outcome, Request, StreamingOutcome};
pub use port::{Functions, Placement, PortFuture, Queue};
pub use spoiled::Spoiled;
pub use stream::{Failure, Part, ResponseStream};
