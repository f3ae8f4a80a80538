//! One kept-alive TCP connection to the Runtime API.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::http::{HttpError, Reader, Response};
use crate::Error;

/// After this much silence a kept connection is looked at before it is used again; a shorter
/// silence is not worth three system calls per event.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// What a failed exchange may be retried for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The call may reach the server twice without harm.
    Safe,
    /// The call must not be sent again once it may have arrived.
    Never,
}

#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: String,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: TcpStream,
    reader: Reader,
    /// When the last exchange ended; none before the first.
    idle_since: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(endpoint: String) -> Connection {
        Connection { endpoint, open: None }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// Sends one request and reads its response.
    pub(crate) fn exchange(
        &mut self,
        call: &'static str,
        head: &str,
        body: &[u8],
        repeat: Repeat,
    ) -> Result<Response, Error> {
        let reused = self.ensure_open()?;
        let sent = self.send(&[head.as_bytes(), body]);
        let result = match self.read_response(call) {
            // A server that refuses a body early answers and closes: its answer counts, and only
            // without one does the failed write.
            Err(Error::Protocol { source: HttpError::ClosedBeforeAnswer, .. }) if sent.is_err() => {
                Err(Error::Io { call, source: sent.err().unwrap_or_else(broken) })
            }
            result => result,
        };
        match result {
            Err(error) if reused && repeat == Repeat::Safe && is_stale(&error) => {
                self.exchange(call, head, body, Repeat::Never)
            }
            result => result,
        }
    }

    /// Opens a connection unless one is there; whether it has carried a request before.
    pub(crate) fn ensure_open(&mut self) -> Result<bool, Error> {
        if self.open.as_ref().is_some_and(Open::is_usable) {
            return Ok(self.open.as_ref().is_some_and(|open| open.idle_since.is_some()));
        }
        self.open = None;
        let failed = |source| Error::Connect { address: self.endpoint.clone(), source };
        let stream = connect(&self.endpoint).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        self.open = Some(Open { stream, reader: Reader::default(), idle_since: None });
        Ok(false)
    }

    /// Writes all parts one after the other, without copying them together.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(broken()) };
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut slices = slices.as_mut_slice();
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match open.stream.write_vectored(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads one response; closes the connection unless it can be used again.
    pub(crate) fn read_response(&mut self, call: &'static str) -> Result<Response, Error> {
        let Some(open) = &mut self.open else {
            return Err(Error::Io { call, source: broken() });
        };
        match open.reader.read(&mut open.stream) {
            Ok(response) => {
                open.idle_since = Some(Instant::now());
                if !response.reusable {
                    self.open = None;
                }
                Ok(response)
            }
            Err(source) => {
                self.open = None;
                Err(match source {
                    HttpError::Io(source) => Error::Io { call, source },
                    source => Error::Protocol { call, source },
                })
            }
        }
    }
}

impl Open {
    fn is_usable(&self) -> bool {
        if self.reader.has_leftover() {
            return false;
        }
        match self.idle_since {
            Some(since) if since.elapsed() > STALE_AFTER => self.is_silent().unwrap_or(false),
            _ => true,
        }
    }

    /// Whether the peer has neither closed the connection nor sent what nobody asked for.
    fn is_silent(&self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock))
    }
}

fn connect(endpoint: &str) -> io::Result<TcpStream> {
    // The usual case, a numeric address, goes past the resolver.
    if let Ok(address) = endpoint.parse::<SocketAddr>() {
        return TcpStream::connect(address);
    }
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in endpoint.to_socket_addrs()? {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn broken() -> io::Error {
    ErrorKind::BrokenPipe.into()
}

/// Whether a kept connection turned out to be gone before an answer began.
fn is_stale(error: &Error) -> bool {
    match error {
        Error::Protocol { source, .. } => matches!(source, HttpError::ClosedBeforeAnswer),
        Error::Io { source, .. } => matches!(
            source.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
        ),
        _ => false,
    }
}
