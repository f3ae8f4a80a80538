use crate::table::{ExceptionRow, Fault, Key, Model};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How an exception is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// HTTP status.
    pub status: u16,
    /// `message` or `Message`: AWS is not of one mind.
    pub message_key: &'static str,
    /// `Type` in the body: `User` or `Service`; errors of the framework have none.
    pub fault: Option<&'static str>,
}

/// Errors of the framework around the service, which its model does not list.
const FRAMEWORK: &[(&str, Exception)] = &[
    ("ValidationException", untyped(400)),
    ("SerializationException", untyped(400)),
    ("UnknownOperationException", untyped(404)),
    ("MethodNotAllowedException", untyped(405)),
    ("RequestEntityTooLargeException", untyped(413)),
    ("AccessDeniedException", Exception { status: 403, message_key: "Message", fault: None }),
    (
        "NotImplementedException",
        Exception { status: 501, message_key: "message", fault: Some("User") },
    ),
    (
        "ServiceUnavailableException",
        Exception { status: 503, message_key: "message", fault: Some("Service") },
    ),
];

const fn untyped(status: u16) -> Exception {
    Exception { status, message_key: "message", fault: None }
}

impl Exception {
    /// The row of an exception: the model's, or the framework's. An unknown code is a
    /// `ServiceException`.
    #[must_use]
    pub fn of(code: &str) -> Self {
        if let Some((_, exception)) = FRAMEWORK.iter().find(|(name, _)| *name == code) {
            return *exception;
        }
        let unknown =
            ExceptionRow { status: 500, message: Key::Upper, fault: Fault::Service, typed: true };
        let row = Model::get().exceptions.get(code).unwrap_or(&unknown);
        let message_key = match row.message {
            Key::Lower => "message",
            Key::Upper => "Message",
        };
        let fault = match row.fault {
            Fault::User => "User",
            Fault::Service => "Service",
        };
        Self { status: row.status, message_key, fault: row.typed.then_some(fault) }
    }
}

/// An error as the caller sees it: AWS's code and wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", message.as_deref().unwrap_or_default())]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The code, sent in `x-amzn-ErrorType`.
    pub code: Cow<'static, str>,
    /// The text; `None` is sent as null.
    pub message: Option<String>,
    /// Further members of the body, for example `Reason`.
    pub members: Vec<(&'static str, String)>,
    /// Headers that belong to it, for example `Retry-After`.
    pub headers: Vec<(&'static str, String)>,
    /// False: without the member `Type`, although its exception has it.
    pub typed: bool,
}

impl ApiError {
    /// An error with the status of its code.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        let status = Exception::of(&code).status;
        let message = Some(message.into());
        Self { status, code, message, members: Vec::new(), headers: Vec::new(), typed: true }
    }

    /// An error whose text is null.
    #[must_use]
    pub fn without_message(code: impl Into<Cow<'static, str>>) -> Self {
        Self { message: None, ..Self::new(code, "") }
    }

    /// Leaves out the member `Type`.
    #[must_use]
    pub fn untyped(self) -> Self {
        Self { typed: false, ..self }
    }

    /// Adds a member of the body.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// No operation has this path.
    #[must_use]
    pub fn unknown_operation(method: &str, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            "UnknownOperationException",
            format!("No operation of AWS Lambda answers {method} {path}"),
        )
    }

    /// The path exists, with other methods.
    #[must_use]
    pub fn method_not_allowed(method: &str, path: &str, allowed: &[&str]) -> Self {
        let path: String = path.chars().take(200).collect();
        let allowed = allowed.join(", ");
        let mut error = Self::new(
            "MethodNotAllowedException",
            format!("{method} is not allowed for {path}; allowed: {allowed}"),
        );
        error.headers.push(("allow", allowed));
        error
    }

    /// The operation exists and is not built; it is named.
    #[must_use]
    pub fn not_built(operation: &str) -> Self {
        Self::new(
            "NotImplementedException",
            format!(
                "Lambfold does not implement {operation} yet; docs/compatibility.md lists what is built"
            ),
        )
    }

    /// A value of the wrong type.
    #[must_use]
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// The body: `{"Type":"User","message":"…"}`, keys sorted as AWS sends them.
    #[must_use]
    pub fn body(&self) -> String {
        let exception = Exception::of(&self.code);
        let mut body = Map::new();
        if let Some(fault) = exception.fault.filter(|_| self.typed) {
            body.insert("Type".to_owned(), Value::from(fault));
        }
        for (name, value) in &self.members {
            body.insert((*name).to_owned(), Value::from(value.as_str()));
        }
        let message = self.message.as_deref().map_or(Value::Null, Value::from);
        body.insert(exception.message_key.to_owned(), message);
        Value::Object(body).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_as_aws_writes_them() {
        let cases = [
            (
                ApiError::new("InvalidParameterValueException", "no"),
                400,
                r#"{"Type":"User","message":"no"}"#,
            ),
            (
                ApiError::new("ResourceNotFoundException", "no"),
                404,
                r#"{"Message":"no","Type":"User"}"#,
            ),
            (ApiError::new("ServiceException", "no"), 500, r#"{"Message":"no","Type":"Service"}"#),
            (ApiError::new("ValidationException", "no"), 400, r#"{"message":"no"}"#),
            (ApiError::without_message("AccessDeniedException"), 403, r#"{"Message":null}"#),
            (
                ApiError::new("InvalidParameterValueException", "no").untyped(),
                400,
                r#"{"message":"no"}"#,
            ),
            (
                ApiError::new("TooManyRequestsException", "Rate Exceeded.")
                    .with_member("Reason", "ConcurrentInvocationLimitExceeded"),
                429,
                r#"{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
            ),
        ];
        for (error, status, body) in cases {
            assert_eq!(error.status, status, "{error}");
            assert_eq!(error.body(), body);
        }
    }

    #[test]
    fn what_is_not_built_names_itself() {
        let error = ApiError::not_built("ListCapacityProviders");
        assert_eq!(error.status, 501);
        assert!(error.body().contains("ListCapacityProviders"));
    }
}
