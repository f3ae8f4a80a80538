//! How a failure of the function is reported.

use super::{USUAL, book};
use crate::case::Case;
use crate::trial::{Call, Event, Outcome, Step, Trial, fail, not_applicable};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "error-posted",
        title: "a failure of the function is posted as an error",
        why: "Whatever is posted to `response` is a success for the caller.",
        mend: "Catch what the handler raises and POST it to /runtime/invocation/ID/error.",
        reference: book::ERROR,
        run: |trial| {
            let outcome = trial.word(failing("as asked"))?;
            trial.accept(&outcome);
            if outcome.is_error {
                return Ok(());
            }
            fail(format!("a failing handler was reported as a response of {}", outcome.shown()))
        },
        ..USUAL
    },
    Case {
        id: "error-shape",
        title: "an error is JSON with errorMessage and errorType, both texts",
        why: "The body goes to the caller as it is; SDKs and Step Functions read these members.",
        mend: "Post {\"errorMessage\": …, \"errorType\": …, \"stackTrace\": […]}.",
        reference: book::ERROR,
        run: |trial| {
            let outcome = failed(trial, "as asked")?;
            let Some(body) = outcome.json() else {
                return fail(format!("the error is no JSON: {}", outcome.shown()));
            };
            for key in ["errorMessage", "errorType"] {
                if !body[key].is_string() {
                    return fail(format!("{key} is no text in {}", outcome.shown()));
                }
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "error-message",
        title: "the message of a failure comes through, whatever is in it",
        why: "Quotes, backslashes and line ends in a message make a body that was pasted together \
              invalid, and the caller learns nothing.",
        mend: "Encode the error with a JSON library, or escape every character that needs it.",
        reference: "RFC 8259, JSON, section 7",
        run: |trial| {
            let message = "\"quoted\" \\ back, 中文 🦀, tab\tand\nline";
            let outcome = failed(trial, message)?;
            match outcome.json().as_ref().map(|body| &body["errorMessage"]) {
                // Whether the message is there at all is another question.
                None if !outcome.body().contains(&b'{') => not_applicable(SHAPE),
                Some(Value::String(text)) if text.contains(message) => Ok(()),
                Some(Value::String(text)) => {
                    fail(format!("the message {message:?} came as {text:?}"))
                }
                Some(_) => not_applicable(SHAPE),
                None => fail(format!("the error is no valid JSON: {}", outcome.shown())),
            }
        },
        ..USUAL
    },
    Case {
        id: "error-header",
        title: "an error has the header Lambda-Runtime-Function-Error-Type",
        why: "Metrics and traces take the type of an error from it.",
        mend: "Send Lambda-Runtime-Function-Error-Type with a category and a reason, such as \
               Function.TypeError.",
        reference: book::ERROR,
        run: |trial| {
            let outcome = failed(trial, "as asked")?;
            match outcome.head().header("lambda-runtime-function-error-type") {
                Some(kind) if !kind.is_empty() => Ok(()),
                _ => fail("the error has no Lambda-Runtime-Function-Error-Type"),
            }
        },
        ..USUAL
    },
    Case {
        id: "error-stack",
        title: "a stackTrace, where there is one, is a list",
        why: "Callers that show it expect a list and fail at a text.",
        mend: "Post stackTrace as a list with a frame in each element, or leave it out.",
        reference: book::ERROR,
        run: |trial| {
            let outcome = failed(trial, "as asked")?;
            match outcome.json().as_ref().and_then(|body| body.get("stackTrace")) {
                None => not_applicable("the error has no stackTrace"),
                Some(Value::Array(_)) => Ok(()),
                Some(other) => fail(format!("stackTrace is {other}")),
            }
        },
        ..USUAL
    },
    Case {
        id: "error-next",
        title: "after an error the runtime goes on",
        why: "A failed event is an ordinary thing; an environment that ends with it makes every \
              error a cold start.",
        mend: "Ask for the next event after the error has been accepted.",
        reference: book::ERROR,
        run: |trial| {
            for _ in 0..2 {
                failed(trial, "as asked")?;
                trial.lives_on("an error")?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "error-alone",
        title: "an event that failed gets an error and no response",
        why: "The host takes what comes first and refuses the rest.",
        mend: "Return from the failure's branch after the error has been posted.",
        reference: book::ERROR,
        run: |trial| {
            failed(trial, "as asked")?;
            // Whatever comes next: another post, `next`, or the end.
            let _ = trial.next();
            match trial.repeated.iter().find(|call| matches!(call, Call::Response(_))) {
                None => Ok(()),
                Some(_) => fail("a response followed the error"),
            }
        },
        ..USUAL
    },
    Case {
        id: "error-long",
        title: "a message of 100 KiB makes a whole error",
        why: "A body that is cut in the middle is no JSON, and its length may be wrong.",
        mend: "Cut the message if need be, not the encoded body.",
        reference: book::ERROR,
        run: |trial| {
            let outcome = failed(trial, &"long message ".repeat(8000))?;
            if outcome.json().is_none() && outcome.body().starts_with(b"{") {
                return fail(format!("the error is no JSON any more: {}", outcome.shown()));
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "error-crash",
        title: "a handler that ends the process ends the runtime, or is reported",
        why: "The service sees the end of the process at once, but a runtime that outlives its \
              handler and says nothing is waited for until the timeout.",
        mend: "End with the handler's process, or post an error for it.",
        reference: book::ENVIRONMENT,
        run: crash,
        ..USUAL
    },
];

const SHAPE: &str = "the error is not of the expected shape, see error-shape";

fn failing(message: &str) -> Event {
    Event::json(&json!({ "conform": "error", "message": message }))
}

/// The error of a function that was asked to fail; accepted.
fn failed(trial: &mut Trial<'_>, message: &str) -> Step<Outcome> {
    let outcome = trial.word(failing(message))?;
    trial.accept(&outcome);
    if !outcome.is_error {
        return not_applicable("the failure was not posted as an error, see error-posted");
    }
    Ok(outcome)
}

fn crash(trial: &mut Trial<'_>) -> Step<()> {
    let sent = json!({ "conform": "exit", "code": 7 });
    trial.give(Event::json(&sent))?;
    let then =
        trial.wait("the end of the bootstrap, or an error for the handler's end", |trial| {
            let ended = trial.guest.end.clone();
            trial.posted().map(Some).or(match ended {
                Some(crate::guest::End::Exited(_)) => Some(None),
                _ => None,
            })
        })?;
    match then {
        None => Ok(()),
        Some(outcome) if outcome.is_error => {
            trial.accept(&outcome);
            trial.lives_on("a crash of the handler")
        }
        Some(outcome) => {
            trial.accept(&outcome);
            if outcome.json().as_ref() == Some(&sent) {
                return not_applicable("the function does not know \"conform\": \"exit\"");
            }
            fail(format!("a handler that ended was reported as a response of {}", outcome.shown()))
        }
    }
}
