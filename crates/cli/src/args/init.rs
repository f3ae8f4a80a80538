//! `lambfold init`.

use super::Printing;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What a starter is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Starter {
    /// A handler in bash
    Bash,
    /// A page in PHP
    Php,
    /// A bootstrap in Rust, on the crate lambda_runtime
    Rust,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold init bash hello
  lambfold init php site && lambfold dev site
  lambfold init rust fast && fast/build.sh && lambfold dev fast/dist")]
pub(crate) struct Init {
    /// What it is written in
    #[arg(value_name = "bash|php|rust", hide_possible_values = true)]
    pub(crate) starter: Starter,
    /// Folder to make; one that is there must be empty
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) printing: Printing,
}
