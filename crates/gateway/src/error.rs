//! The one table from the errors of the other crates to what a caller sees.

use lambfold_api_model::ApiError;
use lambfold_control::{ControlError, ErrorKind};
use lambfold_invoke::{ErrorKind as Invoke, InvokeError};
use std::error::Error;

/// The exception of each kind of control-plane error; its status is the service model's.
pub(crate) fn exception(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ResourceNotFound => "ResourceNotFoundException",
        ErrorKind::ResourceConflict => "ResourceConflictException",
        ErrorKind::InvalidParameterValue => "InvalidParameterValueException",
        ErrorKind::Validation => "ValidationException",
        ErrorKind::PreconditionFailed => "PreconditionFailedException",
        ErrorKind::ProvisionedConcurrencyConfigNotFound => {
            "ProvisionedConcurrencyConfigNotFoundException"
        }
        ErrorKind::RequestEntityTooLarge => "RequestEntityTooLargeException",
        ErrorKind::CodeStorageExceeded => "CodeStorageExceededException",
        ErrorKind::AccessDenied => "AccessDeniedException",
        ErrorKind::NotImplemented => "NotImplementedException",
        ErrorKind::Service => "ServiceException",
    }
}

pub(crate) fn control(error: &ControlError) -> ApiError {
    let kind = error.kind();
    if kind == ErrorKind::Service {
        tracing::error!(error = error as &dyn Error, "a control-plane operation failed");
    }
    let code = exception(kind);
    match error.message() {
        Some(message) if !error.is_typed() => ApiError::new(code, message).untyped(),
        Some(message) => ApiError::new(code, message),
        None => ApiError::without_message(code),
    }
}

/// Errors of invocations; those of the function's name are the control plane's.
pub(crate) fn invoke(error: &InvokeError) -> ApiError {
    let kind = match error.kind() {
        Invoke::Control(_) => {
            if let InvokeError::Function(error) = error {
                return control(error);
            }
            "ServiceException"
        }
        Invoke::InvalidRequestContent => "InvalidRequestContentException",
        Invoke::RequestTooLarge => "RequestTooLargeException",
        Invoke::TooManyRequests(_) => "TooManyRequestsException",
        Invoke::Service => {
            tracing::error!(error = error as &dyn Error, "an invocation failed");
            "ServiceException"
        }
    };
    let mut answer = ApiError::new(kind, error.message().unwrap_or_default());
    answer.headers.extend(error.retry_after_s().map(|s| ("retry-after", s.to_string())));
    match error.kind() {
        Invoke::TooManyRequests(reason) => answer.with_member("Reason", reason.as_str()),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambfold_api_model::Exception;

    #[test]
    fn every_kind_has_its_status() {
        let table = [
            (ErrorKind::ResourceNotFound, 404),
            (ErrorKind::ResourceConflict, 409),
            (ErrorKind::InvalidParameterValue, 400),
            (ErrorKind::Validation, 400),
            (ErrorKind::PreconditionFailed, 412),
            (ErrorKind::ProvisionedConcurrencyConfigNotFound, 404),
            (ErrorKind::RequestEntityTooLarge, 413),
            (ErrorKind::CodeStorageExceeded, 400),
            (ErrorKind::AccessDenied, 403),
            (ErrorKind::NotImplemented, 501),
            (ErrorKind::Service, 500),
        ];
        for (kind, status) in table {
            assert_eq!(Exception::of(exception(kind)).status, status, "{kind:?}");
        }
    }
}
