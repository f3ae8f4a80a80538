//! One execution environment: a sandbox, the runtime in it, and its life of init phase, invoke
//! phases, resets and shutdown.
//!
//! A [`FunctionVersion`](lambfold_types::FunctionVersion) flows into [`Launcher::launch`] and an
//! [`Environment`] comes out; invocations flow into [`Environment::begin`], and each gets exactly
//! one [`Answer`](lambfold_types::Answer) and then one [`PhaseEnd`](lambfold_types::PhaseEnd).
//! Log lines flow to the function's log stream.
//!
//! ```text
//!   launch ──► Init ──next──► Idle ◄──────next────── Invoke ◄─────────┐ next: START, the event
//!               │              │ └────begin───────────▲ │             │
//!               │ failure      │ exit                   │ failure,    │
//!               ▼              ▼                        ▼ timeout     │
//!             Reset (guests are killed, sandbox and /tmp stay) ──► Cold ──begin──► Invoke (init inside)
//!   any ──retire, sandbox lost──► Gone
//! ```
//!
//! A warm invoke runs in its caller's task and in the tasks of the runtime's connections, under
//! one uncontended lock; callbacks are called after unlocking. One task per environment keeps what
//! is slow (deadlines, exits, resets), one more drains the guest's output.
//!
//! Not built: extensions, SnapStart, freezing between invocations (a runtime's background work
//! goes on), and platform lines in JSON (they are text whatever the logging configuration says).
//!
//! Forbidden here: scheduling, HTTP status codes, and knowing the pool.

mod context;
mod core;
mod environment;
mod fault;
mod hint;
mod isolation;
mod keeper;
mod launcher;
mod output;
mod phase;
mod variables;

pub use environment::{Environment, OnAnswer, OnEnd};
pub use launcher::{LaunchError, Launcher, LauncherConfig};
pub use output::{LOG_BURST_BYTES, LOG_RATE_BYTES_PER_S};

#[cfg(test)]
mod tests;
