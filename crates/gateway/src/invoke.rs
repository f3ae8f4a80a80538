//! Invoke and InvokeWithResponseStream: the shortest way from a request to a runtime and back.
//! Plain names skip the service model; whatever is unusual goes through it, so that it is refused in
//! AWS's words.

use crate::answer::{self, Answer, AnswerBody};
use crate::gateway::Gateway;
use crate::metrics::Kind;
use crate::receive::{self, ReceiveError};
use crate::streaming::EventBody;
use crate::{error, eventstream, scope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, Model, Request, query_pairs};
use lambfold_http1::{Connection, Draft, Fields, Head, Method};
use lambfold_invoke::{Request as InvokeRequest, StreamingOutcome};
use lambfold_types::limits::{CLIENT_CONTEXT_BYTES, SYNC_REQUEST_BYTES};
use lambfold_types::{RequestId, Scope, Version};
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};

const EXECUTED_VERSION: &str = "x-amz-executed-version";
const TRACE_ID: &str = "x-amzn-trace-id";
const REQUEST_ID: &str = "x-amzn-requestid";

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

/// How the response comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Invoke
    Whole,
    /// InvokeWithResponseStream
    Streaming,
}

impl Operation {
    fn uri(self) -> (&'static str, &'static str) {
        match self {
            Self::Whole => ("/2015-03-31/functions/", "/invocations"),
            Self::Streaming => ("/2021-11-15/functions/", "/response-streaming-invocations"),
        }
    }

    fn function_of(self, path: &str) -> Option<&str> {
        let (before, after) = self.uri();
        let label = path.strip_prefix(before)?;
        let label = label.trim_end_matches('/').strip_suffix(after)?;
        (!label.contains('/')).then_some(label)
    }
}

/// The function label of an Invoke path, undecoded; `None` when it is another path.
pub(crate) fn function_of(path: &str) -> Option<&str> {
    Operation::Whole.function_of(path)
}

/// The same of an InvokeWithResponseStream path.
pub(crate) fn streaming_function_of(path: &str) -> Option<&str> {
    Operation::Streaming.function_of(path)
}

pub(crate) async fn answer(
    gateway: &Gateway,
    function: &str,
    operation: Operation,
    head: &Parts,
    body: Incoming,
    id: RequestId,
) -> Answer {
    let mut body = Some(body);
    let mut answer = match run(gateway, function, operation, head, &mut body, id).await {
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
    id: RequestId,
    client_context: Option<Arc<str>>,
    scope: Cow<'a, Scope>,
    trace_id: Arc<str>,
}

async fn run(
    gateway: &Gateway,
    function: &str,
    operation: Operation,
    head: &Parts,
    body: &mut Option<Incoming>,
    id: RequestId,
) -> Result<Answer, Failure> {
    let query = head.uri.query().unwrap_or_default();
    let call = Call::read(gateway, function, operation, &head.headers, query, id)?;
    let payload = match body.take() {
        Some(body) => read_payload(gateway, head, body).await?,
        None => Bytes::new(),
    };
    if operation == Operation::Streaming && call.kind == Kind::RequestResponse {
        return Ok(call.stream(gateway, payload).await?);
    }
    let done = call.perform(gateway, payload).await?;
    let mut answer = Response::new(AnswerBody::full(done.payload.clone()));
    *answer.status_mut() = done.status;
    done.headers(|name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    });
    Ok(answer)
}

impl<'a> Call<'a> {
    fn read(
        gateway: &'a Gateway,
        function: &'a str,
        operation: Operation,
        headers: &dyn Fields,
        query: &'a str,
        id: RequestId,
    ) -> Result<Self, ApiError> {
        let target = Target::read(function, operation, headers, query)?;
        let id = client_request_id(headers)?.unwrap_or(id);
        for (header, feature) in NOT_BUILT {
            if headers.field(header).is_some() {
                return Err(ApiError::not_built(feature));
            }
        }
        check_media_type(headers)?;
        let client_context = match target.kind {
            Kind::Event => None,
            Kind::RequestResponse | Kind::DryRun => client_context(headers)?,
        };
        Ok(Self {
            function: target.function,
            qualifier: target.qualifier,
            kind: target.kind,
            wants_log_tail: target.wants_log_tail,
            id,
            client_context,
            scope: scope::of(&gateway.config.scope, headers, query),
            trace_id: trace_id(headers).into(),
        })
    }

