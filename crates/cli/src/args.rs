//! The command line, as `--help` shows it. Every command's help ends with examples.

mod dev;
mod events;
mod fault;
mod init;
mod manual;
mod watch;

pub(crate) use dev::{Dev, HttpFormat};
pub(crate) use events::{Events, EventsGenerate, EventsList};
pub(crate) use fault::{Fault, FaultKind, word};
pub(crate) use init::{Init, Starter};
pub(crate) use manual::{Completions, Interpreter, Manual};
pub(crate) use watch::{Shell, Trace};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// AWS Lambda for custom runtimes on your own Linux: one binary, no Docker, no account
#[derive(Debug, Parser)]
#[command(name = "lambfold", version, propagate_version = false, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:
  lambfold serve
  eval \"$(lambfold env)\"
  lambfold deploy examples/bash-echo --name echo --handler function.handler
  lambfold invoke echo --payload '{\"hello\":\"world\"}' --tail

Exit codes: 0 done, 1 the request failed, 2 wrong usage, 3 the function returned an error,
255 a bug in lambfold."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    ///
    /// Every option can also be set by its environment variable, or by its name without the
    /// dashes as a key in lambfold.toml. A flag wins over the environment, that over the file.
    /// LAMBFOLD_LOG says how much is logged: error, warn, info, debug or trace.
    Serve(Box<Serve>),
    /// Print the exports that make AWS tools talk to the server
    Env(Env),
    /// Create a function, or update it, from a folder or a zip
    ///
    /// On an update, what is not named stays as it is, and code that is there already is not
    /// sent again.
    Deploy(Box<Deploy>),
    /// Invoke a function
    Invoke(Invoke),
    /// Write a folder as a zip that is the same every time
    Package(Package),
    /// Build, publish or import layers
    #[command(
        subcommand,
        after_help = "Examples:
  lambfold layer build bash -o bash.zip
  lambfold layer publish bash.zip --name bash
  lambfold layer import php-84.zip \\
      --alias-arn arn:aws:lambda:eu-central-1:873528684822:layer:php-84:21"
    )]
    Layer(Layer),
    /// Run a folder as a function: its address in a browser, a reload at each change
    ///
    /// Requests to a local address become events, and answers pages. A change of the folder is
    /// published in the background and initialised before it takes the requests: none waits, none
    /// is lost, and the first that the new code gets is warm. Without a bootstrap in the folder,
    /// function.sh and index.php run in the built-in runtimes. The server is the one of
    /// --endpoint-url, else the one that answers at its default address, else one of this command's
    /// own.
    Dev(Box<Dev>),
    /// Write a starter: a folder with a function that works as it is
    ///
    /// What to run next is printed, a command a line: to try it, to deploy it, to invoke it.
    Init(Init),
    /// Sample events of AWS services
    #[command(
        subcommand,
        after_help = "Examples:
  lambfold events list
  lambfold events generate sqs --set 'Records[0].body=hello'"
    )]
    Events(Events),
    /// Put a runtime to the test: the whole contract of the Runtime API, and its traps
    ///
    /// Each case starts the bootstrap anew, in a sandbox, in front of a host of its own; no server
    /// is needed. Most cases want the function's event back as its response; some ask the function
    /// for more, and do not apply where it only sends the event back. examples/conform has such
    /// functions, docs/conform.md says what they do.
    Conform(Box<Conform>),
    /// Print a function's logs
    Logs(Logs),
    /// Make something go wrong for a function, for a while
    ///
    /// It ends by itself after --for, and with a restart of the server. While it is on, `lambfold
    /// doctor`, /metrics and the function's log say so; the log at each effect, too.
    Fault(Fault),
    /// Open a shell in an execution environment, in place of the bootstrap
    ///
    /// You are the runtime: ask for events and answer them with curl, while the function is invoked
    /// from another terminal. The environment is that of the function, walls included. Without a
    /// terminal the shell reads its commands from standard input. The exit code is the shell's;
    /// docs/shell.md has more.
    Shell(Shell),
    /// Show every call of a function's Runtime API as it happens
    ///
    /// Request and answer of what runtimes and extensions ask in all environments of the function,
    /// those that start later included, until Ctrl-C. Whoever reads too slowly misses calls and is
    /// told how many; a runtime never waits for it. docs/trace.md has the fields and the format of
    /// recordings.
    Trace(Trace),
    /// Do each step of a sandbox on this machine and say what holds, what not, and why
    Doctor(Doctor),
    /// Print a script that completes commands and options in bash, zsh or fish
    Completions(Completions),
    /// Print a manual page, or write all of them into a folder
    #[command(name = "man")]
    Manual(Manual),
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Printing {
    /// How data is printed: text or json [default: text]
    #[arg(long = "output", value_name = "FORMAT", default_value = "text")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) format: Format,
}

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The server's address [env: AWS_ENDPOINT_URL] [default: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) endpoint_url: Option<String>,
    /// Region of the request [env: AWS_REGION, AWS_DEFAULT_REGION] [default: us-east-1]
    #[arg(long, value_name = "REGION", help_heading = "Server")]
    pub(crate) region: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  lambfold serve
  lambfold serve --ephemeral --listen 127.0.0.1:0
  lambfold serve --data-dir ./data --rootfs /srv/al2023
  lambfold serve --network none
  LAMBFOLD_REGION=cn-north-1 lambfold serve

  # lambfold.toml
  listen = \"127.0.0.1:9100\"
  data-dir = \"/srv/lambfold\"

  [rootfs]
  default = \"host\"
  \"provided.al2023\" = \"/srv/al2023\"")]
