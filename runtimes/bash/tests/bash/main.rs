//! The bootstrap as the platform runs it, with a real bash and a scripted Runtime API.
#![allow(clippy::unwrap_used)]

mod background;
mod compat;
mod deadline;
mod errors;
mod function;
mod harness;
mod persist;
mod script;
mod stream;
