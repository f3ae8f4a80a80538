//! Responses in parts.

use super::{USUAL, book};
use crate::case::Case;
use crate::trial::{Event, Outcome, Step, Trial, fail, not_applicable};
use crate::wire::Framing;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

/// Between the parts of a stream.
const DELAY: Duration = Duration::from_millis(500);
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "stream-mode",
        title: "a stream has Lambda-Runtime-Function-Response-Mode: streaming",
        why: "Without it the response is collected, and the limit of 6 MiB holds.",
        mend: "Send the header, in lower case `streaming`, with Transfer-Encoding: chunked.",
        reference: book::STREAM,
        run: |trial| {
            let outcome = streamed(trial, &["one ", "two"], Duration::ZERO)?;
            match outcome.head().header("lambda-runtime-function-response-mode") {
                Some("streaming") if outcome.incoming.request.framing == Framing::Chunked => Ok(()),
                Some("streaming") => fail("it is not chunked"),
                other => fail(format!("Lambda-Runtime-Function-Response-Mode is {other:?}")),
            }
        },
        ..USUAL
    },
    Case {
        id: "stream-in-time",
        title: "the parts of a stream go out when they are there",
        why: "That is what a stream is for: the first byte early.",
        mend: "Write and flush each part as the handler gives it.",
        reference: book::STREAM,
        run: |trial| {
            let outcome = streamed(trial, &["one ", "two ", "three"], DELAY)?;
            if outcome.body() != b"one two three" {
                return fail(format!("the stream came as {}", outcome.shown()));
            }
            let request = &outcome.incoming.request;
            let Some((first, _)) = request.arrivals.first() else { return fail("nothing came") };
            let early = request.complete.duration_since(*first);
            // Two pauses, less one for a machine that is busy.
            if early < DELAY {
                return fail(format!("the first part came {early:?} before the end"));
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "stream-empty-part",
        title: "an empty part does not end the stream",
        why: "A chunk of size 0 is the end of the body; what follows is taken for rubbish.",
        mend: "Write no chunk for a part without bytes.",
        reference: "RFC 9112, HTTP/1.1, section 7.1",
        run: |trial| {
            let outcome = streamed(trial, &["one ", "", "two"], Duration::ZERO)?;
            if outcome.body() == b"one two" {
                return Ok(());
            }
            fail(format!("the stream came as {}", outcome.shown()))
        },
        ..USUAL
    },
    Case {
        id: "stream-next",
        title: "after a stream the runtime goes on",
        why: "A stream is an event like any other.",
        mend: "End the body with the last chunk, read the answer, and ask for the next event.",
        reference: book::STREAM,
        run: |trial| {
            streamed(trial, &["one ", "two"], Duration::ZERO)?;
            trial.lives_on("a stream")
        },
        ..USUAL
    },
    Case {
        id: "stream-declared",
        title: "a stream declares the trailers of an error that may come",
        why: "Trailers that were not declared may be dropped on the way.",
        mend: "Send `Trailer: Lambda-Runtime-Function-Error-Type, \
               Lambda-Runtime-Function-Error-Body`.",
        reference: book::STREAM,
        run: |trial| {
            let outcome = streamed(trial, &["one ", "two"], Duration::ZERO)?;
            let declared = outcome.head().all("trailer").collect::<Vec<_>>().join(",");
            let declared = declared.to_ascii_lowercase();
            if declared.contains(ERROR_TYPE) && declared.contains(ERROR_BODY) {
                return Ok(());
            }
            fail(format!("the Trailer header is {declared:?}"))
        },
        ..USUAL
    },
    Case {
        id: "stream-error",
        title: "a failure in the middle of a stream comes in its trailers",
        why: "The status was sent long ago: without trailers a broken stream looks whole.",
        mend: "After the last chunk send Lambda-Runtime-Function-Error-Type, and \
               Lambda-Runtime-Function-Error-Body with the error's JSON in base64.",
        reference: book::STREAM,
        run: trailers,
        ..USUAL
    },
];

/// The response of a function that was asked for a stream; accepted.
fn streamed(trial: &mut Trial<'_>, parts: &[&str], delay: Duration) -> Step<Outcome> {
    let event = json!({ "conform": "stream", "parts": parts, "delayMs": delay.as_millis() as u64 });
    ask(trial, &event)
}

fn ask(trial: &mut Trial<'_>, event: &Value) -> Step<Outcome> {
    let outcome = trial.word(Event::json(event))?;
    trial.accept(&outcome);
    let head = outcome.head();
    let mode = head.header("lambda-runtime-function-response-mode");
    if outcome.is_error || mode.is_none() && head.header("trailer").is_none() {
        return not_applicable("the runtime, or its function, answers in one piece");
    }
    Ok(outcome)
}

fn trailers(trial: &mut Trial<'_>) -> Step<()> {
    let event = json!({ "conform": "stream", "parts": ["one "], "then": "error" });
    let outcome = ask(trial, &event)?;
    let request = &outcome.incoming.request;
    let trailer = |name: &str| {
        let found = request.trailers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let (Some(_), Some(body)) = (trailer(ERROR_TYPE), trailer(ERROR_BODY)) else {
        return fail(format!(
            "the stream ended with the trailers {:?} and a body of {}",
            request.trailers,
            outcome.shown()
        ));
    };
    let decoded = STANDARD.decode(body).ok();
    let error: Option<Value> = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match error {
        Some(error) if error["errorMessage"].is_string() => Ok(()),
        _ => fail(format!("{body:?} is not an error's JSON in base64")),
    }
}
