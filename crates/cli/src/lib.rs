//! The `lambfold` command: reads arguments, talks to a server over the public API, prints.
//!
//! In: arguments, environment variables, `lambfold.toml`, standard input. Out: data on standard
//! output, talk on standard error, an exit code. Every command but `serve`, `doctor`, `package`,
//! `conform`, `init`, `events` and `env` is a client of the AWS API, `dev` too, which may bring the
//! server along; reaching into a server's data folder is forbidden here.

mod args;
mod client;
mod command;
mod embedded;
mod failure;
mod interrupt;
mod output;
mod screen;
mod serve;

use clap::{CommandFactory, FromArgMatches};
use failure::Exit;
use std::process::ExitCode;

/// Runs the command that the process's arguments name and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(output::report_panic));
    ExitCode::from(guarded(run).code())
}

/// A panic is a bug, which has its own exit code.
fn guarded(run: impl FnOnce() -> Exit + std::panic::UnwindSafe) -> Exit {
    std::panic::catch_unwind(run).unwrap_or(Exit::Bug)
}

fn run() -> Exit {
    let matches = match args::Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return output::report_clap(&error),
    };
    let cli = match args::Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return output::report_clap(&error),
    };
    match command::run(cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            output::report_failure(&failure);
            failure.exit()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_exit_code_255() {
        assert_eq!(guarded(|| panic!("on purpose")).code(), 255);
        assert_eq!(guarded(|| Exit::FunctionError).code(), 3);
    }
}
