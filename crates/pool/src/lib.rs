//! Placement and concurrency: which execution environment runs an invocation.
//!
//! In flow invocations of a [`FunctionVersion`] and the [`Concurrency`] of functions; out flow
//! answers. Environments are made by an [`EnvironmentFactory`] and reused by invocations of the
//! same revision only, one event at a time, the most recently used first.
//!
//! A warm invoke takes the lock of its revision's slot once to begin and once to end, and no
//! global lock. Forbidden here: Linux, files, HTTP, and the real clock (tokio's is used, which
//! tests pause).

mod config;
mod flight;
mod gate;
mod pool;
mod provision;
mod relay;
mod room;
mod slot;

pub use config::{Metrics, PoolConfig};
pub use flight::InFlight;
pub use pool::Pool;
pub use provision::{Allocation, AllocationFailure, Concurrency};

use lambfold_types::{Answer, FunctionVersion, InitializationType, Invocation, PhaseEnd};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Called once with the result of an invocation.
pub type OnAnswer = Box<dyn FnOnce(Answer) + Send>;
/// Called once when the invoke phase is over.
pub type OnEnd = Box<dyn FnOnce(PhaseEnd) + Send>;

/// One execution environment, as the pool needs it.
pub trait Environment: Send + Sync + 'static {
    /// Starts one invoke phase. `answer` is called once, as soon as the result is known; `ended`
    /// once, when the phase is over, after `answer`. Neither is called with a lock held, since
    /// `ended` may begin the next phase. The pool never calls `begin` before the phase before
    /// has ended. Dropping either uncalled counts as a lost environment.
    fn begin(&self, invocation: Invocation, answer: OnAnswer, ended: OnEnd);

    /// True when its runtime waits for an event: asked once after the creation, to tell an init
    /// phase that failed.
    fn is_initialized(&self) -> bool;

    /// Shuts it down, even in the middle of a phase; returns at once. Called once.
    fn retire(&self);
}

/// Makes execution environments.
pub trait EnvironmentFactory: Send + Sync + 'static {
    /// What it makes.
    type Environment: Environment;

    /// Creates an environment and runs its init phase. An init failure of the *function* is not
    /// an error here: such an environment tries again inside its first invoke.
    ///
    /// # Errors
    /// When the platform could not make a sandbox.
    fn create(
        &self,
        version: Arc<FunctionVersion>,
        initialization: InitializationType,
    ) -> impl Future<Output = Result<Arc<Self::Environment>, CreateError>> + Send;
}

/// The platform could not make an execution environment; its source says why.
#[derive(Debug, thiserror::Error)]
#[error("could not create an execution environment for function {function}")]
pub struct CreateError {
    /// Name of the function.
    pub function: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Which limit an invocation ran into; the values of AWS's `Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleReason {
    /// The account's concurrency.
    ConcurrentInvocationLimitExceeded,
    /// What is reserved for the function.
    ReservedFunctionConcurrentInvocationLimitExceeded,
}

impl ThrottleReason {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
            Self::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
        }
    }
}

impl fmt::Display for ThrottleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an invocation has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PoolError {
    /// A limit; the function did not run.
    #[error("throttled by {reason}: the limit is {limit} {unit}")]
    Throttled {
        /// AWS's reason.
        reason: ThrottleReason,
        /// The limit.
        limit: u32,
        /// What it counts, for example `concurrent executions`.
        unit: &'static str,
    },
    /// The server may not hold another environment, and none made room in the time that an
    /// invocation may wait for it; the function did not run.
    #[error("waited in vain for room: the limit is {limit} {unit}")]
    NoRoom {
        /// The limit.
        limit: u64,
        /// What it counts.
        unit: &'static str,
    },
    /// An environment of this size can never exist here; the function did not run.
    #[error(
        "function {function} has a MemorySize of {memory_mib} MiB, and all environments together may have {limit_mib} MiB; raise --max-memory or lower its MemorySize"
    )]
    TooLarge {
        /// The function.
        function: String,
        /// Its MemorySize.
        memory_mib: u32,
        /// The limit.
        limit_mib: u64,
    },
    /// No environment could be made; the function did not run.
    #[error("no execution environment could be made for the invocation")]
    Create(#[source] Arc<CreateError>),
    /// The environment vanished without an answer; the function may have run.
    #[error("the execution environment was lost before it answered")]
    Lost,
    /// The server is shutting down; the function did not run.
    #[error("the server is shutting down and takes no more invocations")]
    Draining,
}
