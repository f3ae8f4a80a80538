use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::Response;
use crate::Error;

/// One event and what the platform says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    request_id: String,
    deadline_ms: u64,
    function_arn: String,
    trace_id: Option<String>,
    client_context: Option<String>,
    cognito_identity: Option<String>,
    tenant_id: Option<String>,
    content_type: String,
    caller_streams: bool,
    body: Vec<u8>,
}

impl Invocation {
    pub(crate) fn from_response(response: Response) -> Result<Invocation, Error> {
        let fields = &response.fields;
        let text = |name: &str| fields.get(name).filter(|value| !value.is_empty());
        let owned = |name: &str| text(name).map(str::to_owned);
        // The id becomes part of the paths that the answer is posted to.
        let request_id = text("Lambda-Runtime-Aws-Request-Id")
            .filter(|id| {
                id.len() <= 256
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            })
            .ok_or(Error::BadEvent { header: "Lambda-Runtime-Aws-Request-Id" })?
            .to_owned();
        let deadline_ms = text("Lambda-Runtime-Deadline-Ms")
            .and_then(|value| value.parse().ok())
            .ok_or(Error::BadEvent { header: "Lambda-Runtime-Deadline-Ms" })?;
        Ok(Invocation {
            request_id,
            deadline_ms,
            function_arn: owned("Lambda-Runtime-Invoked-Function-Arn").unwrap_or_default(),
            trace_id: owned("Lambda-Runtime-Trace-Id"),
            client_context: owned("Lambda-Runtime-Client-Context"),
            cognito_identity: owned("Lambda-Runtime-Cognito-Identity"),
            tenant_id: owned("Lambda-Runtime-Aws-Tenant-Id"),
            content_type: owned("Content-Type").unwrap_or_else(|| "application/json".to_owned()),
            caller_streams: text("Lambfold-Invoke-Mode") == Some("RESPONSE_STREAM"),
            body: response.body,
        })
    }

    /// The id that the answer is posted for.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// When the platform stops the function, in milliseconds since the Unix epoch.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// The time left until the deadline; zero after it.
    pub fn remaining(&self) -> Duration {
        let deadline = UNIX_EPOCH + Duration::from_millis(self.deadline_ms);
        deadline.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// The ARN as invoked, with its qualifier if the caller gave one; empty if none was sent.
    pub fn function_arn(&self) -> &str {
        &self.function_arn
    }

    /// The X-Ray trace header: `Root=1-…;Parent=…;Sampled=…`.
    pub fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// The client context as JSON text (mobile SDKs, and any caller that sets it).
    pub fn client_context(&self) -> Option<&str> {
        self.client_context.as_deref()
    }

    /// The caller's Cognito identity as JSON text.
    pub fn cognito_identity(&self) -> Option<&str> {
        self.cognito_identity.as_deref()
    }

    /// The tenant, for functions with tenant isolation.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    /// The event's media type, `application/json` unless the caller said otherwise.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Whether the caller reads the answer as it comes. Lambfold tells; AWS does not, and there this
    /// is false.
    pub fn caller_streams(&self) -> bool {
        self.caller_streams
    }

    /// The event's bytes, unchanged.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The event's bytes, moved out.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}
