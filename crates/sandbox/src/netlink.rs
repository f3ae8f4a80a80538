//! Requests to the kernel over netlink: messages, sockets, and the few things of rtnetlink that
//! sandboxes need. Several messages go in one packet; each is acknowledged.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
/// More than the head of an answer; of its tail nothing is read.
const ANSWER_BYTES: usize = 512;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const NO_ADDRESSES: u8 = 1;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_HOST: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const TYPE_UNICAST: u8 = 1;
const UP: u32 = 1;
/// The loopback interface is the first of every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// One request.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// `flags` beyond those of every acknowledged request; `header` is what follows `nlmsghdr`.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut message = Message::unacknowledged(kind, NLM_F_ACK | flags, header);
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        message.0[8..12].copy_from_slice(&number.to_ne_bytes());
        message
    }

    /// For marks between messages, which nobody answers.
    pub(crate) fn unacknowledged(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut m = Vec::with_capacity(128);
        m.extend(0u32.to_ne_bytes());
        m.extend(kind.to_ne_bytes());
        m.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        m.extend([0u8; 8]);
        m.extend(header);
        let mut message = Message(m);
        message.pad();
        message
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        let length = (value.len() + 4) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
        self
    }

    /// Adds a text attribute, with its final zero.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Message {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number in network order, as netfilter wants them.
    pub(crate) fn with_be(self, kind: u16, number: u32) -> Message {
        self.with(kind, &number.to_be_bytes())
    }

    /// Adds an attribute that holds others.
    pub(crate) fn nest(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        self.0.extend([0u8; 2]);
        self.0.extend((NLA_F_NESTED | kind).to_ne_bytes());
        let mut message = inside(self);
        let length = (message.0.len() - start) as u16;
        message.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    fn raw(mut self, bytes: &[u8]) -> Message {
        self.0.extend(bytes);
        self.pad();
        self
    }

    /// Its number, which the answer repeats, if there will be one.
    fn number(&self) -> Option<u32> {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]);
        let number = u32::from_ne_bytes([self.0[8], self.0[9], self.0[10], self.0[11]]);
        (flags & NLM_F_ACK != 0).then_some(number)
    }
}

/// A socket to the kernel, of the network namespace in which it was opened, wherever it is used.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn route() -> io::Result<Socket> {
        Socket::open(None)
    }

    pub(crate) fn netfilter() -> io::Result<Socket> {
        Socket::open(Some(rustix::net::netlink::NETFILTER))
    }

    /// For questions about sockets.
    pub(crate) fn diagnosis() -> io::Result<Socket> {
        Socket::open(Some(rustix::net::netlink::SOCK_DIAG))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        Ok(Socket(fd))
    }

    /// Asks for one thing, and returns the beginning of the answer.
    pub(crate) fn ask(&self, message: &Message) -> io::Result<Vec<u8>> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, &message.0, SendFlags::empty(), &kernel)?;
        let mut answer = [0u8; ANSWER_BYTES];
        loop {
            match rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok((length, _)) => match parse_answer(&answer[..length]) {
                    Some((_, errno @ 1..)) => return Err(io::Error::from_raw_os_error(errno)),
                    _ => return Ok(answer[..length].to_vec()),
                },
            }
        }
    }

    /// Asks for all of it in one packet and waits for the answers; the first error is the outcome.
    pub(crate) fn run(&self, messages: &[Message]) -> io::Result<()> {
        // What an earlier, failed request left unread.
        let mut answer = [0u8; ANSWER_BYTES];
        while rustix::net::recv(&self.0, &mut answer[..], RecvFlags::DONTWAIT).is_ok() {}
        let packet: Vec<u8> = messages.iter().flat_map(|m| &m.0).copied().collect();
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, &packet, SendFlags::empty(), &kernel)?;
        let last = messages.iter().rev().find_map(Message::number);
        loop {
            let received = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty());
            let (length, _) = match received {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            match parse_answer(&answer[..length]) {
                Some((number, 0)) if Some(number) == last => return Ok(()),
                Some((_, 0)) => {}
                Some((_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
                None => return Err(io::Error::from_raw_os_error(libc::EPROTO)),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number of a request and the error number of its acknowledgement; 0 is done.
fn parse_answer(bytes: &[u8]) -> Option<(u32, i32)> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let number = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(HEADER_BYTES..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then(|| (number, code.wrapping_neg()))
}

/// `ifinfomsg`; the index 0 leaves the choice, or the search by name, to the kernel.
fn link_header(index: u32, up: bool) -> Vec<u8> {
    let flags = if up { UP } else { 0 };
    let mut header = vec![0u8; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(UP.to_ne_bytes());
    header
}

/// Brings an interface up.
pub(crate) fn link_up(index: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &link_header(index, true))
}

/// Lets an interface have no address of IPv6 of its own, before it is brought up.
pub(crate) fn without_ipv6_addresses(index: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &link_header(index, false)).nest(IFLA_AF_SPEC, |m| {
        m.nest(libc::AF_INET6 as u16, |m| m.with(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESSES]))
    })
}

/// Says about an interface, for those who list them, what it is for; it stays down.
pub(crate) fn describe(index: u32, text: &str) -> Message {
    Message::new(RTM_NEWLINK, 0, &link_header(index, false)).with_text(IFLA_IFALIAS, text)
}

/// Removes an interface; both ends of a veth.
pub(crate) fn delete_link(name: &str) -> Message {
    Message::new(RTM_DELLINK, 0, &link_header(0, false)).with_text(IFLA_IFNAME, name)
}

/// One end of a veth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    /// 0: any.
    pub(crate) index: u32,
}

/// Makes a veth: `here` in the socket's namespace, `there` in another; both down, as neither can be
/// up before the other is there.
pub(crate) fn new_veth(here: End<'_>, there: End<'_>, namespace: BorrowedFd<'_>) -> Message {
    use std::os::fd::AsRawFd;
    let fd = namespace.as_raw_fd() as u32;
    let header = link_header(here.index, false);
    Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header).with_text(IFLA_IFNAME, here.name).nest(
        IFLA_LINKINFO,
        |m| {
            m.with(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&link_header(there.index, false))
                        .with_text(IFLA_IFNAME, there.name)
                        .with(IFLA_NET_NS_FD, &fd.to_ne_bytes())
                })
            })
        },
    )
}

