//! The part of FastCGI 1.0 that a web server needs: requests as bytes, and the records that come
//! back. No sockets here.
//!
//! The reader believes nothing: a record of another version, request or kind, or out of place, is
//! an error, after which the connection is of no use.

use std::io::{self, Read};

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;

/// The role of a program that answers requests.
const RESPONDER: u16 = 1;
const KEEP_CONNECTION: u8 = 1;

/// One request at a time, so that all have the same number.
const REQUEST: u16 = 1;

const HEADER_BYTES: usize = 8;

/// The most that one record can hold, in bytes.
pub(crate) const MAX_CONTENT_BYTES: usize = 0xffff;

/// Below this a reader's buffer is grown before the next read.
const READ_BYTES: usize = 64 * 1024;

/// A request as it goes over the wire.
#[derive(Debug, Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the record of parameters that is being filled begins.
    record: usize,
}

/// A parameter that cannot be sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the parameter {name} has {bytes} bytes, more than the {MAX_CONTENT_BYTES} that a FastCGI record holds"
)]
pub(crate) struct ParamTooLong {
    pub(crate) name: String,
    pub(crate) bytes: usize,
}

impl Request {
    /// A request that leaves the connection open.
    pub(crate) fn new() -> Request {
        let mut request = Request::default();
        request.head(BEGIN_REQUEST, REQUEST, 8);
        let [high, low] = RESPONDER.to_be_bytes();
        request.bytes.extend_from_slice(&[high, low, KEEP_CONNECTION, 0, 0, 0, 0, 0]);
        request.open_record();
        request
    }

    /// Adds a parameter. PHP wants each whole in one record, although the protocol does not.
    pub(crate) fn param(&mut self, name: &str, value: &[u8]) -> Result<(), ParamTooLong> {
        let length_bytes = |length: usize| if length < 0x80 { 1 } else { 4 };
        let size = length_bytes(name.len()) + length_bytes(value.len()) + name.len() + value.len();
        if size > MAX_CONTENT_BYTES {
            return Err(ParamTooLong { name: name.to_owned(), bytes: size });
        }
        if self.bytes.len() - self.record - HEADER_BYTES + size > MAX_CONTENT_BYTES {
            self.close_record();
            self.open_record();
        }
        push_length(&mut self.bytes, name.len());
        push_length(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Ends the parameters, adds the body, and gives everything to send.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Vec<u8> {
        self.close_record();
        if self.bytes.len() > self.record + HEADER_BYTES {
            self.head(PARAMS, REQUEST, 0);
        }
        for part in body.chunks(MAX_CONTENT_BYTES) {
            self.head(STDIN, REQUEST, part.len());
            self.bytes.extend_from_slice(part);
        }
        self.head(STDIN, REQUEST, 0);
        self.bytes
    }

    fn head(&mut self, kind: u8, request: u16, length: usize) {
        push_head(&mut self.bytes, kind, request, length);
    }

    fn open_record(&mut self) {
        self.record = self.bytes.len();
        self.head(PARAMS, REQUEST, 0);
    }

    fn close_record(&mut self) {
        let length = self.bytes.len() - self.record - HEADER_BYTES;
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        self.bytes[self.record + 4..self.record + 6].copy_from_slice(&length);
    }
}

/// A question that any FastCGI program answers at once: whether it is there.
pub(crate) fn question() -> Vec<u8> {
    let name = b"FCGI_MPXS_CONNS";
    let mut bytes = Vec::new();
    push_head(&mut bytes, GET_VALUES, 0, name.len() + 2);
    push_length(&mut bytes, name.len());
    push_length(&mut bytes, 0);
    bytes.extend_from_slice(name);
    bytes
}

fn push_head(bytes: &mut Vec<u8>, kind: u8, request: u16, length: usize) {
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [request_high, request_low] = request.to_be_bytes();
    bytes.extend_from_slice(&[VERSION, kind, request_high, request_low, high, low, 0, 0]);
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ ..0x80) => bytes.push(short),
        _ => {
            let long = u32::try_from(length).unwrap_or(u32::MAX) | 0x8000_0000;
            bytes.extend_from_slice(&long.to_be_bytes());
        }
    }
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A part of the answer; never empty.
    Output(&'a [u8]),
    /// Something for the log; never empty.
    Log(&'a [u8]),
    /// The answer is complete.
    End,
    /// The answer to [`question`].
    Values,
}

/// A peer that does not speak FastCGI as agreed.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RecordError {
    #[error("PHP sent a FastCGI record of version {0}")]
    Version(u8),
    #[error("PHP sent a FastCGI record of kind {0}, which it should not")]
    Kind(u8),
    #[error("PHP sent a FastCGI record of request {0}, which was never made")]
    Request(u16),
    #[error("PHP sent an end of a request that has {0} bytes instead of 8")]
    EndLength(usize),
    #[error("PHP refused the request with FastCGI status {0}")]
    Refused(u8),
    #[error("PHP sent something after the end of the answer")]
    AfterEnd,
    #[error("PHP sent output after it had said that there would be none")]
    AfterOutput,
}

/// Puts records together from bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    output_is_over: bool,
    request_is_over: bool,
}

