//! The bootstrap of the bash runtime.

fn main() {}
