//! The bash runtime: a bootstrap that keeps one bash alive and hands it events.
//!
//! In: events of the Runtime API, and a handler file or script of the user's. Out: what the handler
//! prints, or an error that says which line of it failed. Nothing but bash is needed: no curl, no
//! jq.
//!
//! ```text
//! Runtime API ⇄ Worker ── Coprocess ── bash (driver.sh: sources the handler file once)
//!                   │         │           └─ a subshell per event, forked before the event comes
//!                   │         └─ commands → pipe, event → file, answer ← pipe, reports ← pipe
//!                   └─ Script: the handler script, started per event
//! ```
//!
//! Bash finds every pipe and file by path, in `/proc/<pid of the bootstrap>/fd`, so that no handler
//! and nothing that it leaves running holds one by accident. `driver.sh` is the other half of this
//! crate; what the two say to each other is in `report.rs` and
//! `coprocess.rs`.

mod attend;
mod config;
mod coprocess;
mod failure;
mod handler;
mod lane;
mod output;
mod process;
mod report;
mod script;
mod shell;
mod worker;

pub use worker::run;