impl Reader {
    /// Gets ready for the next answer.
    pub(crate) fn restart(&mut self) -> Result<(), RecordError> {
        if self.start != self.end {
            return Err(RecordError::AfterEnd);
        }
        self.output_is_over = false;
        self.request_is_over = false;
        Ok(())
    }

    /// Reads once; the number of bytes that came, 0 at the end.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // The largest record and what may stand before it always fit.
        let room = self.end + READ_BYTES;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let size = source.read(&mut self.buffer[self.end..])?;
        self.end += size;
        Ok(size)
    }

    /// The next record that is complete.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            if bytes.is_empty() {
                return Ok(None);
            }
            if self.request_is_over {
                return Err(RecordError::AfterEnd);
            }
            let &[version, kind, high, low, length_high, length_low, padding, _, ..] = bytes else {
                // What can be told already is told, so that a stranger is not waited for.
                return match bytes[0] {
                    VERSION => Ok(None),
                    other => Err(RecordError::Version(other)),
                };
            };
            let request = u16::from_be_bytes([high, low]);
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            check(version, kind, request, length)?;
            let from = self.start + HEADER_BYTES;
            let to = from + length;
            if to + usize::from(padding) > self.end {
                return Ok(None);
            }
            self.start = to + usize::from(padding);
            match kind {
                STDOUT if length == 0 => self.output_is_over = true,
                STDOUT if self.output_is_over => return Err(RecordError::AfterOutput),
                STDOUT => return Ok(Some(Record::Output(&self.buffer[from..to]))),
                STDERR if length == 0 => {}
                STDERR => return Ok(Some(Record::Log(&self.buffer[from..to]))),
                END_REQUEST => {
                    self.request_is_over = true;
                    return match self.buffer[from + 4] {
                        0 => Ok(Some(Record::End)),
                        status => Err(RecordError::Refused(status)),
                    };
                }
                _ => return Ok(Some(Record::Values)),
            }
        }
    }
}

fn check(version: u8, kind: u8, request: u16, length: usize) -> Result<(), RecordError> {
    let own_request = match kind {
        _ if version != VERSION => return Err(RecordError::Version(version)),
        STDOUT | STDERR => REQUEST,
        END_REQUEST if length != 8 => return Err(RecordError::EndLength(length)),
        END_REQUEST => REQUEST,
        GET_VALUES_RESULT => 0,
        other => return Err(RecordError::Kind(other)),
    };
    match request == own_request {
        true => Ok(()),
        false => Err(RecordError::Request(request)),
    }
}

#[cfg(test)]
mod tests;
