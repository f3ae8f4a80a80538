use std::io::{self, Write};

use crate::client::accepted;
use crate::connection::Connection;
use crate::{Error, FunctionError};

/// A response that is sent in parts. Each write is one chunk and reaches the caller at once.
///
/// End it with [`finish`](Self::finish) or [`fail`](Self::fail): one that is only dropped closes
/// the connection, and the platform sees a response that was cut off.
#[derive(Debug)]
pub struct ResponseStream<'client> {
    connection: &'client mut Connection,
    is_ended: bool,
}

impl<'client> ResponseStream<'client> {
    pub(crate) fn begin(
        connection: &'client mut Connection,
        head: &str,
    ) -> Result<ResponseStream<'client>, Error> {
        connection.ensure_open()?;
        if let Err(source) = connection.send(&[head.as_bytes()]) {
            connection.close();
            return Err(Error::Io { call: "response", source });
        }
        Ok(ResponseStream { connection, is_ended: false })
    }

    /// Ends the response.
    ///
    /// # Errors
    /// If the platform had refused it (too large, too late) or the connection broke.
    pub fn finish(self) -> Result<(), Error> {
        self.end(b"0\r\n\r\n")
    }

    /// Ends the response with an error: what was written stays valid, and the error follows in
    /// trailers.
    ///
    /// # Errors
    /// As for [`finish`](Self::finish).
    pub fn fail(self, error: &FunctionError) -> Result<(), Error> {
        let trailers = format!(
            "0\r\nLambda-Runtime-Function-Error-Type: {}\r\n\
             Lambda-Runtime-Function-Error-Body: {}\r\n\r\n",
            error.header_type(),
            base64(error.body().as_bytes())
        );
        self.end(trailers.as_bytes())
    }

    fn end(mut self, last: &[u8]) -> Result<(), Error> {
        self.is_ended = true;
        let sent = self.connection.send(&[last]);
        match (self.connection.read_response("response"), sent) {
            (Ok(response), _) => accepted("response", response),
            (Err(_), Err(source)) => Err(Error::Io { call: "response", source }),
            (Err(error), Ok(())) => Err(error),
        }
    }
}

impl Write for ResponseStream<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        // An empty chunk would end the body.
        if !part.is_empty() {
            let size = format!("{:x}\r\n", part.len());
            self.connection.send(&[size.as_bytes(), part, b"\r\n"])?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ResponseStream<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.connection.close();
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = (group >> (18 - 6 * position)) & 0x3f;
            let is_padding = position > three.len();
            out.push(if is_padding { '=' } else { char::from(DIGITS[digit as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_as_the_standard_says() {
        // The test vectors of RFC 4648, section 10.
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
