//! What the environment says. Read once, at start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lambfold_runtime_client::FunctionError;

use crate::handler::{self, Handler, HandlerError};

/// What the runtime goes by.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) handler: Handler,
    /// Where the function's code is; the working directory.
    pub(crate) root: PathBuf,
    pub(crate) bash: PathBuf,
    /// `$0` of handlers: this program, as everybody expects a `bootstrap` there.
    pub(crate) own_path: PathBuf,
    /// Whether functions run in the main shell and keep their variables.
    pub(crate) persist: bool,
    /// Whether the contract of the retired bash-lambda-layer is kept: stderr answers, stdout logs.
    pub(crate) compat: bool,
    /// How long before the deadline a handler is told to stop; none: chosen by the time it has.
    pub(crate) stop_before: Option<Duration>,
}

/// Why the runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Handler(#[from] HandlerError),
    #[error("{name} is `{value}`; it can be {allowed}")]
    Value { name: &'static str, value: String, allowed: &'static str },
    #[error("no bash in {tried}: use a layer that brings one, or set LAMBFOLD_BASH to its path")]
    NoBash { tried: String },
}

impl ConfigError {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        match self {
            ConfigError::Handler(error) => error.to_function_error(),
            other => FunctionError::new("Runtime.InvalidConfiguration", other.to_string()),
        }
    }
}

impl Config {
    pub(crate) fn from_env() -> Result<Config, ConfigError> {
        let own_path = env::current_exe().unwrap_or_else(|_| PathBuf::from("/opt/bootstrap"));
        Config::from(&|name| env::var_os(name), own_path)
    }

    fn from(
        variable: &dyn Fn(&str) -> Option<OsString>,
        own_path: PathBuf,
    ) -> Result<Config, ConfigError> {
        let text = |name| variable(name).unwrap_or_default().to_string_lossy().into_owned();
        let root = match variable("LAMBDA_TASK_ROOT") {
            Some(root) if !root.is_empty() => PathBuf::from(root),
            _ => env::current_dir().unwrap_or_else(|_| PathBuf::from("/var/task")),
        };
        let stop_before = match text("LAMBFOLD_BASH_STOP_MS").as_str() {
            "" => None,
            value => {
                Some(value.parse().map(Duration::from_millis).map_err(|_| ConfigError::Value {
                    name: "LAMBFOLD_BASH_STOP_MS",
                    value: value.to_owned(),
                    allowed: "a number of milliseconds, 0 for never",
                })?)
            }
        };
        let persist = switch("LAMBFOLD_BASH_PERSIST", &text("LAMBFOLD_BASH_PERSIST"), "1")?;
        let compat = switch("LAMBFOLD_BASH_COMPAT", &text("LAMBFOLD_BASH_COMPAT"), "gkrizek")?;
        if persist && compat {
            return Err(ConfigError::Value {
                name: "LAMBFOLD_BASH_PERSIST",
                value: "1".to_owned(),
                allowed: "0 or unset together with LAMBFOLD_BASH_COMPAT=gkrizek, whose events are \
                          isolated",
            });
        }
        Ok(Config {
            handler: handler::resolve(&text("_HANDLER"), &root)?,
            bash: find_bash(variable, &own_path)?,
            root,
            own_path,
            persist,
            compat,
            stop_before,
        })
    }
}

fn switch(name: &'static str, value: &str, on: &'static str) -> Result<bool, ConfigError> {
    match value {
        "" | "0" => Ok(false),
        value if value == on => Ok(true),
        _ => {
            let allowed = if on == "1" { "1, 0 or unset" } else { "gkrizek, 0 or unset" };
            Err(ConfigError::Value { name, value: value.to_owned(), allowed })
        }
    }
}

/// LAMBFOLD_BASH, the one that comes with this program, then PATH's.
fn find_bash(
    variable: &dyn Fn(&str) -> Option<OsString>,
    own_path: &Path,
) -> Result<PathBuf, ConfigError> {
    let mut tried = Vec::new();
    if let Some(path) = variable("LAMBFOLD_BASH").filter(|path| !path.is_empty()) {
        tried.push(PathBuf::from(path));
    } else {
        if let Some(folder) = own_path.parent() {
            tried.push(folder.join("lambfold-bash/bin/bash"));
        }
        let path = variable("PATH").unwrap_or_else(|| OsStr::new("/usr/bin:/bin").to_owned());
        tried.extend(env::split_paths(&path).map(|folder| folder.join("bash")));
        tried.push(PathBuf::from("/bin/bash"));
    }
    let is_program = |path: &&PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    match tried.iter().find(is_program) {
        Some(bash) => Ok(bash.clone()),
        None => {
            let tried: Vec<_> = tried.iter().map(|path| path.display().to_string()).collect();
            Err(ConfigError::NoBash { tried: tried.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(root.path().join("f.sh"), "").expect("a file");
        let root = root.path().to_str().expect("text").to_owned();
        let base = [("LAMBDA_TASK_ROOT", root.as_str()), ("_HANDLER", "f.handler")];
        let all: Vec<_> = variables.iter().chain(&base).collect();
        let get = |name: &str| {
            all.iter().find(|(have, _)| *have == name).map(|(_, value)| OsString::from(value))
        };
        Config::from(&get, PathBuf::from("/opt/bootstrap"))
    }

    #[test]
    fn the_defaults_are_isolation_and_the_bash_of_the_path() {
        let config = config(&[]).expect("valid");
        assert!(!config.persist && !config.compat);
        assert_eq!(config.stop_before, None);
        assert!(config.bash.ends_with("bash"), "{:?}", config.bash);
    }

    #[test]
    fn switches_take_their_values_and_no_others() {
        assert!(config(&[("LAMBFOLD_BASH_PERSIST", "1")]).expect("valid").persist);
        assert!(!config(&[("LAMBFOLD_BASH_PERSIST", "0")]).expect("valid").persist);
        assert!(config(&[("LAMBFOLD_BASH_COMPAT", "gkrizek")]).expect("valid").compat);
        let stop = config(&[("LAMBFOLD_BASH_STOP_MS", "0")]).expect("valid").stop_before;
        assert_eq!(stop, Some(Duration::ZERO));
        for (name, value) in [
            ("LAMBFOLD_BASH_PERSIST", "yes"),
            ("LAMBFOLD_BASH_COMPAT", "1"),
            ("LAMBFOLD_BASH_STOP_MS", "-1"),
        ] {
            let error = config(&[(name, value)]).expect_err(name);
            assert!(error.to_string().contains(name) && error.to_string().contains(value));
        }
        config(&[("LAMBFOLD_BASH_PERSIST", "1"), ("LAMBFOLD_BASH_COMPAT", "gkrizek")])
            .expect_err("the two together");
    }

    #[test]
    fn a_bash_that_is_not_there_is_named() {
        let error = config(&[("LAMBFOLD_BASH", "/nowhere/bash")]).expect_err("missing");
        assert!(error.to_string().contains("/nowhere/bash"), "{error}");
    }
}
