//! `lambfold dev`.

use super::{Connection, Printing};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// As which events requests reach the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HttpFormat {
    /// An HTTP API of API Gateway
    #[value(name = "apigateway-v2")]
    ApiGatewayV2,
    /// A REST API of API Gateway
    #[value(name = "apigateway-proxy")]
    ApiGatewayProxy,
    /// A function URL
    #[value(name = "function-url")]
    FunctionUrl,
    /// A load balancer
    #[value(name = "alb")]
    Alb,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold init php site && lambfold dev site
  lambfold dev . --event sqs
  lambfold dev . --layer ./runtime --layer tools.zip --env STAGE=dev --timeout 10
  lambfold dev site --format apigateway-proxy --port 8080 --output json

On a terminal, Enter sends the event again and q ends it, as Ctrl-C does.")]
pub(crate) struct Dev {
    /// Folder with the code
    pub(crate) dir: PathBuf,
    /// What the runtime gets as _HANDLER [default: index.php or function.handler, whichever file
    /// is there, else bootstrap]
    #[arg(long, value_name = "HANDLER")]
    pub(crate) handler: Option<String>,
    /// A layer: version, zip or folder; may be given up to 5 times, later ones win. A change of a
    /// zip or folder is a change
    #[arg(long = "layer", value_name = "ARN|ZIP|DIR")]
    pub(crate) layers: Vec<String>,
    /// An environment variable of the function; may be given often
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub(crate) variables: Vec<String>,
    /// Memory in MiB, 128 to 10240
    #[arg(long, value_name = "MIB", default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(128..=10_240))]
    pub(crate) memory: u32,
    /// Seconds that an invocation may take, 1 to 900
    #[arg(long, value_name = "SECONDS", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=900))]
    pub(crate) timeout: u32,
    /// Runtime identifier
    #[arg(long, value_name = "ID", default_value = "provided.al2023")]
    pub(crate) runtime: String,
    /// Name of the function [default: dev- and the folder's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Port on this machine that serves the function; 0 takes a free one [default: 3000, or the
    /// next free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The events that requests become: apigateway-v2, apigateway-proxy, function-url or alb
    #[arg(long = "format", value_name = "FORMAT", default_value = "apigateway-v2")]
    #[arg(hide_possible_values = true)]
    pub(crate) http: HttpFormat,
    /// An event to send after each change: a sample's name, JSON or @FILE
    #[arg(long, value_name = "NAME|JSON|@FILE")]
    pub(crate) event: Option<String>,
    /// Run a server of its own, also where one answers
    #[arg(long, conflicts_with = "endpoint_url")]
    pub(crate) ephemeral: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}
