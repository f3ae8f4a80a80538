use crate::draft::{Date, Draft, LOWER, Names, TITLE};
use crate::head::{BODY_BYTES, Head, Parsed, Spans};
use crate::rewound::Rewound;
use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// How long a request may stay unfinished on the short way. Whoever writes head and body one after
/// the other is within it; slow peers, and their limits, are a whole HTTP server's.
const PATIENCE: Duration = Duration::from_millis(5);
/// A larger buffer is not kept between requests, bytes.
const KEPT_BYTES: usize = 16 << 10;
/// Asked of one read, bytes.
const READ_BYTES: usize = 4 << 10;
/// Asked of a read while a peer has nothing to say but that it ends, bytes: there may be thousands.
const WAITING_BYTES: usize = 64;
/// Most that is kept of what a peer sends ahead, bytes.
const AHEAD_BYTES: usize = 64 << 10;
/// A body up to this size is copied behind its head, so that both are one piece of memory.
const JOINED_BYTES: usize = 16 << 10;

/// What came next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A whole plain request that is wanted: see [`Connection::parts`].
    Request,
    /// The beginning of anything else: another method than GET and POST, HTTP/1.0, a body in
    /// chunks or over [`BODY_BYTES`](crate::BODY_BYTES) without room for it, more head than
    /// [`HEAD_BYTES`](crate::HEAD_BYTES) or [`HEADERS`](crate::HEADERS), a last request
    /// (`Connection: close`), `Expect`, `Upgrade`, a malformed request, one that stays unfinished,
    /// or one that is not wanted. The next step is [`Connection::rewind`].
    Foreign,
    /// The peer has ended the connection, or was silent for too long.
    Closed,
}

/// A server's side of a connection.
#[derive(Debug)]
pub struct Connection<S> {
    side: Side<S>,
    /// The request that is being answered, from its first byte.
    request: BytesMut,
    spans: Spans,
    out: Vec<u8>,
    names: &'static Names,
    date: Date,
    when_unfinished: fn(&S),
    room: Option<Room>,
}

/// For bodies that are larger than usual.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    /// Of one body, bytes.
    limit: usize,
    /// Held while such a body is here.
    taken: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Side<S> {
    stream: S,
    /// What came after the request.
    input: BytesMut,
    idle: Option<Idle>,
}

/// How long a connection may say nothing between requests.
#[derive(Debug)]
struct Idle {
    limit: Duration,
    since: Instant,
    /// Set now and then, not at each request.
    timer: Pin<Box<Sleep>>,
}

/// A request, and the peer that waits for its answer.
#[derive(Debug)]
pub struct Parts<'a, S> {
    /// Its head.
    pub head: Head<'a>,
    /// Its body.
    pub body: &'a [u8],
    /// The other side.
    pub peer: Peer<'a, S>,
}