pub(crate) struct Serve {
    /// Settings file; without it ./lambfold.toml is read if it is there [env: LAMBFOLD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the AWS API; port 0 takes a free one [env: LAMBFOLD_LISTEN] [default:
    /// 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// Folder that holds everything the server keeps [env: LAMBFOLD_DATA_DIR] [default:
    /// $XDG_DATA_HOME/lambfold, as root /var/lib/lambfold]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Keep everything in a temporary folder, gone when the server ends [env:
    /// LAMBFOLD_EPHEMERAL]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub(crate) ephemeral: Option<String>,
    /// Region of requests that are not signed for one [env: LAMBFOLD_REGION] [default:
    /// us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The account, 12 digits [env: LAMBFOLD_ACCOUNT_ID] [default: 000000000000]
    #[arg(long, value_name = "ID")]
    pub(crate) account_id: Option<String>,
    /// Root filesystem of functions: host, or a folder; the table [rootfs] of the settings file
    /// has others by runtime, and by name for the tag lambfold:rootfs [env: LAMBFOLD_ROOTFS]
    /// [default: host]
    #[arg(long, value_name = "host|DIR")]
    pub(crate) rootfs: Option<String>,
    /// What is around functions: namespace, walls on all sides; or process, nothing, for an ordinary
    /// user who has no namespaces: functions are plain processes of that user, without layers, which
    /// needs --insecure and is refused to root [env: LAMBFOLD_ISOLATION] [default: namespace]
    #[arg(long, value_name = "namespace|process")]
    pub(crate) isolation: Option<String>,
    /// What functions reach: none; nat, the outside but nothing of this machine; or host, all that
    /// this machine reaches, which needs --insecure [env: LAMBFOLD_NETWORK] [default: nat as root
    /// where the kernel has veth and nf_tables, else none]
    #[arg(long, value_name = "none|nat|host")]
    pub(crate) network: Option<String>,
    /// Execution environments that may exist at a time; who finds no room waits, the oldest
    /// first, for at most 10 seconds [env: LAMBFOLD_MAX_ENVIRONMENTS] [default: 1000]
    #[arg(long, value_name = "N")]
    pub(crate) max_environments: Option<String>,
    /// Memory of all execution environments together, by their MemorySize, for example 8GiB
    /// [env: LAMBFOLD_MAX_MEMORY] [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_memory: Option<String>,
    /// Sandboxes that are made ahead of cold starts, 0 to 64; each takes about 0.7 MiB, and
    /// 0 makes none [env: LAMBFOLD_SANDBOX_STOCK] [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) sandbox_stock: Option<String>,
    /// How processors are shared out, by MemorySize: weight, where they are short; aws, one for
    /// each 1,769 MB and never more [env: LAMBFOLD_CPU] [default: weight]
    #[arg(long, value_name = "weight|aws")]
    pub(crate) cpu: Option<String>,
    /// Refuse what AWS refuses today, such as the runtime `provided` [env: LAMBFOLD_STRICT]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub(crate) strict: Option<String>,
    /// Listen beyond this machine, or let functions into its network, although there are no
    /// credentials yet [env: LAMBFOLD_INSECURE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub(crate) insecure: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  eval \"$(lambfold env)\"
  lambfold env --endpoint-url http://127.0.0.1:9100 --region eu-central-1
  lambfold env --output json")]
pub(crate) struct Env {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold deploy examples/bash-echo --name echo --handler function.handler
  lambfold deploy target/hello.zip --name hello --handler hello --memory 256 --timeout 10
  lambfold deploy . --name job --handler job.run --env STAGE=dev --env DEBUG=1 \\
      --layer arn:aws:lambda:us-east-1:000000000000:layer:bash:1")]
pub(crate) struct Deploy {
    /// Folder with the code, or a zip of it
    #[arg(value_name = "DIR|ZIP")]
    pub(crate) code: PathBuf,
    /// Name of the function
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What the runtime gets as _HANDLER; needed to create a function
    #[arg(long, value_name = "HANDLER")]
    pub(crate) handler: Option<String>,
    /// A layer version; may be given up to 5 times, later ones win
    #[arg(long = "layer", value_name = "ARN")]
    pub(crate) layers: Vec<String>,
    /// An environment variable of the function; may be given often, replaces all there were
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub(crate) variables: Vec<String>,
    /// Memory in MiB, 128 to 10240 [default on creation: 128]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..=10_240))]
    pub(crate) memory: Option<u32>,
    /// Seconds that an invocation may take, 1 to 900 [default on creation: 3]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=900))]
    pub(crate) timeout: Option<u32>,
    /// Runtime identifier [default on creation: provided.al2023]
    #[arg(long, value_name = "ID")]
    pub(crate) runtime: Option<String>,
    /// Instruction set of the code: x86_64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub(crate) architecture: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold invoke echo
  lambfold invoke echo --payload '{\"hello\":\"world\"}' --tail
  lambfold invoke echo --payload @event.json --qualifier 1
  jq -n '{n: 1}' | lambfold invoke echo --payload -
  lambfold invoke echo --async
  lambfold invoke echo --replay echo.jsonl --qualifier 2 --ignore /time

With --replay the exit code is 1 when an answer differs from the recorded one.")]
pub(crate) struct Invoke {
    /// Name or ARN of the function
    pub(crate) function: String,
    /// The event: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}", hide_default_value = true)]
    pub(crate) payload: String,
    /// Version or alias
    #[arg(long, value_name = "QUALIFIER")]
    pub(crate) qualifier: Option<String>,
    /// Queue the event and do not wait for its result
    #[arg(long = "async", conflicts_with = "tail")]
    pub(crate) queued: bool,
    /// Print the end of the invocation's log on standard error
    #[arg(long)]
    pub(crate) tail: bool,
    /// Send the events of a recording again, and show how the answers differ from the recorded
    /// ones; see lambfold trace --record
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "queued", "tail"])]
    pub(crate) replay: Option<PathBuf>,
    /// A part of the answers that may differ, as a JSON pointer; may be given often
    #[arg(long = "ignore", value_name = "POINTER", requires = "replay")]
    pub(crate) ignored: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold package examples/bash-echo -o echo.zip
  lambfold package . -o function.zip --output json")]
pub(crate) struct Package {
    /// Folder to pack
    pub(crate) dir: PathBuf,
    /// The zip to write
    #[arg(short = 'o', long = "out", value_name = "FILE.zip")]
    pub(crate) out: PathBuf,
    /// Instruction set the code is for: x86_64 or arm64 [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub(crate) architecture: Option<String>,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Layer {
    /// Make a layer of a built-in runtime, which needs nothing of the system it runs in
    ///
    /// The programs come from this machine's packages, or with --from from another root file
    /// system. The same zip runs here and on AWS, and the same input gives the same bytes. What is
    /// in it, in which version and under which licence, stands in its CONTENTS.txt.
    Build(LayerBuild),
    /// Publish a new version of a layer
    Publish(LayerPublish),
    /// Let this server answer to the ARN of somebody else's layer version
    Import(LayerImport),
}

/// A runtime that comes with lambfold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuiltIn {
    /// Handlers in bash
    Bash,
    /// Pages and functions in PHP
    Php,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold layer build bash -o bash.zip
  lambfold layer build bash --with jq,curl -o bash-tools.zip
  lambfold layer build php -o php.zip
  lambfold layer build php --from /srv/debian-13 -o php-84.zip")]
pub(crate) struct LayerBuild {
    /// The runtime
    #[arg(value_name = "bash|php", hide_possible_values = true)]
    pub(crate) runtime: BuiltIn,
    /// More programs for the layer's bin folder, with the libraries that they need
    #[arg(long, value_name = "PROG,...", value_delimiter = ',')]
    pub(crate) with: Vec<String>,
    /// Root file system to take programs from
    #[arg(long, value_name = "ROOTFS", default_value = "/")]
    pub(crate) from: PathBuf,
    /// The zip to write
    #[arg(short = 'o', long = "out", value_name = "FILE.zip")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold layer publish examples/bash-layer/layer --name bash
  lambfold layer publish bash.zip --name bash --description 'bash runtime'")]
pub(crate) struct LayerPublish {
    /// Zip of the layer, or a folder; its content appears under /opt
    #[arg(value_name = "FILE.zip|DIR")]
    pub(crate) code: PathBuf,
    /// Name of the layer
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold layer import php-84.zip \\
      --alias-arn arn:aws:lambda:eu-central-1:873528684822:layer:php-84:21")]
pub(crate) struct LayerImport {
    /// Zip of the layer
    #[arg(value_name = "FILE.zip")]
    pub(crate) file: PathBuf,
    /// ARN of the layer version that the zip is
    #[arg(long, value_name = "ARN")]
    pub(crate) alias_arn: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold conform examples/conform/bash --layer bash.zip --handler function.handler
  lambfold conform target/release/bootstrap --case 'init-*' --case error-shape
  lambfold conform . --except 'response-500=ends with the next event' --junit conform.xml
  lambfold conform . --recording calls.jsonl --ignore /time --case 'recorded-*'
  lambfold conform --list

Exit code 1 when a case fails, 2 for wrong usage.")]
pub(crate) struct Conform {
    /// Folder or zip of a function, or a single program that is its bootstrap
    #[arg(value_name = "PATH", required_unless_present = "list")]
    pub(crate) path: Option<PathBuf>,
    /// What the runtime gets as _HANDLER
    #[arg(long, value_name = "HANDLER", default_value = "function.handler")]
    pub(crate) handler: String,
    /// Zip or folder of a layer, seen under /opt; may be given up to 5 times, later ones win
    #[arg(long = "layer", value_name = "ZIP|DIR")]
    pub(crate) layers: Vec<PathBuf>,
    /// An environment variable of the function; may be given often
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub(crate) variables: Vec<String>,
    /// Run this case only, or with a star at the end all that begin so; may be given often
    #[arg(long = "case", value_name = "CASE")]
    pub(crate) cases: Vec<String>,
    /// A case that is known to fail, and why: it does not count; may be given often
    #[arg(long = "except", value_name = "CASE=REASON")]
    pub(crate) exceptions: Vec<String>,
    /// Take each event of this recording as a further case, recorded-1 and so on: it has to be
    /// answered as it was; see lambfold trace --record
    #[arg(long, value_name = "FILE")]
    pub(crate) recording: Option<PathBuf>,
    /// A part of the recorded answers that may differ, as a JSON pointer; may be given often
    #[arg(long = "ignore", value_name = "POINTER", requires = "recording")]
    pub(crate) ignored: Vec<String>,
    /// Print the cases, run none
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE.xml")]
    pub(crate) junit: Option<PathBuf>,
    /// Seconds for which `next` is left without an answer, once
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) idle: u64,
    /// Events of the cases that look for growth
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=10_000_000))]
    pub(crate) events: u32,
    /// Seconds to wait for what should come at once
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) patience: u64,
    /// Cases at a time
    #[arg(long, value_name = "N", default_value = "4")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) jobs: u32,
    /// namespace: in a sandbox; none: without one, with your rights; auto: with one if it can be
    /// had
    #[arg(long, value_name = "KIND", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    pub(crate) isolation: Isolation,
    /// Root filesystem of the sandbox: host, or a folder
    #[arg(long, value_name = "host|DIR", default_value = "host")]
    pub(crate) rootfs: String,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

/// Whether a bootstrap under test runs in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// In one where it can be had
    Auto,
    /// In one, or not at all
    Namespace,
    /// Without
    None,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold logs echo
  lambfold logs echo --since 2h --output json
  lambfold logs echo --follow")]
pub(crate) struct Logs {
    /// Name or ARN of the function
    pub(crate) function: String,
    /// Go on printing what comes
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// How far back to begin: a number with s, m, h or d [default: 10m]
    #[arg(long, value_name = "DURATION", default_value = "10m", hide_default_value = true)]
    pub(crate) since: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold doctor
  lambfold doctor --rootfs /srv/al2023
  lambfold doctor --output json

Exit code 1 when a step that functions need does not work here.")]
pub(crate) struct Doctor {
    /// Root filesystem to check: host, or a folder [default: host]
    #[arg(long, value_name = "host|DIR", default_value = "host", hide_default_value = true)]
    pub(crate) rootfs: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("{path}"));
            let calls_it = examples.lines().any(|line| line.contains(path));
            assert!(calls_it, "{path}: no example calls it");
        }
        check(&Cli::command(), "lambfold");
    }
}
