use super::body::{self, BodyFault, Collected};
use super::disturb::{self, Reset};
use super::extension;
use super::route::{Route, route};
use super::stream::{self, Pumped};
use super::trailer::{self, ERROR_TYPE, Reported};
use crate::event::Delivery;
use crate::header::classify_error_type;
use crate::host::{Caller, Host, NextReply, Posted, StreamEnd};
use crate::machine::{Post, Posting, Ticket};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use lambfold_http1::Fields;
use lambfold_types::ResponseSink;
use lambfold_types::limits::RESPONSE_BYTES;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_CAUSE_TYPE: &[u8] = b"application/vnd.aws.lambda.error.cause+json";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) type Reply = Response<Full<Bytes>>;

/// Handles one request of a runtime.
///
/// # Errors
/// Its connection is to be reset.
pub(super) async fn answer<H, B>(host: &H, request: Request<B>) -> Result<Reply, Reset>
where
    H: Host,
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = request.into_parts();
    Ok(match route(&head.method, head.uri.path()) {
        Route::Next => {
            let reply = host.next(Caller::new(&head.headers));
            // Headers may hold a megabyte; a `next` may wait for days.
            drop((head, body));
            return next(host, reply).await;
        }
        Route::Post(id, post) => {
            let posting = disturb::post(host).await?.and_then(|()| host.begin_post(id, post));
            post_answer(host, posting, post, &head.headers, &mut body).await
        }
        Route::InitError => {
            let posting = host.begin_init_error();
            post_answer(host, posting, Post::Error, &head.headers, &mut body).await
        }
        Route::Ping => text(StatusCode::OK, "pong"),
        Route::Register => extension::register(host, &head.headers, &mut body).await,
        Route::ExtensionNext => {
            let id = extension::identifier(&head.headers);
            drop((head, body));
            extension::next(host, id).await
        }
        Route::ExtensionError(error) => {
            let answer = extension::error(host, error, &head.headers);
            body::drain(&mut body).await;
            answer
        }
        Route::Subscribe { legacy } => {
            extension::subscribe(host, legacy, &head.headers, &mut body).await
        }
        Route::NotFound => {
            body::drain(&mut body).await;
            text(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        Route::MethodNotAllowed => {
            body::drain(&mut body).await;
            text(StatusCode::METHOD_NOT_ALLOWED, "")
        }
    })
}

async fn next<H: Host>(host: &H, reply: NextReply) -> Result<Reply, Reset> {
    let delivery = match reply {
        NextReply::Now(delivery) => delivery,
        NextReply::Wait(ticket, waiting) => {
            let mut guard = Waiting::new(host, ticket);
            let delivery = waiting.await.unwrap_or(Err(Refusal::Internal));
            guard.is_over();
            delivery
        }
    };
    disturb::delivery(host, delivery).await.map(event_reply)
}

fn event_reply(delivery: Delivery) -> Reply {
    match delivery {
        Ok(event) => {
            let mut response = Response::new(Full::new(event.invocation.payload.clone()));
            event.write_headers(response.headers_mut());
            response
        }
        Err(refusal) => refuse(refusal),
    }
}

/// Tells the host when a `next` ends before it was answered: its connection broke.
pub(super) struct Waiting<'a, H: Host> {
    host: &'a H,
    ticket: Option<Ticket>,
}

impl<'a, H: Host> Waiting<'a, H> {
    pub(super) fn new(host: &'a H, ticket: Ticket) -> Self {
        Self { host, ticket: Some(ticket) }
    }

    /// It is about to be answered.
    pub(super) fn is_over(&mut self) {
        self.ticket = None;
    }
}

impl<H: Host> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.host.abandon(ticket);
        }
    }
}

/// Holds the promise that each post that was begun is finished, even when its connection breaks.
struct Reading<'a, H: Host> {
    host: &'a H,
    posting: Option<Posting>,
}

impl<H: Host> Reading<'_, H> {
    fn sink(&self) -> Option<Arc<dyn ResponseSink>> {
        self.posting.as_ref().and_then(Posting::sink)
    }

    fn finish(mut self, posted: Posted) -> Result<(), Refusal> {
        match self.posting.take() {
            Some(posting) => self.host.finish(posting, posted),
            None => Ok(()),
        }
    }
}

impl<H: Host> Drop for Reading<'_, H> {
    fn drop(&mut self) {
        if let Some(posting) = self.posting.take() {
            let _ = self.host.finish(posting, Posted::Truncated);
        }
    }
}

async fn post_answer<H, B>(
    host: &H,
    posting: Result<Posting, Refusal>,
    post: Post,
    headers: &HeaderMap,
    body: &mut B,
) -> Reply
where
    H: Host,
    B: Body<Data = Bytes> + Unpin,
{
    let reading = match posting {
        Ok(posting) => Reading { host, posting: Some(posting) },
        Err(refusal) => {
            body::drain(body).await;
            return refuse(refusal);
        }
    };
    let mode = match post {
        Post::Response => response_mode(headers),
        Post::Error => Ok(Mode::Buffered),
    };
    if mode == Ok(Mode::Streaming)
        && let Some(sink) = reading.sink()
    {
        return stream_answer(reading, &*sink, headers, body).await;
    }
    let (posted, refusal) = match mode {
        Err(refusal) => (Posted::InvalidResponseMode, Some(refusal)),
        Ok(mode) => match body::collect(body, RESPONSE_BYTES).await {
            Ok(collected) => {
                let posted = match post {
                    Post::Response => response(mode, headers, collected),
                    Post::Error => error(headers, collected.bytes),
                };
                (posted, None)
            }
            Err(BodyFault::TooLarge) => (Posted::TooLarge, Some(Refusal::TooLarge)),
            Err(BodyFault::Truncated) => (Posted::Truncated, Some(Refusal::Truncated)),
        },
    };
    // The invoker's result does not wait for the rest of a body that is thrown away.
    let finished = reading.finish(posted);
    match finished.err().or(refusal) {
        Some(refusal) => {
            body::drain(body).await;
            refuse(refusal)
        }
        None => accepted(),
    }
}

