use http::HeaderMap;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Largest head of a plain request, bytes.
pub const HEAD_BYTES: usize = 16 << 10;
/// Most headers of a plain request.
pub const HEADERS: usize = 64;
/// Largest body of a plain request, bytes, where nobody has said what else there is room for.
pub const BODY_BYTES: usize = 128 << 10;

/// Header fields of a request, whoever parsed it.
pub trait Fields {
    /// The value of the first field of this name, given in lower case.
    fn field(&self, name: &str) -> Option<&[u8]>;
}

impl Fields for HeaderMap {
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(|value| value.as_bytes())
    }
}

/// The methods of plain requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
}

/// The head of a plain request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    bytes: &'a [u8],
    spans: &'a Spans,
}

/// Where the parts of a request are, from its first byte.
#[derive(Debug)]
pub(crate) struct Spans {
    method: Method,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    head: usize,
    body: usize,
}

/// What the bytes are that have come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not a whole head.
    Partial,
    /// A whole head of a plain request.
    Plain,
    /// Anything else.
    Foreign,
}

impl Default for Spans {
    fn default() -> Self {
        let fields = Vec::with_capacity(HEADERS);
        Self { method: Method::Get, target: 0..0, fields, head: 0, body: 0 }
    }
}

impl Spans {
    /// Length of the request, bytes.
    pub(crate) fn len(&self) -> usize {
        self.head + self.body
    }

    pub(crate) fn body(&self) -> Range<usize> {
        self.head..self.len()
    }

    /// `limit`: the largest body, bytes.
    pub(crate) fn parse(&mut self, bytes: &[u8], limit: usize) -> Parsed {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let head = match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return Parsed::Partial,
            Ok(httparse::Status::Partial) | Err(_) => return Parsed::Foreign,
        };
        let at = |part: &[u8]| {
            let start = part.as_ptr().addr() - bytes.as_ptr().addr();
            start..start + part.len()
        };
        self.method = match request.method {
            Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            _ => return Parsed::Foreign,
        };
        // The origin form; the others carry an authority, which somebody has to check.
        let Some(target) = request.path.filter(|path| path.starts_with('/')) else {
            return Parsed::Foreign;
        };
        self.target = at(target.as_bytes());
        self.fields.clear();
        let mut length = None;
        for header in &*request.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // Lengths tell the common names apart.
            match header.name.len() {
                14 if is("content-length") => match (length, body_length(header.value, limit)) {
                    (None, Some(bytes)) => length = Some(bytes),
                    _ => return Parsed::Foreign,
                },
                17 if is("transfer-encoding") => return Parsed::Foreign,
                10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                    return Parsed::Foreign;
                }
                7 if is("upgrade") || is("trailer") => return Parsed::Foreign,
                6 if is("expect") => return Parsed::Foreign,
                _ => {}
            }
            self.fields.push((at(header.name.as_bytes()), at(header.value)));
        }
        self.head = head;
        self.body = length.unwrap_or(0);
        match request.version == Some(1) && head <= HEAD_BYTES {
            true => Parsed::Plain,
            false => Parsed::Foreign,
        }
    }
}

/// A length that every reader reads the same way, within the limit.
fn body_length(value: &[u8], limit: usize) -> Option<usize> {
    let is_plain = matches!(value.len(), 1..=7) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain)?;
    text.parse().ok().filter(|bytes| *bytes <= limit)
}

impl<'a> Head<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a Spans) -> Self {
        Self { bytes, spans }
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.spans.method
    }

    /// Path and query as sent; begins with `/`.
    #[must_use]
    pub fn target(&self) -> &'a str {
        std::str::from_utf8(&self.bytes[self.spans.target.clone()]).unwrap_or("/")
    }

    /// Path and query, without the `?` between them.
    #[must_use]
    pub fn path_and_query(&self) -> (&'a str, &'a str) {
        let target = self.target();
        target.split_once('?').unwrap_or((target, ""))
    }

    /// Names, as sent, and values of all fields.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        let spans = self.spans.fields.iter();
        spans.map(|(name, value)| (&bytes[name.clone()], &bytes[value.clone()]))
    }

    /// The values of all fields of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

impl Fields for Head<'_> {
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(request: impl AsRef<[u8]>) -> Parsed {
        Spans::default().parse(request.as_ref(), BODY_BYTES)
    }

    #[test]
    fn plain_requests_have_their_parts() {
        let request =
            b"POST /a?b=1 HTTP/1.1\r\nHost: h\r\nX-A:  one \r\nx-a: two\r\ncontent-length: 3\r\n\r\nabcd";
        let mut spans = Spans::default();
        assert_eq!(spans.parse(request, BODY_BYTES), Parsed::Plain);
        let head = Head::new(request, &spans);
        assert_eq!((head.method(), head.path_and_query()), (Method::Post, ("/a", "b=1")));
        assert_eq!(head.field("x-a"), Some(&b"one"[..]));
        assert_eq!(head.all("x-a").collect::<Vec<_>>(), [b"one", b"two"]);
        assert_eq!(head.field("x-b"), None);
        assert_eq!(&request[spans.body()], b"abc");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_foreign() {
        for fields in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: -3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 00000003\r\n",
            "Content-Length : 3\r\n",
            "A: b\r\n c\r\n",
            "Expect: 100-continue\r\n",
            "Upgrade: h2c\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, upgrade\r\n",
            "Trailer: a\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\nabc");
            assert_eq!(parse(request), Parsed::Foreign, "{fields:?}");
        }
        for line in [
            "POST / HTTP/1.0",
            "PUT / HTTP/1.1",
            "post / HTTP/1.1",
            "GET http://h/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET  / HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert_eq!(parse(format!("{line}\r\nHost: h\r\n\r\n")), Parsed::Foreign, "{line}");
        }
        assert_eq!(parse("GET / HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n"), Parsed::Plain);
    }

    #[test]
    fn limits_on_both_sides() {
        let length = |bytes| format!("POST / HTTP/1.1\r\nContent-Length: {bytes}\r\n\r\n");
        assert_eq!(parse(length(BODY_BYTES)), Parsed::Plain);
        assert_eq!(parse(length(BODY_BYTES + 1)), Parsed::Foreign);
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(parse(fields(HEADERS)), Parsed::Plain);
        assert_eq!(parse(fields(HEADERS + 1)), Parsed::Foreign);
        let sized = |bytes| {
            let rest = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(bytes - rest))
        };
        assert_eq!(parse(sized(HEAD_BYTES)), Parsed::Plain);
        assert_eq!(parse(sized(HEAD_BYTES + 1)), Parsed::Foreign);
        let unfinished = |bytes| sized(bytes + 9)[..bytes].to_owned();
        assert_eq!(parse(unfinished(HEAD_BYTES - 1)), Parsed::Partial);
        assert_eq!(parse(unfinished(HEAD_BYTES)), Parsed::Foreign);
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_of_the_three(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let mut request = b"GET / HTTP/1.1\r\n".to_vec();
            request.extend_from_slice(&bytes);
            let mut spans = Spans::default();
            if spans.parse(&request, BODY_BYTES) == Parsed::Plain {
                let head = Head::new(&request, &spans);
                prop_assert!(head.fields().count() <= HEADERS);
                prop_assert!(spans.body().start <= request.len());
            }
        }

        #[test]
        fn a_cut_head_is_partial(cut in 0usize..70) {
            let request = b"POST /path?query HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nA: b\r\n\r\n";
            prop_assume!(cut < request.len());
            prop_assert_eq!(parse(&request[..cut]), Parsed::Partial);
        }
    }
}
