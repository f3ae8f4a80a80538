use crate::stream::ResponseSink;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Identifies one invocation; all retries of an asynchronous event keep it. A version 4 UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub uuid::Uuid);

impl RequestId {
    /// A fresh random id. Not a secret: it is drawn without asking the kernel, since every
    /// invocation needs one.
    #[must_use]
    pub fn random() -> Self {
        let bytes = fastrand::u128(..).to_ne_bytes();
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Parses the canonical text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Why the function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationKind {
    /// A caller waits for the answer (`RequestResponse`).
    Synchronous,
    /// An event of the durable queue (`Event`).
    Asynchronous,
}

/// One event on its way to a runtime; what the `next` answer is made of.
///
/// Source of the fields: behaviour of the Runtime API's `next` (headers `Lambda-Runtime-*`).
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The id that the runtime, the logs and the caller see.
    pub request_id: RequestId,
    /// Who waits.
    pub kind: InvocationKind,
    /// The ARN as invoked: without a suffix when the caller gave no qualifier.
    pub invoked_function_arn: Arc<str>,
    /// The event, byte for byte.
    pub payload: Bytes,
    /// The invoker's content type; the Runtime API says `application/json` when there is none.
    pub content_type: Option<Arc<str>>,
    /// The JSON text of the client context, base64 already decoded.
    pub client_context: Option<Arc<str>>,
    /// The tracing header, `Root=…;Parent=…;Sampled=…`.
    pub trace_id: Option<Arc<str>>,
    /// True when the caller asked for the last 4 KiB of the log (`LogType: Tail`).
    pub wants_log_tail: bool,
    /// Where a streamed response goes; `None`: the caller wants every response whole.
    pub sink: Option<Arc<dyn ResponseSink>>,
}

/// What the caller receives; present as soon as the runtime posted it, or as soon as the last
/// byte of a streamed response went into its [`ResponseSink`].
#[derive(Debug, Clone)]
pub struct Answer {
    /// The response, or the error document, byte for byte; nothing after a response that was
    /// streamed to its end.
    pub payload: Bytes,
    /// As the runtime declared it.
    pub content_type: Option<Arc<str>>,
    /// True for every error of the function: reported by the runtime, crash, timeout.
    pub function_error: bool,
    /// The code of an error that ends a stream, for a stream that had begun.
    pub stream_error: Option<Cow<'static, str>>,
}

/// What is known when the invoke phase is over: the runtime asked for the next event, or the
/// environment failed.
#[derive(Debug, Clone)]
pub struct PhaseEnd {
    /// False when the environment must not receive another event.
    pub reusable: bool,
    /// The last 4096 bytes of this invocation's log, `START` to `REPORT`, when it was asked for.
    pub log_tail: Option<Vec<u8>>,
}
