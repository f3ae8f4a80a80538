//! Network namespaces: a loopback interface, what is listened on inside, and where it is wanted a
//! way to the outside.

mod block;
mod forwarding;
mod nat;
mod nft;
mod peer;
mod resolver;
mod rules;
mod shared;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub(crate) use nat::{Nat, sweep};
pub use peer::user_of_peer;
pub(crate) use resolver::PORT as NAME_PORT;
pub(crate) use shared::{Numbers, Shared};

use crate::netlink::{self, Socket};
use crate::sys;

/// In the work folder of an owner that has begun to make a router.
pub(crate) const MARK: &str = "nat";
/// What `nat` needs.
pub(crate) const REMEDY: &str = "run as root on a kernel with veth and nf_tables (modules veth, \
                                 nf_tables, nft_masq, nft_ct, nft_fib_inet, nft_reject_inet)";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// How sandboxes reach more than themselves.
#[derive(Debug)]
pub(crate) enum Way {
    Nat(Nat),
    Shared(Shared),
}

/// A sandbox's place in a network of several; to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    number: u32,
    /// Of the host's network: who may call the sandbox's listeners.
    user: u32,
}

/// A small number of an owner.
fn hash(owner: &str) -> u32 {
    owner.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// The owner's table of rules in the host's network.
fn table_name(owner: &str) -> String {
    format!("lambfold-{owner}")
}

impl Way {
    /// What the host's process holds: the socket that the host's table of rules belongs to, and then
    /// those at which sandboxes ask for names.
    pub(crate) fn sockets_of_host(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Way::Nat(nat) => {
                let names = nat.name_sockets.iter().map(AsFd::as_fd);
                std::iter::once(nat.rules.as_fd()).chain(names).collect()
            }
            Way::Shared(shared) => vec![shared.rules.as_fd()],
        }
    }

    /// Takes back the place of a sandbox that is gone.
    pub(crate) fn release(&mut self, seat: Seat) {
        match self {
            Way::Nat(nat) => nat.release(seat),
            Way::Shared(shared) => shared.release(seat),
        }
    }

    /// Puts the host's settings back; this process may be in the host's network then.
    pub(crate) fn end(self) {
        match self {
            Way::Nat(nat) => nat.end(),
            Way::Shared(_) => {}
        }
    }
}

/// A namespace made ahead: making one is a third of a sandbox's start.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) namespace: OwnedFd,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Its way to the outside.
    pub(crate) seat: Option<Seat>,
    /// It is the host's, which has its own addresses.
    pub(crate) shared: bool,
}

/// The addresses that `listeners` need beyond those that a loopback interface has anyway.
pub(crate) fn addresses(listeners: &[SocketAddrV4]) -> Vec<Ipv4Addr> {
    let mut list: Vec<Ipv4Addr> = listeners
        .iter()
        .map(|l| *l.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// Makes one ahead, for a guest that is this user of the host's. This process is in it for a moment;
/// `own` is where it returns to, `proc` an open `/proc`.
pub(crate) fn prepare(
    proc: BorrowedFd<'_>,
    own: BorrowedFd<'_>,
    addresses: &[Ipv4Addr],
    way: Option<&mut Way>,
    user: u32,
) -> io::Result<Prepared> {
    let addresses = addresses.to_vec();
    let nat = match way {
        Some(Way::Shared(shared)) => {
            let namespace = shared.namespace()?;
            let seat = Some(shared.seat(user)?);
            return Ok(Prepared { namespace, addresses, seat, shared: true });
        }
        Some(Way::Nat(nat)) => Some(nat),
        None => None,
    };
    sys::unshare(libc::CLONE_NEWNET)?;
    let made = (|| {
        bring_up(&addresses)?;
        let namespace = open_own(proc)?;
        let seat = nat.map(|nat| nat.connect(namespace.as_fd())).transpose()?;
        Ok(Prepared { namespace, addresses, seat, shared: false })
    })();
    // Elsewhere than at home nothing else may be done: an error here ends the spawner.
    if sys::setns(own, libc::CLONE_NEWNET).is_err() {
        sys::exit(1);
    }
    made
}

/// Opens the network namespace of this process.
pub(crate) fn open_own(proc: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(proc, "self/ns/net", flags, Mode::empty())?)
}

/// Enters the one that was made ahead, or a new one where none fits.
pub(crate) fn enter(prepared: Option<&Prepared>, addresses: &[Ipv4Addr]) -> io::Result<()> {
    if let Some(prepared) = prepared.filter(|p| p.addresses == addresses) {
        return sys::setns(prepared.namespace.as_fd(), libc::CLONE_NEWNET);
    }
    sys::unshare(libc::CLONE_NEWNET)?;
    bring_up(addresses)
}

/// The loopback interface of the current network: up, with these addresses.
fn bring_up(addresses: &[Ipv4Addr]) -> io::Result<()> {
    let mut messages = vec![netlink::link_up(netlink::LOOPBACK)];
    let add = |ip: &Ipv4Addr| netlink::new_address(netlink::LOOPBACK, *ip, *ip, 32);
    messages.extend(addresses.iter().map(add));
    Socket::route()?.run(&messages)
}

/// A socket of the current network, neither bound nor connected, nonblocking.
pub(crate) fn tcp_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

/// Listens on these addresses of the current network, or in the host's on those that stand for them.
pub(crate) fn listen_all(
    prepared: Option<&Prepared>,
    listeners: &[SocketAddrV4],
) -> io::Result<Vec<OwnedFd>> {
    match prepared.filter(|prepared| prepared.shared).and_then(|prepared| prepared.seat) {
        Some(seat) => listen_beside(seat.number, listeners),
        None => listeners.iter().map(listen).collect(),
    }
}

/// Listens in the host's network on the loopback addresses of a sandbox of this number.
pub(crate) fn listen_beside(number: u32, listeners: &[SocketAddrV4]) -> io::Result<Vec<OwnedFd>> {
    let listen_one = |(n, asked): (usize, &SocketAddrV4)| {
        let address = SocketAddrV4::new(shared::address(number, n), asked.port());
        match listen(&address) {
            // Somebody has the port on every address.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                listen(&SocketAddrV4::new(*address.ip(), 0))
            }
            other => other,
        }
    };
    listeners.iter().enumerate().map(listen_one).collect()
}

fn listen(address: &SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = tcp_socket()?;
    rustix::net::bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_beyond_the_loopback_network_once_each() {
        let listeners: Vec<SocketAddrV4> =
            ["169.254.100.1:9001", "127.0.0.1:9001", "0.0.0.0:1", "10.0.0.1:1", "169.254.100.1:2"]
                .iter()
                .filter_map(|l| l.parse().ok())
                .collect();
        let expected = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(169, 254, 100, 1)];
        assert_eq!(addresses(&listeners), expected);
    }
}
