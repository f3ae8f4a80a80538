//! What the benchmarks share: a blocking HTTP/1.1 connection that does no more than it must,
//! and medians.
//!
//! Requests and answers flow through [`Connection`]; only `Content-Length` bodies are
//! understood, since that is all the measured peers send to these clients. Forbidden here:
//! anything from the server's own crates, so that a floor is never measured with the code
//! that it is a floor for.

pub mod cold;
pub mod fastcgi;
pub mod guest;
pub mod leaks;
pub mod server;

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// One kept-alive connection of a client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// Where an HTTP message's head ends and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the head, blank line included.
    pub head: usize,
    /// `Content-Length`, zero when absent.
    pub body: usize,
}

/// Finds the end of a head in `bytes` and its content length; `None` while it is incomplete.
#[must_use]
pub fn frame(bytes: &[u8]) -> Option<Frame> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let mut body = 0;
    for line in bytes[..head].split(|&b| b == b'\n') {
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            let text = std::str::from_utf8(&line[15..]).unwrap_or("0");
            body = text.trim().parse().unwrap_or(0);
        }
    }
    Some(Frame { head, body })
}

impl Connection {
    /// Connects, without Nagle's delay.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    /// Gives up on an answer after this time, for peers that may never give one.
    ///
    /// # Errors
    /// When the socket refuses it.
    pub fn give_up_after(self, time: std::time::Duration) -> io::Result<Self> {
        self.stream.set_read_timeout(Some(time))?;
        Ok(self)
    }

    /// Sends one request as it is and returns the answer's head and body.
    ///
    /// # Errors
    /// When the peer closes the connection or the socket fails.
    pub fn call(&mut self, request: &[u8]) -> io::Result<(&[u8], &[u8])> {
        self.stream.write_all(request)?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += read;
            if let Some(frame) = frame(&self.buffer[..self.filled]) {
                let end = frame.head + frame.body;
                if self.buffer.len() < end {
                    self.buffer.resize(end, 0);
                }
                while self.filled < end {
                    let read = self.stream.read(&mut self.buffer[self.filled..])?;
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.filled += read;
                }
                return Ok((&self.buffer[..frame.head], &self.buffer[frame.head..end]));
            }
        }
    }
}

/// The value of a header in a raw head, by its lower-case name.
#[must_use]
pub fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|&b| b == b'\n').find_map(|line| {
        let text = std::str::from_utf8(line).ok()?;
        let (key, value) = text.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Hands the command line's `--name value` pairs to `take`, which says whether it knows the name.
///
/// # Errors
/// A name without a value, a name that is not known, or what `take` says of a value.
pub fn each_option(mut take: impl FnMut(&str, &str) -> server::Result<bool>) -> server::Result<()> {
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        if !take(&name, &value)? {
            return Err(format!("unknown option {name}").into());
        }
    }
    Ok(())
}

/// The middle value; zero for none.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_whatever_the_case_of_the_header() {
        let message = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\nhello";
        assert_eq!(frame(message), Some(Frame { head: 44, body: 5 }));
        assert_eq!(frame(&message[..40]), None);
        assert_eq!(header(&message[..44], "x"), Some("y"));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
