//! Configuration, wiring, listeners, drain and signals: what turns the crates into a server.
//!
//! In: a [`Config`]; out: a running server until a signal ends it. The adapter that lets the pool
//! make environments is here, so that neither knows the other. Forbidden here: domain logic.

mod config;
mod factory;
mod faults;
mod pressure;
mod run;

pub use config::{Config, DataDir, Processors};
pub use run::{Error, run};
