use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An answer that is being written.
#[derive(Debug)]
pub struct Draft<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Draft<'a> {
    /// `status` is a code and its reason, for example `200 OK`.
    pub(crate) fn new(out: &'a mut Vec<u8>, status: &str) -> Self {
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Adds a header; the name is sent as given. What a value cannot carry (line breaks and other
    /// control characters) becomes a space.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        let start = self.out.len();
        self.out.extend_from_slice(value);
        for byte in &mut self.out[start..] {
            if (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Adds a header with a number.
    pub fn number(&mut self, name: &str, value: u64) {
        // Writing to memory does not fail.
        let _ = write!(self.out, "{name}: {value}\r\n");
    }

    /// `body_bytes`: `None` for a status that has no body.
    pub(crate) fn end(
        self,
        body_bytes: Option<usize>,
        names: &Names,
        date: &mut Date,
        closes: bool,
    ) {
        if closes {
            self.out.extend_from_slice(names.connection);
            self.out.extend_from_slice(b"close\r\n");
        }
        if let Some(bytes) = body_bytes {
            self.out.extend_from_slice(names.content_length);
            let _ = write!(self.out, "{bytes}\r\n");
        }
        self.out.extend_from_slice(names.date);
        self.out.extend_from_slice(date.now());
        self.out.extend_from_slice(b"\r\n\r\n");
    }
}

/// The names of the headers that every answer has.
#[derive(Debug)]
pub(crate) struct Names {
    connection: &'static [u8],
    content_length: &'static [u8],
    date: &'static [u8],
}

/// As SDKs are used to from AWS.
pub(crate) const LOWER: Names =
    Names { connection: b"connection: ", content_length: b"content-length: ", date: b"date: " };
/// As shell scripts are used to from the Runtime API.
pub(crate) const TITLE: Names =
    Names { connection: b"Connection: ", content_length: b"Content-Length: ", date: b"Date: " };

/// The present second, written once.
#[derive(Debug, Default)]
pub(crate) struct Date {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Date {
    fn now(&mut self) -> &[u8] {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.at(second)
    }

    fn at(&mut self, second: u64) -> &[u8] {
        if self.second != Some(second) {
            self.second = Some(second);
            let time = UNIX_EPOCH + Duration::from_secs(second);
            self.text = httpdate::fmt_http_date(time).into_bytes();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_http_s() {
        let mut date = Date::default();
        assert_eq!(date.at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(784_111_778), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }

    proptest! {
        #[test]
        fn no_value_adds_a_line(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            Draft::new(&mut out, "200 OK").field("a", &value);
            let lines = out.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(lines, 2);
            prop_assert_eq!(out.len(), "HTTP/1.1 200 OK\r\na: \r\n".len() + value.len());
        }
    }
}
