//! What a browser shows when there is no answer of the function to show.

use crate::client::ClientError;
use crate::failure::Failure;
use lambfold_events::http::ResponseError;
use lambfold_types::limits::SYNC_REQUEST_BYTES;
use serde_json::Value;
use ureq::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use ureq::http::{HeaderValue, Response, StatusCode};

/// Longest part of an answer that is shown, characters.
const SHOWN: usize = 2_000;

/// What the client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Html,
    Text,
}

impl Kind {
    /// Browsers name HTML; others get text.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("text/html")) {
            Self::Html
        } else {
            Self::Text
        }
    }

    pub(super) fn starting(self) -> Response<Vec<u8>> {
        let title = "The function is starting";
        self.page(StatusCode::SERVICE_UNAVAILABLE, title, &[("", "Load this page again.")])
    }

    pub(super) fn too_large(self) -> Response<Vec<u8>> {
        let text =
            format!("Its body has more than {SYNC_REQUEST_BYTES} bytes, and so would its event.");
        self.page(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large", &[("", &text)])
    }

    /// What is in the folder is no function.
    pub(super) fn broken(self, failure: &Failure) -> Response<Vec<u8>> {
        let mut lines = failure.lines();
        let title = lines.next().map_or("The folder is no function", |(_, text)| text);
        let rest: Vec<_> = lines.collect();
        self.page(StatusCode::BAD_GATEWAY, title, &rest)
    }

    /// The server said no.
    pub(super) fn refused(self, failure: &Failure, error: &ClientError) -> Response<Vec<u8>> {
        let status = match error {
            ClientError::Service { status: 413, .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ClientError::Service { status: 429, .. } => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_GATEWAY,
        };
        let mut lines = failure.lines();
        let title = lines.next().map_or("The function was not invoked", |(_, text)| text);
        let rest: Vec<_> = lines.collect();
        self.page(status, title, &rest)
    }

    /// The function returned an error.
    pub(super) fn function_error(self, payload: &[u8], log: &str) -> Response<Vec<u8>> {
        let error: Value = serde_json::from_slice(payload).unwrap_or_default();
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        let (kind, message) = (text("errorType"), text("errorMessage"));
        let title = match (kind.as_str(), message.as_str()) {
            ("", "") => String::from_utf8_lossy(payload).chars().take(SHOWN).collect(),
            (kind, "") => kind.to_owned(),
            ("", message) => message.to_owned(),
            (kind, message) => format!("{kind}: {message}"),
        };
        let stack = match &error["stackTrace"] {
            Value::Array(lines) => {
                let line = |line: &Value| line.as_str().map_or(line.to_string(), str::to_owned);
                lines.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        let parts = [("stack", stack.as_str()), ("log", log.trim_end())];
        let parts: Vec<_> = parts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        self.page(StatusCode::BAD_GATEWAY, &title, &parts)
    }

    /// The function answered something that is no response.
    pub(super) fn no_response(self, error: &ResponseError, payload: &[u8]) -> Response<Vec<u8>> {
        let shown: String = String::from_utf8_lossy(payload).chars().take(SHOWN).collect();
        self.page(StatusCode::BAD_GATEWAY, &error.to_string(), &[("its answer", &shown)])
    }

    fn page(self, status: StatusCode, title: &str, parts: &[(&str, &str)]) -> Response<Vec<u8>> {
        let (body, kind) = match self {
            Self::Html => (html(title, parts), "text/html; charset=utf-8"),
            Self::Text => (text(title, parts), "text/plain; charset=utf-8"),
        };
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }
}

fn text(title: &str, parts: &[(&str, &str)]) -> String {
    let mut text = format!("{title}\n");
    for (name, part) in parts {
        let name = if name.is_empty() { String::new() } else { format!("{name}:\n") };
        text.push_str(&format!("\n{name}{part}\n"));
    }
    text
}

fn html(title: &str, parts: &[(&str, &str)]) -> String {
    let title = escape(title);
    let mut html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:3em auto;max-width:60em;padding:0 1em}}\
         h1{{font-size:1.3em;color:#b00020;overflow-wrap:anywhere}}h2{{font-size:1em}}\
         pre{{background:#f4f4f4;color:#222;padding:1em;overflow:auto;white-space:pre-wrap}}</style>\
         <h1>{title}</h1>\n"
    );
    for (name, part) in parts {
        if !name.is_empty() {
            html.push_str(&format!("<h2>{}</h2>\n", escape(name)));
        }
        html.push_str(&format!("<pre>{}</pre>\n", escape(part)));
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(response: &Response<Vec<u8>>) -> String {
        String::from_utf8_lossy(response.body()).into_owned()
    }

    #[test]
    fn an_error_is_shown_with_type_message_stack_and_log_and_runs_no_script() {
        let payload = br#"{"errorType":"A.B","errorMessage":"<script>alert(1)</script>","stackTrace":["one","two"]}"#;
        let page = Kind::wanted(Some("text/html,*/*")).function_error(payload, "line & line\n");
        assert_eq!(page.status(), 502);
        let text = body(&page);
        for part in ["A.B: &lt;script&gt;", "one\ntwo", "line &amp; line"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("<script>"), "{text}");
        let page = Kind::wanted(Some("*/*")).function_error(payload, "line");
        assert_eq!(
            body(&page),
            "A.B: <script>alert(1)</script>\n\nstack:\none\ntwo\n\nlog:\nline\n"
        );
        let page = Kind::wanted(None).function_error(b"plain", "");
        assert_eq!(body(&page), "plain\n");
    }
}
