//! The bootstrap of the PHP runtime: `/opt/bootstrap` in a layer, `bootstrap` in a function.

use std::process::ExitCode;

fn main() -> ExitCode {
    lambfold_runtime_php::run()
}
