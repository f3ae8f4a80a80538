//! An HTTP address on this machine in front of whoever answers its requests.
//!
//! In: a listener and a [`Handler`], which may block; out: HTTP/1.1, spoken by hyper on threads of
//! its own. Forbidden here: what requests mean, and everything of ours.

mod front;
mod host;

pub use front::{Front, Handler, Request};