    fn request(&self, payload: Bytes) -> InvokeRequest<'_> {
        InvokeRequest {
            scope: &self.scope,
            function: &self.function,
            qualifier: self.qualifier.as_deref(),
            request_id: self.id,
            payload,
            content_type: None,
            client_context: self.client_context.clone(),
            trace_id: Some(self.trace_id.clone()),
            log_tail: self.wants_log_tail,
        }
    }

    /// Runs the function; the answer goes on while it runs.
    async fn stream(self, gateway: &Gateway, payload: Bytes) -> Result<Answer, ApiError> {
        let started = gateway.invoker.invoke_streaming(self.request(payload)).await;
        let StreamingOutcome { executed_version, response, log_tail } =
            started.map_err(|error| error::invoke(&error))?;
        gateway.counters.invoked(self.kind);
        let content_type = response.content_type().map(str::to_owned);
        let log_tail = self.wants_log_tail.then_some(log_tail);
        let events = EventBody::new(response, log_tail, gateway.counters.clone());
        let mut answer = Response::new(AnswerBody::Events(Box::new(events)));
        let mut set = |name, value: &str| {
            answer::set(&mut answer, HeaderName::from_static(name), value);
        };
        set("content-type", eventstream::MEDIA_TYPE);
        if let Some(content_type) = content_type {
            set("x-amzn-remapped-content-type", &content_type);
        }
        match executed_version {
            Version::Latest => set(EXECUTED_VERSION, "$LATEST"),
            Version::Published(number) => set(EXECUTED_VERSION, &number.to_string()),
        }
        set(TRACE_ID, &self.trace_id);
        answer::set_request_id(&mut answer, self.id);
        Ok(answer)
    }

    async fn perform(self, gateway: &Gateway, payload: Bytes) -> Result<Done, ApiError> {
        let request = self.request(payload);
        let failed = |error| error::invoke(&error);
        let mut done = Done {
            status: StatusCode::OK,
            id: self.id,
            trace_id: self.trace_id.clone(),
            payload: Bytes::new(),
            function: None,
        };
        match self.kind {
            Kind::RequestResponse => {
                let outcome = gateway.invoker.invoke(request).await.map_err(failed)?;
                if outcome.answer.function_error {
                    gateway.counters.function_error();
                }
                // With a log tail the answer waits for the end of the invoke phase: the tail holds
                // its END and REPORT lines. Without one, never.
                let log_tail = match self.wants_log_tail {
                    true => outcome.log_tail.wait().await.map(|tail| STANDARD.encode(tail)),
                    false => None,
                };
                done.payload = outcome.answer.payload;
                done.function = Some(Ran {
                    version: outcome.executed_version,
                    failed: outcome.answer.function_error,
                    log_tail,
                });
            }
            Kind::Event => {
                gateway.invoker.enqueue(request).await.map_err(failed)?;
                done.status = StatusCode::ACCEPTED;
            }
            Kind::DryRun => {
                gateway.invoker.dry_run(&request).map_err(failed)?;
                done.status = StatusCode::NO_CONTENT;
            }
        }
        gateway.counters.invoked(self.kind);
        Ok(done)
    }
}

/// What an Invoke request is answered.
struct Done {
    status: StatusCode,
    id: RequestId,
    trace_id: Arc<str>,
    payload: Bytes,
    /// Of a synchronous invocation.
    function: Option<Ran>,
}

struct Ran {
    version: Version,
    failed: bool,
    log_tail: Option<String>,
}

impl Done {
    /// Names and values of all headers but those of HTTP itself.
    fn headers(&self, mut add: impl FnMut(&'static str, &str)) {
        if let Some(ran) = &self.function {
            add("content-type", "application/json");
            add("x-amzn-remapped-content-length", "0");
            match ran.version {
                Version::Latest => add(EXECUTED_VERSION, "$LATEST"),
                Version::Published(number) => add(EXECUTED_VERSION, &number.to_string()),
            }
            if ran.failed {
                add("x-amz-function-error", "Unhandled");
            }
            if let Some(tail) = &ran.log_tail {
                add("x-amz-log-result", tail);
            }
        }
        add(TRACE_ID, &self.trace_id);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        add(REQUEST_ID, self.id.0.as_hyphenated().encode_lower(&mut id));
    }
}

/// Whether a request can be answered by [`answer_plain`].
pub(crate) fn is_plain(head: &Head<'_>) -> bool {
    head.method() == Method::Post && function_of(head.path_and_query().0).is_some()
}

/// Answers a plain Invoke request, which came whole.
///
/// # Errors
/// The connection is broken.
pub(crate) async fn answer_plain<S>(
    gateway: &Gateway,
    connection: &mut Connection<S>,
    closes: impl Fn() -> bool,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let id = RequestId::random();
    let lambfold_http1::Parts { head, body, mut peer } = connection.parts();
    let (path, query) = head.path_and_query();
    let function = function_of(path).unwrap_or_default();
    let result = match Call::read(gateway, function, Operation::Whole, &head, query, id) {
        Ok(call) => tokio::select! {
            biased;
            result = call.perform(gateway, payload(Bytes::copy_from_slice(body))) => result,
            () = peer.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
        },
        Err(error) => Err(error),
    };
    let status = result.as_ref().map_or_else(|error| error.status, |done| done.status.as_u16());
    gateway.counters.answered(status);
    match result {
        Ok(done) => {
            let write =
                |draft: &mut Draft<'_>| done.headers(|name, value| draft.field(name, value));
            let status = if status == 200 { "200 OK" } else { &*done.status.to_string() };
            connection.answer(status, write, &done.payload, closes()).await
        }
        Err(error) => {
            let mut answer = answer::error(&error);
            if !answer.headers().contains_key(answer::REQUEST_ID) {
                answer::set_request_id(&mut answer, id);
            }
            let write = |draft: &mut Draft<'_>| {
                for (name, value) in answer.headers() {
                    draft.field(name.as_str(), value);
                }
            };
            let body = answer.body().bytes();
            connection.answer(&answer.status().to_string(), write, &body, closes()).await
        }
    }
}

