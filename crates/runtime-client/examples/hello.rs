//! The function of `examples/runtimes`, which is there in other languages: a JSON string becomes
//! `{"hello":<that string>}`, anything else is an error.
//!
//! `cargo build --example hello --profile guest --target x86_64-unknown-linux-musl` gives a static
//! program; in a zip, named `bootstrap`, it is a function.

use std::process::ExitCode;

use lambfold_runtime_client::{run, FunctionError, Invocation};

fn main() -> ExitCode {
    run(|event: &Invocation| {
        let text = std::str::from_utf8(event.body())?.trim();
        // A JSON string goes into the answer as it came.
        if text.len() < 2 || !text.starts_with('"') || !text.ends_with('"') {
            return Err(FunctionError::new("Function.NotAString", "the event is not a string"));
        }
        Ok(format!("{{\"hello\":{text}}}"))
    })
}