/// Who waits for an answer.
#[derive(Debug)]
pub struct Peer<'a, S>(&'a mut Side<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `idle`: how long it may say nothing between requests; for ever without. Headers of answers
    /// are written in lower case.
    pub fn new(stream: S, idle: Option<Duration>) -> Self {
        let idle = idle.map(|limit| {
            let since = Instant::now();
            Idle { limit, since, timer: Box::pin(sleep_until(since + limit)) }
        });
        Self {
            side: Side { stream, input: BytesMut::new(), idle },
            request: BytesMut::new(),
            spans: Spans::default(),
            out: Vec::new(),
            names: &LOWER,
            date: Date::default(),
            when_unfinished: |_| {},
            room: None,
        }
    }

    /// Bodies of up to `limit` bytes are plain too, as long as one of the `places`, which
    /// connections share, is free: there may be many connections, and each could send that much.
    #[must_use]
    pub fn with_room(mut self, places: Arc<Semaphore>, limit: usize) -> Self {
        self.room = Some(Room { places, limit, taken: None });
        self
    }

    /// Called with the stream whenever a read has left a request unfinished.
    #[must_use]
    pub fn when_unfinished(mut self, call: fn(&S)) -> Self {
        self.when_unfinished = call;
        self
    }

    /// Headers of answers are written in title case.
    #[must_use]
    pub fn with_title_case(mut self) -> Self {
        self.names = &TITLE;
        self
    }

    /// Waits for the next request, once the one before it was answered. `wants` is asked as soon
    /// as a head is there.
    pub async fn next(&mut self, wants: impl Fn(&Head<'_>) -> bool) -> Arrival {
        self.request.clear();
        if self.request.capacity() > KEPT_BYTES {
            self.request = BytesMut::new();
        }
        if !self.side.input.is_empty() {
            // What was sent ahead is the next request's.
            std::mem::swap(&mut self.request, &mut self.side.input);
        }
        if let Some(idle) = &mut self.side.idle {
            idle.since = Instant::now();
        }
        let limit = self.room.as_mut().map_or(BODY_BYTES, |room| {
            room.taken = None;
            room.limit.max(BODY_BYTES)
        });
        let mut has_head = false;
        loop {
            if !has_head && !self.request.is_empty() {
                match self.spans.parse(&self.request, limit) {
                    Parsed::Foreign => return Arrival::Foreign,
                    Parsed::Plain if wants(&Head::new(&self.request, &self.spans)) => {
                        has_head = true;
                        if self.spans.body().len() > BODY_BYTES && !self.take_place() {
                            return Arrival::Foreign;
                        }
                    }
                    Parsed::Plain => return Arrival::Foreign,
                    Parsed::Partial => {}
                }
            }
            if has_head && self.request.len() >= self.spans.len() {
                // More than one request is rare.
                let ahead = &self.request[self.spans.len()..];
                self.side.input.extend_from_slice(ahead);
                return Arrival::Request;
            }
            let wanted = match has_head {
                true => self.spans.len() - self.request.len(),
                false => READ_BYTES,
            };
            self.request.reserve(wanted.max(READ_BYTES));
            let read = if self.request.is_empty() {
                self.side.first(&mut self.request).await
            } else {
                (self.when_unfinished)(&self.side.stream);
                match timeout(PATIENCE, self.side.stream.read_buf(&mut self.request)).await {
                    Ok(read) => read,
                    Err(_) => return Arrival::Foreign,
                }
            };
            match read {
                Ok(0) if !self.request.is_empty() => return Arrival::Foreign,
                Ok(0) | Err(_) => return Arrival::Closed,
                Ok(_) => {}
            }
        }
    }

    fn take_place(&mut self) -> bool {
        let Some(room) = &mut self.room else { return false };
        room.taken = room.places.clone().try_acquire_owned().ok();
        room.taken.is_some()
    }

    /// The request that [`Connection::next`] has found.
    pub fn parts(&mut self) -> Parts<'_, S> {
        Parts {
            head: Head::new(&self.request, &self.spans),
            body: &self.request[self.spans.body()],
            peer: Peer(&mut self.side),
        }
    }

    /// Answers the request: `status` is a code and its reason, `write` adds headers to those that
    /// every answer has (length, date), and `Connection: close` if this `closes` the connection.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn answer(
        &mut self,
        status: &str,
        write: impl FnOnce(&mut Draft<'_>),
        body: &[u8],
        closes: bool,
    ) -> io::Result<()> {
        let mut draft = Draft::new(&mut self.out, status);
        write(&mut draft);
        let body_bytes = Some(body.len()).filter(|_| !status.starts_with("204"));
        draft.end(body_bytes, self.names, &mut self.date, closes);
        let stream = &mut self.side.stream;
        if body.len() <= JOINED_BYTES {
            self.out.extend_from_slice(body);
            return stream.write_all(&self.out).await;
        }
        stream.write_all_buf(&mut Buf::chain(&*self.out, body)).await
    }

    /// The connection from the first byte of the request that was [`Arrival::Foreign`] on.
    pub fn rewind(self) -> Rewound<S> {
        Rewound::new(self.request, self.side.stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    /// Reads the first bytes of a request.
    async fn first(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let Some(idle) = &mut self.idle else { return self.stream.read_buf(into).await };
        let mut read = pin!(self.stream.read_buf(into));
        poll_fn(|cx| {
            if let Poll::Ready(read) = read.as_mut().poll(cx) {
                return Poll::Ready(read);
            }
            loop {
                ready!(idle.timer.as_mut().poll(cx));
                let until = idle.since + idle.limit;
                if until <= Instant::now() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                idle.timer.as_mut().reset(until);
            }
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<'_, S> {
    /// Ends when the peer has ended the connection. What it sends ahead is kept.
    pub async fn gone(&mut self) {
        let Side { stream, input, .. } = &mut *self.0;
        while input.len() < AHEAD_BYTES {
            input.reserve(if input.is_empty() { WAITING_BYTES } else { READ_BYTES });
            match stream.read_buf(input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        // Whoever sends that much ahead is there.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
