//! Connections of one bootstrap: accepts, reads requests, writes answers as slowly and as oddly as
//! a case wants. One thread, one loop; the case decides what is said and when.

use crate::answer::{Answer, Segment};
use crate::wire::{Reader, Request};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SendFlags;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

const READ_BYTES: usize = 256 << 10;

/// Names a connection.
pub(crate) type ConnectionId = u64;

/// A whole request and where it came from.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) connection: ConnectionId,
    pub(crate) request: Request,
}

/// Refuses a post before its body has come, and reads the rest away, as servers do.
#[derive(Debug, Clone)]
pub(crate) struct EarlyRefusal {
    /// A body of so many bytes is let through.
    pub(crate) limit_bytes: usize,
    pub(crate) answer: Answer,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
    out: VecDeque<Segment>,
    /// Of the first segment.
    written: usize,
    pause_until: Option<Instant>,
    /// The peer has ended its side.
    ended: bool,
    /// We have ended ours.
    closed: bool,
    /// Nothing more is read from it.
    deaf: bool,
    continued: bool,
    /// It got its answer; what still comes is read away, and then it is closed.
    refused: bool,
}

/// The host's side of all connections.
pub(crate) struct Host {
    listeners: Vec<TcpListener>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_id: ConnectionId,
    buffer: Vec<u8>,
    /// Whole requests that nobody has looked at yet.
    pub(crate) arrived: VecDeque<Incoming>,
    /// Requests whose connection ended before they did.
    pub(crate) cut: Vec<Request>,
    /// What came that was no request.
    pub(crate) malformed: Option<String>,
    pub(crate) early: Option<EarlyRefusal>,
    /// How often that was done.
    pub(crate) early_refusals: usize,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("connections", &self.connections.len()).finish()
    }
}

impl Host {
    /// Serves what connects to these nonblocking sockets.
    pub(crate) fn new(listeners: Vec<TcpListener>) -> Self {
        Self {
            listeners,
            connections: BTreeMap::new(),
            next_id: 0,
            buffer: vec![0; READ_BYTES],
            arrived: VecDeque::new(),
            cut: Vec::new(),
            malformed: None,
            early: None,
            early_refusals: 0,
        }
    }

