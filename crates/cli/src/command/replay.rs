//! `lambfold invoke --replay`: sends recorded events again and compares the answers.

use super::{invoke, shared};
use crate::args::{Format, Invoke};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_trace::{Answered, Difference, Recorded, Recording, RecordingError, compare};
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

pub(crate) fn run(args: &Invoke) -> Result<Exit, Failure> {
    shared::function(&args.function)?;
    check_pointers(&args.ignored)?;
    let path = args.replay.as_deref().unwrap_or(Path::new(""));
    let recording = open(path)?;
    let client = shared::connect(&args.connection)?;
    let mut report = Report::default();
    for recorded in recording {
        let recorded = recorded.map_err(|error| refused(path, &error))?;
        report.events += 1;
        let result = replay(args, &client, &recorded)?;
        report.add(args.printing.format, &recorded, &result)?;
    }
    if args.printing.format == Format::Json {
        output::json(&report.json())?;
    } else {
        output::talk(&report.summary());
    }
    if report.events == 0 {
        output::warn(&format!("there is no event in {}", path.display()));
    }
    Ok(if report.different == 0 { Exit::Done } else { Exit::Failed })
}

/// Checks that what may differ is named by JSON pointers.
pub(crate) fn check_pointers(ignored: &[String]) -> Result<(), Failure> {
    match ignored.iter().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        None => Ok(()),
        Some(pointer) => Err(Failure::usage(format!("--ignore {pointer} is no JSON pointer"))
            .hint("for example --ignore /headers/date")),
    }
}

/// Opens a recording; also for `conform`.
pub(crate) fn open(path: &Path) -> Result<Recording<BufReader<File>>, Failure> {
    let file = File::open(path).map_err(|error| {
        Failure::failed(format!("could not read {}", path.display())).cause(&error)
    })?;
    Recording::open(BufReader::with_capacity(64 << 10, file)).map_err(|error| refused(path, &error))
}

/// Why a recording is of no use.
pub(crate) fn refused(path: &Path, error: &RecordingError) -> Failure {
    Failure::failed(format!("could not read {} as a recording", path.display()))
        .cause(error)
        .hint("recordings are made with: lambfold trace FUNCTION --record FILE")
}

/// What became of one event.
enum Verdict {
    Same,
    Different(Answered, Vec<Difference>),
    /// It cannot be compared, and why.
    Skipped(&'static str),
}

fn replay(args: &Invoke, client: &Client, recorded: &Recorded) -> Result<Verdict, Failure> {
    let Some(was) = recorded.answered() else {
        return Ok(Verdict::Skipped("the recording does not hold the whole of it"));
    };
    let mut request = invoke::request(args, recorded.event.kept().to_vec());
    if let Some(context) = recorded.client_context() {
        request = request.header("x-amz-client-context", &STANDARD.encode(context));
    }
    let answer =
        client.send(request).map_err(|error| shared::explain_function(&error, &args.function))?;
    let is_error = answer.header("x-amz-function-error").is_some();
    let now = Answered { is_error, body: answer.body.into() };
    let differences = compare(&was, &now, &args.ignored);
    Ok(if differences.is_empty() { Verdict::Same } else { Verdict::Different(now, differences) })
}

#[derive(Default)]
struct Report {
    events: usize,
    same: usize,
    different: usize,
    skipped: usize,
    json: Vec<Value>,
}

impl Report {
    fn add(
        &mut self,
        format: Format,
        recorded: &Recorded,
        result: &Verdict,
    ) -> Result<(), Failure> {
        let (verdict, differences) = match result {
            Verdict::Same => {
                self.same += 1;
                ("same", &[][..])
            }
            Verdict::Different(_, differences) => {
                self.different += 1;
                ("different", &differences[..])
            }
            Verdict::Skipped(_) => {
                self.skipped += 1;
                ("skipped", &[][..])
            }
        };
        if format == Format::Json {
            let mut entry = json!({
                "RequestId": recorded.request_id,
                "Result": verdict,
                "Differences": differences.iter().map(Difference::json).collect::<Vec<_>>(),
            });
            match result {
                Verdict::Skipped(why) => entry["Reason"] = (*why).into(),
                Verdict::Different(now, _) => entry["Answer"] = now.json(),
                Verdict::Same => {}
            }
            self.json.push(entry);
            return Ok(());
        }
        output::line(&format!("event {} ({}): {verdict}", self.events, recorded.request_id))?;
        if let Verdict::Skipped(why) = result {
            output::line(&format!("  {why}"))?;
        }
        for difference in differences {
            output::data(difference.text().as_bytes())?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let Self { same, different, skipped, .. } = self;
        let skipped = match skipped {
            0 => String::new(),
            count => format!(", {count} not compared"),
        };
        format!("{same} the same, {different} different{skipped}")
    }

    fn json(&self) -> Value {
        json!({
            "Same": self.same,
            "Different": self.different,
            "Skipped": self.skipped,
            "Events": self.json,
        })
    }
}
