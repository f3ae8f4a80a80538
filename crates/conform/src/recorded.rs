//! Events that were recorded elsewhere as further cases: the bootstrap has to answer each as it was
//! answered then.

use crate::case::{Case, Place};
use crate::trial::{Event, Step, Trial, fail, not_applicable};
use lambfold_trace::{Answered, Recorded, compare};

/// Most differences that a failure tells.
const TOLD: usize = 3;
/// Headers of an event that a case gives as they were. The deadline is another one; the kit says
/// how long bodies are.
const SAME: [(&str, &str); 6] = [
    ("content-type", "Content-Type"),
    ("lambda-runtime-client-context", "Lambda-Runtime-Client-Context"),
    ("lambda-runtime-cognito-identity", "Lambda-Runtime-Cognito-Identity"),
    ("lambda-runtime-invoked-function-arn", "Lambda-Runtime-Invoked-Function-Arn"),
    ("lambda-runtime-aws-tenant-id", "Lambda-Runtime-Aws-Tenant-Id"),
    ("lambda-runtime-trace-id", "Lambda-Runtime-Trace-Id"),
];

/// The events of a recording.
#[derive(Debug, Default)]
pub struct RecordedCases(Vec<Named>);

#[derive(Debug)]
struct Named {
    id: String,
    title: String,
    expected: Expected,
}

/// An event and what has to come of it.
#[derive(Debug)]
pub(crate) struct Expected {
    recorded: Recorded,
    ignored: Vec<String>,
}

impl RecordedCases {
    /// Cases `recorded-1`, `recorded-2` and so on. `ignored`: parts of the answers that may differ,
    /// as JSON pointers.
    #[must_use]
    pub fn new(events: impl IntoIterator<Item = Recorded>, ignored: &[String]) -> Self {
        let named = events.into_iter().zip(1..).map(|(recorded, number): (_, usize)| Named {
            id: format!("recorded-{number}"),
            title: format!("the event {} is answered as it was", recorded.request_id),
            expected: Expected { recorded, ignored: ignored.to_vec() },
        });
        Self(named.collect())
    }

    /// As cases.
    #[must_use]
    pub fn cases(&self) -> Vec<Case<'_>> {
        fn case(Named { id, title, expected }: &Named) -> Case<'_> {
            Case {
                id,
                title,
                why: "What callers got before is what they count on.",
                mend: "Find out which change made the difference; where a part may differ, such as \
                       a time, name it with --ignore.",
                reference: "docs/trace.md, Recording",
                env: &[],
                place: Place::Usual,
                run: |_| Ok(()),
                recorded: Some(expected),
            }
        }
        self.0.iter().map(case).collect()
    }
}

impl Expected {
    /// Gives the event, with the request id of then, and compares what comes of it.
    pub(crate) fn ask(&self, trial: &mut Trial<'_>) -> Step<()> {
        let Some(was) = self.recorded.answered() else {
            return not_applicable("the recording does not hold the whole of it");
        };
        let mut event = Event::new(self.recorded.event.kept()).id(&self.recorded.request_id);
        for (name, as_sent) in SAME {
            let value = self.recorded.headers.get(name);
            event = event.header(as_sent, value.map(String::as_str));
        }
        let outcome = trial.exchange(event)?;
        let is = Answered { is_error: outcome.is_error, body: outcome.body().to_vec().into() };
        let differences = compare(&was, &is, &self.ignored);
        if differences.is_empty() {
            return Ok(());
        }
        let told = differences.iter().take(TOLD).map(ToString::to_string);
        let more = match differences.len().saturating_sub(TOLD) {
            0 => "",
            _ => "; and more",
        };
        fail(format!("{}{more}", told.collect::<Vec<_>>().join("; ")))
    }
}
