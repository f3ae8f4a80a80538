//! The floor of a warm invoke: the least HTTP program that parks a worker's `next`, hands it a
//! client's body and returns the worker's answer. One thread, one epoll; no routing, no
//! validation, no logs, no deadline, no isolation. `bare-relay PORT`.
//!
//! The two-thread variant of the benchmark is two of these side by side, each with half of the
//! load: no lock can be cheaper than none.

use lambfold_benches::frame;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// The client whose event this worker has.
    client: Option<Token>,
}

#[derive(Default)]
struct Relay {
    peers: HashMap<Token, Peer>,
    idle: VecDeque<Token>,
    waiting: VecDeque<(Token, Vec<u8>)>,
    id: u64,
}

const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "9500".to_owned());
    let address = format!("127.0.0.1:{port}").parse().map_err(io::Error::other)?;
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut relay = Relay::default();
    let mut next_token = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() != LISTENER {
                relay.readable(event.token())?;
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                let token = Token(next_token);
                next_token += 1;
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                relay.peers.insert(token, Peer { stream, input: Vec::new(), client: None });
            }
        }
    }
}

impl Relay {
    fn readable(&mut self, token: Token) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        let mut chunk = [0; 16 * 1024];
        loop {
            match peer.stream.read(&mut chunk) {
                Ok(0) => {
                    self.peers.remove(&token);
                    self.idle.retain(|idle| *idle != token);
                    return Ok(());
                }
                Ok(read) => {
                    peer.input.extend_from_slice(&chunk[..read]);
                    if read < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.peers.remove(&token);
                    return Ok(());
                }
            }
        }
        while let Some(peer) = self.peers.get_mut(&token) {
            let Some(found) = frame(&peer.input) else { break };
            let end = found.head + found.body;
            if peer.input.len() < end {
                break;
            }
            let message: Vec<u8> = peer.input.drain(..end).collect();
            self.request(token, &message[..found.head], &message[found.head..])?;
        }
        Ok(())
    }

    fn request(&mut self, token: Token, head: &[u8], body: &[u8]) -> io::Result<()> {
        if head.starts_with(b"GET") {
            match self.waiting.pop_front() {
                Some((client, event)) => self.hand_over(token, client, &event),
                None => {
                    self.idle.push_back(token);
                    Ok(())
                }
            }
        } else if head.windows(11).any(|w| w == b"/invocation")
            && head.windows(9).any(|w| w == b"/response")
        {
            let client = self.peers.get_mut(&token).and_then(|peer| peer.client.take());
            self.send(
                token,
                b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n",
                &[],
            )?;
            let Some(client) = client else { return Ok(()) };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            self.send(client, answer.as_bytes(), body)
        } else {
            match self.idle.pop_front() {
                Some(worker) => self.hand_over(worker, token, body),
                None => {
                    self.waiting.push_back((token, body.to_vec()));
                    Ok(())
                }
            }
        }
    }

    fn hand_over(&mut self, worker: Token, client: Token, event: &[u8]) -> io::Result<()> {
        self.id += 1;
        if let Some(peer) = self.peers.get_mut(&worker) {
            peer.client = Some(client);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {:032x}\r\nContent-Length: {}\r\n\r\n",
            self.id,
            event.len()
        );
        self.send(worker, head.as_bytes(), event)
    }

    /// Small answers fit into the socket's buffer; a peer that does not read is dropped.
    fn send(&mut self, token: Token, head: &[u8], body: &[u8]) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        let mut message = Vec::with_capacity(head.len() + body.len());
        message.extend_from_slice(head);
        message.extend_from_slice(body);
        if peer.stream.write_all(&message).is_err() {
            self.peers.remove(&token);
        }
        Ok(())
    }
}
