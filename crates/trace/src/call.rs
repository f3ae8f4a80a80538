use crate::body::Body;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest value of a header that is shown, bytes; what is longer is cut.
const VALUE_BYTES: usize = 4096;
/// Most headers of one message that are shown.
const HEADERS: usize = 32;
/// How much of an extension's identifier is shown: enough to tell two apart, too little to speak
/// in its name.
const IDENTIFIER_CHARS: usize = 8;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has no answer yet, since there is no event for it. It comes again when it has.
    Waiting,
    /// It was answered.
    Answered,
    /// Its connection ended before it was answered.
    Gone,
}

/// One call of the Runtime API or of the APIs for extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// When it came to this state, milliseconds since the Unix epoch.
    pub at: u64,
    /// The environment, by the name of its log stream.
    pub environment: String,
    /// The version of the function: `$LATEST` or a number.
    pub version: String,
    /// How far it is.
    pub state: State,
    /// `GET`, `POST` or another method.
    pub method: String,
    /// Path and query as they were sent.
    pub path: String,
    /// What was asked.
    pub request: Message,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// From the request's head to this state, microseconds. Absent when the request came before
    /// anybody watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// Headers and body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Those that matter, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, or its beginning.
    pub body: Body,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers and its body.
    #[serde(flatten)]
    pub message: Message,
}

impl Message {
    /// A message with those of its headers that matter.
    pub fn new<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>, body: Body) -> Self {
        let shown = headers.filter_map(|(name, value)| {
            let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
            let value = shown(&name, value)?;
            Some((name, value))
        });
        Self { headers: shown.take(HEADERS).collect(), body }
    }
}

impl Call {
    /// The request id in the path of a `response` or an `error`, or in the answer to `next`.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        let posted = self.path.strip_prefix("/2018-06-01/runtime/invocation/");
        match posted.and_then(|rest| rest.split_once('/')) {
            Some((id, _)) => Some(id),
            None => {
                let answer = self.answer.as_ref()?;
                Some(answer.message.headers.get("lambda-runtime-aws-request-id")?)
            }
        }
    }

    /// What it takes in a queue, bytes.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        let headers = |message: &Message| -> usize {
            message.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        let of = |message: &Message| headers(message) + message.body.kept().len();
        let answer = self.answer.as_ref().map_or(0, |answer| of(&answer.message));
        FIXED + self.path.len() + of(&self.request) + answer
    }
}

/// The value of a header that is shown, if it is one of those: what the Runtime API gives a
/// meaning to, and what describes the message. All others may hold anything.
fn shown(name: &str, value: &[u8]) -> Option<String> {
    const PLAIN: [&str; 8] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "lambfold-invoke-mode",
        "trailer",
        "transfer-encoding",
        "user-agent",
    ];
    let is_ours = name.starts_with("lambda-runtime-") || name.starts_with("lambda-extension-");
    if !is_ours && !PLAIN.contains(&name) {
        return None;
    }
    let text = String::from_utf8_lossy(value);
    if name == "lambda-extension-identifier" {
        let start: String = text.chars().take(IDENTIFIER_CHARS).collect();
        return Some(format!("{start}…"));
    }
    if text.len() <= VALUE_BYTES {
        return Some(text.into_owned());
    }
    let end = (0..=VALUE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Some(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        Message::new(pairs, Body::default()).headers
    }

    #[test]
    fn headers_that_mean_nothing_here_are_not_shown() {
        let shown = headers(&[
            ("Lambda-Runtime-Aws-Request-Id", "1"),
            ("Content-Type", "a/b"),
            ("Authorization", "secret"),
            ("Cookie", "secret"),
            ("X-Api-Key", "secret"),
        ]);
        let names: Vec<&str> = shown.keys().map(String::as_str).collect();
        assert_eq!(names, ["content-type", "lambda-runtime-aws-request-id"]);
    }

    #[test]
    fn an_extensions_identifier_is_not_given_away() {
        let id = "11111111-2222-4333-8444-555555555555";
        let shown = headers(&[("Lambda-Extension-Identifier", id)]);
        assert_eq!(shown["lambda-extension-identifier"], "11111111…");
    }

    #[test]
    fn values_and_their_number_are_limited() {
        let long = "é".repeat(VALUE_BYTES / 2);
        let at = headers(&[("Lambda-Runtime-Client-Context", &long)]);
        assert_eq!(at["lambda-runtime-client-context"], long);
        let longer = format!("x{long}");
        let over = headers(&[("Lambda-Runtime-Client-Context", &longer)]);
        assert_eq!(over["lambda-runtime-client-context"].chars().last(), Some('…'));
        assert!(over["lambda-runtime-client-context"].len() <= VALUE_BYTES + 3);
        let many: Vec<String> = (0..HEADERS + 5).map(|n| format!("Lambda-Runtime-X{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
        assert_eq!(headers(&many).len(), HEADERS);
        assert_eq!(headers(&many[..HEADERS]).len(), HEADERS);
    }

    #[test]
    fn the_request_id_is_in_the_path_or_in_the_answer() {
        let mut call = Call {
            at: 1,
            environment: "e".into(),
            version: "1".into(),
            state: State::Answered,
            method: "POST".into(),
            path: "/2018-06-01/runtime/invocation/abc/response".into(),
            request: Message::default(),
            answer: None,
            took_us: None,
        };
        assert_eq!(call.request_id(), Some("abc"));
        call.path = "/2018-06-01/runtime/invocation/next".into();
        assert_eq!(call.request_id(), None);
        let headers = headers(&[("Lambda-Runtime-Aws-Request-Id", "def")]);
        let message = Message { headers, body: Body::default() };
        call.answer = Some(Answer { status: 200, message });
        assert_eq!(call.request_id(), Some("def"));
    }
}
