//! The host side of the Runtime, Extensions and Telemetry APIs: sans-IO machines and a thin HTTP
//! shell.
//!
//! What runtimes and extensions send flows in over listening sockets that [`serve`] is given; it is
//! routed, checked and handed to a [`Host`], who drives a [`Machine`], the [`Extensions`] and a
//! telemetry [`Relay`] under a lock of its own. What flows out are [`Event`]s and
//! [`ExtensionEvent`]s, as answers to those who wait, [`Posted`] outcomes and the chunks of
//! streamed responses, for the invoker, and batches of records, which [`deliver`] sends to
//! subscribers over a [`Network`] that it is given.
//! The machines follow the transition tables of the behaviour specification §1.3 and §2.3 to the
//! letter and know neither sockets nor time.
//!
//! Forbidden here: Linux, the store, processes, and any knowledge of who invokes.
//!
//! Not built: SnapStart's `restore/next` and `restore/error` (404, as AWS answers without
//! SnapStart). Tracing data (the header `Lambda-Runtime-Function-XRay-Error-Cause`) is accepted
//! whatever it holds and not kept.

mod event;
mod extension;
mod header;
mod host;
mod machine;
mod refusal;
mod shell;
mod telemetry;

pub use event::{Delivery, Event};
pub use extension::{
    EXTENSIONS, Events, ExtensionDelivery, ExtensionError, ExtensionEvent, ExtensionInfo,
    ExtensionNext, ExtensionRefusal, ExtensionState, Extensions, Registration, ShutdownReason,
    Tracing,
};
pub use header::{classify_error_type, runtime_release};
pub use host::{
    Call, Caller, Disturbance, ExtensionReply, Host, NextReply, Posted, Registered, StreamEnd,
    SubscribeError,
};
pub use machine::{Handover, Machine, Next, NotReady, Post, Posting, State, Ticket};
pub use refusal::Refusal;
pub use shell::{Limits, Reported, TrailerText, serve};
pub use telemetry::{
    BACKLOG_BYTES, Buffer, Buffering, Destination, DroppedRecord, LogsSchema, Network, Outlet,
    QUEUE_FACTOR, Record, RecordKind, Relay, Subscription, SubscriptionRefusal, TelemetryApi,
    Types, deliver,
};
