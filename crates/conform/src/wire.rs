//! Requests of a bootstrap, read byte by byte and kept as they came. No I/O: bytes in, requests out.

use std::collections::VecDeque;
use std::time::Instant;

/// Longest request line with its headers, bytes: error causes travel in a header of 1 MiB.
const HEAD_BYTES: usize = 2 << 20;
/// Longest body, bytes; what is longer comes from a runtime that is out of control.
const BODY_BYTES: usize = 64 << 20;
/// Longest line within a chunked body, bytes.
const LINE_BYTES: usize = 64 << 10;

/// How a request says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// As written.
    pub method: String,
    /// As written, with any query.
    pub target: String,
    /// `HTTP/1.1`, as written.
    pub version: String,
    /// Names as written, values trimmed; bytes that are no UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v)
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Request line and headers.
    pub head: Head,
    /// How its body was framed.
    pub framing: Framing,
    /// The body without framing.
    pub body: Vec<u8>,
    /// When parts of the body came, and how many bytes there were then.
    pub arrivals: Vec<(Instant, usize)>,
    /// Headers after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// When its last byte came.
    pub complete: Instant,
}

/// Bytes that are no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

fn malformed<T>(why: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(why.into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes to come.
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    state: State,
    current: Option<Request>,
    done: VecDeque<Request>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: Vec::new(), state: State::Head, current: None, done: VecDeque::new() }
    }
}

