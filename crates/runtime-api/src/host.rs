use crate::event::Delivery;
use crate::header;
use crate::machine::{Post, Posting, Ticket};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whom the connections of one execution environment drive: its owner, who keeps the
/// [`Machine`](crate::Machine) under a lock of its own.
///
/// Every method returns at once; none is called with a lock of this crate held.
pub trait Host: Send + Sync + 'static {
    /// Counts the runtime processes that were given up. Connections that were accepted under an
    /// earlier count are closed at their next request.
    fn generation(&self) -> u64;

    /// `GET invocation/next`.
    fn next(&self, caller: Caller<'_>) -> NextReply;

    /// The `next` that was given this ticket is gone before it could be answered.
    fn abandon(&self, ticket: Ticket);

    /// `POST invocation/{id}/response` or `…/error` begins; its body has not been read.
    ///
    /// # Errors
    /// The id or the state does not allow it.
    fn begin_post(&self, id: &str, post: Post) -> Result<Posting, Refusal>;

    /// `POST init/error` begins; its body has not been read.
    ///
    /// # Errors
    /// The state does not allow it.
    fn begin_init_error(&self) -> Result<Posting, Refusal>;

    /// What came of a post that was begun; called exactly once for each.
    ///
    /// # Errors
    /// The environment was reset in the meantime.
    fn finish(&self, posting: Posting, posted: Posted) -> Result<(), Refusal>;
}

/// How `next` goes on.
#[derive(Debug)]
pub enum NextReply {
    /// Answered at once.
    Now(Delivery),
    /// Answered when the receiver says so; without limit of time.
    Wait(Ticket, oneshot::Receiver<Delivery>),
}

/// What came of reading a post.
///
/// Real streaming to callers will hand the host a stream here, at the first byte, in place of
/// [`Posted::Response`]; until then a streamed response is collected whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// A response, byte for byte.
    Response {
        /// Its body.
        payload: Bytes,
        /// Its content type.
        content_type: Option<Arc<str>>,
    },
    /// An error: posted as such, or reported in the trailers of a streamed response.
    Error {
        /// The error document, byte for byte; may be empty or no JSON at all.
        payload: Bytes,
        /// Its content type.
        content_type: Option<Arc<str>>,
        /// The classified error type, for telemetry; never replaces what the payload says.
        error_type: Box<str>,
    },
    /// The body is over the limit.
    TooLarge,
    /// The connection ended before the body did.
    Truncated,
    /// The response mode is unknown.
    InvalidResponseMode,
}

/// Who asks for the next event.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    headers: &'a HeaderMap,
}

impl<'a> Caller<'a> {
    /// The sender of a request with these headers.
    #[must_use]
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self { headers }
    }

    /// Name and version of the runtime, for metrics; see [`header::runtime_release`].
    #[must_use]
    pub fn release(self) -> String {
        header::runtime_release(self.headers)
    }
}
