//! Several events at a time, where AWS_LAMBDA_MAX_CONCURRENCY asks for it.

use super::{USUAL, book};
use crate::answer::Answer;
use crate::case::Case;
use crate::host::ConnectionId;
use crate::trial::{Event, Outcome, Step, Trial, fail, not_applicable};
use serde_json::{Value, json};
use std::time::Duration;

const COUNT: usize = 3;
const ENV: &[(&str, &str)] = &[("AWS_LAMBDA_MAX_CONCURRENCY", "3")];
/// For the other workers to ask, once the first has.
const TOGETHER: Duration = Duration::from_millis(1500);

pub(super) const CASES: &[Case] = &[
    Case {
        id: "concurrency-limit",
        title: "no more events are asked for than AWS_LAMBDA_MAX_CONCURRENCY says",
        why: "Each `next` that waits is a slot; more of them than the limit share memory that was \
              not counted for them.",
        mend: "Start as many workers as the variable says, each with one `next` at a time.",
        reference: book::MANAGED,
        env: ENV,
        run: |trial| {
            let waiting = workers(trial)?;
            trial.pass(Duration::from_millis(300))?;
            match waiting.len() + trial.waiting() {
                count if count > COUNT => {
                    fail(format!("{count} `next` wait, {COUNT} are asked for"))
                }
                _ => Ok(()),
            }
        },
        ..USUAL
    },
    Case {
        id: "concurrency-independent",
        title: "a slow event holds up no other",
        why: "A lock around the handler makes one slow caller everybody's.",
        mend: "Let each worker run its handler by itself: threads, processes, or a loop of events \
               that is not blocked.",
        reference: book::MANAGED,
        env: ENV,
        run: independent,
        ..USUAL
    },
    Case {
        id: "concurrency-ids",
        title: "answers in another order carry the ids of their events",
        why: "An id in a global variable is that of the latest event; answers then go to the \
              wrong caller.",
        mend: "Keep the id, and all of the context, with the event.",
        reference: book::MANAGED,
        env: ENV,
        run: ids,
        ..USUAL
    },
    Case {
        id: "concurrency-410",
        title: "after a 410 to one response the others go on",
        why: "410 says that this event has timed out; its environment serves the others still.",
        mend: "Log it and ask for the next event.",
        reference: book::MANAGED,
        env: ENV,
        run: gone,
        ..USUAL
    },
];

/// The connections on which workers wait. Not applicable to runtimes with one.
fn workers(trial: &mut Trial<'_>) -> Step<Vec<ConnectionId>> {
    trial.concurrent = true;
    let mut waiting = vec![trial.next()?];
    let more = trial.wait_for("more", TOGETHER, |trial| {
        waiting.extend(trial.open_next());
        (waiting.len() >= COUNT).then_some(())
    });
    if more.is_err() && waiting.len() == 1 {
        return not_applicable("the runtime asks for one event at a time");
    }
    if more.is_err() && waiting.len() < COUNT {
        return fail(format!("{} `next` wait, {COUNT} are asked for", waiting.len()));
    }
    Ok(waiting)
}

fn sleeping(ms: u64) -> Event {
    Event::json(&json!({ "conform": "sleep", "ms": ms }))
}

fn outcomes(trial: &mut Trial<'_>, count: usize) -> Step<Vec<Outcome>> {
    let mut all = Vec::new();
    while all.len() < count {
        let outcome = trial.outcome()?;
        trial.accept(&outcome);
        all.push(outcome);
    }
    Ok(all)
}

fn independent(trial: &mut Trial<'_>) -> Step<()> {
    let waiting = workers(trial)?;
    trial.give_to(waiting[0], sleeping(1500));
    let early = trial.wait("the function to print \"conform: asleep\"", |trial| {
        if trial.printed(b"conform: asleep") { Some(None) } else { trial.posted().map(Some) }
    })?;
    if early.is_some() {
        return not_applicable(SLEEP);
    }
    for connection in &waiting[1..] {
        trial.give_to(*connection, Event::json(&json!({ "quick": true })));
    }
    let is_quick = |outcome: &Outcome| outcome.json() == Some(json!({ "quick": true }));
    let mut slow = None;
    for _ in 0..COUNT - 1 {
        let outcome = trial.outcome()?;
        trial.accept(&outcome);
        if !is_quick(&outcome) {
            slow = Some(outcome);
            break;
        }
    }
    let first = slow.is_some();
    let slow = match slow {
        Some(outcome) => Some(outcome),
        // Its id is another case's matter.
        None => trial.wait("the slow event's answer", |trial| {
            trial.posted().map(Some).or((!trial.repeated.is_empty()).then_some(None))
        })?,
    };
    let slept = |outcome: &Outcome| outcome.json().is_some_and(|body| body.get("slept").is_some());
    match slow {
        Some(outcome) if !slept(&outcome) => not_applicable(SLEEP),
        Some(_) if first => fail("quick events were answered after the slow one"),
        _ => Ok(()),
    }
}

const SLEEP: &str = "the function does not know \"conform\": \"sleep\"";

fn ids(trial: &mut Trial<'_>) -> Step<()> {
    let waiting = workers(trial)?;
    let events: Vec<(String, u64)> = waiting
        .iter()
        .zip([450, 300, 150])
        .map(|(connection, ms)| {
            let event = sleeping(ms);
            let id = event.id.clone();
            trial.give_to(*connection, event);
            (id, ms)
        })
        .collect();
    for _ in 0..COUNT {
        let patience = trial.settings.patience;
        let outcome =
            trial.wait_for("three answers, each for its own event", patience, |trial| {
                if let Some(call) = trial.repeated.first() {
                    return Some(Err(format!("{call:?} came for an event that had its answer")));
                }
                trial.posted().map(Ok)
            })?;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(what) => return fail(what),
        };
        trial.accept(&outcome);
        let Some(slept) = outcome.json().and_then(|body| body.get("slept").and_then(Value::as_u64))
        else {
            return not_applicable(SLEEP);
        };
        if !events.contains(&(outcome.id.clone(), slept)) {
            return fail(format!("the answer {} came with another event's id", outcome.shown()));
        }
    }
    Ok(())
}

fn gone(trial: &mut Trial<'_>) -> Step<()> {
    let waiting = workers(trial)?;
    trial.give_to(waiting[0], Event::json(&json!({ "late": true })));
    let outcome = trial.outcome()?;
    trial.conclude(&outcome, &Answer::refused(410, "InvokeTimeout", "Invoke timeout"));
    for connection in &waiting[1..] {
        trial.give_to(*connection, Event::json(&json!({ "quick": true })));
    }
    outcomes(trial, COUNT - 1)?;
    // The worker itself goes on, too.
    for _ in 0..COUNT {
        trial.give(Event::json(&json!({ "after": 410 })))?;
    }
    outcomes(trial, COUNT).map(|_| ())
}
