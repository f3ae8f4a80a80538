//! A runtime that streams: counts down from the number in the event, a line at a time, and fails
//! half-way for a number above ten.

use std::io::Write;

use lambfold_runtime_client::{Client, Error, FunctionError};

fn main() -> Result<(), Error> {
    let mut client = Client::from_env()?;
    loop {
        let event = client.next()?;
        let text = String::from_utf8_lossy(event.body());
        let Ok(from) = text.trim().parse::<u32>() else {
            let error = FunctionError::new("Function.NotANumber", format!("`{text}` is no number"));
            client.error(event.request_id(), &error)?;
            continue;
        };
        let mut stream = client.stream(event.request_id(), "text/plain")?;
        // A write fails when nobody wants the response any more; `finish` says why.
        let written = (1..=from.min(10)).rev().try_for_each(|n| writeln!(stream, "{n}"));
        let result = match (written, from) {
            (Ok(()), 11..) => stream.fail(&FunctionError::new("Function.TooFar", "only ten fit")),
            _ => stream.finish(),
        };
        match result {
            Err(error) if error.is_about_this_event() => {
                writeln!(std::io::stderr(), "{error}").unwrap_or_default();
            }
            result => result?,
        }
    }
}
