use crate::extension::ExtensionError;
use crate::machine::Post;
use http::Method;

/// Where a request goes (behaviour specification §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Next,
    Post(&'a str, Post),
    InitError,
    Ping,
    Register,
    ExtensionNext,
    ExtensionError(ExtensionError),
    /// Of the Telemetry API, or of the legacy Logs API.
    Subscribe {
        legacy: bool,
    },
    NotFound,
    MethodNotAllowed,
}

pub(super) fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let Some(path) = path.strip_prefix("/2018-06-01/") else { return other(method, path) };
    let (wanted, route) = match path {
        "ping" => (Method::GET, Route::Ping),
        "runtime/invocation/next" => (Method::GET, Route::Next),
        "runtime/init/error" => (Method::POST, Route::InitError),
        _ => match path.strip_prefix("runtime/invocation/").and_then(|rest| rest.split_once('/')) {
            Some((id, "response")) => (Method::POST, Route::Post(id, Post::Response)),
            Some((id, "error")) => (Method::POST, Route::Post(id, Post::Error)),
            _ => return Route::NotFound,
        },
    };
    if *method == wanted { route } else { Route::MethodNotAllowed }
}

/// The APIs of extensions (§2.2, §3.1).
fn other(method: &Method, path: &str) -> Route<'static> {
    let (wanted, route) = match path {
        "/2020-01-01/extension/register" => (Method::POST, Route::Register),
        "/2020-01-01/extension/event/next" => (Method::GET, Route::ExtensionNext),
        "/2020-01-01/extension/init/error" => {
            (Method::POST, Route::ExtensionError(ExtensionError::Init))
        }
        "/2020-01-01/extension/exit/error" => {
            (Method::POST, Route::ExtensionError(ExtensionError::Exit))
        }
        "/2022-07-01/telemetry" => (Method::PUT, Route::Subscribe { legacy: false }),
        "/2020-08-15/logs" => (Method::PUT, Route::Subscribe { legacy: true }),
        _ => return Route::NotFound,
    };
    if *method == wanted { route } else { Route::MethodNotAllowed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_route() {
        for (method, path, expected) in [
            (Method::GET, "/2018-06-01/runtime/invocation/next", Route::Next),
            (
                Method::POST,
                "/2018-06-01/runtime/invocation/a/response",
                Route::Post("a", Post::Response),
            ),
            (Method::POST, "/2018-06-01/runtime/invocation/a/error", Route::Post("a", Post::Error)),
            (Method::POST, "/2018-06-01/runtime/init/error", Route::InitError),
            (Method::GET, "/2018-06-01/ping", Route::Ping),
            (Method::POST, "/2018-06-01/runtime/invocation/next", Route::MethodNotAllowed),
            (Method::GET, "/2018-06-01/runtime/invocation/a/response", Route::MethodNotAllowed),
            (Method::PUT, "/2018-06-01/runtime/init/error", Route::MethodNotAllowed),
            (Method::POST, "/2018-06-01/ping", Route::MethodNotAllowed),
            (Method::GET, "/2018-06-01/runtime/restore/next", Route::NotFound),
            (Method::POST, "/2018-06-01/runtime/restore/error", Route::NotFound),
            (Method::GET, "/2018-06-01/runtime/invocation/next/", Route::NotFound),
            (Method::POST, "/2018-06-01/runtime/invocation/a/b/response", Route::NotFound),
            (Method::GET, "/2018-06-01", Route::NotFound),
            (Method::GET, "/runtime/invocation/next", Route::NotFound),
            (Method::POST, "/2020-01-01/extension/register", Route::Register),
            (Method::GET, "/2020-01-01/extension/register", Route::MethodNotAllowed),
            (Method::GET, "/2020-01-01/extension/event/next", Route::ExtensionNext),
            (
                Method::POST,
                "/2020-01-01/extension/init/error",
                Route::ExtensionError(ExtensionError::Init),
            ),
            (
                Method::POST,
                "/2020-01-01/extension/exit/error",
                Route::ExtensionError(ExtensionError::Exit),
            ),
            (Method::POST, "/2018-06-01/extension/register", Route::NotFound),
            (Method::PUT, "/2022-07-01/telemetry", Route::Subscribe { legacy: false }),
            (Method::PUT, "/2020-08-15/logs", Route::Subscribe { legacy: true }),
            (Method::POST, "/2020-08-15/logs", Route::MethodNotAllowed),
            (Method::PUT, "/2020-08-15/telemetry", Route::NotFound),
            (Method::GET, "/", Route::NotFound),
        ] {
            assert_eq!(route(&method, path), expected, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn only_one_shape_of_path_names_an_invocation(path in "(/|2018-06-01|runtime|invocation|response|error|next|[a-z%.]){0,10}") {
            if let Route::Post(id, post) = route(&Method::POST, &path) {
                prop_assert!(!id.contains('/'));
                let end = if post == Post::Response { "response" } else { "error" };
                prop_assert_eq!(format!("/2018-06-01/runtime/invocation/{id}/{end}"), path.clone());
            }
        }
    }
}
