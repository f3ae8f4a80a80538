//! The static programs that are inside this one when it was built with them, as `make release` does.

use lambfold_sandbox::Program;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What makes sandboxes: the program for it, or else this one.
pub(crate) fn spawner() -> Program {
    SPAWNER.map_or(Program::Itself, Program::Bytes)
}
