//! The bootstrap of the bash runtime: `/opt/bootstrap` in a layer, `bootstrap` in a function.

use std::process::ExitCode;

fn main() -> ExitCode {
    lambfold_runtime_bash::run()
}
