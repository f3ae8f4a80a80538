//! Reading request bodies, within limits: of one body, of all large bodies together, of time.

use crate::answer::{self, Answer};
use crate::gateway::Limits;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lambfold_api_model::ApiError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// A body of this size is read without asking for memory, bytes.
const FREE: usize = 1 << 20;
/// Unit of the memory budget, bytes (1 MiB).
const UNIT: usize = 1 << 20;
/// How long a large body waits for memory.
const BUDGET_WAIT: Duration = Duration::from_secs(30);
/// The slowest upload that is not given up, bytes a second, after a minute of grace.
const SLOWEST: u64 = 64 * 1024;
/// How much of a refused body is read and thrown away, so that the peer sees the answer.
const DRAIN: usize = 300 << 20;

/// The budget for large bodies.
#[derive(Debug)]
pub(crate) struct Receiver {
    budget: Arc<Semaphore>,
    silence: Duration,
}

/// A body with the memory it holds.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _memory: Vec<OwnedSemaphorePermit>,
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum ReceiveError {
    /// More than the limit.
    TooLarge,
    /// The peer is gone, silent, too slow, or breaks the protocol: nobody to answer to, or only
    /// this.
    Lost(Answer),
}

impl Receiver {
    pub(crate) fn new(limits: &Limits) -> Self {
        let budget = Arc::new(Semaphore::new(limits.bodies_mib));
        Self { budget, silence: limits.silence }
    }

    /// Reads a body of at most `limit` bytes. A small one that arrived with its head is not
    /// copied, others once.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Incoming,
        limit: usize,
    ) -> Result<Received, ReceiveError> {
        let mut received = Received { bytes: Bytes::new(), _memory: Vec::new() };
        if body.is_end_stream() {
            return Ok(received);
        }
        let declared = body.size_hint().exact();
        if declared.is_some_and(|size| size > limit as u64) {
            drain(headers, body);
            return Err(ReceiveError::TooLarge);
        }
        let expected = declared.and_then(|size| usize::try_from(size).ok());
        let slowest = Duration::from_secs(60 + declared.unwrap_or(limit as u64) / SLOWEST);
        let end = Instant::now() + slowest;
        let mut buffer = BytesMut::new();
        loop {
            let frame = body.frame();
            let Ok(frame) =
                timeout(self.silence, timeout_at(end, frame)).await.and_then(|inner| inner)
            else {
                return Err(lost(408, "the request body did not arrive in time"));
            };
            let data = match frame {
                None => break,
                Some(Err(_)) => return Err(lost(400, "the request body was cut off or malformed")),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    // Trailers mean nothing here.
                    Err(_) => continue,
                },
            };
            if buffer.is_empty() && Some(data.len()) == expected {
                received.bytes = data;
                return Ok(received);
            }
            if buffer.len() + data.len() > limit {
                drain(headers, body);
                return Err(ReceiveError::TooLarge);
            }
            let held = FREE + received._memory.len() * UNIT;
            if buffer.len() + data.len() > held {
                let units = (buffer.len() + data.len() - held).div_ceil(UNIT);
                for _ in 0..units {
                    let permit = timeout(BUDGET_WAIT, self.budget.clone().acquire_owned()).await;
                    let Ok(Ok(permit)) = permit else {
                        let error = ApiError::new(
                            "ServiceUnavailableException",
                            "Too many large requests at once; try again",
                        );
                        return Err(ReceiveError::Lost(answer::error(&error)));
                    };
                    received._memory.push(permit);
                }
            }
            if buffer.is_empty() {
                buffer.reserve(expected.unwrap_or(data.len()).min(8 << 20));
            }
            buffer.extend_from_slice(&data);
        }
        received.bytes = buffer.freeze();
        Ok(received)
    }
}

fn lost(status: u16, text: &'static str) -> ReceiveError {
    let mut answer = answer::text(status, text);
    answer.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    ReceiveError::Lost(answer)
}

/// Keeps reading a refused body beside the answer: a peer that writes everything before it
/// reads would otherwise see a broken connection. One that asked first is simply not told to go
/// on.
pub(crate) fn drain(headers: &HeaderMap, mut body: Incoming) {
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(EXPECT) || length.is_some_and(|length| length > DRAIN as u64) {
        return;
    }
    tokio::spawn(async move {
        let mut left = DRAIN;
        let end = Instant::now() + Duration::from_secs(120);
        while let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(size) else { return };
            left = rest;
        }
    });
}
