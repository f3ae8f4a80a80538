//! What tests of several crates need: a server of one's own, and waiting for a condition.
//!
//! In: the path of a built `lambfold` and how to start it. Out: its address, its log, and the
//! certainty that it is gone when the test is. Never part of the product, and never a reason to
//! sleep: tests wait for what they want to see.

mod server;
mod wait;

pub use server::{Data, ServerOptions, StartError, TempServer};
pub use wait::{WaitError, wait_for};