/// Adds an address to an interface; with the peer's, which is then reached through it, or that of
/// a network of `prefix` bits.
pub(crate) fn new_address(index: u32, address: Ipv4Addr, peer: Ipv4Addr, prefix: u8) -> Message {
    let scope = if index == LOOPBACK { SCOPE_HOST } else { SCOPE_UNIVERSE };
    let mut header = vec![libc::AF_INET as u8, prefix, 0, scope];
    header.extend(index.to_ne_bytes());
    Message::new(RTM_NEWADDR, CREATE | EXCLUSIVE, &header)
        .with(IFA_LOCAL, &address.octets())
        .with(IFA_ADDRESS, &peer.octets())
}

fn route_header(bits: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [libc::AF_INET as u8, bits, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

/// The default route.
pub(crate) fn default_route(index: u32, gateway: Ipv4Addr) -> Message {
    let header = route_header(0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_UNIVERSE, TYPE_UNICAST);
    Message::new(RTM_NEWROUTE, CREATE | EXCLUSIVE, &header)
        .with(RTA_GATEWAY, &gateway.octets())
        .with(RTA_OIF, &index.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_and_its_nests_say_their_own_lengths() {
        let message = Message::new(7, 0, &[0; 2]).nest(1, |m| m.with_text(2, "abc").with_be(3, 9));
        let bytes = message.0;
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes.len(), 40);
        // Header and its padding, then a nest of two attributes of 8 bytes each.
        assert_eq!(bytes[20..22], 20u16.to_ne_bytes());
        assert_eq!(bytes[24..26], 8u16.to_ne_bytes());
        assert_eq!(&bytes[28..32], b"abc\0");
        assert_eq!(&bytes[36..40], &[0, 0, 0, 9]);
    }

    #[test]
    fn numbers_differ_and_marks_have_none() {
        let (a, b) = (Message::new(1, 0, &[]), Message::new(1, 0, &[]));
        assert_ne!(a.number().unwrap(), b.number().unwrap());
        assert_eq!(Message::unacknowledged(1, 0, &[]).number(), None);
    }

    #[test]
    fn answers_that_are_short_or_no_acknowledgement() {
        assert_eq!(parse_answer(&[0; 19]), None);
        assert_eq!(parse_answer(&[0; 20]), None);
        let mut refused = [0u8; 20];
        refused[4] = NLMSG_ERROR as u8;
        refused[8] = 5;
        refused[16..].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        let number = u32::from_ne_bytes([5, 0, 0, 0]);
        assert_eq!(parse_answer(&refused), Some((number, libc::EEXIST)));
    }

    #[test]
    fn the_kernel_answers_for_what_is_not_there() {
        let socket = Socket::route().unwrap();
        let error = socket.run(&[delete_link("no-such-link")]).unwrap_err();
        // An ordinary user is told that before the name is looked at.
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }
}
