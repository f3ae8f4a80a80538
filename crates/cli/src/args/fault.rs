//! `lambfold fault`.

use super::{Connection, Printing};
use clap::{Args, ValueEnum};

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultKind {
    /// The answer of the Runtime API's next comes late (--delay), while the timeout runs
    SlowNext,
    /// The Runtime API answers 500 (--call)
    #[value(name = "api-500")]
    Api500,
    /// The connection to the Runtime API is reset (--call)
    ApiReset,
    /// Invocations are refused with 429, as by the account's concurrency
    Throttle,
    /// The init phase does not end in its 10 seconds; acts on cold starts
    InitTimeout,
    /// An asynchronous event is delivered twice under one request id; synchronous ones never are
    Duplicate,
    /// Little of the timeout is left when the event comes (--remaining), and then it is over
    Deadline,
    /// The memory is used up: the kernel kills, or the platform in its place
    Oom,
}

/// A call of the Runtime API that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultCall {
    /// The next that has an event
    Next,
    /// The response, or the error
    Response,
}

/// The word for it, here and on the server.
pub(crate) fn word(of: impl ValueEnum) -> String {
    of.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold fault echo slow-next --for 10m --delay 2s
  lambfold fault echo api-500 --for 10m --call response --rate 0.1
  lambfold fault echo throttle --for 30s --qualifier prod
  lambfold fault echo deadline --for 5m --remaining 50ms
  lambfold fault echo --list
  lambfold fault --list --output json
  lambfold fault echo --clear
  lambfold fault echo throttle --clear")]
pub(crate) struct Fault {
    /// Name or ARN of the function; only --list does without
    #[arg(value_name = "FUNCTION", required_unless_present = "list")]
    pub(crate) function: Option<String>,
    /// What goes wrong
    #[arg(value_name = "KIND", required_unless_present_any = ["list", "clear"])]
    pub(crate) kind: Option<FaultKind>,
    /// How long it is on: a number with s, m or h, at most 24h
    #[arg(long = "for", value_name = "DURATION", required_unless_present_any = ["list", "clear"])]
    pub(crate) lasts: Option<String>,
    /// Version or alias: only this version; an alias stands for the version that it leads to now
    #[arg(long, value_name = "QUALIFIER")]
    pub(crate) qualifier: Option<String>,
    /// Share of the occasions on which it acts, above 0 and up to 1 [default: 1]
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<f64>,
    /// Of slow-next: a number with ms, s or m [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<String>,
    /// Of deadline: a number with ms, s or m [default: 100ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) remaining: Option<String>,
    /// Of api-500 and api-reset: next or response [default: next]
    #[arg(long, value_name = "CALL", hide_possible_values = true)]
    pub(crate) call: Option<FaultCall>,
    /// Print what is on, of the function or of all
    #[arg(long, conflicts_with_all = ["kind", "lasts", "qualifier", "rate", "delay", "remaining", "call", "clear"])]
    pub(crate) list: bool,
    /// Switch off what is on of the function, or only this kind
    #[arg(long, requires = "function", conflicts_with_all = ["lasts", "qualifier", "rate", "delay", "remaining", "call"])]
    pub(crate) clear: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}
