//! Control-plane operations: functions, versions, aliases, concurrency, layers, tags, account
//! settings.
//!
//! Typed requests flow in ([`request`], members named as AWS names them), typed answers flow
//! out ([`answer`], in AWS's field names and order); every change is durable in the store before
//! it is answered and visible to [`Control::resolve`] at the same moment. Errors carry AWS's
//! wording and a [`ErrorKind`]. Forbidden here: HTTP, status codes, processes.

mod account;
mod alias;
pub mod answer;
mod code;
mod concurrency;
mod control;
mod error;
mod function;
mod garbage;
mod index;
mod key;
mod layer;
mod page;
mod plan;
mod provisioned;
mod record;
pub mod request;
mod tag;
mod target;

pub use control::{Control, OpenError, Options};
pub use error::{ControlError, ErrorKind};
pub use garbage::Garbage;
pub use plan::{AllocationFailure, Allocator, ConcurrencyPlan, VersionAllocation};
pub use target::Resolved;
