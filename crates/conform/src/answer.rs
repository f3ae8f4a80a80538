//! What the host says, to the byte: the same answer can be put on the wire in many ways that all
//! mean the same, and a runtime has to understand each of them.

use std::time::Duration;

/// How header names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Names {
    #[default]
    AsGiven,
    Lower,
    Upper,
}

/// How the end of the body is said.
#[derive(Debug, Clone, Default)]
pub(crate) enum Body {
    #[default]
    Length,
    /// In chunks of these sizes, the last one as often as needed; each size line is written by
    /// the function.
    Chunks { sizes: Vec<usize>, size_line: fn(usize) -> String, trailers: Vec<(String, String)> },
    /// By the end of the connection.
    UntilEnd,
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum After {
    #[default]
    Kept,
    /// `Connection: close`, and closed.
    Closed,
    /// Closed without a word, in the packet that carries the answer's end.
    Dropped,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: Option<&'static str>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) names: Names,
    /// Between a header's name and value; `: ` when empty.
    pub(crate) separator: &'static str,
    /// The header of the body's framing comes first, not last.
    pub(crate) framing_first: bool,
    pub(crate) framing: Body,
    pub(crate) after: After,
    /// A byte at a time.
    pub(crate) dribble: bool,
}

/// A piece of what goes out on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    Pause(Duration),
    /// Ends our side, in the packet of the bytes before it.
    End,
    /// Ends both sides at once, unread bytes or not.
    Reset,
}

/// What the host says to an accepted response.
const ACCEPTED: &[u8] = b"{\"status\":\"OK\"}\n";
/// Between two bytes of a dribbled answer.
const DRIBBLE: Duration = Duration::from_micros(200);

impl Answer {
    pub(crate) fn new(status: u16, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        Self { status, headers, body: body.to_vec(), ..Self::default() }
    }

    /// 202 as the service gives it.
    pub(crate) fn accepted() -> Self {
        Self::new(202, vec![json_type()], ACCEPTED)
    }

    /// An error of the Runtime API.
    pub(crate) fn refused(status: u16, kind: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errorMessage": message, "errorType": kind });
        Self::new(status, vec![json_type()], format!("{body}\n").as_bytes())
    }

    /// The bytes and what happens between and after them.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let head = self.head();
        let mut bytes = head.clone().into_bytes();
        match &self.framing {
            Body::Length | Body::UntilEnd => bytes.extend_from_slice(&self.body),
            Body::Chunks { sizes, size_line, trailers } => {
                chunk(&mut bytes, &self.body, sizes, *size_line);
                bytes.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
            }
        }
        let mut segments = Vec::new();
        if self.dribble {
            // The framing is what may be cut in a bad place; the rest is sent as it is.
            let end = head.len();
            let (early, late) = (end.min(24), end.saturating_sub(24).max(end.min(24)));
            let slow = bytes.len().min(end + 48);
            let mut at = 0;
            while at < slow {
                let count = if at == early && early < late { late - early } else { 1 };
                segments.push(Segment::Bytes(bytes[at..at + count].to_vec()));
                segments.push(Segment::Pause(DRIBBLE));
                at += count;
            }
            segments.push(Segment::Bytes(bytes[slow..].to_vec()));
        } else {
            segments.push(Segment::Bytes(bytes));
        }
        if self.after != After::Kept || matches!(self.framing, Body::UntilEnd) {
            segments.push(Segment::End);
        }
        segments
    }

    fn head(&self) -> String {
        let reason = self.reason.unwrap_or(match self.status {
            200 => "OK",
            202 => "Accepted",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            410 => "Gone",
            413 => "Request Entity Too Large",
            _ => "Internal Server Error",
        });
        let mut headers = self.headers.clone();
        let framing = match &self.framing {
            Body::Length => Some(("Content-Length".to_owned(), self.body.len().to_string())),
            Body::Chunks { .. } => Some(("Transfer-Encoding".to_owned(), "chunked".to_owned())),
            Body::UntilEnd => None,
        };
        if let Some(framing) = framing {
            let at = if self.framing_first { 0 } else { headers.len() };
            headers.insert(at, framing);
        }
        if self.after == After::Closed || matches!(self.framing, Body::UntilEnd) {
            headers.push(("Connection".to_owned(), "close".to_owned()));
        }
        let separator = if self.separator.is_empty() { ": " } else { self.separator };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in headers {
            let name = match self.names {
                Names::AsGiven => name,
                Names::Lower => name.to_ascii_lowercase(),
                Names::Upper => name.to_ascii_uppercase(),
            };
            head.push_str(&format!("{name}{separator}{value}\r\n"));
        }
        head.push_str("\r\n");
        head
    }
}

fn chunk(to: &mut Vec<u8>, body: &[u8], sizes: &[usize], size_line: fn(usize) -> String) {
    let mut rest = body;
    let mut sizes = sizes.iter().copied();
    let mut size = rest.len().max(1);
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size).clamp(1, rest.len());
        to.extend_from_slice(format!("{}\r\n", size_line(size)).as_bytes());
        to.extend_from_slice(&rest[..size]);
        to.extend_from_slice(b"\r\n");
        rest = &rest[size..];
    }
}

fn json_type() -> (String, String) {
    ("Content-Type".to_owned(), "application/json".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer) -> String {
        let parts = answer.segments().into_iter().map(|segment| match segment {
            Segment::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Segment::Pause(_) => "·".to_owned(),
            Segment::End => "<end>".to_owned(),
            Segment::Reset => "<reset>".to_owned(),
        });
        parts.collect()
    }

    #[test]
    fn the_same_answer_in_several_ways() {
        let headers = vec![("A-Name".to_owned(), "v".to_owned())];
        let plain = Answer::new(200, headers, b"hello");
        assert_eq!(text(&plain), "HTTP/1.1 200 OK\r\nA-Name: v\r\nContent-Length: 5\r\n\r\nhello");
        let odd = Answer {
            names: Names::Upper,
            separator: ":",
            framing_first: true,
            after: After::Closed,
            ..plain.clone()
        };
        assert_eq!(
            text(&odd),
            "HTTP/1.1 200 OK\r\nCONTENT-LENGTH:5\r\nA-NAME:v\r\nCONNECTION:close\r\n\r\nhello<end>"
        );
        let framing = Body::Chunks {
            sizes: vec![1, 3],
            size_line: |size| format!("{size:02X};x=y"),
            trailers: vec![("T".to_owned(), "v".to_owned())],
        };
        let chunked = Answer { framing, after: After::Dropped, ..plain.clone() };
        let body = "01;x=y\r\nh\r\n03;x=y\r\nell\r\n01;x=y\r\no\r\n0\r\nT: v\r\n\r\n<end>";
        assert_eq!(text(&chunked).split_once("\r\n\r\n").map(|(_, body)| body), Some(body));
        let until = Answer { framing: Body::UntilEnd, names: Names::Lower, ..plain };
        assert_eq!(
            text(&until),
            "HTTP/1.1 200 OK\r\na-name: v\r\nconnection: close\r\n\r\nhello<end>"
        );
    }
}
