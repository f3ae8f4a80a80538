//! From `_HANDLER` to a file.

use std::path::{Path, PathBuf};

use lambfold_runtime_client::FunctionError;

/// Why there is no handler. `Runtime.…` names are those of AWS's own runtimes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandlerError {
    #[error("the handler is not set: give it as the name of a PHP file, such as index.php")]
    Unset,
    #[error("the handler `{handler}` points out of {root}")]
    Outside { handler: String, root: String },
    #[error("the handler `{handler}` is no file: {tried} does not exist")]
    NoFile { handler: String, tried: String },
}

impl HandlerError {
    pub(crate) fn to_function_error(&self) -> FunctionError {
        let error_type = match self {
            HandlerError::Unset | HandlerError::Outside { .. } => "Runtime.MalformedHandlerName",
            HandlerError::NoFile { .. } => "Runtime.ImportModuleError",
        };
        FunctionError::new(error_type, self.to_string())
    }
}

/// Finds the handler's file in `root`; `.php` may be left out.
pub(crate) fn resolve(handler: &str, root: &Path) -> Result<PathBuf, HandlerError> {
    if handler.is_empty() {
        return Err(HandlerError::Unset);
    }
    if handler.starts_with('/') || handler.split('/').any(|part| part == "..") {
        let root = root.display().to_string();
        return Err(HandlerError::Outside { handler: handler.to_owned(), root });
    }
    let tried = [root.join(handler), root.join(format!("{handler}.php"))];
    match tried.iter().find(|path| path.is_file()) {
        Some(file) => Ok(file.clone()),
        None => Err(HandlerError::NoFile {
            handler: handler.to_owned(),
            tried: match handler.ends_with(".php") {
                true => format!("{}", tried[0].display()),
                false => format!("neither {} nor {}", tried[0].display(), tried[1].display()),
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_a_file_of_the_function() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("public")).expect("a folder");
        for file in ["index.php", "public/index.php", "plain"] {
            std::fs::write(root.path().join(file), "").expect("a file");
        }
        let resolved = |handler: &str| match resolve(handler, root.path()) {
            Ok(file) => Ok(file.strip_prefix(root.path()).expect("inside").display().to_string()),
            Err(error) => Err(error.to_function_error().error_type().to_owned()),
        };
        for (handler, expected) in [
            ("index.php", "index.php"),
            ("index", "index.php"),
            ("public/index.php", "public/index.php"),
            ("./index.php", "index.php"),
            ("plain", "plain"),
        ] {
            assert_eq!(resolved(handler).as_deref(), Ok(expected), "{handler}");
        }
        for (handler, expected) in [
            ("", "Runtime.MalformedHandlerName"),
            ("../index.php", "Runtime.MalformedHandlerName"),
            ("/etc/passwd", "Runtime.MalformedHandlerName"),
            ("public", "Runtime.ImportModuleError"),
            ("function.handler", "Runtime.ImportModuleError"),
        ] {
            assert_eq!(resolved(handler), Err(expected.to_owned()), "{handler}");
        }
    }
}
