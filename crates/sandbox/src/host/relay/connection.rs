//! A connection of a sandbox with a name server: bytes in both directions, a few at a time.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::is_later;

/// Held of each direction.
const HELD_BYTES: usize = 4096;
/// What a sandbox may send on a connection: the largest query there is, with its length before it.
pub(super) const ASKED_MAX_BYTES: usize = 2 + 65_535;
/// Pieces that are passed on before others have their turn.
const AT_ONCE: usize = 16;

/// It ends when both sides have ended, or either fails.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) guest: IpAddr,
    pub(super) began: Instant,
    caller: TcpStream,
    server: TcpStream,
    query: Way,
    answer: Way,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Read and not yet written.
    held: Vec<u8>,
    /// How much more may be read.
    left: usize,
    /// Nothing more is read.
    ended: bool,
    /// The other side knows.
    told: bool,
}

impl Way {
    fn new(left: usize) -> Way {
        Way { held: Vec::new(), left, ended: false, told: false }
    }

    fn reads(&self) -> bool {
        self.held.is_empty() && !self.ended
    }

    /// Passes on what can be without waiting.
    fn pass(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            if self.reads() {
                let mut chunk = [0u8; HELD_BYTES];
                let most = self.left.min(HELD_BYTES);
                match from.read(&mut chunk[..most]) {
                    Ok(length) => {
                        self.left -= length;
                        self.ended = length == 0 || self.left == 0;
                        self.held.extend(&chunk[..length]);
                    }
                    Err(e) if is_later(&e) => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
            while !self.held.is_empty() {
                match to.write(&self.held) {
                    Ok(length) => drop(self.held.drain(..length)),
                    Err(e) if is_later(&e) => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
            if self.ended {
                if !self.told {
                    self.told = true;
                    to.shutdown(Shutdown::Write)?;
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Connects a caller with the name server at `address`.
    pub(super) fn new(
        guest: IpAddr,
        caller: TcpStream,
        address: SocketAddr,
        began: Instant,
    ) -> io::Result<Connection> {
        caller.set_nonblocking(true)?;
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let server = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&server, &address) {
            Err(rustix::io::Errno::INPROGRESS) => {}
            other => other?,
        }
        let server = TcpStream::from(server);
        let (query, answer) = (Way::new(ASKED_MAX_BYTES), Way::new(usize::MAX));
        Ok(Connection { guest, began, caller, server, query, answer })
    }

    /// What it waits for. A socket of which nothing is wanted is left out: its other end may be gone,
    /// which would be said over and over.
    pub(super) fn wants(&self) -> impl Iterator<Item = (&TcpStream, PollFlags)> {
        let events = |read: &Way, write: &Way| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, read.reads());
            events.set(PollFlags::OUT, !write.held.is_empty());
            events
        };
        [
            (&self.caller, events(&self.query, &self.answer)),
            (&self.server, events(&self.answer, &self.query)),
        ]
        .into_iter()
        .filter(|(_, events)| !events.is_empty())
    }

    /// Passes bytes on; `false`: it is over.
    pub(super) fn pass(&mut self) -> bool {
        let passed = self.query.pass(&self.caller, &self.server).and_then(|()| {
            // Also while it connects: what is read then is nothing.
            self.answer.pass(&self.server, &self.caller)
        });
        passed.is_ok() && !(self.query.told && self.answer.told)
    }
}
