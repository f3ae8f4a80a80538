//! Lines for the log. It is all there is; if it is closed, nobody can be told.

use std::error::Error;
use std::io::{self, Write};

/// A line of the runtime's own.
pub(crate) fn line(text: &str) {
    let _ = io::stderr().write_all(format!("php runtime: {text}\n").as_bytes());
}

/// An error and its sources, on one line.
pub(crate) fn error(error: &dyn Error) {
    line(&chain(error));
}

/// An error and its sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// What PHP sends for the log, with an end of line if it has none.
pub(crate) fn foreign(bytes: &[u8]) {
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let _ = io::stderr().write_all(&[bytes, end].concat());
}
