use crate::refusal::Refusal;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use lambfold_http1::Draft;
use lambfold_types::Invocation;
use std::sync::Arc;

/// What a `next` that waited is told.
pub type Delivery = Result<Arc<Event>, Refusal>;

/// One invocation with its deadline: what the answer to `next` is made of.
#[derive(Debug)]
pub struct Event {
    /// The event and its envelope.
    pub invocation: Invocation,
    /// When the function's time is over, milliseconds since the Unix epoch.
    pub deadline_ms: u64,
}

const REQUEST_ID: &str = "Lambda-Runtime-Aws-Request-Id";
const DEADLINE_MS: &str = "Lambda-Runtime-Deadline-Ms";
const FUNCTION_ARN: &str = "Lambda-Runtime-Invoked-Function-Arn";
const TRACE_ID: &str = "Lambda-Runtime-Trace-Id";
const CLIENT_CONTEXT: &str = "Lambda-Runtime-Client-Context";
const CONTENT_TYPE: &str = "Content-Type";
/// Ours; AWS does not tell. With the value that function URLs have for it where the caller reads the
/// answer as it comes, absent otherwise.
const INVOKE_MODE: &str = "Lambfold-Invoke-Mode";

impl Event {
    /// Names and values of the headers of the `next` answer that hold text; empty values are left
    /// out, except the content type.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let invocation = &self.invocation;
        let content_type = invocation.content_type.as_deref().filter(|text| !text.is_empty());
        [
            (FUNCTION_ARN, Some(&*invocation.invoked_function_arn)),
            (TRACE_ID, invocation.trace_id.as_deref()),
            (CLIENT_CONTEXT, invocation.client_context.as_deref()),
            (CONTENT_TYPE, Some(content_type.unwrap_or("application/json"))),
            (INVOKE_MODE, invocation.sink.as_ref().map(|_| "RESPONSE_STREAM")),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text.filter(|text| !text.is_empty())?)))
    }

    /// Adds the headers of the `next` answer.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let mut add = |name: &'static str, value| {
            if let Ok(name) = HeaderName::try_from(name) {
                headers.insert(name, value);
            }
        };
        add(REQUEST_ID, value(self.invocation.request_id.to_string()));
        add(DEADLINE_MS, HeaderValue::from(self.deadline_ms));
        for (name, text) in self.texts() {
            add(name, value(text.to_owned()));
        }
    }

    /// Writes the headers of the `next` answer.
    pub(crate) fn write(&self, draft: &mut Draft<'_>) {
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = self.invocation.request_id.0.as_hyphenated().encode_lower(&mut id);
        draft.field(REQUEST_ID, id);
        draft.number(DEADLINE_MS, self.deadline_ms);
        for (name, text) in self.texts() {
            draft.field(name, text);
        }
    }
}

/// A header value of any text: what a header cannot carry (a client context may be pretty-printed
/// JSON) becomes a space, as Go's HTTP server does with line breaks.
fn value(text: String) -> HeaderValue {
    let mut bytes = text.into_bytes();
    for byte in &mut bytes {
        if (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f {
            *byte = b' ';
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(bytes))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambfold_types::{InvocationKind, RequestId};
    use proptest::prelude::*;

    pub(crate) fn event(client_context: Option<&str>) -> Event {
        Event {
            invocation: Invocation {
                request_id: RequestId::parse("11111111-2222-4333-8444-555555555555")
                    .expect("a request id"),
                kind: InvocationKind::Synchronous,
                invoked_function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f:1".into(),
                payload: Bytes::new(),
                content_type: None,
                client_context: client_context.map(Into::into),
                trace_id: None,
                wants_log_tail: false,
                sink: None,
            },
            deadline_ms: 1_767_323_045_678,
        }
    }

    #[test]
    fn empty_values_are_left_out_except_the_content_type() {
        let mut headers = HeaderMap::new();
        event(Some("")).write_headers(&mut headers);
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "content-type: application/json",
                "lambda-runtime-aws-request-id: 11111111-2222-4333-8444-555555555555",
                "lambda-runtime-deadline-ms: 1767323045678",
                "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:f:1",
            ]
        );
    }

    #[test]
    fn every_optional_value_has_its_header() {
        let mut event = event(Some("{\n \"custom\": {\"k\": \"é\"}\n}"));
        event.invocation.trace_id = Some("Root=1-a;Parent=b;Sampled=1;Lineage=c".into());
        event.invocation.content_type = Some("text/plain".into());
        let mut headers = HeaderMap::new();
        event.write_headers(&mut headers);
        assert_eq!(headers[TRACE_ID], "Root=1-a;Parent=b;Sampled=1;Lineage=c");
        assert_eq!(headers[CONTENT_TYPE], "text/plain");
        assert_eq!(
            headers[CLIENT_CONTEXT].as_bytes(),
            "{  \"custom\": {\"k\": \"é\"} }".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn any_client_context_becomes_a_header_of_the_same_length(text in "\\PC*|[\\x00-\\x7f]{0,40}") {
            prop_assert_eq!(value(text.clone()).len(), text.len());
        }
    }
}
