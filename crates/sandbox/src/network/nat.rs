//! The network `nat`: sandboxes reach the outside, and nothing of this machine.
//!
//! ```text
//!  sandbox ── veth ─┐  router: the spawner's own network       host
//!  sandbox ── veth ─┼─ namespace; rules between the links ── veth ── rules ── the outside
//!  sandbox ── veth ─┘  (one address to the host)              lambf…
//! ```
//!
//! The host sees one interface and one table of rules, both of which the kernel takes away with the
//! spawner, however that ends. Sandboxes' addresses are behind the router's: they collide with
//! nobody's.
//!
//! Name servers that only this machine reaches, as those on its loopback interface, have stand-ins:
//! addresses of the router's own, whose port 53 alone is open. The sockets there are served by the
//! host's process, which hands on what arrives, so that no rule of the host's lets anything in.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt;

use super::block::{Block, parse_routes};
use super::resolver::{self, Resolver};
use super::rules::{self, UPLINK};
use super::{Seat, forwarding, hash, listen, nft, open_own, table_name};
use crate::ids::write_at;
use crate::netlink::{self, End, Message, Socket};
use crate::step::{Step, StepError};
use crate::sys;

/// The interface of a sandbox, and its number there: none that the kernel gives by itself.
const GUEST_LINK: &str = "eth0";
const GUEST_INDEX: u32 = 1000;
/// Number of the first sandbox's interface in the router.
const FIRST_INDEX: u32 = 1000;
const ROUTER_TABLE: &str = "router";
/// Of name queries that were not read yet: what a few sandboxes may send at once.
const NAME_BUFFER_BYTES: usize = 1 << 20;

/// What the spawner keeps of it.
#[derive(Debug)]
pub(crate) struct Nat {
    /// Of the router.
    route: Socket,
    /// Of the host, whose table lives as long as this does.
    pub(crate) rules: Socket,
    /// The host's network namespace.
    host: OwnedFd,
    /// Names it.
    cookie: u64,
    link: String,
    block: Block,
    next: u32,
    used: HashSet<u32>,
    /// The kernel has IPv6.
    ipv6: bool,
    /// What sandboxes know of name servers.
    pub(crate) resolver: Resolver,
    /// For each of [`Resolver::relayed`] the router's UDP socket and TCP listener, until they are
    /// the host's to serve.
    pub(crate) name_sockets: Vec<OwnedFd>,
}

/// The host's interface that leads to the owner's router.
fn link_name(owner: &str) -> String {
    format!("{}{:08x}", forwarding::LINK_PREFIX, hash(owner))
}

fn at<T>(step: Step, what: &str, result: io::Result<T>) -> Result<T, StepError> {
    result.map_err(|e| StepError::new(step, what, &e))
}

/// Writes settings of the current network namespace; a kernel may be built without IPv6.
fn set(proc: BorrowedFd<'_>, settings: &[(&str, &str)]) -> io::Result<()> {
    settings.iter().try_for_each(|(name, value)| {
        match write_at(proc, &format!("sys/net/{name}"), value) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && name.starts_with("ipv6/") => Ok(()),
            other => other,
        }
    })
}

/// Opens what sandboxes ask for names at, in the router's network, in which this process is.
fn listen_for_queries(
    route: &Socket,
    resolver: &Resolver,
    block: Block,
) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for number in 0..resolver.relayed.len() {
        let ip = block.name_server(number);
        route.run(&[netlink::new_address(netlink::LOOPBACK, ip, ip, 32)])?;
        let address = SocketAddrV4::new(ip, resolver::PORT);
        let datagrams = UdpSocket::bind(address)?;
        datagrams.set_nonblocking(true)?;
        sockopt::set_socket_recv_buffer_size_force(&datagrams, NAME_BUFFER_BYTES)?;
        sockets.extend([datagrams.into(), listen(&address)?]);
    }
    Ok(sockets)
}

impl Nat {
    /// Makes the router. This process is in the host's network before, and in the router's after
    /// it; after an error in one that is not the host's, and empty.
    pub(crate) fn start(owner: &str, proc: BorrowedFd<'_>) -> Result<Nat, StepError> {
        let made = Nat::make(owner, proc);
        if made.is_err() && sys::unshare(libc::CLONE_NEWNET).is_err() {
            // Nowhere to go.
            sys::exit(1);
        }
        made
    }

