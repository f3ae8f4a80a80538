//! Invoke: the shortest way from a request to a runtime and back. Plain names skip the service
//! model; whatever is unusual goes through it, so that it is refused in AWS's words.

use crate::answer::{self, Answer, AnswerBody};
use crate::gateway::Gateway;
use crate::metrics::Kind;
use crate::receive::{self, ReceiveError};
use crate::{error, scope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, Model, Request, query_pairs};
use lambfold_invoke::{Outcome, Request as InvokeRequest};
use lambfold_types::limits::{CLIENT_CONTEXT_BYTES, SYNC_REQUEST_BYTES};
use lambfold_types::{RequestId, Version};
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const REMAPPED_LENGTH: HeaderName = HeaderName::from_static("x-amzn-remapped-content-length");

const INVOCATION_TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";
const CLIENT_CONTEXT: &str = "x-amz-client-context";
/// Headers of features that are not built: they change what an invocation means.
const NOT_BUILT: [(&str, &str); 2] = [
    ("x-amz-tenant-id", "Invoke with a TenantId"),
    ("x-amz-durable-execution-name", "Invoke with a DurableExecutionName"),
];
/// Longest tracing header that is passed on, bytes.
const TRACE_BYTES: usize = 1_024;

/// The function label of an Invoke path, undecoded; `None` when it is another path.
pub(crate) fn function_of(path: &str) -> Option<&str> {
    let label = path.strip_prefix("/2015-03-31/functions/")?;
    let label = label.trim_end_matches('/').strip_suffix("/invocations")?;
    (!label.contains('/')).then_some(label)
}

pub(crate) async fn answer(
    gateway: &Gateway,
    function: &str,
    head: &Parts,
    body: Incoming,
    id: RequestId,
) -> Answer {
    let mut body = Some(body);
    let mut answer = match run(gateway, function, head, &mut body, id).await {
        Ok(answer) => answer,
        Err(Failure::Api(error)) => answer::error(&error),
        Err(Failure::Lost(answer)) => answer,
    };
    if let Some(body) = body {
        receive::drain(&head.headers, body);
    }
    if !answer.headers().contains_key(answer::REQUEST_ID) {
        answer::set_request_id(&mut answer, id);
    }
    answer
}

enum Failure {
    Api(ApiError),
    /// The body did not arrive.
    Lost(Answer),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// What the head of an Invoke request says.
struct Call<'a> {
    function: Cow<'a, str>,
    qualifier: Option<Cow<'a, str>>,
    kind: Kind,
    wants_log_tail: bool,
}

async fn run(
    gateway: &Gateway,
    function: &str,
    head: &Parts,
    body: &mut Option<Incoming>,
    id: RequestId,
) -> Result<Answer, Failure> {
    let headers = &head.headers;
    let query = head.uri.query().unwrap_or_default();
    let call = read_head(function, head, query)?;
    let id = client_request_id(headers)?.unwrap_or(id);
    for (header, feature) in NOT_BUILT {
        if headers.contains_key(header) {
            return Err(ApiError::not_built(feature).into());
        }
    }
    check_media_type(headers)?;
    let client_context = match call.kind {
        Kind::Event => None,
        Kind::RequestResponse | Kind::DryRun => client_context(headers)?,
    };
    let payload = match body.take() {
        Some(body) => read_payload(gateway, head, body).await?,
        None => Bytes::new(),
    };
    let scope = scope::of(&gateway.config.scope, headers, query);
    let trace_id: Arc<str> = trace_id(headers).into();
    let request = InvokeRequest {
        scope: &scope,
        function: &call.function,
        qualifier: call.qualifier.as_deref(),
        request_id: id,
        payload,
        content_type: None,
        client_context,
        trace_id: Some(trace_id.clone()),
        log_tail: call.wants_log_tail,
    };
    let failed = |error| error::invoke(&error);
    let mut answer = match call.kind {
        Kind::RequestResponse => {
            let outcome = gateway.invoker.invoke(request).await.map_err(failed)?;
            if outcome.answer.function_error {
                gateway.counters.function_error();
            }
            write(outcome, call.wants_log_tail).await
        }
        Kind::Event => {
            gateway.invoker.enqueue(request).await.map_err(failed)?;
            answer::empty(202)
        }
        Kind::DryRun => {
            gateway.invoker.dry_run(&request).map_err(failed)?;
            answer::empty(204)
        }
    };
    gateway.counters.invoked(call.kind);
    answer::set(&mut answer, TRACE_ID, &trace_id);
    answer::set_request_id(&mut answer, id);
    Ok(answer)
}

