//! The client against a scripted server on loopback, and the example runtimes in other languages,
//! which must do the same.
#![allow(clippy::unwrap_used)]

mod calls;
mod examples;
mod workers;
