//! The bootstrap of the PHP runtime: `/opt/bootstrap` in a layer, `bootstrap` in a function.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    lambfold_runtime_php::run()
}
