//! The gateway over real TCP: raw bytes in, raw bytes out, above the real control plane, logs
//! and invoker; only the environments are fakes.
#![allow(clippy::unwrap_used)]

mod client;
mod concurrency;
mod control;
mod frames;
mod golden;
mod hostile;
mod invoke;
mod logs;
mod service;
mod shapes;
mod streaming;
