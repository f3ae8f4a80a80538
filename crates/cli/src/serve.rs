//! `lambfold serve`: settings from flags, environment, file and defaults become the server's
//! configuration. Nothing of the server itself is here.

mod settings;

use crate::args::Serve;
use crate::failure::{Exit, Failure};
use lambfold_server::{Config, Server};
use settings::{Settings, Source};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Read when it is there and no other file is named.
const DEFAULT_FILE: &str = "lambfold.toml";

pub(crate) fn run(args: &Serve) -> Result<Exit, Failure> {
    lambfold_server::run(config(args)?).map_err(|error| explain(&error))?;
    Ok(Exit::Done)
}

/// Starts a server for a command that needs one of its own: on a free port of this machine and
/// with nothing that it keeps, else with the settings that `serve` would have.
pub(crate) fn own() -> Result<Server, Failure> {
    let args = Serve {
        listen: Some("127.0.0.1:0".to_owned()),
        ephemeral: Some("true".to_owned()),
        ..Serve::default()
    };
    Server::start(config(&args)?).map_err(|error| explain(&error))
}

fn config(args: &Serve) -> Result<Config, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let file = read_file(args, variable("LAMBFOLD_CONFIG").map(Into::into))?;
    let environment = Settings::from_environment(|name| {
        variable(name).map(|value| {
            value.into_string().map_err(|value| {
                Failure::usage(format!("{name} is not UTF-8: {}", value.to_string_lossy()))
            })
        })
    })?;
    let settings = Settings::from_flags(args).or(environment)?.or(file)?;
    settings.resolve(&variable)
}

fn explain(error: &lambfold_server::Error) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        lambfold_server::Error::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            failure.hint("is a server running there already? another port: --listen 127.0.0.1:9100")
        }
        lambfold_server::Error::Sandbox(lambfold_sandbox::StartError::Step(step))
        | lambfold_server::Error::Trial(lambfold_sandbox::CreateError::Step {
            source: step, ..
        }) => {
            let without = if lambfold_sandbox::is_root() {
                "an ordinary user can run functions without any walls: --isolation process"
            } else {
                "or run functions without any walls, as plain processes of yours: --isolation process"
            };
            let failure = failure.hint(step.remedy());
            if step.is_of_isolation() { failure.hint(without) } else { failure }
        }
        _ => failure,
    }
}

fn read_file(args: &Serve, variable: Option<PathBuf>) -> Result<Settings, Failure> {
    let named = args.config.clone().or(variable);
    let path = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Settings::from_file(&text, Source::File(path.to_owned())),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {
            Ok(Settings::default())
        }
        Err(error) => {
            Err(Failure::usage(format!("could not read settings file {}", path.display()))
                .cause(&error))
        }
    }
}
