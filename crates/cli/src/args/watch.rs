//! `lambfold shell` and `lambfold trace`: what goes on in an execution environment.

use super::{Connection, Printing};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold shell echo
  lambfold shell echo --qualifier 3
  lambfold shell echo < play-runtime.sh
  echo 'env | sort; ls -l /var/task /opt' | lambfold shell echo")]
pub(crate) struct Shell {
    /// Name or ARN of the function
    pub(crate) function: String,
    /// Version or alias
    #[arg(long, value_name = "QUALIFIER")]
    pub(crate) qualifier: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold trace echo
  lambfold trace echo --for 1m --output json
  lambfold trace echo --qualifier 3 --body 65536
  lambfold trace echo --record echo.jsonl --count 10")]
pub(crate) struct Trace {
    /// Name or ARN of the function
    pub(crate) function: String,
    /// Only this version, or the one of this alias [default: all versions]
    #[arg(long, value_name = "QUALIFIER")]
    pub(crate) qualifier: Option<String>,
    /// End after this time: a number with s, m, h or d, a day at most
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) time: Option<String>,
    /// End after so many calls; with --record after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Bytes to show of each body
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=6_291_556))]
    pub(crate) body: u32,
    /// Write whole events and their answers to this file, for invoke --replay and conform
    /// --recording; at most 10,000 events and 1 GiB
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}
