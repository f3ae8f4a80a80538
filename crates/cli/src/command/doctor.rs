mod programs;

use super::shared;
use crate::args::{Doctor, Format};
use crate::client::{Client, ClientError, Request, Service};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_sandbox::{Config, Rootfs, StepOutcome, StepReport, probe};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) fn run(args: &Doctor) -> Result<Exit, Failure> {
    let client = shared::connect(&args.connection)?;
    let (rootfs, root) = match args.rootfs.as_str() {
        "host" => (Rootfs::Host, PathBuf::from("/")),
        dir if Path::new(dir).is_dir() => (Rootfs::Dir(dir.into()), PathBuf::from(dir)),
        other => {
            return Err(Failure::usage(format!("--rootfs {other} is neither host nor a folder")));
        }
    };
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::failed("could not make a temporary folder").cause(&error))?;
    let mut config = Config::new(format!("doctor-{}", std::process::id()), folder.path());
    config.rootfs = rootfs;
    let mut checks: Vec<Check> = probe(config).into_iter().map(Check::of_step).collect();
    // Nothing tried is nothing proven.
    assert!(!checks.is_empty(), "the sandbox's probe reports no step");
    checks.extend(programs::missing(&root).into_iter().map(Check::of_missing));
    if checks.iter().all(|check| check.group != Group::Program) {
        checks.push(Check::all_programs());
    }
    checks.push(Check::of_server(&client));
    let fails = checks.iter().any(|check| check.outcome == Outcome::Fails);
    match args.printing.format {
        Format::Text => output::data(table(&checks).as_bytes())?,
        Format::Json => output::json(&json!({
            "Works": !fails,
            "Checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        }))?,
    }
    if fails {
        output::talk("functions cannot run here until what fails is remedied");
        return Ok(Exit::Failed);
    }
    output::talk("functions can run here");
    Ok(Exit::Done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Sandbox,
    Program,
    Server,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Program => "program",
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

    fn of_missing(program: &programs::Program) -> Self {
        Self {
            group: Group::Program,
            name: program.name.into(),
            outcome: Outcome::Lesser,
            explanation: "is part of Amazon Linux and not here; functions that run it fail".into(),
            remedy: format!("apt-get install {}", program.package),
        }
    }

    fn all_programs() -> Self {
        Self {
            group: Group::Program,
            name: "programs".into(),
            outcome: Outcome::Holds,
            explanation: "everything that scripts find on Amazon Linux is here".into(),
            remedy: String::new(),
        }
    }

    fn of_server(client: &Client) -> Self {
        let endpoint = client.endpoint().to_string();
        let request = Request::new(Service::Lambda, "GET", "/health/ready");
        let (outcome, explanation, remedy) = match client.send(request) {
            Ok(_) => (Outcome::Holds, "answers and is ready".to_owned(), String::new()),
            Err(ClientError::Connect { .. }) => {
                (Outcome::Note, "nothing listens there".to_owned(), "lambfold serve".to_owned())
            }
            Err(error) => (Outcome::Lesser, error.to_string(), String::new()),
        };
        Self { group: Group::Server, name: endpoint, outcome, explanation, remedy }
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

/// Aligned columns; what does not hold is followed by its remedy.
fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (group, name, outcome) = (check.group.name(), &check.name, check.outcome.name());
        let line = format!("{group:<8} {name:<width$}  {outcome:<11}  {}", check.explanation);
        text.push_str(line.trim_end());
        text.push('\n');
        if !check.remedy.is_empty() {
            text.push_str(&format!("{:9}{:width$}  remedy: {}\n", "", "", check.remedy));
        }
    }
    text
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
        let checks =
            [check("clone", Outcome::Holds, ""), check("cgroup-base", Outcome::Fails, "delegate")];
        let expected = "\
sandbox  clone        holds        does it
sandbox  cgroup-base  FAILS        does it
                      remedy: delegate
";
        assert_eq!(table(&checks), expected);
    }
}