/// A name that needs neither decoding nor a regular expression.
fn plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn read_head<'a>(function: &'a str, head: &Parts, query: &'a str) -> Result<Call<'a>, ApiError> {
    let kind = match head.headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Some(Kind::RequestResponse),
        Some(b"Event") => Some(Kind::Event),
        Some(b"DryRun") => Some(Kind::DryRun),
        Some(_) => None,
    };
    let tail = match head.headers.get(LOG_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"None") => Some(false),
        Some(b"Tail") => Some(true),
        Some(_) => None,
    };
    let qualifier = match query.strip_prefix("Qualifier=") {
        _ if query.is_empty() => Some(None),
        Some(qualifier) if plain(qualifier, 128) => Some(Some(qualifier)),
        _ => None,
    };
    if let (Some(kind), Some(wants_log_tail), Some(qualifier), true) =
        (kind, tail, qualifier, plain(function, 64))
    {
        let qualifier = qualifier.map(Cow::Borrowed);
        return Ok(Call { function: Cow::Borrowed(function), qualifier, kind, wants_log_tail });
    }
    // The model checks everything and says what is wrong in AWS's words.
    let path = format!("/2015-03-31/functions/{function}/invocations");
    let routed = Model::get().route("POST", &path, query)?;
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let input = Request { routed, query, header: &header, body: &[] }.input()?;
    let function = input.text("FunctionName").unwrap_or_default().to_owned();
    let qualifier = query_pairs(query).find(|(name, _)| name == "Qualifier");
    Ok(Call {
        function: Cow::Owned(function),
        qualifier: qualifier.map(|(_, value)| Cow::Owned(value)),
        // A header that is not text cannot be one of the enumeration.
        kind: kind.unwrap_or(Kind::RequestResponse),
        wants_log_tail: tail.unwrap_or_default(),
    })
}

fn bad_request(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidRequestContentException", message)
}

fn client_request_id(headers: &HeaderMap) -> Result<Option<RequestId>, ApiError> {
    let Some(value) = headers.get(answer::REQUEST_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(RequestId::parse);
    id.map(Some).ok_or_else(|| bad_request("The header x-amzn-RequestId must be a UUID."))
}

/// AWS wants JSON; SDKs call it `application/octet-stream`, and curl, unless told otherwise, a
/// form. What it is in truth is checked on the payload.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or("\u{FFFD}");
    let kind = text.split(';').next().unwrap_or_default().trim();
    let json = |kind: &str| {
        kind.eq_ignore_ascii_case("application/json")
            || kind.eq_ignore_ascii_case("application/octet-stream")
            || kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            || kind.eq_ignore_ascii_case("binary/octet-stream")
            || (kind.get(..12).is_some_and(|front| front.eq_ignore_ascii_case("application/"))
                && (kind.ends_with("+json") || kind.contains("x-amz-json")))
    };
    if kind.is_empty() || json(kind) {
        return Ok(());
    }
    let shown: String = text.chars().take(200).collect();
    Err(ApiError::new("UnsupportedMediaTypeException", format!("Unsupported Media Type: {shown}")))
}

async fn read_payload(gateway: &Gateway, head: &Parts, body: Incoming) -> Result<Bytes, Failure> {
    match gateway.read(head, body, SYNC_REQUEST_BYTES).await {
        // An empty event reaches the runtime as an empty object.
        Ok(received) if received.bytes.is_empty() => Ok(Bytes::from_static(b"{}")),
        Ok(received) => Ok(received.bytes),
        Err(ReceiveError::TooLarge) => Err(Failure::Api(ApiError::new(
            "RequestTooLargeException",
            format!(
                "Request must be smaller than {SYNC_REQUEST_BYTES} bytes for the InvokeFunction operation"
            ),
        ))),
        Err(ReceiveError::Lost(answer)) => Err(Failure::Lost(answer)),
    }
}

