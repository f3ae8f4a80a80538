use super::shared;
use crate::args::{Conform, Format, Isolation};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_conform::{Case, Kit, KitError, Report, Settings, Subject, SubjectError, Verdict};
use lambfold_types::limits;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(args: &Conform) -> Result<Exit, Failure> {
    let cases = chosen(&args.cases)?;
    let Some(path) = args.path.as_deref().filter(|_| !args.list) else {
        list(&cases, args.printing.format)?;
        return Ok(Exit::Done);
    };
    let settings = settings(args)?;
    if args.layers.len() > limits::LAYERS {
        return Err(Failure::usage(format!(
            "{} layers; a function has {} at most",
            args.layers.len(),
            limits::LAYERS
        )));
    }
    if !path.exists() {
        return Err(Failure::usage(format!("there is no file or folder {}", path.display())));
    }
    let architecture = shared::architecture(None)?;
    let subject = Subject::new(path, &args.layers, architecture, settings.rootfs.as_deref())
        .map_err(|error| explain_subject(&error))?;
    for finding in &subject.findings {
        output::warn(&finding.to_string());
    }
    let kit = Kit::new(settings).map_err(|error| explain(&error))?;
    for note in &kit.notes {
        output::warn(note);
    }
    let (mut over, total) = (0, cases.len());
    let visible = std::io::stderr().is_terminal();
    let report = kit.run(&subject, &cases, |_| {
        over += 1;
        if visible {
            output::progress(&format!("{over} of {total} cases"));
        }
    });
    let report = report.map_err(|error| explain(&error))?;
    print(&report, args)?;
    Ok(if report.count(Verdict::Fail) == 0 { Exit::Done } else { Exit::Failed })
}

fn print(report: &Report, args: &Conform) -> Result<(), Failure> {
    if let Some(file) = &args.junit {
        std::fs::write(file, report.junit()).map_err(|error| {
            Failure::failed(format!("could not write {}", file.display())).cause(&error)
        })?;
    }
    match args.printing.format {
        Format::Text => output::data(report.text().as_bytes()),
        Format::Json => output::json(&report.json()),
    }
}

fn settings(args: &Conform) -> Result<Settings, Failure> {
    let mut env = Vec::new();
    for variable in &args.variables {
        env.push(pair(variable, "--env", "KEY=VALUE")?);
    }
    let mut except = BTreeMap::new();
    for exception in &args.exceptions {
        let (case, reason) = pair(exception, "--except", "CASE=REASON")?;
        if reason.is_empty() {
            return Err(Failure::usage(format!("--except {case}= needs a reason after the =")));
        }
        if !Case::all().iter().any(|known| known.id == case) {
            return Err(unknown(&case));
        }
        except.insert(case, reason);
    }
    let rootfs = match args.rootfs.as_str() {
        "host" => None,
        dir if Path::new(dir).is_dir() => Some(dir.into()),
        other => {
            return Err(Failure::usage(format!("--rootfs {other} is neither host nor a folder")));
        }
    };
    Ok(Settings {
        handler: args.handler.clone(),
        env,
        patience: Duration::from_secs(args.patience),
        idle: Duration::from_secs(args.idle),
        events: usize::try_from(args.events).unwrap_or(usize::MAX),
        jobs: usize::try_from(args.jobs).unwrap_or(1),
        isolation: match args.isolation {
            Isolation::Auto => lambfold_conform::Isolation::Auto,
            Isolation::Namespace => lambfold_conform::Isolation::Namespace,
            Isolation::None => lambfold_conform::Isolation::None,
        },
        rootfs,
        except,
    })
}

fn pair(text: &str, option: &str, shape: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{option} {text} is not {shape}"))),
    }
}

/// The cases of the given names; all where none is given.
fn chosen(names: &[String]) -> Result<Vec<&'static Case>, Failure> {
    let all = Case::all();
    let is = |name: &str, id: &str| match name.strip_suffix('*') {
        Some(start) => id.starts_with(start),
        None => name == id,
    };
    for name in names {
        if !all.iter().any(|case| is(name, case.id)) {
            return Err(unknown(name));
        }
    }
    let wanted = |case: &&Case| names.is_empty() || names.iter().any(|name| is(name, case.id));
    Ok(all.into_iter().filter(wanted).collect())
}

fn unknown(case: &str) -> Failure {
    Failure::usage(format!("there is no case {case}")).hint("list them: lambfold conform --list")
}

fn list(cases: &[&Case], format: Format) -> Result<(), Failure> {
    match format {
        Format::Text => {
            let lines = cases.iter().map(|case| format!("{:<24} {}\n", case.id, case.title));
            output::data(lines.collect::<String>().as_bytes())
        }
        Format::Json => output::json(
            &cases
                .iter()
                .map(|case| {
                    json!({
                        "Id": case.id,
                        "Title": case.title,
                        "Why": case.why,
                        "Mend": case.mend,
                        "Reference": case.reference,
                    })
                })
                .collect(),
        ),
    }
}

fn explain_subject(error: &SubjectError) -> Failure {
    match error {
        SubjectError::Refused { path, reasons } => {
            let failure = Failure::failed(format!("{} cannot be deployed", path.display()));
            reasons.iter().fold(failure, |failure, reason| failure.because(reason))
        }
        SubjectError::NoBootstrap { .. } => {
            Failure::from_error(error).hint("a runtime in a layer is given with --layer ZIP")
        }
        SubjectError::Read { .. } | SubjectError::Temporary(_) => Failure::from_error(error),
    }
}

fn explain(error: &KitError) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        KitError::Sandbox(_) => failure.hint("to do without a sandbox: --isolation none"),
        KitError::LayersNeedSandbox => {
            failure.hint("put the bootstrap into the function's own folder, or see lambfold doctor")
        }
        KitError::Temporary(_) => failure,
    }
}