/// Passes a response on while the runtime sends it.
async fn stream_answer<H, B>(
    reading: Reading<'_, H>,
    sink: &dyn ResponseSink,
    headers: &HeaderMap,
    body: &mut B,
) -> Reply
where
    H: Host,
    B: Body<Data = Bytes> + Unpin,
{
    sink.begin(content_type(headers));
    let Pumped { end, bytes } = stream::pump(body, sink, trailer::is_declared(headers)).await;
    let Some(end) = end else {
        // It was given up in the middle: the host hears that this post is over, and refuses it.
        let refused = reading.finish(Posted::Streamed { end: StreamEnd::Truncated, bytes });
        let mut reply = refuse(refused.err().unwrap_or(Refusal::Truncated));
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return reply;
    };
    let refusal = match end {
        StreamEnd::Complete | StreamEnd::Error { .. } => None,
        StreamEnd::TooLarge => Some(Refusal::StreamTooLarge),
        StreamEnd::Truncated => Some(Refusal::Truncated),
    };
    match reading.finish(Posted::Streamed { end, bytes }).err().or(refusal) {
        Some(refusal) => {
            body::drain(body).await;
            refuse(refusal)
        }
        None => accepted(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Buffered,
    Streaming,
}

fn response_mode(headers: &HeaderMap) -> Result<Mode, Refusal> {
    match headers.get(RESPONSE_MODE).map(HeaderValue::as_bytes) {
        None | Some(b"") => Ok(Mode::Buffered),
        Some(b"streaming") => Ok(Mode::Streaming),
        Some(_) => Err(Refusal::InvalidResponseMode),
    }
}

fn content_type(headers: &dyn Fields) -> Option<Arc<str>> {
    let visible = |value: &&[u8]| value.iter().all(|byte| matches!(byte, b'\t' | 0x20..0x7f));
    let value = headers.field("content-type").filter(visible)?;
    std::str::from_utf8(value).ok().map(Into::into)
}

/// What a post is whose body came whole, and is not streamed.
pub(super) fn posted(post: Post, headers: &dyn Fields, body: Bytes) -> Posted {
    match post {
        Post::Response => Posted::Response { payload: body, content_type: content_type(headers) },
        Post::Error => error(headers, body),
    }
}

fn response(mode: Mode, headers: &HeaderMap, collected: Collected) -> Posted {
    if mode == Mode::Streaming {
        let reported = match &collected.trailers {
            Some(trailers) => trailer::of_trailers(trailers),
            None if trailer::is_declared(headers) => trailer::at_the_end(&collected.bytes),
            None => None,
        };
        if let Some(Reported { payload, error_type }) = reported {
            return Posted::Error {
                payload,
                content_type: Some("application/json".into()),
                error_type,
            };
        }
    }
    posted(Post::Response, headers, collected.bytes)
}

fn error(headers: &dyn Fields, body: Bytes) -> Posted {
    let error_type = classify_error_type(headers.field(ERROR_TYPE).unwrap_or_default());
    let is_cause = headers.field("content-type") == Some(ERROR_CAUSE_TYPE);
    if !is_cause {
        return Posted::Error { payload: body, content_type: content_type(headers), error_type };
    }
    let (payload, content_type) = match without_cause(&body) {
        Some(payload) => (payload.into(), "application/json"),
        None => (Bytes::from_static(b"\"Invalid error body\""), "application/octet-stream"),
    };
    Posted::Error { payload, content_type: Some(content_type.into()), error_type }
}

/// An error document whose cause is meant for tracing.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorWithCause {
    #[serde(default)]
    error_message: String,
    #[serde(default)]
    error_type: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stack_trace: Vec<String>,
}

fn without_cause(body: &[u8]) -> Option<Vec<u8>> {
    let document: ErrorWithCause = serde_json::from_slice(body).ok()?;
    serde_json::to_vec(&document).ok()
}

/// The answer to a post that was taken.
pub(super) struct Accepted;

impl Accepted {
    pub(super) const STATUS: &str = "202 Accepted";
    pub(super) const BODY: &str = "{\"status\":\"OK\"}\n";
}

pub(super) fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, Bytes::from_static(Accepted::BODY.as_bytes()))
}

fn refuse(refusal: Refusal) -> Reply {
    json(refusal.status(), refusal_body(refusal).into())
}

pub(super) fn refusal_body(refusal: Refusal) -> String {
    // The messages hold nothing that JSON would escape.
    format!(
        "{{\"errorMessage\":\"{}\",\"errorType\":\"{}\"}}\n",
        refusal.message(),
        refusal.error_type()
    )
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn text(status: StatusCode, body: &'static str) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests;
