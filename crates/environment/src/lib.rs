//! One execution environment: a sandbox, the runtime in it, and its life of init phase, invoke
//! phases, resets and shutdown.
//!
//! A [`FunctionVersion`](lambfold_types::FunctionVersion) flows into [`Launcher::launch`] and an
//! [`Environment`] comes out; invocations flow into [`Environment::begin`], and each gets exactly
//! one [`Answer`](lambfold_types::Answer) and then one [`PhaseEnd`](lambfold_types::PhaseEnd).
//! Log lines flow to the function's log stream.
//!
//! ```text
//!   launch ──► Init ──ready──► Idle ◄──────done────── Invoke ◄─────────┐ ready: START, the event
//!               │               │ └────begin──────────▲ │              │
//!               │ failure       │ exit                  │ failure,     │
//!               ▼               ▼                       ▼ timeout      │
//!             Reset (processes end, sandbox and /tmp stay) ──► Cold ──begin──► Invoke (init inside)
//!   Idle ──retire, with extensions──► Shutdown ──► Gone ◄── retire, sandbox lost ── any
//! ```
//!
//! *Ready*: every external extension registered, then the runtime was started, and all of them and
//! every internal one wait for an event. *Done*: the runtime waits again, and every extension that
//! was told of the invocation. How processes end is in `core/stop.rs`.
//!
//! A warm invoke runs in its caller's task and in the tasks of the runtime's connections, under
//! one uncontended lock; callbacks are called after unlocking. One task per environment keeps what
//! is slow (deadlines, exits, resets, freezing what is idle), one more drains the guest's output,
//! and with extensions a further one theirs. What the platform says and what guests print goes
//! through `output.rs`, to the log and to telemetry subscribers in one order.
//!
//! Not built: SnapStart. External extensions are those of layers; an `/opt/extensions` that comes
//! with a root file system is not looked at. In the JSON log format, lines are dated when they are
//! read: a `timestamp` of their own is not used.
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
mod plan;
mod shell;
mod variables;

pub use environment::{Environment, OnAnswer, OnEnd};
pub use launcher::{LaunchError, Launcher, LauncherConfig, Processors};
pub use output::{LOG_BURST_BYTES, LOG_RATE_BYTES_PER_S};
pub use shell::{Shell, ShellEnd, ShellKind, ShellStreams};

#[cfg(test)]
mod tests;
