//! Name queries of sandboxes, for name servers that this machine alone reaches, as those on its
//! loopback interface.
//!
//! The sockets that sandboxes send to are the router's, and came from the spawner; those towards
//! the name servers are of this process's network. In between bytes are passed on as they are: each
//! query has a socket of its own, so that nobody need read it to know whose the answer is.
//!
//! Sandboxes are hostile. What waits for the name servers is limited for all of them together, below
//! what usual ones take, so that this machine's own queries always find room there. The router lets
//! through so many packets of each sandbox in a second.

mod connection;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::network::NAME_PORT;
use connection::Connection;

/// Queries in datagrams that wait for their answers: dnsmasq takes 150.
const QUERIES: Places = Places { all: 100, share: 2 };
/// Connections: unbound takes ten.
const CONNECTIONS: Places = Places { all: 8, share: 1 };
/// For so long a query or a connection has its place; programs ask again after 5 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest query in a datagram: no program asks for larger answers either (EDNS, RFC 6891).
const QUERY_MAX_BYTES: usize = 4096;
/// The largest datagram there is.
const ANSWER_MAX_BYTES: usize = 65_535;
/// Taken from a socket before others have their turn.
const AT_ONCE: usize = 64;
/// Before connections are taken again, after one could not be.
const REST: Duration = Duration::from_millis(100);
/// Of every query and answer (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;

/// Places that sandboxes share.
#[derive(Debug, Clone, Copy)]
struct Places {
    all: usize,
    /// So many nobody is refused, but waits for.
    share: usize,
}

impl Places {
    /// Whether a sandbox that has `held` of the places, of which `taken` are taken, gets another one:
    /// nobody may have more than are free, so that however many are greedy there is one for the next.
    fn admits(self, held: usize, taken: usize) -> bool {
        held < self.share.max(self.all.saturating_sub(taken))
    }
}

/// One name server.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    datagrams: UdpSocket,
    listener: TcpListener,
}

/// A query that waits for its answer.
#[derive(Debug)]
struct Query {
    server: usize,
    guest: SocketAddr,
    bytes: Vec<u8>,
    asked: Instant,
    upstream: UdpSocket,
}