    fn make(owner: &str, proc: BorrowedFd<'_>) -> Result<Nat, StepError> {
        let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        let block = Block::choose(hash(owner), &parse_routes(&routes))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        let block = at(Step::NetworkLink, "find a free range of addresses", block)?;
        let mut resolver = resolver::of_host(block);
        let open = || Ok((Socket::route()?, Socket::netfilter()?, open_own(proc)?));
        let (to_host, rules, host) = at(Step::NetworkLink, "open the host's network", open())?;
        let cookie = sys::network_cookie(to_host.as_fd());
        let cookie = at(Step::NetworkLink, "name the host's network", cookie)?;
        let link = link_name(owner);

        let unshared = sys::unshare(libc::CLONE_NEWNET);
        at(Step::NetworkLink, "make a network namespace", unshared)?;
        let (route, router_rules, own) =
            at(Step::NetworkLink, "open the router's network", open())?;
        let settings = [
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
            ("ipv4/conf/all/forwarding", "1"),
            // What comes from a sandbox has its address, or is dropped.
            ("ipv4/conf/all/rp_filter", "1"),
        ];
        at(Step::NetworkLink, "set up the router", set(proc, &settings))?;
        let ipv6 =
            rustix::fs::statat(proc, "sys/net/ipv6/conf", rustix::fs::AtFlags::empty()).is_ok();
        // That of a spawner that died a moment ago may be there still.
        let _ = to_host.run(&[netlink::delete_link(&link)]);
        let here = End { name: &link, index: 0 };
        let there = End { name: UPLINK, index: 0 };
        let made = to_host.run(&[netlink::new_veth(here, there, own.as_fd())]);
        at(Step::NetworkLink, "make a veth between host and router", made)?;

        // Rules first: nothing passes before they stand.
        let make_rules = |resolver: &Resolver| {
            let (sets, chains) = (rules::router_sets(resolver), rules::router(resolver, block));
            nft::make(&router_rules, ROUTER_TABLE, false, sets, &chains)
        };
        let mut made = make_rules(&resolver);
        if made.is_err() && !resolver.relayed.is_empty() {
            // A kernel that cannot count: the rest is to be had without names.
            resolver.take_stand_ins_back();
            made = make_rules(&resolver);
        }
        at(Step::NetworkRules, "make the router's table of rules", made)?;
        let made = nft::make(&rules, &table_name(owner), true, &[], &rules::host(&link, block));
        at(Step::NetworkRules, "make the host's table of rules", made)?;

        let index = |socket: &Socket, name| rustix::net::netdevice::name_to_index(socket, name);
        let connected = (|| {
            let link_index = index(&to_host, &link)?;
            let (host, router) = (block.host(), block.router());
            to_host.run(&[
                netlink::new_address(link_index, host, host, Block::LINK_BITS),
                netlink::describe(link_index, &format!("lambfold {owner}")),
            ])?;
            let uplink = index(&route, UPLINK)?;
            route.run(&[
                netlink::link_up(netlink::LOOPBACK),
                netlink::link_up(uplink),
                netlink::new_address(uplink, router, router, Block::LINK_BITS),
            ])?;
            Ok((link_index, uplink))
        })();
        let (link_index, uplink) =
            at(Step::NetworkLink, "give host and router addresses", connected)?;

        let name_sockets = listen_for_queries(&route, &resolver, block);
        let name_sockets = at(Step::NetworkLink, "listen for name queries", name_sockets)?;
        let up = to_host
            .run(&[netlink::link_up(link_index)])
            .and_then(|()| route.run(&[netlink::default_route(uplink, block.host())]));
        at(Step::NetworkLink, "bring the link to the host up", up)?;
        let nat = Nat {
            route,
            rules,
            host,
            cookie,
            link,
            block,
            next: 0,
            used: HashSet::new(),
            ipv6,
            resolver,
            name_sockets,
        };
        let forwarding = nat.in_host(own.as_fd(), || {
            let (ipv6, forwarding) = (
                format!("ipv6/conf/{}/disable_ipv6", nat.link),
                format!("ipv4/conf/{}/forwarding", nat.link),
            );
            set(proc, &[(&ipv6, "1"), (&forwarding, "1")])?;
            forwarding::switch_on(nat.cookie)
        });
        if forwarding.is_err() {
            let _ = nat.in_host(own.as_fd(), || forwarding::switch_off(nat.cookie, &nat.link));
        }
        at(Step::NetworkForwarding, "let the host pass packets on", forwarding)?;
        Ok(nat)
    }

