//! What the gateway needs of whoever runs functions; crate invoke provides it.

use lambfold_types::{Answer, FunctionVersion, Invocation};
use std::sync::Arc;

/// The result of a synchronous invocation.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the runtime answered, or the error document.
    pub answer: Answer,
    /// The end of the log, when it was asked for and the phase has ended.
    pub log_tail: Option<Vec<u8>>,
}

/// Why a function did not run.
#[derive(Debug, thiserror::Error)]
pub enum InvokeFailure {
    /// A concurrency limit; the value of AWS's `Reason`.
    #[error("throttled: {reason}")]
    Throttled {
        /// For example `ConcurrentInvocationLimitExceeded`.
        reason: &'static str,
    },
    /// The platform could not run it; the source is the operator's.
    #[error("the invocation failed")]
    Platform(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Runs functions.
pub trait Invokes: Send + Sync + 'static {
    /// Runs one event and waits for its answer, and for the end of its invoke phase when
    /// `invocation.wants_log_tail`.
    fn synchronous(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Outcome, InvokeFailure>> + Send;

    /// Takes one event; it is durable when this returns.
    fn event(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> impl Future<Output = Result<(), InvokeFailure>> + Send;
}