/// Serves name queries until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// `sockets`: for each name server the socket for datagrams and the listener that sandboxes send
    /// to; nonblocking.
    pub(super) fn start(servers: &[IpAddr], sockets: Vec<OwnedFd>) -> io::Result<Relay> {
        let mut sockets = sockets.into_iter();
        let pair = |ip: &IpAddr| {
            let (datagrams, listener) = (sockets.next()?.into(), sockets.next()?.into());
            Some(Server { address: (*ip, NAME_PORT).into(), datagrams, listener })
        };
        let servers: Vec<Server> = servers.iter().map_while(pair).collect();
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = Arc::new(wake);
        let woken = Arc::clone(&wake);
        let mut desk = Desk::new(servers);
        let thread = std::thread::Builder::new()
            .name("sandboxes-names".to_owned())
            .spawn(move || while desk.turn(&woken) {})?;
        Ok(Relay { wake, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What can become ready.
#[derive(Debug, Clone, Copy)]
enum Source {
    Wake,
    Datagrams(usize),
    Listener(usize),
    Query(usize),
    Connection(usize),
}

/// Everything that is under way.
struct Desk {
    servers: Vec<Server>,
    /// The oldest first.
    queries: Vec<Query>,
    /// The oldest first.
    connections: Vec<Connection>,
    /// No connection is taken before.
    rested: Instant,
    buffer: Vec<u8>,
}

impl Desk {
    fn new(servers: Vec<Server>) -> Desk {
        Desk {
            servers,
            queries: Vec::new(),
            connections: Vec::new(),
            rested: Instant::now(),
            buffer: vec![0; ANSWER_MAX_BYTES],
        }
    }

    /// Waits until something can be done, and does it; `false`: it is woken, for its end.
    fn turn(&mut self, wake: &OwnedFd) -> bool {
        let ready = match self.wait(wake) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return true,
            Err(_) => return false,
        };
        let now = Instant::now();
        // The last first: what is removed moves only those behind it.
        for source in ready.into_iter().rev() {
            match source {
                Source::Wake => return false,
                Source::Datagrams(server) => self.take_queries(server, now),
                Source::Listener(server) => self.take_connections(server, now),
                Source::Query(number) => self.answer(number),
                Source::Connection(number) => {
                    if !self.connections[number].pass() {
                        self.connections.remove(number);
                    }
                }
            }
        }
        self.expire(now);
        true
    }

    /// What is ready; of servers first, then of queries and connections in order.
    fn wait(&self, wake: &OwnedFd) -> rustix::io::Result<Vec<Source>> {
        let mut sources = vec![Source::Wake];
        let mut polls = vec![PollFd::new(wake, PollFlags::IN)];
        // While every place is taken the rest waits in the kernel.
        let now = Instant::now();
        let reads = self.queries.len() < QUERIES.all;
        let accepts = self.connections.len() < CONNECTIONS.all && self.rested <= now;
        for (number, server) in self.servers.iter().enumerate() {
            if reads {
                sources.push(Source::Datagrams(number));
                polls.push(PollFd::new(&server.datagrams, PollFlags::IN));
            }
            if accepts {
                sources.push(Source::Listener(number));
                polls.push(PollFd::new(&server.listener, PollFlags::IN));
            }
        }
        for (number, query) in self.queries.iter().enumerate() {
            sources.push(Source::Query(number));
            polls.push(PollFd::new(&query.upstream, PollFlags::IN));
        }
        for (number, connection) in self.connections.iter().enumerate() {
            for (socket, events) in connection.wants() {
                sources.push(Source::Connection(number));
                polls.push(PollFd::new(socket, events));
            }
        }
        let next = [
            self.queries.first().map(|query| query.asked + PATIENCE),
            self.connections.first().map(|connection| connection.began + PATIENCE),
            (self.rested > now).then_some(self.rested),
        ];
        let next = next.into_iter().flatten().min();
        let left = next.map(|next| next.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        rustix::event::poll(&mut polls, left.as_ref())?;
        let mut ready: Vec<Source> = polls
            .iter()
            .zip(sources)
            .filter(|(poll, _)| !poll.revents().is_empty())
            .map(|(_, source)| source)
            .collect();
        // Both sockets of a connection.
        ready.dedup_by(|a, b| match (a, b) {
            (Source::Connection(a), Source::Connection(b)) => a == b,
            _ => false,
        });
        Ok(ready)
    }

    fn take_queries(&mut self, server: usize, now: Instant) {
        for _ in 0..AT_ONCE {
            if self.queries.len() >= QUERIES.all {
                return;
            }
            // One byte more shows that it is too large.
            let buffer = &mut self.buffer[..=QUERY_MAX_BYTES];
            match self.servers[server].datagrams.recv_from(buffer) {
                Ok((length, guest)) => self.ask(server, guest, length, now),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Asks what is in the buffer.
    fn ask(&mut self, server: usize, guest: SocketAddr, length: usize, now: Instant) {
        let of_guest = |query: &&Query| query.guest.ip() == guest.ip();
        let held = self.queries.iter().filter(of_guest).count();
        if length > QUERY_MAX_BYTES || !QUERIES.admits(held, self.queries.len()) {
            return;
        }
        let bytes = self.buffer[..length].to_vec();
        let Server { address, datagrams, .. } = &self.servers[server];
        match send(*address, &bytes) {
            Ok(upstream) => self.queries.push(Query { server, guest, bytes, asked: now, upstream }),
            Err(_) => refuse(datagrams, guest, bytes),
        }
    }

    /// Passes an answer on, which ends the query.
    fn answer(&mut self, number: usize) {
        let query = &self.queries[number];
        let socket = &self.servers[query.server].datagrams;
        match query.upstream.recv(&mut self.buffer) {
            Err(e) if is_later(&e) => {}
            Ok(length) => {
                // Where it cannot be sent at once it is lost, as datagrams may be.
                let _ = socket.send_to(&self.buffer[..length], query.guest);
                self.queries.remove(number);
            }
            // Nobody listens there.
            Err(_) => {
                let Query { server, guest, bytes, .. } = self.queries.remove(number);
                refuse(&self.servers[server].datagrams, guest, bytes);
            }
        }
    }

    fn take_connections(&mut self, server: usize, now: Instant) {
        while self.connections.len() < CONNECTIONS.all {
            match self.servers[server].listener.accept() {
                Ok((stream, guest)) => {
                    let guest = guest.ip();
                    let held = self.connections.iter().filter(|c| c.guest == guest).count();
                    if CONNECTIONS.admits(held, self.connections.len()) {
                        let address = self.servers[server].address;
                        let connection = Connection::new(guest, stream, address, now);
                        self.connections.extend(connection.ok());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptor is left, and the one who waits would be told of over and over.
                Err(_) => {
                    self.rested = now + REST;
                    return;
                }
            }
        }
    }

    /// Ends what has taken too long.
    fn expire(&mut self, now: Instant) {
        let lasts = |since: Instant| now.saturating_duration_since(since) < PATIENCE;
        self.queries.retain(|query| lasts(query.asked));
        self.connections.retain(|connection| lasts(connection.began));
    }
}

/// A socket that has sent a query and takes nothing but the answer.
fn send(address: SocketAddr, bytes: &[u8]) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    socket.send(bytes)?;
    Ok(socket)
}

/// Tells a guest that nobody can be asked, so that it need not wait.
fn refuse(socket: &UdpSocket, guest: SocketAddr, query: Vec<u8>) {
    if let Some(answer) = failure(query) {
        let _ = socket.send_to(&answer, guest);
    }
}

/// A query as the answer that it failed; `None`: it is no query.
fn failure(mut query: Vec<u8>) -> Option<Vec<u8>> {
    const IS_ANSWER: u8 = 0x80;
    const RECURSION_AVAILABLE: u8 = 0x80;
    const SERVER_FAILURE: u8 = 2;
    if query.len() < HEADER_BYTES || query[2] & IS_ANSWER != 0 {
        return None;
    }
    query[2] |= IS_ANSWER;
    query[3] = RECURSION_AVAILABLE | SERVER_FAILURE;
    Some(query)
}

fn is_later(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
