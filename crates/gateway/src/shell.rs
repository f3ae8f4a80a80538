//! `POST /_lambfold/v1/functions/FUNCTION/shell`: a shell in an execution environment, in place of
//! the bootstrap. The connection is upgraded; docs/shell.md has what then goes over it.

use crate::answer::{self, Answer};
use crate::gateway::Gateway;
use crate::{error, receive, scope};
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use lambfold_api_model::{ApiError, percent_decode, query_pairs};
use lambfold_types::FunctionVersion;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The protocol after the upgrade.
const PROTOCOL: &str = "lambfold-shell/1";
/// Largest side of a terminal, characters.
const SIDE: u16 = 10_000;

/// A boxed future of a shell.
pub type ShellFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection, both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Starts shells.
pub trait Shells: Send + Sync + 'static {
    /// Starts one for a version.
    fn open(
        &self,
        version: Arc<FunctionVersion>,
        request: ShellRequest,
    ) -> ShellFuture<'_, Result<Box<dyn ShellSession>, ShellError>>;
}

/// A shell that runs. Dropping it ends it.
pub trait ShellSession: Send {
    /// Connects it with its client until one of them ends, or `ready` becomes false.
    fn run(
        self: Box<Self>,
        client: Box<dyn Duplex>,
        ready: watch::Receiver<bool>,
    ) -> ShellFuture<'static, ()>;
}

/// What is asked of a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellRequest {
    /// The client's terminal; `None`: it has pipes.
    pub terminal: Option<ShellTerminal>,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellTerminal {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
    /// Its kind, as `TERM` names it.
    pub name: String,
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// Somebody has one already.
    #[error(
        "function {function} has a shell already, and its invocations go there; leave that one first"
    )]
    Taken {
        /// The function.
        function: String,
    },
    /// There are as many as there may be.
    #[error("{limit} shells run already, which is the limit; leave one of them")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The environment could not be made.
    #[error("no execution environment could be made for a shell: {why}")]
    Launch {
        /// The chain of causes.
        why: String,
    },
}

pub(crate) async fn answer(
    gateway: &Gateway,
    function: &str,
    head: &Parts,
    body: Incoming,
) -> Answer {
    match run(gateway, function, head).await {
        Ok(answer) => answer,
        Err(error) => {
            receive::drain(&head.headers, body);
            answer::error(&error)
        }
    }
}

async fn run(gateway: &Gateway, function: &str, head: &Parts) -> Result<Answer, ApiError> {
    if head.method != Method::POST {
        let path = "/_lambfold/v1/functions/…/shell";
        return Err(ApiError::method_not_allowed(head.method.as_str(), path, &["POST"]));
    }
    let asks = head.headers.get(UPGRADE).is_some_and(|value| value == PROTOCOL);
    let upgrade = head.extensions.get::<OnUpgrade>().cloned();
    let Some(upgrade) = upgrade.filter(|_| asks) else {
        let text = format!("a shell needs the headers Connection: Upgrade and Upgrade: {PROTOCOL}");
        return Err(ApiError::new("InvalidParameterValueException", text));
    };
    let query = head.uri.query().unwrap_or_default();
    let (qualifier, request) = parse(query)?;
    let scope = scope::of(&gateway.config.scope, &head.headers, query);
    let resolved = gateway
        .control
        .resolve_text(&scope, &percent_decode(function), qualifier.as_deref())
        .map_err(|error| error::control(&error))?;
    let Some(shells) = &gateway.tools.shells else {
        return Err(ApiError::not_built("a shell"));
    };
    let session = shells.open(resolved.version, request).await.map_err(|error| {
        let code = match &error {
            ShellError::Taken { .. } => "ResourceConflictException",
            ShellError::TooMany { .. } => "TooManyRequestsException",
            ShellError::Launch { .. } => "ServiceException",
        };
        ApiError::new(code, error.to_string())
    })?;
    let ready = gateway.readiness();
    tokio::spawn(async move {
        // A connection that is gone by now drops the session.
        if let Ok(upgraded) = upgrade.await {
            session.run(Box::new(TokioIo::new(upgraded)), ready).await;
        }
    });
    let mut answer = answer::empty(101);
    let headers = answer.headers_mut();
    headers.remove(http::header::CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(answer)
}

/// Qualifier and terminal of a request.
fn parse(query: &str) -> Result<(Option<String>, ShellRequest), ApiError> {
    let invalid = |text: String| ApiError::new("InvalidParameterValueException", text);
    let (mut qualifier, mut rows, mut columns, mut term) = (None, None, None, None);
    for (name, value) in query_pairs(query) {
        let side = || match value.parse::<u16>() {
            Ok(side) if (1..=SIDE).contains(&side) => Ok(Some(side)),
            _ => Err(invalid(format!("{name} must be a number from 1 to {SIDE}"))),
        };
        match &*name {
            "qualifier" => qualifier = Some(value),
            "rows" => rows = side()?,
            "columns" => columns = side()?,
            "term" => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
                if !(1..=64).contains(&value.len()) || !value.bytes().all(is_plain) {
                    let text = "term must be 1 to 64 letters, digits, or any of +-._";
                    return Err(invalid(text.to_owned()));
                }
                term = Some(value);
            }
            _ => {
                return Err(invalid(format!(
                    "there is no query parameter {name}; there are qualifier, rows, columns and term"
                )));
            }
        }
    }
    let terminal = match (rows, columns, term) {
        (None, None, None) => None,
        (Some(rows), Some(columns), term) => {
            let name = term.unwrap_or_else(|| "dumb".to_owned());
            Some(ShellTerminal { rows, columns, name })
        }
        _ => return Err(invalid("a terminal needs rows and columns".to_owned())),
    };
    Ok((qualifier, ShellRequest { terminal }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_have_limits() {
        let terminal = |query| parse(query).map(|(_, request)| request.terminal).ok();
        assert_eq!(terminal(""), Some(None));
        let expected = ShellTerminal { rows: 1, columns: 10_000, name: "xterm-256color".into() };
        assert_eq!(terminal("rows=1&columns=10000&term=xterm-256color"), Some(Some(expected)));
        for query in [
            "rows=0&columns=1",
            "rows=1&columns=10001",
            "rows=1",
            "term=xterm",
            "rows=1&columns=1&term=",
            "rows=1&columns=1&term=a%0Ab",
            "height=1",
        ] {
            assert_eq!(terminal(query), None, "{query}");
        }
        let long = format!("rows=1&columns=1&term={}", "x".repeat(65));
        assert_eq!(terminal(&long), None);
        assert!(terminal(&long[..long.len() - 1]).is_some());
    }
}
