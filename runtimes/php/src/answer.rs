//! From what PHP prints, a head and a body, to the answer that the event's sender understands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::event::Format;

/// The largest answer that Lambda takes, in bytes. One byte more of a body is kept, so that the
/// platform itself says that it is too much; the rest is thrown away.
pub(crate) const MAX_ANSWER_BYTES: usize = 6_291_556;

/// A head longer than this, in bytes, is not one.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Between the description of a streamed answer and its body.
pub(crate) const STREAM_DELIMITER: [u8; 8] = [0; 8];

/// The content type of a stream that begins with a description.
pub(crate) const STREAM_TYPE: &str = "application/vnd.awslambda.http-integration-response";

/// Status and headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// What PHP says beside the number, if anything.
    pub(crate) reason: Option<String>,
    /// In their order, without `Status`.
    pub(crate) headers: Vec<(String, String)>,
}

/// Output that is no answer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HeadError {
    #[error("PHP's answer has no end of its headers within {MAX_HEAD_BYTES} bytes")]
    TooLong,
    #[error("PHP's answer ended within its headers")]
    Cut,
    #[error("PHP's answer has a header without a colon: {line:?}")]
    Line { line: String },
    #[error("PHP's answer has the status {value:?}, which is not a number from 100 to 999")]
    Status { value: String },
}

/// Collects the head of an answer until it is complete.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    bytes: Vec<u8>,
}

impl HeadReader {
    /// Takes the next part; gives the head and what of the body came with it, once that is there.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<Option<(Head, Vec<u8>)>, HeadError> {
        // The end may be split over two parts.
        let seen = self.bytes.len().saturating_sub(3);
        self.bytes.extend_from_slice(part);
        match find_end(&self.bytes, seen) {
            Some((head, body)) if head <= MAX_HEAD_BYTES => {
                let parsed = Head::parse(&self.bytes[..head])?;
                Ok(Some((parsed, self.bytes.split_off(body))))
            }
            None if self.bytes.len() <= MAX_HEAD_BYTES => Ok(None),
            _ => Err(HeadError::TooLong),
        }
    }
}

/// Where the head ends and where the body begins.
fn find_end(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = &bytes[from..];
    // No header at all.
    if from == 0 && rest.starts_with(b"\r\n") {
        return Some((0, 2));
    }
    if from == 0 && rest.starts_with(b"\n") {
        return Some((0, 1));
    }
    let lines = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    for (at, _) in lines {
        if rest[at + 1..].starts_with(b"\r\n") {
            return Some((from + at + 1, from + at + 3));
        }
        if rest[at + 1..].starts_with(b"\n") {
            return Some((from + at + 1, from + at + 2));
        }
    }
    None
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Head, HeadError> {
        let text = String::from_utf8_lossy(bytes);
        let mut head = Head { status: 200, reason: None, headers: Vec::new() };
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                return Err(HeadError::Line { line: line.chars().take(200).collect() });
            };
            let value = value.trim();
            if !name.eq_ignore_ascii_case("status") {
                head.headers.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let (number, reason) = value.split_once(' ').unwrap_or((value, ""));
            head.status = number
                .parse()
                .ok()
                .filter(|status| number.len() == 3 && (100..=999).contains(status))
                .ok_or_else(|| HeadError::Status { value: value.chars().take(200).collect() })?;
            head.reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
        }
        Ok(head)
    }

    /// All values of each name; the name as it came first.
    fn by_name(&self) -> Vec<(&str, Vec<&str>)> {
        let mut names: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, value) in &self.headers {
            match names.iter_mut().find(|(have, _)| have.eq_ignore_ascii_case(name)) {
                Some((_, values)) => values.push(value),
                None => names.push((name, vec![value])),
            }
        }
        names
    }
}

/// An object with its members in the order given.
struct Object<'a, V>(&'a [(&'a str, V)]);

impl<V: Serialize> Serialize for Object<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn is_cookie(name: &str) -> bool {
    name.eq_ignore_ascii_case("set-cookie")
}

/// Headers as format 2.0 and streams have them: one value a name, cookies apart.
fn joined(head: &Head) -> (Vec<(&str, String)>, Vec<&str>) {
    let (cookies, others): (Vec<_>, Vec<_>) =
        head.by_name().into_iter().partition(|(name, _)| is_cookie(name));
    let others = others.into_iter().map(|(name, values)| (name, values.join(", "))).collect();
    (others, cookies.into_iter().flat_map(|(_, values)| values).collect())
}

/// The description that stands before the body of a streamed answer.
pub(crate) fn prelude(head: &Head) -> String {
    let (headers, cookies) = joined(head);
    format!(
        "{{\"statusCode\":{},\"headers\":{},\"cookies\":{}}}",
        head.status,
        json(&Object(&headers)),
        json(&cookies)
    )
}

/// The whole answer in one piece, as JSON.
pub(crate) fn whole(format: Format, head: &Head, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{{\"statusCode\":{}", head.status);
    match format {
        Format::V1 => {
            let names = head.by_name();
            let (one, many): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|(_, values)| values.len() == 1);
            let one: Vec<_> = one.into_iter().map(|(name, values)| (name, values[0])).collect();
            push(&mut out, "headers", &Object(&one));
            if !many.is_empty() {
                push(&mut out, "multiValueHeaders", &Object(&many));
            }
        }
        Format::V2 => {
            let (headers, cookies) = joined(head);
            push(&mut out, "headers", &Object(&headers));
            if !cookies.is_empty() {
                push(&mut out, "cookies", &cookies);
            }
        }
        Format::LoadBalancer { multi_value } => {
            let reason = head.reason.as_deref().or_else(|| usual_reason(head.status));
            let description = format!("{} {}", head.status, reason.unwrap_or("Unknown"));
            push(&mut out, "statusDescription", &description);
            let names = head.by_name();
            if multi_value {
                push(&mut out, "multiValueHeaders", &Object(&names));
            } else {
                // One value is all that there is room for, and cookies cannot be a list.
                let last = |name: &str, values: &[&str]| match is_cookie(name) {
                    true => values.last().copied().unwrap_or_default().to_owned(),
                    false => values.join(", "),
                };
                let one: Vec<_> =
                    names.iter().map(|(name, values)| (*name, last(name, values))).collect();
                push(&mut out, "headers", &Object(&one));
            }
        }
    }
    // What is text for JSON arrives byte for byte; everything else cannot be in it.
    let mut out = out.into_bytes();
    out.extend_from_slice(b",\"body\":");
    match str::from_utf8(body) {
        Ok(text) => {
            out.reserve(text.len() + text.len() / 8);
            write(&mut out, text);
            out.extend_from_slice(b",\"isBase64Encoded\":false}");
        }
        Err(_) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(body).as_bytes());
            out.extend_from_slice(b"\",\"isBase64Encoded\":true}");
        }
    }
    out
}

/// Whether a head for the load balancer has more than its answer can hold.
pub(crate) fn loses_cookies(format: Format, head: &Head) -> bool {
    let cookies = head.headers.iter().filter(|(name, _)| is_cookie(name)).count();
    format == Format::LoadBalancer { multi_value: false } && cookies > 1
}

fn push(out: &mut String, name: &str, value: &impl Serialize) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    out.push_str(&json(value));
}

fn json(value: &impl Serialize) -> String {
    // Strings, lists and objects of them cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn write(out: &mut Vec<u8>, text: &str) {
    // As above, and neither can a vector.
    let _ = serde_json::to_writer(out, text);
}

/// RFC 9110, section 15, and what else is common. The balancer wants words beside the number.
fn usual_reason(status: u16) -> Option<&'static str> {
    Some(match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
