//! The host side of the Runtime API: a sans-IO state machine and a thin HTTP shell.
//!
//! What a runtime sends flows in over listening sockets that [`serve`] is given; it is routed,
//! checked and handed to a [`Host`], who drives a [`Machine`] under a lock of its own. What
//! flows out are [`Event`]s, as answers to `next`, and [`Posted`] outcomes, for the invoker.
//! The machine follows the transition table of the behaviour specification §1.3 to the letter
//! and knows neither sockets nor time.
//!
//! Forbidden here: Linux, the store, processes, and any knowledge of who invokes.
//!
//! Not built: SnapStart's `restore/next` and `restore/error` (404, as AWS answers without
//! SnapStart), the Extensions API and the Telemetry API (404). Tracing data (the header
//! `Lambda-Runtime-Function-XRay-Error-Cause`) is accepted whatever it holds and not kept.

mod event;
mod header;
mod host;
mod machine;
mod refusal;
mod shell;

pub use event::{Delivery, Event};
pub use header::{classify_error_type, runtime_release};
pub use host::{Caller, Host, NextReply, Posted};
pub use machine::{Handover, Machine, Next, NotReady, Post, Posting, State, Ticket};
pub use refusal::Refusal;
pub use shell::{Limits, serve};
