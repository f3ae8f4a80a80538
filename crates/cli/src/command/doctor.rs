use super::{fault, shared};
use crate::args::{Doctor, Format};
use crate::client::{Client, ClientError, Request, Service};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_sandbox::{Config, Network, Rootfs, StepOutcome, StepReport, probe};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn run(args: &Doctor) -> Result<Exit, Failure> {
    let client = shared::connect(&args.connection)?;
    let rootfs = match args.rootfs.as_str() {
        "host" => Rootfs::Host,
        dir if Path::new(dir).is_dir() => Rootfs::Dir(dir.into()),
        other => {
            return Err(Failure::usage(format!("--rootfs {other} is neither host nor a folder")));
        }
    };
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::failed("could not make a temporary folder").cause(&error))?;
    let mut config = Config::new(format!("doctor-{}", std::process::id()), folder.path());
    config.rootfs = rootfs;
    // As a server does by default.
    config.network = Network::NatIfPossible;
    config.program = crate::embedded::spawner();
    let mut checks: Vec<Check> = probe(config).into_iter().map(Check::of_step).collect();
    // Nothing tried is nothing proven.
    assert!(!checks.is_empty(), "the sandbox's probe reports no step");
    checks.push(Check::of_server(&client));
    checks.extend(Check::of_faults(&client));
    let fails = checks.iter().any(|check| check.outcome == Outcome::Fails);
    match args.printing.format {
        Format::Text => output::data(table(&checks).as_bytes())?,
        Format::Json => output::json(&json!({
            "Works": !fails,
            "Checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        }))?,
    }
    if fails {
        let without = if lambfold_sandbox::is_root() { "" } else { WITHOUT_WALLS };
        output::talk(&format!("functions cannot run here until what fails is remedied{without}"));
        return Ok(Exit::Failed);
    }
    let lesser = checks.iter().any(|check| check.outcome == Outcome::Lesser);
    let how = if lesser { ", with less than there could be" } else { "" };
    output::talk(&format!("functions can run here{how}"));
    Ok(Exit::Done)
}

/// What is left to somebody who cannot remedy it.
const WITHOUT_WALLS: &str =
    "; without any walls they can, as plain processes of yours: lambfold serve --isolation process";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Sandbox,
    Server,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Server => "server",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Holds,
    Lesser,
    Fails,
    NotReached,
    /// Worth knowing, nothing more.
    Note,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Lesser => "lesser",
            Self::Fails => "FAILS",
            Self::NotReached => "not reached",
            Self::Note => "note",
        }
    }
}

/// One line of the report.
#[derive(Debug)]
struct Check {
    group: Group,
    name: String,
    outcome: Outcome,
    explanation: String,
    remedy: String,
}

impl Check {
    fn of_step(step: StepReport) -> Self {
        let outcome = match step.outcome {
            StepOutcome::Holds => Outcome::Holds,
            StepOutcome::Lesser => Outcome::Lesser,
            StepOutcome::Fails => Outcome::Fails,
            StepOutcome::NotReached => Outcome::NotReached,
        };
        let (explanation, remedy) = (step.explanation, step.remedy);
        Self { group: Group::Sandbox, name: step.name, outcome, explanation, remedy }
    }

    fn of_server(client: &Client) -> Self {
        let endpoint = client.endpoint().to_string();
        let request = Request::new(Service::Lambda, "GET", "/health/ready");
        let (outcome, explanation, remedy) = match client.send(request) {
            Ok(answer) => Self::ready(&String::from_utf8_lossy(&answer.body)),
            Err(ClientError::Connect { .. }) => {
                (Outcome::Note, "nothing listens there".to_owned(), "lambfold serve".to_owned())
            }
            Err(error) => (Outcome::Lesser, error.to_string(), String::new()),
        };
        Self { group: Group::Server, name: endpoint, outcome, explanation, remedy }
    }

    /// What a server that is ready says besides.
    fn ready(body: &str) -> (Outcome, String, String) {
        match body.lines().find_map(|line| line.strip_prefix("warning: ")) {
            None => (Outcome::Holds, "answers and is ready".to_owned(), String::new()),
            Some(warning) => {
                (Outcome::Lesser, format!("answers and is ready; {warning}"), String::new())
            }
        }
    }

    /// A line for each fault on purpose; a server that cannot say has none.
    fn of_faults(client: &Client) -> Vec<Self> {
        let faults = fault::list(client).unwrap_or_default();
        let check = |on: &Value| Self {
            group: Group::Server,
            name: "fault on purpose".to_owned(),
            outcome: Outcome::Lesser,
            explanation: fault::line(on),
            remedy: format!(
                "lambfold fault {} --clear",
                on["FunctionName"].as_str().unwrap_or_default()
            ),
        };
        faults.iter().map(check).collect()
    }

    fn json(&self) -> Value {
        json!({
            "Group": self.group.name(),
            "Name": self.name,
            "Outcome": self.outcome.name().to_lowercase(),
            "Explanation": self.explanation,
            "Remedy": (!self.remedy.is_empty()).then_some(&self.remedy),
        })
    }
}

/// Width of the report, as long as names leave room, columns.
const WIDTH: usize = 100;

/// Aligned columns; what does not hold is followed by its remedy.
fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (group, name, outcome) = (check.group.name(), &check.name, check.outcome.name());
        let head = format!("{group:<7}  {name:<width$}  {outcome:<11}  ");
        let indent = " ".repeat(head.chars().count());
        let mut start = head.as_str();
        let mut write = |paragraph: &str| {
            for line in wrap(paragraph, WIDTH.saturating_sub(indent.len()).max(40)) {
                text.push_str(format!("{start}{line}").trim_end());
                text.push('\n');
                start = &indent;
            }
        };
        write(&check.explanation);
        if !check.remedy.is_empty() {
            write(&format!("remedy: {}", check.remedy));
        }
    }
    text
}

/// Lines of at most `width` columns, unless a word is longer; at least one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_names_remedies() {
        let check = |name: &str, outcome, remedy: &str| Check {
            group: Group::Sandbox,
            name: name.into(),
            outcome,
            explanation: "does it".into(),
            remedy: remedy.into(),
        };
        let long = "delegate ".repeat(12);
        let checks =
            [check("clone", Outcome::Holds, ""), check("cgroup-base", Outcome::Fails, &long)];
        let expected = "\
sandbox  clone        holds        does it
sandbox  cgroup-base  FAILS        does it
                                   remedy: delegate delegate delegate delegate delegate delegate
                                   delegate delegate delegate delegate delegate delegate
";
        assert_eq!(table(&checks), expected);
    }
}
