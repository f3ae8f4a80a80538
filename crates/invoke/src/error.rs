use lambfold_control::ControlError;
use lambfold_pool::{PoolError, ThrottleReason};
use lambfold_store::StoreError;

/// The exception of AWS that an error is; the table from here to status codes is the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// As the control plane says: not found, wrong parameter, …
    Control(lambfold_control::ErrorKind),
    /// `InvalidRequestContentException`
    InvalidRequestContent,
    /// `RequestTooLargeException`
    RequestTooLarge,
    /// `TooManyRequestsException` with its `Reason`
    TooManyRequests(ThrottleReason),
    /// `ServiceException`: this machine is at fault; the cause goes to the operator's log.
    Service,
}

/// Why an invocation did not run, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// There is no such function, or the request contradicts itself.
    #[error(transparent)]
    Function(#[from] ControlError),
    /// The event is no JSON text; the text is in AWS's words.
    #[error("{message}")]
    NotJson {
        /// `Could not parse request body into json: …`
        message: String,
    },
    /// The event is over the limit of its invocation type.
    #[error(
        "{bytes} byte payload is too large for the {invocation_type} invocation type (limit {limit} bytes)"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
        /// `RequestResponse` or `Event`.
        invocation_type: &'static str,
    },
    /// A limit of concurrency.
    #[error("Rate Exceeded.")]
    Throttled {
        /// AWS's reason.
        reason: ThrottleReason,
        /// The limit, for the operator.
        #[source]
        source: PoolError,
    },
    /// No environment could be made, it was lost, or the server is shutting down.
    #[error("the invocation could not be run")]
    Platform(#[source] PoolError),
    /// The queue of asynchronous events could not be written; the event was not accepted.
    #[error("the event could not be stored")]
    Queue(#[source] StoreError),
}

impl InvokeError {
    /// Which exception it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Function(error) => ErrorKind::Control(error.kind()),
            Self::NotJson { .. } => ErrorKind::InvalidRequestContent,
            Self::TooLarge { .. } => ErrorKind::RequestTooLarge,
            Self::Throttled { reason, .. } => ErrorKind::TooManyRequests(*reason),
            Self::Platform(_) | Self::Queue(_) => ErrorKind::Service,
        }
    }

    /// When it is worth to try again, seconds. AWS says nothing of its own limits; the room of
    /// this machine changes quickly.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Throttled { source: PoolError::NoRoom { .. }, .. } => Some(1),
            _ => None,
        }
    }

    /// What the caller is told; `None` where AWS says nothing. Faults of this machine are told
    /// in general words: their causes are the operator's.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Function(error) => error.message(),
            Self::Platform(_) | Self::Queue(_) => {
                Some("An error occurred and the request cannot be processed.".to_owned())
            }
            _ => Some(self.to_string()),
        }
    }
}

impl From<PoolError> for InvokeError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Throttled { reason, .. } => Self::Throttled { reason, source: error },
            PoolError::NoRoom { .. } => {
                let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
                Self::Throttled { reason, source: error }
            }
            error => Self::Platform(error),
        }
    }
}
