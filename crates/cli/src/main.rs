//! The `lambfold` program. Before anything else (threads, logging, arguments) it becomes one of
//! the sandbox's own roles when it was started as one.

use std::process::ExitCode;

fn main() -> ExitCode {
    lambfold_sandbox::dispatch();
    lambfold_cli::main()
}
