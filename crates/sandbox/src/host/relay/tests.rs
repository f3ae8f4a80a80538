#![allow(clippy::unwrap_used)]
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::connection::ASKED_MAX_BYTES;
use super::*;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn wake() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn datagrams() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// One name server, and where sandboxes send to: datagrams and connections.
fn desk(address: SocketAddr) -> (Desk, SocketAddr, SocketAddr) {
    let (datagrams, listener) = (datagrams(), TcpListener::bind("127.0.0.1:0").unwrap());
    datagrams.set_nonblocking(true).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (udp, tcp) = (datagrams.local_addr().unwrap(), listener.local_addr().unwrap());
    (Desk::new(vec![Server { address, datagrams, listener }]), udp, tcp)
}

fn turn_until(desk: &mut Desk, done: impl Fn(&Desk) -> bool) {
    let wake = wake();
    while !done(desk) {
        assert!(desk.turn(&wake));
    }
}

#[test]
fn datagrams_pass_as_they_are_up_to_their_largest_size() {
    let server = datagrams();
    let (mut desk, address, _) = desk(server.local_addr().unwrap());
    let guest = datagrams();
    guest.send_to(&[9; QUERY_MAX_BYTES + 1], address).unwrap();
    for (asked, answered) in [(0, 1), (1, 0), (QUERY_MAX_BYTES, 65_507)] {
        let query: Vec<u8> = (0..asked).map(|n| n as u8).collect();
        guest.send_to(&query, address).unwrap();
        turn_until(&mut desk, |desk| !desk.queries.is_empty());
        let mut buffer = vec![0; ANSWER_MAX_BYTES];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        // The one that was too large did not come.
        assert_eq!(buffer[..length], query);
        let answer = vec![7; answered];
        server.send_to(&answer, peer).unwrap();
        turn_until(&mut desk, |desk| desk.queries.is_empty());
        let (length, peer) = guest.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], peer), (&answer[..], address));
    }
}

#[test]
fn answers_find_their_queries_in_any_order() {
    let server = datagrams();
    let (mut desk, address, _) = desk(server.local_addr().unwrap());
    let guests = [datagrams(), datagrams(), datagrams()];
    let mut asked = Vec::new();
    for (number, guest) in guests.iter().enumerate() {
        guest.send_to(&[number as u8], address).unwrap();
        turn_until(&mut desk, |desk| desk.queries.len() == number + 1);
        asked.push(server.recv_from(&mut [0; 9]).unwrap().1);
    }
    for number in [1, 2, 0] {
        server.send_to(&[number as u8; 3], asked[number]).unwrap();
        // Of one that nobody asked nothing is heard.
        datagrams().send_to(&[99], asked[number]).unwrap();
    }
    turn_until(&mut desk, |desk| desk.queries.is_empty());
    for (number, guest) in guests.iter().enumerate() {
        let mut buffer = [0; 9];
        let (length, _) = guest.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number as u8; 3]);
    }
}

#[test]
fn where_nobody_listens_a_query_fails_at_once() {
    let nobody = datagrams().local_addr().unwrap();
    let (mut desk, address, _) = desk(nobody);
    let guest = datagrams();
    let query = [4, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'q'];
    // Neither a short one nor an answer is a query, and neither is answered.
    guest.send_to(&query[..HEADER_BYTES - 1], address).unwrap();
    guest.send_to(&[4, 2, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0], address).unwrap();
    guest.send_to(&query, address).unwrap();
    turn_until(&mut desk, |desk| desk.queries.len() == 3);
    turn_until(&mut desk, |desk| desk.queries.is_empty());
    let mut buffer = [0; 99];
    let (length, _) = guest.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..length], [4, 2, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0, b'q']);
}

#[test]
fn nobody_has_more_places_than_are_free() {
    let places = Places { all: 10, share: 2 };
    assert!(places.admits(4, 4) && places.admits(4, 5) && !places.admits(5, 5));
    // Its share it always has, when there is room at all.
    assert!(places.admits(1, 9) && !places.admits(2, 9));
}

#[test]
fn who_asks_too_much_leaves_room_for_others() {
    let silent = datagrams();
    let (mut desk, address, _) = desk(silent.local_addr().unwrap());
    let greedy = datagrams();
    for _ in 0..QUERIES.all {
        greedy.send_to(&[0; 20], address).unwrap();
    }
    turn_until(&mut desk, |desk| desk.queries.len() == QUERIES.all / 2);
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.send_to(&[1; 20], address).unwrap();
    let of_other = |query: &Query| query.guest.ip() == other.local_addr().unwrap().ip();
    turn_until(&mut desk, |desk| desk.queries.iter().any(of_other));
    // Whatever was before it has been read.
    assert_eq!(desk.queries.len(), QUERIES.all / 2 + 1);
}

