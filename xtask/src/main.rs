//! Development tasks.
//!
//! `model` reduces the pinned service model to the table that crate api-model embeds,
//! `compatibility` writes `docs/compatibility.md` from that table. With `--check` each only
//! compares and fails on a difference. Nothing here ships.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod model;
mod reduce;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: lambfold-xtask model|compatibility [--check]";

/// A task that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot run `{command}`: {why}; install python3 and python3-pip")]
    Command { command: String, why: String },
    #[error("the service model is not as expected")]
    Model(#[from] serde_json::Error),
    #[error("{path} is stale: run `cargo run -p lambfold-xtask -- {task}` and commit the result")]
    Stale { path: PathBuf, task: &'static str },
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Writes the file, or only compares it.
fn put(path: &Path, text: &str, check: bool, task: &'static str) -> Result<(), TaskError> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    if old == text {
        println!("{} is up to date", path.display());
        return Ok(());
    }
    if check {
        return Err(TaskError::Stale { path: path.to_owned(), task });
    }
    let file = |source| TaskError::File { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(file)?;
    }
    std::fs::write(path, text).map_err(file)?;
    println!("{} written", path.display());
    Ok(())
}

fn run(task: &str, check: bool) -> Option<Result<(), TaskError>> {
    Some(match task {
        "model" => model::table().and_then(|table| {
            put(&root().join("crates/api-model/src/lambda.json"), &table, check, "model")
        }),
        "compatibility" => put(
            &root().join("docs/compatibility.md"),
            &lambfold_api_model::compatibility_page(),
            check,
            "compatibility",
        ),
        _ => return None,
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|a| a == "--check");
    let tasks: Vec<&String> = arguments.iter().filter(|a| *a != "--check").collect();
    let [task] = tasks[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(task, check) {
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("caused by: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
