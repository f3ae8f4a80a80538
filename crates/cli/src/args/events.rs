//! `lambfold events`.

use super::Printing;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List the sample events: name, where they come from, what they say
    List(EventsList),
    /// Print a sample event, with changes
    ///
    /// A change is PATH=VALUE. A path is names with dots between them, and [N] for an element of a
    /// list, from 0; ["a.b"] is a name of any characters. The value is a text where the event has a
    /// text, and elsewhere JSON if it is JSON; PATH:=VALUE takes JSON in any place. What a source
    /// sends in base64 is set in plain.
    Generate(EventsGenerate),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold events list
  lambfold events list --output json | jq -r '.[].Name'")]
pub(crate) struct EventsList {
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold events generate hello-world
  lambfold events generate sqs --set 'Records[0].body=hello' > event.json
  lambfold events generate apigateway-v2 --set rawPath=/about --set 'headers.accept=text/html' |
      lambfold invoke site --payload -")]
pub(crate) struct EventsGenerate {
    /// Name of the event, from `lambfold events list`
    pub(crate) name: String,
    /// A change; may be given often
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) changes: Vec<String>,
    #[command(flatten)]
    pub(crate) printing: Printing,
}
