//! `GET /_lambfold/v1/functions/FUNCTION/trace`: the Runtime API calls of a function's environments
//! as they happen, a JSON object a line; docs/trace.md has the fields.

use crate::answer::{self, Answer, AnswerBody};
use crate::gateway::Gateway;
use crate::{error, scope};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use lambfold_api_model::{ApiError, percent_decode, query_pairs};
use lambfold_trace::{Line, Seen, State, Watch};
use lambfold_types::limits::RESPONSE_BYTES;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Kept of each body unless the request says otherwise, bytes.
const BODY_BYTES: usize = 1_024;
/// Longest trace, seconds: a day. Whoever wants more asks again.
const SECONDS: u64 = 86_400;
/// Lines are sent together up to this size, bytes.
const PIECE: usize = 64 << 10;

pub(crate) fn answer(gateway: &Gateway, function: &str, head: &Parts) -> Answer {
    run(gateway, function, head).unwrap_or_else(|error| answer::error(&error))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    qualifier: Option<String>,
    body_bytes: usize,
    seconds: Option<u64>,
    count: Option<u64>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut asked =
            Self { qualifier: None, body_bytes: BODY_BYTES, seconds: None, count: None };
        for (name, value) in query_pairs(query) {
            let number = |most: u64| match value.parse::<u64>() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(invalid(&format!("{name} must be a number from 0 to {most}"))),
            };
            match &*name {
                "qualifier" => asked.qualifier = Some(value),
                "body" => {
                    let most = number(RESPONSE_BYTES as u64)?;
                    asked.body_bytes = usize::try_from(most).unwrap_or(RESPONSE_BYTES);
                }
                "seconds" => asked.seconds = Some(number(SECONDS)?),
                "count" => asked.count = Some(number(u64::MAX)?),
                _ => {
                    let text = format!(
                        "there is no query parameter {name}; there are qualifier, body, seconds and count"
                    );
                    return Err(invalid(&text));
                }
            }
        }
        Ok(asked)
    }
}

fn invalid(text: &str) -> ApiError {
    ApiError::new("InvalidParameterValueException", text.to_owned())
}

fn run(gateway: &Gateway, function: &str, head: &Parts) -> Result<Answer, ApiError> {
    if head.method != Method::GET {
        let path = "/_lambfold/v1/functions/…/trace";
        return Err(ApiError::method_not_allowed(head.method.as_str(), path, &["GET"]));
    }
    let query = head.uri.query().unwrap_or_default();
    let asked = Asked::parse(query)?;
    let scope = scope::of(&gateway.config.scope, &head.headers, query);
    let function = percent_decode(function);
    let resolved = gateway
        .control
        .resolve_text(&scope, &function, asked.qualifier.as_deref())
        .map_err(|error| error::control(&error))?;
    // A name alone means the function, with all its versions.
    let has_qualifier = resolved.invoked_arn.split(':').count() > 7;
    let version = has_qualifier.then_some(resolved.version.version);
    let watch = gateway
        .tools
        .traces
        .watch(&scope, &resolved.version.name, version, asked.body_bytes)
        .map_err(|error| ApiError::new("TooManyRequestsException", error.to_string()))?;
    let begin = Line::Begin {
        format: lambfold_trace::FORMAT,
        function: resolved.invoked_arn,
        body_bytes: asked.body_bytes,
    };
    let mut closing = gateway.readiness();
    let limit = asked.seconds.map(Duration::from_secs);
    let over = async move {
        let time = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => "time",
            _ = closing.wait_for(|ready| !ready) => "shutdown",
        }
    };
    let body = TraceBody {
        watch: Some(watch),
        first: Some(begin),
        left: asked.count,
        over: Box::pin(over),
    };
    let mut answer = Response::new(AnswerBody::Trace(Box::new(body)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// Lines, as they come.
pub(crate) struct TraceBody {
    /// `None` when it is over.
    watch: Option<Watch>,
    first: Option<Line>,
    /// Calls that are still to be shown.
    left: Option<u64>,
    over: Pin<Box<dyn Future<Output = &'static str> + Send + Sync>>,
}

impl fmt::Debug for TraceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl TraceBody {
    pub(crate) fn is_over(&self) -> bool {
        self.watch.is_none()
    }

    /// The next lines.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(watch) = &mut self.watch else { return Poll::Ready(None) };
        let mut piece = self.first.take().map_or_else(Vec::new, |line| line.to_bytes());
        let end = loop {
            if self.left == Some(0) {
                break Some("count");
            }
            if piece.len() >= PIECE {
                break None;
            }
            match watch.poll(context) {
                Poll::Ready(Seen::Call(call)) => {
                    if call.state != State::Waiting
                        && let Some(left) = &mut self.left
                    {
                        *left -= 1;
                    }
                    piece.extend(Line::Call(Box::new((*call).clone())).to_bytes());
                }
                Poll::Ready(Seen::Dropped(count)) => {
                    piece.extend(Line::Dropped { count }.to_bytes());
                }
                Poll::Pending => match self.over.as_mut().poll(context) {
                    Poll::Ready(reason) => break Some(reason),
                    Poll::Pending => break None,
                },
            }
        };
        if let Some(reason) = end {
            piece.extend(Line::End { reason: reason.to_owned() }.to_bytes());
            self.watch = None;
        }
        if piece.is_empty() { Poll::Pending } else { Poll::Ready(Some(piece.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_has_limits() {
        let asked = Asked::parse("qualifier=%24LATEST&body=0&seconds=86400&count=3").expect("fine");
        let expected = Asked {
            qualifier: Some("$LATEST".into()),
            body_bytes: 0,
            seconds: Some(86_400),
            count: Some(3),
        };
        assert_eq!(asked, expected);
        assert_eq!(Asked::parse("").expect("fine").body_bytes, BODY_BYTES);
        assert!(Asked::parse(&format!("body={RESPONSE_BYTES}")).is_ok());
        for query in [
            &format!("body={}", RESPONSE_BYTES + 1),
            "seconds=86401",
            "seconds=-1",
            "count=x",
            "bodies=1",
        ] {
            assert!(Asked::parse(query).is_err(), "{query}");
        }
    }
}
