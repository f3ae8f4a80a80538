//! The log, and the end.

use super::{USUAL, book};
use crate::case::Case;
use crate::trial::{Event, Step, Trial, not_applicable};
use serde_json::json;
use std::time::Duration;

/// The service waits less than that before it kills.
const PROMPTLY: Duration = Duration::from_secs(2);
const TERM: i32 = 15;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "log-in-time",
        title: "what the function prints is out before the next `next`",
        why: "At `next` the environment is frozen: a line that still is in a buffer appears with \
              another event, or never.",
        mend: "Flush standard output and standard error after each event, or do not buffer them.",
        reference: book::CUSTOM,
        run: log,
        ..USUAL
    },
    Case {
        id: "sigterm-idle",
        title: "SIGTERM ends a runtime that waits",
        why: "Before an environment goes, its runtime gets SIGTERM; what ignores it is killed \
              and cannot clean up.",
        mend: "Leave SIGTERM its default, or handle it and exit.",
        reference: book::ENVIRONMENT,
        run: |trial| {
            trial.lives_on("its start")?;
            trial.next()?;
            terminate(trial)
        },
        ..USUAL
    },
    Case {
        id: "sigterm-busy",
        title: "SIGTERM ends a runtime whose handler is busy",
        why: "It comes when an event has timed out, too. A shell, for one, does not look at \
              signals while it waits for a program.",
        mend: "Let the signal end the process, or hand it to whatever the handler has started.",
        reference: book::ENVIRONMENT,
        run: |trial| {
            asleep(trial, 20_000)?;
            terminate(trial)
        },
        ..USUAL
    },
];

/// Lets the function sleep, and returns when it does.
fn asleep(trial: &mut Trial<'_>, ms: u64) -> Step<()> {
    trial.give(Event::json(&json!({ "conform": "sleep", "ms": ms })))?;
    let outcome = trial.wait("the function to print \"conform: asleep\"", |trial| {
        if trial.printed(b"conform: asleep") { Some(None) } else { trial.posted().map(Some) }
    })?;
    match outcome {
        None => Ok(()),
        Some(_) => not_applicable("the function does not know \"conform\": \"sleep\""),
    }
}

fn terminate(trial: &mut Trial<'_>) -> Step<()> {
    let broken = |error| crate::trial::Stop::Broken(format!("signal: {error}"));
    trial.guest.signal(TERM).map_err(broken)?;
    trial.end("the end of the bootstrap after SIGTERM", PROMPTLY).map(|_| ())
}

fn log(trial: &mut Trial<'_>) -> Step<()> {
    let text = uuid::Uuid::new_v4().simple().to_string();
    // Backwards, so that a runtime that logs its events does not pass by that.
    let event: String = text.chars().rev().collect();
    let outcome = trial.word(Event::json(&json!({ "conform": "log", "reversed": event })))?;
    trial.accept(&outcome);
    trial.next()?;
    trial.guest.pump();
    if trial.printed(text.as_bytes()) {
        return Ok(());
    }
    crate::trial::fail("what the function printed was not out when `next` came")
}
