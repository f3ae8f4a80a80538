//! When the host says no, or nothing.

use super::{USUAL, book};
use crate::answer::Answer;
use crate::case::Case;
use crate::trial::{Event, Step, Trial, fail};
use serde_json::json;
use std::time::{Duration, Instant};

/// For a runtime to end after a fault of the host.
const PROMPTLY: Duration = Duration::from_secs(3);
/// How long a refusing host is watched.
const WATCHED: Duration = Duration::from_secs(1);
/// More calls than that within it are a busy loop.
const CALLS: usize = 50;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "response-400",
        title: "after a 400 to a response the runtime goes on",
        why: "The id was that of an event that is over, for example after a timeout. The next \
              event is fine.",
        mend: "Log it and ask for the next event.",
        reference: book::RESPONSE,
        run: |trial| refused(trial, 400, "InvalidRequestID", "Invalid request ID"),
        ..USUAL
    },
    Case {
        id: "response-403",
        title: "after a 403 to a response the runtime goes on",
        why: "The host was in another state; the next event is fine.",
        mend: "Log it and ask for the next event.",
        reference: book::RESPONSE,
        run: |trial| {
            let text = "State transition from Ready to InvocationResponse failed for runtime. \
                        Error: State transition is not allowed";
            refused(trial, 403, "InvalidStateTransition", text)
        },
        ..USUAL
    },
    Case {
        id: "response-500",
        title: "after a 500 to a response the runtime ends",
        why: "500 says that the environment cannot be saved. A runtime that stays is waited for.",
        mend: "Exit promptly, with a status other than 0.",
        reference: book::RESPONSE,
        run: |trial| {
            trial.give(Event::json(&json!({ "n": 1 })))?;
            let outcome = trial.outcome()?;
            trial.conclude(&outcome, &fault());
            let what = "its end after a 500 to its response";
            let then = trial.wait_for(what, PROMPTLY, |trial| {
                if trial.guest.end.is_some() {
                    return Some(false);
                }
                trial.open_next().map(|_| true)
            })?;
            if then {
                return fail("it asked for the next event after a 500 to its response");
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "next-500",
        title: "after a 500 to `next` the runtime ends",
        why: "500 says that the environment cannot be saved; asking again and again keeps a \
              processor busy.",
        mend: "Exit promptly, with a status other than 0.",
        reference: book::NEXT,
        run: |trial| {
            let connection = trial.next()?;
            trial.reply(connection, &fault());
            ends(trial)
        },
        ..USUAL
    },
    Case {
        id: "next-403",
        title: "a 403 to `next` does not make the runtime spin",
        why: "A loop that asks at once again takes a processor, and fills the log.",
        mend: "Exit, or wait before asking again.",
        reference: book::NEXT,
        run: spin,
        ..USUAL
    },
    Case {
        id: "next-reset",
        title: "when the connection of a waiting `next` is reset, the runtime asks again or ends",
        why: "Whoever waits on a dead connection waits for ever, and with it every caller.",
        mend: "Treat the failure to read as a reason to connect anew, or to exit.",
        reference: book::NEXT,
        run: |trial| {
            let connection = trial.next()?;
            trial.reset(connection);
            let what = "another `next`, or its end, after a reset";
            trial.wait_for(what, PROMPTLY, |trial| {
                (trial.open_next().is_some() || trial.guest.end.is_some()).then_some(())
            })
        },
        ..USUAL
    },
];

fn fault() -> Answer {
    Answer::refused(500, "InternalServerError", "Internal Server Error")
}

fn refused(trial: &mut Trial<'_>, status: u16, kind: &str, message: &str) -> Step<()> {
    trial.give(Event::json(&json!({ "n": 1 })))?;
    let outcome = trial.outcome()?;
    trial.conclude(&outcome, &Answer::refused(status, kind, message));
    trial.lives_on(&format!("a {status} to its response"))
}

/// The bootstrap ends soon; meanwhile everything is refused.
fn ends(trial: &mut Trial<'_>) -> Step<()> {
    let deadline = Instant::now() + PROMPTLY;
    let mut again = 0;
    while Instant::now() < deadline {
        if trial.guest.end.is_some() {
            return Ok(());
        }
        while let Some(connection) = trial.open_next() {
            again += 1;
            trial.reply(connection, &fault());
        }
        while let Some(outcome) = trial.posted() {
            again += 1;
            trial.reply(outcome.incoming.connection, &fault());
        }
        trial.turn(deadline)?;
    }
    fail(format!("it went on after a 500 to `next`: {again} more calls within {PROMPTLY:?}"))
}

fn spin(trial: &mut Trial<'_>) -> Step<()> {
    trial.next().map(|connection| refuse(trial, connection))?;
    let deadline = Instant::now() + WATCHED;
    let mut calls = 0;
    while Instant::now() < deadline && trial.guest.end.is_none() {
        while let Some(connection) = trial.open_next() {
            calls += 1;
            if calls > CALLS {
                return fail(format!("it asked {CALLS} times again within {WATCHED:?}"));
            }
            refuse(trial, connection);
        }
        trial.turn(deadline)?;
    }
    Ok(())
}

fn refuse(trial: &mut Trial<'_>, connection: crate::host::ConnectionId) {
    let text = "State transition from Ready to Ready failed for runtime. Error: State transition \
                is not allowed";
    trial.reply(connection, &Answer::refused(403, "InvalidStateTransition", text));
}