#[test]
fn while_every_place_is_taken_the_rest_waits() {
    let server = datagrams();
    let (mut desk, address, _) = desk(server.local_addr().unwrap());
    let guests: Vec<UdpSocket> = (0..QUERIES.all)
        .map(|number| UdpSocket::bind((Ipv4Addr::new(127, 0, 1, number as u8), 0)).unwrap())
        .collect();
    for guest in &guests {
        guest.send_to(&[0], address).unwrap();
    }
    turn_until(&mut desk, |desk| desk.queries.len() == QUERIES.all);
    let late = datagrams();
    late.send_to(&[1], address).unwrap();
    let sources = |desk: &Desk| {
        server.send_to(&[2], desk.queries[0].upstream.local_addr().unwrap()).unwrap();
        desk.wait(&wake()).unwrap()
    };
    let ready = sources(&desk);
    assert!(matches!(ready[..], [Source::Query(0)]), "{ready:?}");
    turn_until(&mut desk, |desk| desk.queries.iter().any(|query| query.bytes == [1]));
}

#[test]
fn a_query_and_a_connection_have_their_places_for_ten_seconds() {
    let silent = datagrams();
    let listener = TcpListener::bind(silent.local_addr().unwrap()).unwrap();
    let (mut desk, udp, tcp) = desk(listener.local_addr().unwrap());
    datagrams().send_to(&[0; 20], udp).unwrap();
    let mut caller = TcpStream::connect(tcp).unwrap();
    caller.set_read_timeout(Some(LONG)).unwrap();
    turn_until(&mut desk, |desk| desk.queries.len() + desk.connections.len() == 2);
    let began = desk.queries[0].asked.min(desk.connections[0].began);
    desk.expire(began + PATIENCE - Duration::from_millis(1));
    assert_eq!((desk.queries.len(), desk.connections.len()), (1, 1));
    desk.expire(Instant::now() + PATIENCE);
    assert_eq!((desk.queries.len(), desk.connections.len()), (0, 0));
    assert_eq!(caller.read(&mut [0]).unwrap(), 0);
}

#[test]
fn connections_pass_bytes_both_ways_and_their_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut desk, _, address) = desk(listener.local_addr().unwrap());
    // More than is held at once, in both directions.
    let query: Vec<u8> = (0..ASKED_MAX_BYTES - 1).map(|n| n as u8).collect();
    let answer = vec![5; 300_000];
    let (mut caller, expected) = (TcpStream::connect(address).unwrap(), query.clone());
    let (sent, answered) = (query, answer.clone());
    let guest = std::thread::spawn(move || {
        caller.write_all(&sent).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        let mut read = Vec::new();
        caller.read_to_end(&mut read).unwrap();
        read
    });
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        stream.write_all(&answered).unwrap();
        read
    });
    turn_until(&mut desk, |desk| !desk.connections.is_empty());
    turn_until(&mut desk, |desk| desk.connections.is_empty());
    assert!(server.join().unwrap() == expected && guest.join().unwrap() == answer);
}

#[test]
fn what_a_connection_asks_is_limited() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut desk, _, address) = desk(listener.local_addr().unwrap());
    let mut caller = TcpStream::connect(address).unwrap();
    let guest = std::thread::spawn(move || {
        // It may be that nobody takes the last byte.
        let _ = caller.write_all(&[1; ASKED_MAX_BYTES + 1]);
        let _ = caller.read(&mut [0; 9]);
    });
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        read.len()
    });
    turn_until(&mut desk, |desk| !desk.connections.is_empty());
    turn_until(&mut desk, |desk| desk.connections.is_empty());
    assert_eq!(server.join().unwrap(), ASKED_MAX_BYTES);
    guest.join().unwrap();
}

#[test]
fn a_sandbox_has_half_of_the_connections_and_a_server_that_is_none_ends_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut desk, _, calls) = desk(address);
    let mut callers: Vec<TcpStream> =
        (0..CONNECTIONS.all).map(|_| TcpStream::connect(calls).unwrap()).collect();
    turn_until(&mut desk, |desk| desk.connections.len() == CONNECTIONS.all / 2);
    let refused = callers.split_off(CONNECTIONS.all / 2);
    desk.take_connections(0, Instant::now());
    for mut caller in refused {
        caller.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(caller.read(&mut [0]).unwrap(), 0);
    }
    drop((listener, callers));
    turn_until(&mut desk, |desk| desk.connections.is_empty());
    let caller = TcpStream::connect(calls).unwrap();
    turn_until(&mut desk, |desk| !desk.connections.is_empty());
    turn_until(&mut desk, |desk| desk.connections.is_empty());
    drop(caller);
}

#[test]
fn it_ends_when_it_is_dropped() {
    let (datagrams, listener) = (datagrams(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = datagrams.local_addr().unwrap();
    let sockets = vec![datagrams.into(), listener.into()];
    let relay = Relay::start(&[Ipv4Addr::LOCALHOST.into()], sockets).unwrap();
    drop(relay);
    // Its sockets are closed.
    UdpSocket::bind(address).unwrap();
}
