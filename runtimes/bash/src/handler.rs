//! From `_HANDLER` to a file.

use std::path::{Path, PathBuf};

use lambfold_runtime_client::FunctionError;

/// What is run for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handler {
    /// A function of a file that is sourced once.
    Function { file: PathBuf, function: String },
    /// A script that is started for each event.
    Script(PathBuf),
}

/// Why there is no handler. `Runtime.…` names are those of AWS's own runtimes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandlerError {
    #[error("the handler is not set: give it as file.function, or as the name of a script")]
    Unset,
    #[error(
        "the handler `{handler}` is neither file.function nor a file in {root}: {root}/{handler} does not exist"
    )]
    Malformed { handler: String, root: String },
    #[error("the handler `{handler}` points out of {root}")]
    Outside { handler: String, root: String },
    #[error("the handler `{handler}` needs one of these files, and none exists: {tried}")]
    NoFile { handler: String, tried: String },
}

impl HandlerError {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        let error_type = match self {
            HandlerError::Unset | HandlerError::Malformed { .. } => "Runtime.MalformedHandlerName",
            HandlerError::Outside { .. } => "Runtime.MalformedHandlerName",
            HandlerError::NoFile { .. } => "Runtime.ImportModuleError",
        };
        FunctionError::new(error_type, self.to_string())
    }
}

/// Finds the handler's file in `root`. A handler that is the name of a file is a script; any other
/// is file.function, where the file may have `.sh` or `.bash` behind its name.
pub(crate) fn resolve(handler: &str, root: &Path) -> Result<Handler, HandlerError> {
    if handler.is_empty() {
        return Err(HandlerError::Unset);
    }
    let (name, shown) = (handler.to_owned(), root.display().to_string());
    let climbs = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
    if climbs(handler) {
        return Err(HandlerError::Outside { handler: name, root: shown });
    }
    if root.join(handler).is_file() {
        return Ok(Handler::Script(root.join(handler)));
    }
    let (file, function) = match handler.rsplit_once('.') {
        Some((file, function)) if is_function_name(function) && !file.is_empty() => {
            (file, function)
        }
        _ => return Err(HandlerError::Malformed { handler: name, root: shown }),
    };
    let tried = [format!("{file}.sh"), format!("{file}.bash"), file.to_owned()];
    match tried.iter().map(|name| root.join(name)).find(|path| path.is_file()) {
        Some(file) => Ok(Handler::Function { file, function: function.to_owned() }),
        None => {
            let tried: Vec<_> = tried.iter().map(|name| format!("{shown}/{name}")).collect();
            Err(HandlerError::NoFile { handler: name, tried: tried.join(", ") })
        }
    }
}

fn is_function_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '@' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(handler: &str) -> Result<String, String> {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("lib")).expect("a folder");
        for file in ["function.sh", "other.bash", "plain", "script.sh", "lib/deep.sh", "a.b.sh"] {
            std::fs::write(root.path().join(file), "").expect("a file");
        }
        let short =
            |path: &Path| path.strip_prefix(root.path()).expect("inside").display().to_string();
        match resolve(handler, root.path()) {
            Ok(Handler::Function { file, function }) => Ok(format!("{} {function}", short(&file))),
            Ok(Handler::Script(file)) => Ok(short(&file)),
            Err(error) => Err(error.to_function_error().error_type().to_owned()),
        }
    }

    #[test]
    fn a_handler_is_a_script_or_a_function_of_a_file() {
        for (handler, expected) in [
            ("script.sh", "script.sh"),
            ("plain", "plain"),
            ("function.handler", "function.sh handler"),
            ("other.handler", "other.bash handler"),
            ("plain.my-handler", "plain my-handler"),
            ("lib/deep.f", "lib/deep.sh f"),
            ("a.b.f", "a.b.sh f"),
            ("function.sh.f", "function.sh f"),
        ] {
            assert_eq!(resolved(handler).as_deref(), Ok(expected), "{handler}");
        }
        for (handler, expected) in [
            ("", "Runtime.MalformedHandlerName"),
            ("nothing", "Runtime.MalformedHandlerName"),
            (".handler", "Runtime.MalformedHandlerName"),
            ("function.", "Runtime.MalformedHandlerName"),
            ("function.a b", "Runtime.MalformedHandlerName"),
            ("../function.handler", "Runtime.MalformedHandlerName"),
            ("/etc/passwd", "Runtime.MalformedHandlerName"),
            ("missing.handler", "Runtime.ImportModuleError"),
        ] {
            assert_eq!(resolved(handler), Err(expected.to_owned()), "{handler}");
        }
    }
}
