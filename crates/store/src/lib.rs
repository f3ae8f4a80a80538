//! Revisioned documents, content-addressed blobs and the durable event queue, in a data folder.
//!
//! Keys and bytes flow in; what is acknowledged is on disk (write-ahead log synced, group
//! commit) before the future resolves, and survives a crash at any moment. [`Store`] is the
//! embedded backend (SQLite and plain files); [`Backend`] is what any backend offers, and one
//! test suite holds for all of them. Forbidden here: AWS's words, HTTP, and any knowledge of
//! what the documents mean.

mod backend;
mod blob;
mod change;
mod error;
mod fault;
mod folder;
mod queue;
mod reader;
mod schema;
mod store;
mod writer;

pub use backend::{Backend, Document, Event, EventId, Expected, NewEvent, Write};
pub use change::{Change, Watch};
pub use error::{CommitError, OpenError, StoreError};
pub use fault::{CrashPoint, Hook};
pub use store::{Options, Store};

/// Longest key, bytes.
pub const KEY_BYTES: usize = 1_024;
/// Largest document value or event payload, bytes (16 MiB).
pub const VALUE_BYTES: usize = 16 * 1_024 * 1_024;