fn client_context(headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
    let Some(value) = headers.get(CLIENT_CONTEXT) else { return Ok(None) };
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > CLIENT_CONTEXT_BYTES {
        return Err(bad_request(format!(
            "Client context must be at most {CLIENT_CONTEXT_BYTES} bytes of base64."
        )));
    }
    let decoded = STANDARD.decode(value.as_bytes()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    // It travels in a header of the Runtime API.
    let text = text.filter(|text| {
        serde_json::from_str::<IgnoredAny>(text).is_ok() && HeaderValue::from_str(text).is_ok()
    });
    match text {
        Some(text) => Ok(Some(text.into())),
        None => Err(bad_request("Client context must be a valid Base64-encoded JSON object.")),
    }
}

/// The caller's trace, completed, or a new one that is not sampled.
fn trace_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(TRACE_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= TRACE_BYTES && text.contains("Root="));
    let mut trace = match given {
        Some(given) => given.to_owned(),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let root = fastrand::u128(..) >> 32;
            format!("Root=1-{now:08x}-{root:024x}")
        }
    };
    if !trace.contains("Parent=") {
        let _ = write!(trace, ";Parent={:016x}", fastrand::u64(..));
    }
    if !trace.contains("Sampled=") {
        trace.push_str(";Sampled=0");
    }
    trace
}

/// With a log tail the answer waits for the end of the invoke phase: the tail holds its END and
/// REPORT lines. Without one, never.
async fn write(outcome: Outcome, wants_log_tail: bool) -> Answer {
    let mut answer = Response::new(AnswerBody::full(outcome.answer.payload));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, answer::JSON);
    headers.insert(REMAPPED_LENGTH, HeaderValue::from_static("0"));
    headers.insert(
        EXECUTED_VERSION,
        match outcome.executed_version {
            Version::Latest => HeaderValue::from_static("$LATEST"),
            Version::Published(number) => HeaderValue::from(number),
        },
    );
    if outcome.answer.function_error {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if wants_log_tail && let Some(tail) = outcome.log_tail.wait().await {
        answer::set(&mut answer, LOG_RESULT, &STANDARD.encode(tail));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_the_function() {
        let path = |label| format!("/2015-03-31/functions/{label}/invocations");
        assert_eq!(function_of(&path("f")), Some("f"));
        assert_eq!(function_of(&path("arn%3Aaws")), Some("arn%3Aaws"));
        assert_eq!(function_of(&format!("{}/", path("f"))), Some("f"));
        assert_eq!(function_of(&path("a/b")), None);
        assert_eq!(function_of("/2015-03-31/functions/f"), None);
        assert_eq!(function_of("/2015-03-31/functions/invocations"), None);
    }

    #[test]
    fn traces_are_completed() {
        let trace = |given: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(TRACE_ID, given.parse().expect("value"));
            }
            trace_id(&headers)
        };
        let fresh = trace(None);
        let parts: Vec<&str> = fresh.split(';').collect();
        assert_eq!(parts.len(), 3, "{fresh}");
        let root: Vec<&str> = parts[0].split('-').collect();
        assert_eq!((root[0], root[1].len(), root[2].len()), ("Root=1", 8, 24), "{fresh}");
        assert_eq!(parts[1].len(), "Parent=".len() + 16);
        assert_eq!(parts[2], "Sampled=0");
        let whole = "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=1;Lineage=a:0";
        assert_eq!(trace(Some(whole)), whole);
        assert!(trace(Some("Root=1-0-0;Sampled=1")).starts_with("Root=1-0-0;Sampled=1;Parent="));
        assert!(trace(Some("nonsense")).starts_with("Root=1-"));
    }

    #[test]
    fn media_types() {
        let check = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().expect("value"));
            check_media_type(&headers).map_err(|error| error.status)
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/x-amz-json-1.1",
            "application/cloudevents+json",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(check(kind), Ok(()), "{kind}");
        }
        for kind in
            ["text/plain", "image/png", "application/xml", "multipart/form-data; boundary=x"]
        {
            assert_eq!(check(kind), Err(415), "{kind}");
        }
    }

    #[test]
    fn client_contexts() {
        let context = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CLIENT_CONTEXT, text.parse().expect("value"));
            client_context(&headers).map_err(|error| error.code.into_owned())
        };
        let bad = Err("InvalidRequestContentException".to_owned());
        assert_eq!(context("eyJhIjoxfQ==").map(|c| c.as_deref() == Some("{\"a\":1}")), Ok(true));
        assert_eq!(context(""), Ok(None));
        assert_eq!(context("*"), bad);
        assert_eq!(context("aGVsbG8="), bad);
        let sized = |quads: usize| STANDARD.encode(format!("\"{}\"", "a".repeat(3 * quads - 2)));
        assert_eq!(sized(895).len(), 3_580);
        assert!(context(&sized(895)).is_ok());
        assert_eq!(context(&sized(896)), bad);
    }
}
