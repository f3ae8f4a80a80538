//! The smallest runtime worth deploying: says hello to whom the event names.
//!
//! `cargo build --example hello --profile guest --target x86_64-unknown-linux-musl` gives a static
//! program; in a zip, named `bootstrap`, it is a function.

use std::process::ExitCode;

use lambfold_runtime_client::{quote, run, FunctionError, Invocation};

fn main() -> ExitCode {
    run(|event: &Invocation| {
        let name = std::str::from_utf8(event.body())?.trim().trim_matches('"');
        if name.is_empty() {
            return Err(FunctionError::new("Function.NoName", "the event names nobody"));
        }
        Ok(format!("{{\"hello\":{}}}", quote(name)))
    })
}