/// An empty event reaches the runtime as an empty object.
fn payload(body: Bytes) -> Bytes {
    if body.is_empty() { Bytes::from_static(b"{}") } else { body }
}

/// A name that needs neither decoding nor a regular expression.
fn plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Which function an Invoke request is for, and how it is to be run.
struct Target<'a> {
    function: Cow<'a, str>,
    qualifier: Option<Cow<'a, str>>,
    kind: Kind,
    wants_log_tail: bool,
}

impl<'a> Target<'a> {
    fn read(
        function: &'a str,
        operation: Operation,
        headers: &dyn Fields,
        query: &'a str,
    ) -> Result<Self, ApiError> {
        let kind = match headers.field(INVOCATION_TYPE) {
            None | Some(b"RequestResponse") => Some(Kind::RequestResponse),
            Some(b"Event") if operation == Operation::Whole => Some(Kind::Event),
            Some(b"DryRun") => Some(Kind::DryRun),
            Some(_) => None,
        };
        let tail = match headers.field(LOG_TYPE) {
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
            return Ok(Self { function: Cow::Borrowed(function), qualifier, kind, wants_log_tail });
        }
        // The model checks everything and says what is wrong in AWS's words.
        let (before, after) = operation.uri();
        let path = format!("{before}{function}{after}");
        let routed = Model::get().route("POST", &path, query)?;
        let header = |name: &str| headers.field(name).and_then(text);
        let input = Request { routed, query, header: &header, body: &[] }.input()?;
        let function = input.text("FunctionName").unwrap_or_default().to_owned();
        let qualifier = query_pairs(query).find(|(name, _)| name == "Qualifier");
        Ok(Self {
            function: Cow::Owned(function),
            qualifier: qualifier.map(|(_, value)| Cow::Owned(value)),
            // A header that is not text cannot be one of the enumeration.
            kind: kind.unwrap_or(Kind::RequestResponse),
            wants_log_tail: tail.unwrap_or_default(),
        })
    }
}

/// A header's value as text: visible ASCII, spaces and tabs.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| matches!(byte, b'\t' | 0x20..0x7f);
    std::str::from_utf8(value).ok().filter(|_| value.iter().all(is_visible))
}

fn bad_request(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidRequestContentException", message)
}

fn client_request_id(headers: &dyn Fields) -> Result<Option<RequestId>, ApiError> {
    let Some(value) = headers.field(REQUEST_ID) else { return Ok(None) };
    let id = text(value).and_then(RequestId::parse);
    id.map(Some).ok_or_else(|| bad_request("The header x-amzn-RequestId must be a UUID."))
}

/// AWS wants JSON; SDKs call it `application/octet-stream`, and curl, unless told otherwise, a
/// form. What it is in truth is checked on the payload.
fn check_media_type(headers: &dyn Fields) -> Result<(), ApiError> {
    let Some(value) = headers.field("content-type") else { return Ok(()) };
    let text = text(value).unwrap_or("\u{FFFD}");
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
        Ok(received) => Ok(payload(received.bytes)),
        Err(ReceiveError::TooLarge) => Err(Failure::Api(ApiError::new(
            "RequestTooLargeException",
            format!(
                "Request must be smaller than {SYNC_REQUEST_BYTES} bytes for the InvokeFunction operation"
            ),
        ))),
        Err(ReceiveError::Lost(answer)) => Err(Failure::Lost(answer)),
    }
}

fn client_context(headers: &dyn Fields) -> Result<Option<Arc<str>>, ApiError> {
    let Some(value) = headers.field(CLIENT_CONTEXT) else { return Ok(None) };
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > CLIENT_CONTEXT_BYTES {
        return Err(bad_request(format!(
            "Client context must be at most {CLIENT_CONTEXT_BYTES} bytes of base64."
        )));
    }
    let decoded = STANDARD.decode(value).ok();
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
fn trace_id(headers: &dyn Fields) -> String {
    let given = headers
        .field(TRACE_ID)
        .and_then(text)
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

#[cfg(test)]
mod tests;
