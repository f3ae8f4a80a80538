//! Answers: one body type, and the few shapes that answers have.

use crate::streaming::EventBody;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use lambfold_api_model::ApiError;
use lambfold_types::RequestId;
use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const JSON_1_1: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const XML: HeaderValue = HeaderValue::from_static("text/xml");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(crate) type Answer = Response<AnswerBody>;

/// Bytes at hand, a file on its way, or the response of a function that runs.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Full(Option<Bytes>),
    File(FileBody),
    Events(Box<EventBody>),
}

/// A file, read by blocking threads one piece at a time: a peer that does not read holds no
/// thread, only its open file.
#[derive(Debug)]
pub(crate) struct FileBody {
    left: u64,
    state: Reading,
}

#[derive(Debug)]
enum Reading {
    Idle(Option<File>),
    Busy(JoinHandle<(File, io::Result<Bytes>)>),
}

const PIECE: usize = 256 * 1024;

impl AnswerBody {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// The bytes at hand; none of what is on its way.
    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Self::Full(bytes) => bytes.clone().unwrap_or_default(),
            Self::File(_) | Self::Events(_) => Bytes::new(),
        }
    }

    /// The first `size` bytes of a file.
    pub(crate) fn file(file: File, size: u64) -> Self {
        Self::File(FileBody { left: size, state: Reading::Idle(Some(file)) })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File(file) => file.poll(context),
            Self::Events(events) => {
                events.poll(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::File(file) => file.left == 0,
            Self::Events(events) => events.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::File(file) => SizeHint::with_exact(file.left),
            Self::Events(_) => SizeHint::new(),
        }
    }
}

impl FileBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        loop {
            match &mut self.state {
                Reading::Idle(file) => {
                    let Some(mut file) = file.take() else { return Poll::Ready(None) };
                    let size = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
                    self.state = Reading::Busy(tokio::task::spawn_blocking(move || {
                        let mut piece = vec![0; size];
                        let result = file.read_exact(&mut piece).map(|()| Bytes::from(piece));
                        (file, result)
                    }));
                }
                Reading::Busy(handle) => {
                    let (file, result) = ready!(Pin::new(handle).poll(context))?;
                    self.state = Reading::Idle(Some(file));
                    let piece = result?;
                    self.left -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
            }
        }
    }
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A JSON answer.
pub(crate) fn json(code: u16, body: impl Into<Bytes>) -> Answer {
    with_type(status(code), JSON, body)
}

/// A JSON-1.1 answer.
pub(crate) fn json_1_1(code: u16, body: impl Into<Bytes>) -> Answer {
    with_type(status(code), JSON_1_1, body)
}

/// An XML answer.
pub(crate) fn xml(code: u16, body: impl Into<Bytes>) -> Answer {
    with_type(status(code), XML, body)
}

/// A text answer.
pub(crate) fn text(code: u16, body: impl Into<Bytes>) -> Answer {
    with_type(status(code), TEXT, body)
}

/// An answer without a body.
pub(crate) fn empty(code: u16) -> Answer {
    let mut answer = Response::new(AnswerBody::full(Bytes::new()));
    *answer.status_mut() = status(code);
    if code != 204 {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

/// An error as REST-JSON carries it.
pub(crate) fn error(error: &ApiError) -> Answer {
    let mut answer = json(error.status, error.body());
    set(&mut answer, ERROR_TYPE, &error.code);
    for (name, value) in &error.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(*name, value);
        }
    }
    answer
}

/// Sets a header, unless its value cannot be one.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Every answer says under which id the server knows the request.
pub(crate) fn set_request_id(answer: &mut Answer, id: RequestId) {
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.0.as_hyphenated().encode_lower(&mut buffer);
    set(answer, REQUEST_ID, text);
}
