//! Which user is at the other end of a connection within this machine.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::netlink::{Message, Socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_NOCOOKIE`.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// Of `uid` in an answer: behind the header, `idiag_family` to `idiag_retrans`, the addresses, and
/// three numbers.
const USER_AT: usize = 16 + 4 + 48 + 12;

/// The user whose TCP socket is `peer` and is connected to `own`; `None`: there is no such socket on
/// this machine, or no more. Asks the kernel and does not wait for anything else.
pub fn user_of_peer(peer: SocketAddrV4, own: SocketAddrV4) -> Option<u32> {
    // Kernels without the means answer as if there were none.
    asked(peer, own).ok().flatten().or_else(|| {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        listed(&table, peer, own)
    })
}

/// `inet_diag_req_v2` for one socket.
fn request(peer: SocketAddrV4, own: SocketAddrV4) -> Message {
    let mut header = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    header.extend(u32::MAX.to_ne_bytes()); // in whatever state
    header.extend(peer.port().to_be_bytes());
    header.extend(own.port().to_be_bytes());
    for address in [peer.ip(), own.ip()] {
        header.extend(address.octets());
        header.extend([0; 12]); // the rest of an IPv6 address
    }
    header.extend(0u32.to_ne_bytes()); // by whatever interface
    header.extend(ANY_COOKIE);
    Message::unacknowledged(SOCK_DIAG_BY_FAMILY, 0, &header)
}

fn asked(peer: SocketAddrV4, own: SocketAddrV4) -> io::Result<Option<u32>> {
    Ok(user_of(&Socket::diagnosis()?.ask(&request(peer, own))?))
}

fn user_of(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let user = u32::from_ne_bytes(answer.get(USER_AT..USER_AT + 4)?.try_into().ok()?);
    (kind == SOCK_DIAG_BY_FAMILY).then_some(user)
}

/// From the kernel's table of connections.
fn listed(table: &str, peer: SocketAddrV4, own: SocketAddrV4) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let found = address(words.next()?)? == peer && address(words.next()?)? == own;
        // After state, queues, timer and retransmissions.
        if found { words.nth(4)?.parse().ok() } else { None }
    })
}

/// `0100007F:2329` is 127.0.0.1:9001 where the lowest byte comes first.
fn address(word: &str) -> Option<SocketAddrV4> {
    let (ip, port) = word.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn v4(address: io::Result<SocketAddr>) -> SocketAddrV4 {
        match address.unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[test]
    fn the_user_of_a_connection_is_known_either_way_while_it_is_there() {
        let listener = TcpListener::bind("127.65.4.3:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (peer_is, own_is) = (v4(accepted.peer_addr()), v4(accepted.local_addr()));
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(asked(peer_is, own_is).unwrap(), Some(user));
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(listed(&table, peer_is, own_is), Some(user));
        let elsewhere = SocketAddrV4::new(*own_is.ip(), own_is.port() ^ 1);
        assert_eq!(user_of_peer(peer_is, elsewhere), None);
        assert_eq!(listed(&table, elsewhere, own_is), None);
        drop(peer);
    }

    #[test]
    fn tables_and_answers_that_are_cut_short_say_nothing() {
        let (peer, own) = ("1.2.3.4:5".parse().unwrap(), "5.6.7.8:9".parse().unwrap());
        let head = "  sl  local_address rem_address   st\n";
        let line = "   0: 04030201:0005 08070605:0009 01 00000000:00000000 00:00000000 00000000  1001        0 1";
        let table = format!("{head}{line}\n");
        if cfg!(target_endian = "little") {
            assert_eq!(listed(&table, peer, own), Some(1001));
        }
        for length in 0..table.len() {
            let cut = listed(&table[..length], peer, own);
            assert!(cut.is_none_or(|user| [1, 10, 100, 1001].contains(&user)), "{cut:?}");
        }
        assert_eq!(listed("", peer, own), None);
        assert_eq!(user_of(&[0; USER_AT + 3]), None);
        assert_eq!(user_of(&[0; USER_AT + 4]), None, "of another kind");
    }
}