    /// Whether somebody can still receive an answer there.
    pub(crate) fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|c| !c.ended && !c.closed)
    }

    /// Says something; what cannot be delivered is of no interest.
    pub(crate) fn send(&mut self, id: ConnectionId, segments: Vec<Segment>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.out.extend(segments);
            connection.write(Instant::now());
            if connection.closed {
                // Nothing else would wake the loop for it.
                self.connections.remove(&id);
            }
        }
    }

    /// Waits until something happens, at most until `until`; true when `others` have something to
    /// read.
    pub(crate) fn turn(&mut self, others: &[BorrowedFd<'_>], until: Instant) -> io::Result<bool> {
        let now = Instant::now();
        let wake = self.connections.values().filter_map(|c| c.pause_until).min();
        let until = wake.map_or(until, |wake| wake.min(until));
        let left = until.saturating_duration_since(now).min(Duration::from_secs(3600));
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| !c.wants().is_empty())
            .map(|(id, _)| *id)
            .collect();
        let mut polls: Vec<PollFd<'_>> = Vec::with_capacity(ids.len() + 8);
        polls.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        polls.extend(self.listeners.iter().map(|l| PollFd::new(l, PollFlags::IN)));
        for id in &ids {
            let connection = &self.connections[id];
            polls.push(PollFd::new(&connection.stream, connection.wants()));
        }
        match rustix::event::poll(&mut polls, Some(&left)) {
            Err(rustix::io::Errno::INTR) => return Ok(false),
            other => other?,
        };
        let ready: Vec<PollFlags> = polls.iter().map(PollFd::revents).collect();
        drop(polls);
        let now = Instant::now();
        let (of_others, rest) = ready.split_at(others.len());
        let (of_listeners, of_connections) = rest.split_at(self.listeners.len());
        if of_listeners.iter().any(|flags| !flags.is_empty()) {
            self.accept();
        }
        for (id, flags) in ids.iter().zip(of_connections) {
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.read(*id, now);
            }
        }
        for connection in self.connections.values_mut() {
            connection.write(now);
        }
        // Closed for good: what still comes is answered by a reset, as by any server.
        self.connections.retain(|_, c| !(c.closed || c.ended && c.out.is_empty()));
        Ok(of_others.iter().any(|flags| !flags.is_empty()))
    }

    fn accept(&mut self) {
        for listener in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                    continue;
                }
                let connection = Connection {
                    stream,
                    reader: Reader::default(),
                    out: VecDeque::new(),
                    written: 0,
                    pause_until: None,
                    ended: false,
                    closed: false,
                    deaf: false,
                    continued: false,
                    refused: false,
                };
                self.connections.insert(self.next_id, connection);
                self.next_id += 1;
            }
        }
    }

    fn read(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.deaf || connection.ended {
            return;
        }
        match (&connection.stream).read(&mut self.buffer) {
            Ok(0) => {
                connection.ended = true;
                if let Some(partial) = connection.reader.partial() {
                    self.cut.push(partial.clone());
                }
            }
            Ok(count) => {
                if let Err(error) = connection.reader.feed(&self.buffer[..count], now) {
                    self.malformed.get_or_insert(error.0);
                    connection.deaf = true;
                    connection.out.push_back(Segment::End);
                    return;
                }
                while let Some(request) = connection.reader.take() {
                    connection.continued = false;
                    if connection.refused {
                        connection.out.push_back(Segment::End);
                        continue;
                    }
                    self.arrived.push_back(Incoming { connection: id, request });
                }
                let Some(partial) = connection.reader.partial() else { return };
                let declared = partial.head.header("content-length").and_then(|l| l.parse().ok());
                let length = declared.unwrap_or(partial.body.len());
                if let Some(early) = &self.early
                    && !connection.refused
                    && partial.head.method == "POST"
                    && length > early.limit_bytes
                {
                    let segments = early.answer.segments().into_iter();
                    connection.out.extend(segments.filter(|segment| *segment != Segment::End));
                    connection.refused = true;
                    self.early_refusals += 1;
                } else if !connection.continued
                    && partial
                        .head
                        .header("expect")
                        .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
                {
                    connection.continued = true;
                    connection
                        .out
                        .push_back(Segment::Bytes(b"HTTP/1.1 100 Continue\r\n\r\n".into()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => connection.ended = true,
        }
    }
}

impl Connection {
    fn wants(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.ended && !self.deaf {
            flags |= PollFlags::IN;
        }
        if self.pause_until.is_none() && !self.out.is_empty() && !self.closed {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Writes what can be written now.
    fn write(&mut self, now: Instant) {
        if self.pause_until.is_some_and(|until| now < until) {
            return;
        }
        self.pause_until = None;
        while let Some(segment) = self.out.front() {
            match segment {
                Segment::Bytes(bytes) => {
                    // The end that follows travels in the same packet.
                    let more = if self.out.get(1) == Some(&Segment::End) {
                        SendFlags::MORE
                    } else {
                        SendFlags::empty()
                    };
                    let flags = SendFlags::NOSIGNAL | more;
                    match rustix::net::send(self.stream.as_fd(), &bytes[self.written..], flags) {
                        Ok(count) if self.written + count < bytes.len() => {
                            self.written += count;
                            return;
                        }
                        Ok(_) => self.written = 0,
                        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                        Err(_) => {
                            (self.closed, self.ended) = (true, true);
                            return;
                        }
                    }
                }
                Segment::Pause(pause) => {
                    self.pause_until = Some(now + *pause);
                    self.out.pop_front();
                    return;
                }
                Segment::End => {
                    let _ = self.stream.shutdown(Shutdown::Write);
                    self.closed = true;
                }
                Segment::Reset => {
                    let linger = Some(Duration::ZERO);
                    let _ = rustix::net::sockopt::set_socket_linger(&self.stream, linger);
                    (self.closed, self.ended) = (true, true);
                }
            }
            self.out.pop_front();
        }
    }
}
