//! A small strict HTTP/1.1 response reader. In: bytes of the peer, who is not trusted with our
//! memory. Out: status, header fields and a body whose end is certain.
//!
//! Refused, because each has been used to make two readers disagree: bare CR or LF, folded lines,
//! space before a colon, two framings at once, differing or listed lengths, any transfer coding
//! but `chunked`, and a body that ends when the connection does (it could have been cut).

use std::io::{ErrorKind, Read};

/// The status line and all header fields together, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header fields of one response, and of one trailer section.
const MAX_FIELDS: usize = 128;
/// One chunk-size line with its extensions, in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 1024;
/// Informational (1xx) responses before the real one.
const MAX_INFORMATIONAL: usize = 8;
/// One body, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
const READ_BYTES: usize = 8 * 1024;

/// What is wrong with a peer's HTTP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Reading failed.
    #[error("reading failed")]
    Io(#[from] std::io::Error),
    /// The connection ended before the first byte of an answer: the peer had closed it.
    #[error("the connection was closed before an answer came")]
    ClosedBeforeAnswer,
    /// The connection ended inside an answer.
    #[error("the connection was closed in the middle of {0}")]
    Truncated(&'static str),
    /// A rule of HTTP/1.1 is broken.
    #[error("{0}")]
    Malformed(&'static str),
    /// A limit of this reader is passed.
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The part of the answer.
        what: &'static str,
        /// In bytes.
        limit: usize,
    },
}

use HttpError::{Malformed, TooLarge, Truncated};

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    /// Whether the connection may carry another request.
    pub(crate) reusable: bool,
}

/// Header fields in the order in which they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first value of a field, by its name in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let same = self.0.iter().filter(move |(have, _)| have.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    keeps_alive: bool,
    fields: Fields,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Empty,
    Length(usize),
    Chunked,
}

/// Reads responses from one connection; keeps what was read too far.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    start: usize,
}

impl Reader {
    /// Whether bytes are left that no request asked for.
    pub(crate) fn has_leftover(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Reads one response; blocks until it is complete.
    pub(crate) fn read(&mut self, stream: &mut impl Read) -> Result<Response, HttpError> {
        for _ in 0..=MAX_INFORMATIONAL {
            let head = self.read_head(stream)?;
            match head.status {
                101 => return Err(Malformed("the protocol was switched without being asked")),
                100..=199 => continue,
                _ => {}
            }
            let body = match framing(&head)? {
                Framing::Empty => Vec::new(),
                Framing::Length(length) => {
                    let mut body = Vec::with_capacity(length);
                    self.read_exactly(stream, length, &mut body)?;
                    body
                }
                Framing::Chunked => self.read_chunked(stream)?,
            };
            let reusable = head.keeps_alive && !self.has_leftover();
            return Ok(Response { status: head.status, fields: head.fields, body, reusable });
        }
        Err(Malformed("too many informational answers"))
    }

    fn read_head(&mut self, stream: &mut impl Read) -> Result<Head, HttpError> {
        let mut scanned = 0;
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(end) = find_head_end(unread, scanned) {
                let head = parse_head(&unread[..end])?;
                self.start += end + 4;
                return Ok(head);
            }
            if unread.len() >= MAX_HEAD_BYTES {
                return Err(TooLarge { what: "the head of the answer", limit: MAX_HEAD_BYTES });
            }
            scanned = unread.len();
            let nothing_yet = unread.is_empty();
            if self.fill(stream)? == 0 {
                return Err(match nothing_yet {
                    true => HttpError::ClosedBeforeAnswer,
                    false => Truncated("the head of an answer"),
                });
            }
        }
    }

    fn read_exactly(
        &mut self,
        stream: &mut impl Read,
        length: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), HttpError> {
        let unread = &self.buffer[self.start..];
        let ready = length.min(unread.len());
        body.extend_from_slice(&unread[..ready]);
        self.start += ready;
        let missing = length - ready;
        if missing > 0 && stream.take(missing as u64).read_to_end(body)? < missing {
            return Err(Truncated("a body"));
        }
        Ok(())
    }

