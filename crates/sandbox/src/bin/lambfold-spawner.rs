//! The spawner as a program of its own, which `lambfold` has inside when it was built with it.
//!
//! Each sandbox's first process, and its guests until they execute their program, are copies of the
//! spawner: a small static program is copied and forgotten faster than a large one, and leaves less
//! memory with each sandbox.

#[global_allocator]
static MEMORY: lambfold_sandbox::CloneMemory = lambfold_sandbox::CloneMemory;

fn main() {
    lambfold_sandbox::dispatch();
    // Nobody else has a use for it.
    std::process::exit(2);
}
