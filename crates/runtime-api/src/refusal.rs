use crate::machine::State;
use http::StatusCode;
use lambfold_types::limits::{RESPONSE_BYTES, STREAMED_RESPONSE_BYTES};
use std::borrow::Cow;
use std::fmt::Display;

/// Why a runtime's request is not done; what the runtime reads (behaviour specification §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The transition table does not allow it.
    Transition {
        /// The state as it is, and stays.
        from: State,
        /// The state that was asked for.
        to: State,
    },
    /// The environment was reset while the request waited.
    Concurrent {
        /// The state as it is now.
        from: State,
        /// The state that was asked for.
        to: State,
    },
    /// The id in the path is not the current invocation's.
    InvalidRequestId,
    /// The body is larger than [`RESPONSE_BYTES`].
    TooLarge,
    /// The streamed body is larger than [`STREAMED_RESPONSE_BYTES`].
    StreamTooLarge,
    /// The body ended before it was complete.
    Truncated,
    /// `Lambda-Runtime-Function-Response-Mode` is neither absent nor `streaming`.
    InvalidResponseMode,
    /// A fault of the platform; the runtime should exit.
    Internal,
}

impl Refusal {
    /// Status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Transition { .. } | Self::Concurrent { .. } => StatusCode::FORBIDDEN,
            Self::InvalidRequestId | Self::Truncated | Self::InvalidResponseMode => {
                StatusCode::BAD_REQUEST
            }
            Self::TooLarge | Self::StreamTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `errorType` of the body.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Transition { .. } | Self::Concurrent { .. } => "InvalidStateTransition",
            Self::InvalidRequestId => "InvalidRequestID",
            Self::TooLarge | Self::StreamTooLarge => "RequestEntityTooLarge",
            Self::Truncated => "TruncatedHTTPRequest",
            Self::InvalidResponseMode => "InvalidFunctionResponseMode",
            Self::Internal => "InternalServerError",
        }
    }

    /// The `errorMessage` of the body.
    #[must_use]
    pub fn message(self) -> Cow<'static, str> {
        match self {
            Self::Transition { from, to } => format!(
                "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
            )
            .into(),
            Self::Concurrent { from, to } => format!(
                "State transition from {from} to {to} failed for runtime. Error: Concurrent state modification"
            )
            .into(),
            Self::InvalidRequestId => "Invalid request ID".into(),
            Self::TooLarge => too_large(RESPONSE_BYTES),
            Self::StreamTooLarge => too_large(STREAMED_RESPONSE_BYTES),
            Self::Truncated => "HTTP request detected as truncated".into(),
            Self::InvalidResponseMode => "Invalid function response mode".into(),
            Self::Internal => "Internal Server Error".into(),
        }
    }
}

fn too_large(limit: impl Display) -> Cow<'static, str> {
    format!("Exceeded maximum allowed payload size ({limit} bytes).").into()
}
