//! How a response is posted.

use super::{USUAL, book};
use crate::answer::{After, Answer};
use crate::case::Case;
use crate::host::{ConnectionId, EarlyRefusal};
use crate::trial::{Call, Event, Outcome, Step, Trial, fail, not_applicable};
use lambfold_types::limits::RESPONSE_BYTES;
use serde_json::json;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "response-request-line",
        title: "a response is POST /2018-06-01/runtime/invocation/ID/response, to the letter",
        why: "Another method is answered 405 and another path 404, and the event times out.",
        mend: "Use POST and exactly this path, with the id of the event.",
        reference: book::RESPONSE,
        run: |trial| {
            let event = Event::json(&json!({ "n": 1 }));
            let path = format!("/2018-06-01/runtime/invocation/{}/response", event.id);
            let outcome = trial.exchange(event)?;
            let line = format!("{} {}", outcome.head().method, outcome.head().target);
            if line == format!("POST {path}") {
                return Ok(());
            }
            fail(format!("the request line is {line:?}, not \"POST {path}\""))
        },
        ..USUAL
    },
    Case {
        id: "response-id",
        title: "the id of an event is sent back as it came",
        why: "It is a name, not a number: the host compares it letter by letter.",
        mend: "Copy the value of Lambda-Runtime-Aws-Request-Id and change nothing about it.",
        reference: book::RESPONSE,
        run: |trial| {
            let id = "8476A536-E9f4-11E8-9739-2dfe598c3fcd";
            let outcome = trial.exchange(Event::json(&json!({ "n": 1 })).id(id))?;
            if outcome.id == id {
                return Ok(());
            }
            fail(format!("the event {id} was answered as {}", outcome.id))
        },
        ..USUAL
    },
    Case {
        id: "response-framing",
        title: "a response has a Content-Length or is chunked, and not both",
        why: "A request with both is an attack's mark, and servers refuse it.",
        mend: "Send Content-Length for what is whole, Transfer-Encoding: chunked for a stream.",
        reference: "RFC 9112, HTTP/1.1, section 6.2",
        run: |trial| {
            let outcome = trial.exchange(Event::json(&json!({ "n": 1 })))?;
            let head = outcome.head();
            let lengths: Vec<&str> = head.all("content-length").collect();
            let encodings: Vec<&str> = head.all("transfer-encoding").collect();
            match (lengths.len(), encodings.len()) {
                (1, 0) | (0, 1) => Ok(()),
                _ => fail(format!("Content-Length {lengths:?}, Transfer-Encoding {encodings:?}")),
            }
        },
        ..USUAL
    },
    Case {
        id: "response-once",
        title: "an event is answered once",
        why: "The second answer is refused; some hosts take it for the next event's.",
        mend: "Post either a response or an error, and do not repeat a post that was answered.",
        reference: book::RESPONSE,
        run: |trial| {
            three(trial)?;
            let again = trial.repeated.iter().filter(|call| matches!(call, Call::Response(_)));
            match again.count() {
                0 => Ok(()),
                count => fail(format!("{count} responses came for events that had one")),
            }
        },
        ..USUAL
    },
    Case {
        id: "response-before-next",
        title: "`next` is asked after the event has been answered",
        why: "`next` ends the invocation: an environment may be frozen before a late response is \
              out.",
        mend: "Wait for the 202 before `next` is asked.",
        reference: book::NEXT,
        run: |trial| {
            three(trial)?;
            match trial.early_next {
                0 => Ok(()),
                count => fail(format!("`next` came {count} times before the response")),
            }
        },
        ..USUAL
    },
    Case {
        id: "response-6mib",
        title: "a response of 6 MiB + 100 bytes is posted whole",
        why: "That is the largest response that the service takes.",
        mend: "Loop until everything is written; give the length in bytes.",
        reference: book::QUOTAS,
        run: |trial| {
            let outcome = sized(trial, RESPONSE_BYTES)?;
            trial.accept(&outcome);
            if outcome.body().len() != RESPONSE_BYTES {
                return fail(format!("a response of {RESPONSE_BYTES} came as {}", outcome.shown()));
            }
            trial.lives_on("a response of 6 MiB")
        },
        ..USUAL
    },
    Case {
        id: "response-413",
        title: "after a 413 the runtime goes on",
        why: "A response that is too large fails its event. The environment is healthy, and a \
              runtime that ends makes the next event a cold start.",
        mend: "Log the 413 and ask for the next event; post nothing more for this one.",
        reference: book::RESPONSE,
        run: |trial| {
            let outcome = sized(trial, RESPONSE_BYTES + 1)?;
            trial.conclude(&outcome, &too_large());
            trial.lives_on("a 413")
        },
        ..USUAL
    },
    Case {
        id: "response-413-early",
        title: "a 413 that comes before everything is sent does no harm",
        why: "A host need not read what it will refuse, and answers at once. A runtime that takes \
              this for a fault makes the next event a cold start.",
        mend: "Finish or stop writing, read the answer, connect anew where it says so, and ask for \
               the next event. Ignore SIGPIPE: the connection may end meanwhile.",
        reference: "RFC 9112, HTTP/1.1, section 9.5",
        run: early,
        ..USUAL
    },
];

fn three(trial: &mut Trial<'_>) -> Step<()> {
    for n in 0..3 {
        trial.echo(Event::json(&json!({ "n": n })))?;
    }
    trial.next().map(|_| ())
}

fn too_large() -> Answer {
    let message = format!("Exceeded maximum allowed payload size ({RESPONSE_BYTES} bytes).");
    Answer::refused(413, "RequestEntityTooLarge", &message)
}

fn size(bytes: usize) -> Event {
    Event::json(&json!({ "conform": "size", "bytes": bytes }))
}

/// The response of a function that was asked for so many bytes.
fn sized(trial: &mut Trial<'_>, bytes: usize) -> Step<Outcome> {
    let outcome = trial.word(size(bytes))?;
    if outcome.is_error {
        trial.accept(&outcome);
        return fail(format!("the function did not answer: {}", outcome.shown()));
    }
    Ok(outcome)
}

/// What follows a refusal.
enum Then {
    Next(ConnectionId),
    Post(Box<Outcome>),
}

fn early(trial: &mut Trial<'_>) -> Step<()> {
    let mut answer = too_large();
    answer.after = After::Closed;
    trial.host.early = Some(EarlyRefusal { limit_bytes: 1 << 20, answer });
    let event = size(8 << 20);
    let id = event.id.clone();
    trial.give(event)?;
    // The refusal is the host's own doing; what comes after it is a `next`, or another post.
    trial.concurrent = true;
    let then =
        trial.wait("the bootstrap to go on after a refusal in the middle of a post", |t| {
            t.open_next()
                .map(Then::Next)
                .or_else(|| t.posted().map(|post| Then::Post(Box::new(post))))
        })?;
    trial.concurrent = false;
    match then {
        Then::Post(outcome) if trial.host.early_refusals == 0 => {
            trial.accept(&outcome);
            not_applicable("the function does not know \"conform\": \"size\"")
        }
        Then::Post(outcome) => {
            // An attempt to report the failure: refused, as the event is over.
            trial.conclude(&outcome, &Answer::refused(403, "InvalidStateTransition", "no"));
            trial.host.early = None;
            trial.lives_on("an early 413")
        }
        Then::Next(connection) => {
            trial.forget(&id);
            trial.host.early = None;
            let body = json!({ "after": "an early 413" });
            trial.give_to(connection, Event::json(&body));
            let outcome = trial.outcome()?;
            trial.accept(&outcome);
            crate::trial::same(&outcome, body.to_string().as_bytes())
        }
    }
}
