//! What AWS services send to functions: sample events of every common source, and HTTP requests as
//! the events of API Gateway, function URLs and load balancers, with the way back.
//!
//! In: names and paths, or the parts of a request; out: JSON, or the parts of an answer. Forbidden
//! here: I/O, clocks, and everything of ours that knows functions or servers.

mod change;
pub mod http;
mod sample;

pub use change::{Change, ChangeError};
pub use sample::Sample;
