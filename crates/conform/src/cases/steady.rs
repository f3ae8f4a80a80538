//! Thousands of events: what grows?

use super::{USUAL, book};
use crate::case::Case;
use crate::guest::Usage;
use crate::trial::{Event, Step, Stop, Trial, fail};
use serde_json::json;

/// Growth of memory in each of the last two thirds that is no noise, KiB: a heap with a garbage
/// collector grows for a while. Of 10,000 events it finds a leak of 1.3 KiB an event.
const MEMORY_KIB: u64 = 4096;
/// Growth of descriptors over the last two thirds that is no noise.
const DESCRIPTORS: u64 = 8;
/// The same for processes, among them those that ended and were not waited for.
const PROCESSES: u64 = 5;
/// How often a runtime that does not come to rest is looked at.
const LOOKS: usize = 20;

pub(super) const CASES: &[Case<'static>] = &[
    Case {
        id: "steady-memory",
        title: "memory does not grow with the number of events",
        why: "A warm environment serves for hours; what leaks ends it in the middle of an event.",
        mend: "Free what belongs to an event with the event; a profiler of the language helps.",
        reference: book::ENVIRONMENT,
        run: |trial| {
            let Steady { samples: [first, second, last], events } = measured(trial)?;
            let [a, b, c] = [first.memory_kib, second.memory_kib, last.memory_kib];
            if b > a + MEMORY_KIB && c > b + MEMORY_KIB {
                return fail(format!("memory grew from {a} to {b} to {c} KiB in {events} events"));
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "steady-descriptors",
        title: "open files do not grow with the number of events",
        why: "At 1,024 of them nothing can be opened any more.",
        mend: "Close connections and files, also when something fails; keep one connection to the \
               Runtime API.",
        reference: "AWS Lambda: quotas, file descriptors",
        run: |trial| {
            let Steady { samples: [first, _, last], events } = measured(trial)?;
            let (a, c) = (first.descriptors, last.descriptors);
            // A process too many has descriptors too, and is another case's matter.
            let more = last.processes.saturating_sub(first.processes) * 4;
            if c > a + DESCRIPTORS + more {
                return fail(format!("open files grew from {a} to {c} in {events} events"));
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "steady-processes",
        title: "processes do not grow with the number of events",
        why: "At 1,024 of them none can be started any more; those that have ended count until \
              they are waited for.",
        mend: "Wait for every process that is started, or let init do it.",
        reference: "AWS Lambda: quotas, execution processes and threads",
        run: |trial| {
            let Steady { samples: [first, _, last], events } = measured(trial)?;
            let (a, c) = (first.processes, last.processes);
            if c > a + PROCESSES {
                return fail(format!("processes grew from {a} to {c} in {events} events"));
            }
            Ok(())
        },
        ..USUAL
    },
];

/// What was held after a third, two thirds and all of the events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    samples: [Usage; 3],
    events: usize,
}

/// The measurement, which is made once for all cases here.
fn measured(trial: &mut Trial<'_>) -> Step<Steady> {
    let shared = trial.shared;
    let mut measured = shared.steady.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*measured {
        Some(result) => result.clone(),
        None => {
            let result = measure(trial);
            *measured = Some(result.clone());
            result
        }
    }
}

/// What is held between two events: whoever starts processes for an event still ends one, or starts
/// the next, when it has asked for an event.
fn settled(trial: &mut Trial<'_>) -> Step<Usage> {
    let mut last = trial.guest.usage().map_err(Stop::NotApplicable)?;
    for _ in 0..LOOKS {
        let usage = trial.guest.usage().map_err(Stop::NotApplicable)?;
        if (usage.processes, usage.descriptors) == (last.processes, last.descriptors) {
            return Ok(usage);
        }
        last = usage;
    }
    Ok(last)
}

fn measure(trial: &mut Trial<'_>) -> Step<Steady> {
    let events = trial.settings.events.max(3);
    let third = events / 3;
    let mut samples = Vec::with_capacity(3);
    for n in 1..=third * 3 {
        trial.echo(Event::json(&json!({ "n": n, "text": "x".repeat(n % 512) })))?;
        if n % third == 0 {
            samples.push(settled(trial)?);
        }
    }
    match samples[..] {
        [a, b, c] => Ok(Steady { samples: [a, b, c], events }),
        _ => Err(Stop::Broken("three samples were expected".to_owned())),
    }
}
