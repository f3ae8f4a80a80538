use crate::event::Delivery;
use crate::extension::{ExtensionDelivery, ExtensionError, ExtensionRefusal, Registration};
use crate::header;
use crate::machine::{Post, Posting, Ticket};
use crate::refusal::Refusal;
use crate::telemetry::{Subscription, SubscriptionRefusal};
use bytes::Bytes;
use lambfold_http1::Fields;
use lambfold_trace::Tap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Whom the connections of one execution environment drive: its owner, who keeps the
/// [`Machine`](crate::Machine) under a lock of its own.
///
/// Every method returns at once; none is called with a lock of this crate held.
pub trait Host: Send + Sync + 'static {
    /// Counts the runtime processes that were given up. Connections that were accepted under an
    /// earlier count are closed at their next request.
    fn generation(&self) -> u64;

    /// What is done to a call on purpose, so that runtimes can be tried; nothing, unless the host
    /// says otherwise. Asked when a `next` has an event, and before a response or an error is let in.
    fn disturbance(&self, _call: Call) -> Option<Disturbance> {
        None
    }

    /// Where its calls are shown to whoever watches them; nowhere, unless it has a place for that.
    fn tap(&self) -> Option<&Tap> {
        None
    }

    /// Whether the peer of a connection may speak to it: everybody who can reach it, unless the host
    /// says otherwise. Asked once for each connection.
    fn admits(&self, _connection: &TcpStream) -> bool {
        true
    }

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

    /// `POST extension/register`.
    ///
    /// # Errors
    /// [`ExtensionRefusal`].
    fn register(&self, registration: &Registration) -> Result<Registered, ExtensionRefusal>;

    /// `GET extension/event/next`.
    fn extension_next(&self, id: Uuid) -> ExtensionReply;

    /// The `event/next` that was given this ticket is gone before it could be answered.
    fn extension_abandon(&self, id: Uuid, ticket: Ticket);

    /// `POST extension/init/error` or `…/exit/error`.
    ///
    /// # Errors
    /// [`ExtensionRefusal`].
    fn extension_error(
        &self,
        id: Uuid,
        error: ExtensionError,
        error_type: &str,
    ) -> Result<(), ExtensionRefusal>;

    /// `PUT telemetry` or `PUT logs`. The identifier is checked first: a body that is not what it
    /// should be is handed over as the refusal that it deserves.
    ///
    /// # Errors
    /// [`SubscribeError`].
    fn subscribe(
        &self,
        id: Uuid,
        subscription: Result<Subscription, SubscriptionRefusal>,
    ) -> Result<(), SubscribeError>;
}

/// A call that can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `invocation/next`, which has an event.
    Next,
    /// `invocation/{id}/response` or `…/error`.
    Response,
}

/// What is done to a call on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// It is answered this much later.
    Delay(Duration),
    /// It is answered 500, and has no other effect. An event stays the runtime's: it comes with the
    /// following `next`.
    Error,
    /// Its connection is reset; else as [`Disturbance::Error`].
    Reset,
}

/// What a new extension is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// By which it is known from now on.
    pub id: Uuid,
    /// The function's name.
    pub function_name: String,
    /// Its version.
    pub function_version: String,
    /// Its handler.
    pub handler: String,
    /// The account; only when it was asked for.
    pub account_id: Option<String>,
}

/// How `event/next` goes on.
#[derive(Debug)]
pub enum ExtensionReply {
    /// Answered at once.
    Now(ExtensionDelivery),
    /// Answered when the receiver says so; without limit of time.
    Wait(Ticket, oneshot::Receiver<ExtensionDelivery>),
}

/// Why a subscription is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeError {
    /// By whom.
    Extension(ExtensionRefusal),
    /// To what, or when.
    Subscription(SubscriptionRefusal),
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
/// A streamed response goes into the invocation's
/// [`ResponseSink`](lambfold_types::ResponseSink) while it is read, and [`Posted::Streamed`] is
/// said of it at its end; without a sink it is collected and said to be a [`Posted::Response`].
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
    /// A response that was streamed.
    Streamed {
        /// How it ended.
        end: StreamEnd,
        /// What the runtime sent of it.
        bytes: u64,
    },
    /// The body is over the limit.
    TooLarge,
    /// The connection ended before the body did.
    Truncated,
    /// The response mode is unknown.
    InvalidResponseMode,
}

/// How a streamed response ended.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// As its sender meant it to.
    Complete,
    /// With an error, reported in its trailers.
    Error {
        /// The error document, byte for byte; may be empty or no JSON at all.
        payload: Bytes,
        /// The classified error type.
        error_type: Box<str>,
    },
    /// At the limit; what came before it was passed on.
    TooLarge,
    /// The connection ended before the body did.
    Truncated,
}

/// Who asks for the next event.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    headers: &'a dyn Fields,
}

impl<'a> Caller<'a> {
    /// The sender of a request with these headers.
    #[must_use]
    pub fn new(headers: &'a dyn Fields) -> Self {
        Self { headers }
    }

    /// Name and version of the runtime, for metrics; see [`header::runtime_release`].
    #[must_use]
    pub fn release(self) -> String {
        header::runtime_release(self.headers)
    }
}
