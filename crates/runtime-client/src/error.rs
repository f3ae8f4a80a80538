use crate::HttpError;

/// Why a call to the Runtime API did not do what it was for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no platform around this process.
    #[error("AWS_LAMBDA_RUNTIME_API is not set: start this program through a Lambda platform, or set it to the host:port of a Runtime API")]
    NoEndpoint,
    /// The address of the Runtime API is not one.
    #[error("AWS_LAMBDA_RUNTIME_API is `{value}`, which is not host:port")]
    BadEndpoint {
        /// What stands there.
        value: String,
    },
    /// `AWS_LAMBDA_MAX_CONCURRENCY` is not a count.
    #[error("AWS_LAMBDA_MAX_CONCURRENCY is `{value}`, which is not a whole number from 1 to {max}", max = crate::client::MAX_WORKERS)]
    BadConcurrency {
        /// What stands there.
        value: String,
    },
    /// Nobody answers at the address.
    #[error("cannot connect to the Runtime API at {address}")]
    Connect {
        /// host:port as given.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection broke in the middle of a call.
    #[error("the connection to the Runtime API broke during `{call}`")]
    Io {
        /// The call: next, response, error or init/error.
        call: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The peer does not speak HTTP/1.1 as agreed; the connection was closed.
    #[error("the Runtime API's answer to `{call}` cannot be read")]
    Protocol {
        /// The call: next, response, error or init/error.
        call: &'static str,
        /// What is wrong with it.
        source: HttpError,
    },
    /// An answer to `next` without what every event has.
    #[error("the event has no usable `{header}` header")]
    BadEvent {
        /// The header that is missing or malformed.
        header: &'static str,
    },
    /// The runtime could not start; the platform has been told.
    #[error("init failed: {error_type}: {message}")]
    Init {
        /// The type that was reported.
        error_type: String,
        /// The message that was reported.
        message: String,
    },
    /// The Runtime API understood the call and said no.
    #[error("the Runtime API refused `{call}` with status {status}: {body}")]
    Refused {
        /// The call: next, response, error or init/error.
        call: &'static str,
        /// The HTTP status: 400 wrong request id, 403 not now, 410 too late, 413 too large, 500 a
        /// fault of the platform.
        status: u16,
        /// Its error document, at most 2 KiB of it.
        body: String,
    },
}

impl Error {
    /// Whether the event is over and done with, and the runtime may go on with `next`: the answer
    /// came too late, was too large, or was not wanted any more. Any other error means that the
    /// runtime should exit.
    pub fn is_about_this_event(&self) -> bool {
        matches!(self, Error::Refused { call, status, .. }
            if *status < 500 && matches!(*call, "response" | "error"))
    }

    /// Whether the answer was larger than the platform takes (413). The caller has already been
    /// told so; reporting an error for the same event is refused.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Error::Refused { status: 413, .. })
    }
}
