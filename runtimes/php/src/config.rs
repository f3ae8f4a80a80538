//! What the environment says. Read once, at start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lambfold_runtime_client::FunctionError;

use crate::handler::{self, HandlerError};

/// What the runtime goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The handler's file.
    pub(crate) file: PathBuf,
    /// What the handler is called in messages.
    pub(crate) name: String,
    /// Where the function's code is; the working directory.
    pub(crate) root: PathBuf,
    pub(crate) mode: Mode,
    /// Whether pages are streamed; unset: where the platform says that the caller streams.
    pub(crate) stream: Option<bool>,
    /// How long before the deadline a handler is stopped; none: chosen by the time it has.
    pub(crate) stop_before: Option<Duration>,
    /// After how many pages a php-cgi is renewed; none for never.
    pub(crate) max_requests: Option<NonZeroU64>,
    pub(crate) php: Php,
    /// The function's memory, in MiB, where the platform says so.
    pub(crate) memory_mib: Option<u64>,
}

/// Which events are pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// HTTP events are; all others go to the callable that the handler's file returns.
    Auto,
    /// None: the callable gets every event.
    Function,
}

/// The programs, and what goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Php {
    /// The folder beside the bootstrap that holds a PHP of its own, if there is one.
    pub(crate) home: Option<PathBuf>,
    pub(crate) cgi: Result<PathBuf, NoProgram>,
    pub(crate) cli: Result<PathBuf, NoProgram>,
    /// PHP_INI_SCAN_DIR as the function has it.
    pub(crate) scan: Option<OsString>,
    /// Whether the function has a PHPRC, which then stays.
    pub(crate) has_rc: bool,
}

/// A program that is nowhere.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "no {name} in {tried}: use a layer that brings one (lambfold layer build php), or set {variable} to its path"
)]
pub(crate) struct NoProgram {
    name: &'static str,
    variable: &'static str,
    tried: String,
}

/// Why the runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Handler(#[from] HandlerError),
    #[error("{name} is `{value}`; it can be {allowed}")]
    Value { name: &'static str, value: String, allowed: &'static str },
}

impl ConfigError {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        match self {
            ConfigError::Handler(error) => error.to_function_error(),
            other => FunctionError::new("Runtime.InvalidConfiguration", other.to_string()),
        }
    }
}

impl NoProgram {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        FunctionError::new("Runtime.InvalidConfiguration", self.to_string())
    }
}

impl Config {
    pub(crate) fn from_env() -> Result<Config, ConfigError> {
        let own_path = env::current_exe().unwrap_or_else(|_| PathBuf::from("/opt/bootstrap"));
        Config::from(&|name| env::var_os(name), &own_path)
    }

    fn from(
        variable: &dyn Fn(&str) -> Option<OsString>,
        own_path: &Path,
    ) -> Result<Config, ConfigError> {
        let text = |name| variable(name).unwrap_or_default().to_string_lossy().into_owned();
        let root = match variable("LAMBDA_TASK_ROOT") {
            Some(root) if !root.is_empty() => PathBuf::from(root),
            _ => env::current_dir().unwrap_or_else(|_| PathBuf::from("/var/task")),
        };
        let wrong = |name, value: &str, allowed| ConfigError::Value {
            name,
            value: value.to_owned(),
            allowed,
        };
        let mode = match text("LAMBFOLD_PHP_MODE").as_str() {
            "" | "auto" => Mode::Auto,
            "function" => Mode::Function,
            other => return Err(wrong("LAMBFOLD_PHP_MODE", other, "auto, function or unset")),
        };
        let stream = match text("LAMBFOLD_PHP_STREAM").as_str() {
            "" => None,
            "0" => Some(false),
            "1" => Some(true),
            other => return Err(wrong("LAMBFOLD_PHP_STREAM", other, "1, 0 or unset")),
        };
        let allowed = "a number of milliseconds, 0 for never";
        let stop_before = match text("LAMBFOLD_PHP_STOP_MS").as_str() {
            "" => None,
            value => match value.parse() {
                Ok(ms) => Some(Duration::from_millis(ms)),
                Err(_) => return Err(wrong("LAMBFOLD_PHP_STOP_MS", value, allowed)),
            },
        };
        let max_requests = match text("PHP_FCGI_MAX_REQUESTS").as_str() {
            "" => None,
            value => match value.parse() {
                Ok(number) => NonZeroU64::new(number),
                Err(_) => {
                    return Err(wrong("PHP_FCGI_MAX_REQUESTS", value, "a number, 0 for no limit"));
                }
            },
        };
        let name = text("_HANDLER");
        Ok(Config {
            file: handler::resolve(&name, &root)?,
            name,
            root,
            max_requests,
            mode,
            stream,
            stop_before,
            php: Php::from(variable, own_path),
            memory_mib: text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").parse().ok(),
        })
    }