impl Reader {
    /// Takes in what came at `now`.
    ///
    /// # Errors
    /// When the bytes are no request; the connection is of no use then.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) -> Result<(), Malformed> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        let result = self.advance(&mut at, now);
        self.buffer.drain(..at);
        result
    }

    /// The next whole request.
    pub fn take(&mut self) -> Option<Request> {
        self.done.pop_front()
    }

    /// The request whose body is still on its way.
    #[must_use]
    pub fn partial(&self) -> Option<&Request> {
        self.current.as_ref()
    }

    /// Whether a request has begun and not ended.
    #[must_use]
    pub fn within(&self) -> bool {
        self.current.is_some() || !self.buffer.is_empty()
    }

    fn advance(&mut self, at: &mut usize, now: Instant) -> Result<(), Malformed> {
        loop {
            let rest = &self.buffer[*at..];
            match self.state {
                State::Head => {
                    let Some(end) = find(rest, b"\r\n\r\n") else {
                        if rest.len() > HEAD_BYTES {
                            return malformed(format!("headers of more than {HEAD_BYTES} bytes"));
                        }
                        return Ok(());
                    };
                    let head = parse_head(&rest[..end])?;
                    *at += end + 4;
                    let (framing, length) = framing(&head)?;
                    self.current = Some(Request {
                        head,
                        framing,
                        body: Vec::new(),
                        arrivals: Vec::new(),
                        trailers: Vec::new(),
                        complete: now,
                    });
                    self.state = match framing {
                        Framing::Chunked => State::ChunkSize,
                        Framing::Length | Framing::None => State::Length(length),
                    };
                    if self.state == State::Length(0) {
                        self.finish(now);
                    }
                }
                State::Length(left) | State::Chunk(left) => {
                    let count = left.min(rest.len());
                    if count == 0 {
                        return Ok(());
                    }
                    if let Some(current) = &mut self.current {
                        current.body.extend_from_slice(&rest[..count]);
                        current.arrivals.push((now, current.body.len()));
                    }
                    *at += count;
                    self.state = match self.state {
                        State::Length(_) if count == left => {
                            self.finish(now);
                            State::Head
                        }
                        State::Length(_) => State::Length(left - count),
                        _ if count == left => State::ChunkEnd,
                        _ => State::Chunk(left - count),
                    };
                }
                State::ChunkEnd => {
                    if rest.len() < 2 {
                        return Ok(());
                    }
                    if !rest.starts_with(b"\r\n") {
                        return malformed("a chunk does not end in CR LF where its size says");
                    }
                    *at += 2;
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(line) = line(rest)? else { return Ok(()) };
                    let size = chunk_size(line)?;
                    *at += line.len() + 2;
                    let body = self.current.as_ref().map_or(0, |current| current.body.len());
                    if body.saturating_add(size) > BODY_BYTES {
                        return malformed(format!("a body of more than {BODY_BYTES} bytes"));
                    }
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Trailers => {
                    let Some(line) = line(rest)? else { return Ok(()) };
                    let count = line.len() + 2;
                    if line.is_empty() {
                        self.finish(now);
                    } else {
                        let field = parse_field(line)?;
                        if let Some(current) = &mut self.current {
                            if current.trailers.len() >= 100 {
                                return malformed("more than 100 trailers");
                            }
                            current.trailers.push(field);
                        }
                    }
                    *at += count;
                }
            }
        }
    }

    fn finish(&mut self, now: Instant) {
        self.state = State::Head;
        if let Some(mut request) = self.current.take() {
            request.complete = now;
            self.done.push_back(request);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn line(rest: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    match find(rest, b"\r\n") {
        Some(end) => Ok(Some(&rest[..end])),
        None if rest.len() > LINE_BYTES => {
            malformed(format!("a line of more than {LINE_BYTES} bytes in a chunked body"))
        }
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Malformed> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match usize::from_str_radix(digits, 16) {
        Ok(size) if plain => Ok(size),
        _ => malformed(format!("{digits:?} is not the size of a chunk")),
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head, Malformed> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return malformed(format!("{:?} is not a request line", shortened(&first)));
    };
    if method.is_empty() || target.is_empty() || !version.starts_with("HTTP/1.") {
        return malformed(format!("{:?} is not a request line", shortened(&first)));
    }
    let headers = lines.map(parse_field).collect::<Result<_, _>>()?;
    Ok(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        headers,
    })
}

fn parse_field(line: &[u8]) -> Result<(String, String), Malformed> {
    let text = String::from_utf8_lossy(line);
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        }
        _ => malformed(format!("{:?} is not a header", shortened(&text))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

fn framing(head: &Head) -> Result<(Framing, usize), Malformed> {
    if let Some(encoding) = head.header("transfer-encoding") {
        if !encoding.eq_ignore_ascii_case("chunked") {
            return malformed(format!("the transfer encoding {encoding:?}"));
        }
        return Ok((Framing::Chunked, 0));
    }
    let Some(length) = head.header("content-length") else { return Ok((Framing::None, 0)) };
    match length.parse::<usize>() {
        Ok(length) if length <= BODY_BYTES => Ok((Framing::Length, length)),
        _ => malformed(format!("the content length {:?}", shortened(length))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(parts: &[&[u8]]) -> Result<Vec<Request>, Malformed> {
        let (mut reader, now) = (Reader::default(), Instant::now());
        for part in parts {
            reader.feed(part, now)?;
        }
        Ok(std::iter::from_fn(|| reader.take()).collect())
    }

    const LENGTH: &[u8] = b"POST /x?y HTTP/1.1\r\nHost: h\r\nContent-Length:  3 \r\n\r\nabc";
    const CHUNKED: &[u8] = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;n=v\r\nab\r\n00A\r\n0123456789\r\n0\r\nT: v\r\n\r\n";

    #[test]
    fn bodies_end_where_they_say() {
        let all = [LENGTH, CHUNKED, b"GET /n HTTP/1.1\r\n\r\n"].concat();
        let requests = read(&[&all]).unwrap();
        let seen: Vec<_> = requests.iter().map(|r| (r.framing, r.body.as_slice())).collect();
        let expected: [(Framing, &[u8]); 3] =
            [(Framing::Length, b"abc"), (Framing::Chunked, b"ab0123456789"), (Framing::None, b"")];
        assert_eq!(seen, expected);
        assert_eq!(requests[0].head.target, "/x?y");
        assert_eq!(requests[0].head.header("HOST"), Some("h"));
        assert_eq!(requests[1].trailers, [("T".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn what_is_no_request_is_named() {
        for (bytes, why) in [
            (&b"hello\r\n\r\n"[..], "\"hello\" is not a request line"),
            (b"GET / SPDY/9\r\n\r\n", "\"GET / SPDY/9\" is not a request line"),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "\"no colon\" is not a header"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "the content length \"-1\""),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
                "the transfer encoding \"gzip\"",
            ),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n",
                "\"+1\" is not the size of a chunk",
            ),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                "a chunk does not end in CR LF where its size says",
            ),
        ] {
            assert_eq!(read(&[bytes]).unwrap_err().0, why);
        }
    }

    #[test]
    fn bodies_and_heads_are_limited() {
        let post = |length: usize| format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        assert!(read(&[post(BODY_BYTES).as_bytes()]).is_ok());
        assert!(read(&[post(BODY_BYTES + 1).as_bytes()]).is_err());
        let head = vec![b'x'; HEAD_BYTES];
        assert!(read(&[&head]).is_ok());
        assert!(read(&[&head, b"x"]).is_err());
        let line = vec![b'0'; LINE_BYTES];
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(read(&[chunked, &line]).is_ok());
        assert!(read(&[chunked, &line, b"0"]).is_err());
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(cut in 0..LENGTH.len() + CHUNKED.len()) {
            let all = [LENGTH, CHUNKED].concat();
            let requests = read(&[&all[..cut], &all[cut..]]).unwrap();
            prop_assert_eq!(requests.len(), 2);
            prop_assert_eq!(&requests[1].body, b"ab0123456789");
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..CHUNKED.len()) {
            let mut all = CHUNKED.to_vec();
            all.splice(at..at, bytes);
            let _ = read(&[&all]);
        }
    }
}