    fn read_chunked(&mut self, stream: &mut impl Read) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let size = parse_chunk_size(&self.read_line(stream, MAX_CHUNK_LINE_BYTES)?)?;
            if size == 0 {
                self.skip_trailers(stream)?;
                return Ok(body);
            }
            if size > MAX_BODY_BYTES - body.len() {
                return Err(TooLarge { what: "the body", limit: MAX_BODY_BYTES });
            }
            self.read_exactly(stream, size, &mut body)?;
            let mut end = Vec::with_capacity(2);
            self.read_exactly(stream, 2, &mut end)?;
            if end != b"\r\n" {
                return Err(Malformed("a chunk is longer than its size says"));
            }
        }
    }

    fn skip_trailers(&mut self, stream: &mut impl Read) -> Result<(), HttpError> {
        for _ in 0..=MAX_FIELDS {
            let line = self.read_line(stream, MAX_HEAD_BYTES)?;
            if line.is_empty() {
                return Ok(());
            }
            parse_field(&line)?;
        }
        Err(Malformed("too many trailer fields"))
    }

    /// One line without its CRLF; `limit` counts the CRLF.
    fn read_line(&mut self, stream: &mut impl Read, limit: usize) -> Result<Vec<u8>, HttpError> {
        let mut scanned = 0;
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(at) = unread[scanned..].iter().position(|byte| *byte == b'\n') {
                let end = scanned + at;
                if end + 1 > limit {
                    return Err(TooLarge { what: "a line", limit });
                }
                let line = match unread[..end].split_last() {
                    Some((b'\r', line)) => line.to_vec(),
                    _ => return Err(Malformed("a line does not end in CR LF")),
                };
                self.start += end + 1;
                return Ok(line);
            }
            if unread.len() >= limit {
                return Err(TooLarge { what: "a line", limit });
            }
            scanned = unread.len();
            if self.fill(stream)? == 0 {
                return Err(Truncated("a chunked body"));
            }
        }
    }

    fn fill(&mut self, stream: &mut impl Read) -> Result<usize, HttpError> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let result = loop {
            match stream.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(filled + *result.as_ref().unwrap_or(&0));
        Ok(result?)
    }
}

fn find_head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    bytes[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at)
}

/// `bytes` is everything before the empty line, without the CRLF of the last line.
fn parse_head(bytes: &[u8]) -> Result<Head, HttpError> {
    let mut lines = Lines(Some(bytes));
    let (status, minor) = parse_status_line(lines.next().unwrap_or_default())?;
    let mut fields = Vec::new();
    for line in lines {
        if fields.len() == MAX_FIELDS {
            return Err(Malformed("too many header fields"));
        }
        fields.push(parse_field(line)?);
    }
    let fields = Fields(fields);
    let says_close = fields
        .all("connection")
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("close"));
    Ok(Head { status, keeps_alive: minor == 1 && !says_close, fields })
}

/// Splits at CRLF only; a bare CR or LF stays in its line, where the field rules refuse it.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        match rest.windows(2).position(|two| two == b"\r\n") {
            Some(at) => {
                self.0 = Some(&rest[at + 2..]);
                Some(&rest[..at])
            }
            None => self.0.take(),
        }
    }
}

fn parse_status_line(line: &[u8]) -> Result<(u16, u8), HttpError> {
    const BAD: HttpError = Malformed("the status line is not HTTP/1.x's");
    let minor = match line.get(..9) {
        Some(b"HTTP/1.1 ") => 1,
        Some(b"HTTP/1.0 ") => 0,
        _ => return Err(BAD),
    };
    let digits = line.get(9..12).ok_or(BAD)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Err(BAD);
    }
    match line.get(12) {
        None | Some(b' ') if line[12..].iter().all(|byte| is_value_byte(*byte)) => {}
        _ => return Err(BAD),
    }
    Ok((digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')), minor))
}

fn parse_field(line: &[u8]) -> Result<(String, String), HttpError> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Malformed("a header field has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Malformed("a header field's name is not a token"));
    }
    if !value.iter().all(|byte| is_value_byte(*byte)) {
        return Err(Malformed("a header field's value holds a control character"));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !blank(byte)).map_or(from, |at| at + 1);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(name), text(&value[from..to])))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn framing(head: &Head) -> Result<Framing, HttpError> {
    let mut codings = head.fields.all("transfer-encoding");
    let mut lengths = head.fields.all("content-length");
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() {
        return Err(Malformed("more than one Transfer-Encoding"));
    }
    if lengths.any(|other| Some(other) != length) {
        return Err(Malformed("two Content-Lengths that differ"));
    }
    match (coding, length) {
        (Some(_), Some(_)) => Err(Malformed("both Transfer-Encoding and Content-Length")),
        _ if matches!(head.status, 204 | 304) => Ok(Framing::Empty),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(Malformed("a transfer coding that is not chunked")),
        (None, Some(length)) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Malformed("a Content-Length that is not a number"));
            }
            match length.parse::<usize>() {
                Ok(length) if length <= MAX_BODY_BYTES => Ok(Framing::Length(length)),
                _ => Err(TooLarge { what: "the body", limit: MAX_BODY_BYTES }),
            }
        }
        (None, None) => Err(Malformed("neither Content-Length nor chunked: the end is unknown")),
    }
}

fn parse_chunk_size(line: &[u8]) -> Result<usize, HttpError> {
    const BAD: HttpError = Malformed("a chunk size is not a hexadecimal number");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    let ends_well = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    if digits == 0 || !matches!(ends_well, None | Some(b';')) {
        return Err(BAD);
    }
    if !rest.iter().all(|byte| is_value_byte(*byte)) {
        return Err(BAD);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| BAD)?;
    usize::from_str_radix(text, 16)
        .map_err(|_| TooLarge { what: "the body", limit: MAX_BODY_BYTES })
}

#[cfg(test)]
mod tests;