    /// Does something in the host's network, and returns to `own`.
    fn in_host<T>(
        &self,
        own: BorrowedFd<'_>,
        action: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        sys::setns(self.host.as_fd(), libc::CLONE_NEWNET)?;
        let outcome = action();
        if sys::setns(own, libc::CLONE_NEWNET).is_err() {
            sys::exit(1);
        }
        outcome
    }

    /// Connects a namespace, in which this process is, to the router.
    pub(crate) fn connect(&mut self, namespace: BorrowedFd<'_>) -> io::Result<Seat> {
        let gateway = self.block.gateway();
        let mut tried = 0;
        let number = loop {
            let number = self.next;
            self.next = (self.next + 1) % Block::GUESTS;
            tried += 1;
            if tried > Block::GUESTS {
                return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
            }
            if self.used.contains(&number) {
                continue;
            }
            let (name, index) = (format!("guest{number}"), FIRST_INDEX + number);
            let here = End { name: &name, index };
            let there = End { name: GUEST_LINK, index: GUEST_INDEX };
            let made = self.route.run(&[
                netlink::new_veth(here, there, namespace),
                netlink::link_up(index),
                netlink::new_address(index, gateway, self.block.guest(number), 32),
            ]);
            match made {
                Ok(()) => break number,
                // The kernel has not yet cleared away the one that was there.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => {}
                Err(e) => return Err(e),
            }
        };
        self.used.insert(number);
        let seat = Seat { number, user: 0 };
        let connected = Socket::route().and_then(|inside| inside.run(&self.inside(seat)));
        if let Err(e) = connected {
            self.release(seat);
            return Err(e);
        }
        Ok(seat)
    }

    /// The sandbox's side.
    fn inside(&self, Seat { number, .. }: Seat) -> Vec<Message> {
        let gateway = self.block.gateway();
        // Not by the setting of each namespace: a path in `/proc/sys/net` is looked for among those of
        // all namespaces.
        let without_ipv6 = self.ipv6.then(|| netlink::without_ipv6_addresses(GUEST_INDEX));
        let rest = [
            netlink::link_up(GUEST_INDEX),
            netlink::new_address(GUEST_INDEX, self.block.guest(number), gateway, 32),
            netlink::default_route(GUEST_INDEX, gateway),
        ];
        without_ipv6.into_iter().chain(rest).collect()
    }

    /// Takes back the place of a sandbox that is gone; its interfaces go with its namespace.
    pub(crate) fn release(&mut self, Seat { number, .. }: Seat) {
        self.used.remove(&number);
    }

    /// Puts the host's settings back. The rest goes with this process. It does not return from the
    /// host's network.
    pub(crate) fn end(self) {
        if sys::setns(self.host.as_fd(), libc::CLONE_NEWNET).is_ok() {
            // What cannot be put back now is put back by the next sweep.
            let _ = forwarding::switch_off(self.cookie, &self.link);
        }
    }
}

/// Removes from this process's network what an earlier run of this owner left. `made`: it had
/// begun to make something.
pub(crate) fn sweep(owner: &str, made: bool) -> io::Result<()> {
    let link = link_name(owner);
    let socket = Socket::route()?;
    if made {
        // Gone, mostly: the kernel took them away with the spawner.
        let _ = socket.run(&[netlink::delete_link(&link)]);
        let _ = Socket::netfilter().and_then(|socket| nft::delete(&socket, &table_name(owner)));
    }
    forwarding::switch_off(sys::network_cookie(socket.as_fd())?, &link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_the_owner_and_fit() {
        let (a, b) = (link_name("a"), link_name("b"));
        assert_ne!(a, b);
        // IFNAMSIZ, with the final zero.
        assert!(a.len() < 16, "{a}");
        assert_ne!(table_name("a"), table_name("b"));
    }
}