    /// When a handler that began now and has `remaining` time is stopped; none for never. Without a
    /// choice of the function's it is a tenth of the time before the deadline, at most half a second.
    pub(crate) fn stop_at(&self, now: Instant, remaining: Duration) -> Option<Instant> {
        match self.stop_before {
            Some(Duration::ZERO) => None,
            _ => now.checked_add(remaining.saturating_sub(self.stop_margin(remaining))),
        }
    }

    pub(crate) fn stop_margin(&self, remaining: Duration) -> Duration {
        self.stop_before.unwrap_or_else(|| (remaining / 10).min(Duration::from_millis(500)))
    }
}

impl Php {
    fn from(variable: &dyn Fn(&str) -> Option<OsString>, own_path: &Path) -> Php {
        let home = own_path.parent().map(|folder| folder.join("lambfold-php"));
        let home = home.filter(|home| home.is_dir());
        let find = |name, variable_name: &'static str| {
            let mut tried = Vec::new();
            if let Some(path) = variable(variable_name).filter(|path| !path.is_empty()) {
                tried.push(PathBuf::from(path));
            } else {
                tried.extend(home.as_ref().map(|home| home.join("bin").join(name)));
                let path = variable("PATH").unwrap_or_else(|| OsStr::new("/usr/bin").to_owned());
                tried.extend(env::split_paths(&path).map(|folder| folder.join(name)));
            }
            let is_program = |path: &&PathBuf| {
                path.metadata()
                    .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            };
            tried.iter().find(is_program).cloned().ok_or_else(|| {
                let tried: Vec<_> = tried.iter().map(|path| path.display().to_string()).collect();
                NoProgram { name, variable: variable_name, tried: tried.join(", ") }
            })
        };
        Php {
            cgi: find("php-cgi", "LAMBFOLD_PHP_CGI"),
            cli: find("php", "LAMBFOLD_PHP_CLI"),
            scan: variable("PHP_INI_SCAN_DIR").filter(|value| !value.is_empty()),
            has_rc: variable("PHPRC").is_some_and(|value| !value.is_empty()),
            home,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(root.path().join("index.php"), "").expect("a file");
        let variable = |name: &str| match name {
            "LAMBDA_TASK_ROOT" => Some(root.path().as_os_str().to_owned()),
            "_HANDLER" => Some("index.php".into()),
            name => variables.iter().find(|(have, _)| *have == name).map(|(_, v)| (*v).into()),
        };
        Config::from(&variable, Path::new("/nowhere/bootstrap"))
    }

    #[test]
    fn nothing_said_is_pages_for_http_and_streams_for_who_streams() {
        let config = config(&[]).expect("valid");
        assert_eq!((config.mode, config.stream, config.stop_before), (Mode::Auto, None, None));
        assert_eq!(config.memory_mib, None);
    }

    #[test]
    fn switches_take_their_values_and_no_others() {
        assert_eq!(
            config(&[("LAMBFOLD_PHP_MODE", "function")]).expect("valid").mode,
            Mode::Function
        );
        for (value, stream) in [("1", true), ("0", false)] {
            let config = config(&[("LAMBFOLD_PHP_STREAM", value)]).expect("valid");
            assert_eq!(config.stream, Some(stream));
        }
        let config_128 = config(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]).expect("valid");
        assert_eq!(config_128.memory_mib, Some(128));
        for (name, value) in [
            ("LAMBFOLD_PHP_MODE", "fpm"),
            ("LAMBFOLD_PHP_STREAM", "yes"),
            ("LAMBFOLD_PHP_STOP_MS", "-1"),
            ("PHP_FCGI_MAX_REQUESTS", "many"),
        ] {
            let error = config(&[(name, value)]).expect_err(name);
            assert!(error.to_string().contains(name) && error.to_string().contains(value));
        }
    }

    #[test]
    fn handlers_are_stopped_before_their_deadline_unless_that_is_off() {
        let now = Instant::now();
        let stop_at = |stop: &str, remaining| {
            let config = config(&[("LAMBFOLD_PHP_STOP_MS", stop)]).expect("valid");
            config.stop_at(now, Duration::from_millis(remaining)).map(|at| (at - now).as_millis())
        };
        assert_eq!(stop_at("", 3000), Some(2700));
        assert_eq!(stop_at("", 900_000), Some(899_500));
        assert_eq!(stop_at("1000", 3000), Some(2000));
        assert_eq!(stop_at("5000", 3000), Some(0));
        assert_eq!(stop_at("0", 3000), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let config = config(&[("LAMBFOLD_PHP_CGI", "/nowhere/php-cgi")]).expect("valid");
        let error = config.php.cgi.expect_err("missing").to_string();
        assert!(error.contains("/nowhere/php-cgi") && error.contains("layer build php"), "{error}");
    }
}
