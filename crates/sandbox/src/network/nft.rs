//! Tables of packet rules, as nf_tables takes them over netlink: one table is one transaction.

use std::io;
use std::net::Ipv4Addr;

use crate::netlink::{APPEND, CREATE, Message, Socket};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
/// IPv4 and IPv6 in one table.
const FAMILY_INET: u8 = 1;
/// The table belongs to its maker's socket: it goes with it, and nobody else changes it, not even
/// an administrator's `flush ruleset`.
const TABLE_OWNED: u32 = 2;
const SET_FORGETS: u32 = 0x10;
const SET_CHANGED_BY_RULES: u32 = 0x20;
/// As many sandboxes as there are addresses for.
const RATES_MAX: u32 = 1 << 14;
const FORGOTTEN_AFTER_MS: u64 = 10_000;
const LIST_ELEMENT: u16 = 1;
const REGISTER: u32 = 1;
/// What follows the first four bytes of it.
const BEHIND_ADDRESS: u32 = 9;
const VERDICT_REGISTER: u32 = 0;
const INTERFACE_NAME_BYTES: usize = 16;
const IPV4: u8 = 2;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const UNICAST: u32 = 1;
const UPDATE: u32 = 1;
const SECOND: u64 = 1;
const LIMIT_PACKETS: u32 = 0;
const LIMIT_OVER: u32 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ADMINISTRATIVELY_PROHIBITED: u8 = 3;

/// A set of IPv4 addresses, each with something more or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) with: With,
}

/// What an address in a set has beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Nothing,
    /// A user of this machine.
    User,
    /// How much came from it lately: the kernel adds such addresses itself, and drops them.
    Rate,
}

/// An element of a set; of the user only sets with users take notice.
pub(crate) type Element = (Set, Ipv4Addr, u32);

/// A chain of rules at one of the kernel's hooks.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// What no rule decided is dropped; else it passes.
    pub(crate) drop: bool,
    pub(crate) rules: Vec<Rule>,
}

/// Where in the kernel a chain is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Conditions, all of which must hold, and what is done then.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Shown by `nft list ruleset`.
    pub(crate) why: &'static str,
    pub(crate) when: Vec<When>,
    pub(crate) then: Then,
}

/// A condition on a packet.
#[derive(Debug, Clone)]
pub(crate) enum When {
    /// It came in by this interface.
    From(String),
    /// It goes out by this interface.
    To(String),
    /// It does not.
    NotTo(String),
    /// It is IPv4.
    Ipv4,
    /// It is not.
    NotIpv4,
    /// Its source is this address; of IPv4 only.
    Source(Ipv4Addr),
    /// Its destination is in this network of so many bits; of IPv4 only.
    Destination(Ipv4Addr, u8),
    /// More came from its source than so many packets in a second, after so many at once; of IPv4 only.
    Faster(Set, u64, u32),
    /// It is of this protocol (6 TCP, 17 UDP) and for this port.
    Port(u8, u16),
    /// It belongs to a connection that was let through.
    Established,
    /// It begins a TCP connection.
    NewTcp,
    /// Its destination, of IPv4 and cut to so many bits, is in a set.
    To4In(Set, u8),
    /// Its destination so cut is not in the set together with the user whose process sent it; of
    /// the output hook only.
    NotTo4OfUser(Set, u8),
    /// Its destination, of this machine's view, is no single other machine: this one, or many.
    NotElsewhere,
}

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Accept,
    Drop,
    /// Dropped, and the sender is told, so that it need not wait.
    Reject,
    /// Its source becomes the address of the interface by which it leaves.
    Masquerade,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [a, b] = resource.to_be_bytes();
    [family, 0, a, b]
}

/// Makes a table. `owned`: it lives as long as the socket.
pub(crate) fn make(
    socket: &Socket,
    table: &str,
    owned: bool,
    sets: &[Set],
    chains: &[Chain],
) -> io::Result<()> {
    let flags = if owned { TABLE_OWNED } else { 0 };
    let inet = header(FAMILY_INET, 0);
    let mut batch =
        vec![Message::new(NEW_TABLE, CREATE, &inet).with_text(1, table).with_be(2, flags)];
    for (number, set) in sets.iter().enumerate() {
        // As the program `nft` names types: an address, or an address and a user.
        let (kind, length) = if set.with == With::User { (7 << 6 | 24, 8) } else { (7, 4) };
        let flags = if set.with == With::Rate { SET_CHANGED_BY_RULES | SET_FORGETS } else { 0 };
        let message = Message::new(NEW_SET, CREATE, &inet)
            .with_text(1, table)
            .with_text(2, set.name)
            .with_be(3, flags)
            .with_be(4, kind)
            .with_be(5, length)
            .with_be(10, number as u32 + 1);
        batch.push(match set.with {
            With::Rate => message
                .nest(9, |m| m.with_be(1, RATES_MAX))
                .with(11, &FORGOTTEN_AFTER_MS.to_be_bytes()),
            With::Nothing | With::User => message,
        });
    }
    for chain in chains {
        let message = Message::new(NEW_CHAIN, CREATE, &inet)
            .with_text(1, table)
            .with_text(3, chain.name)
            .nest(4, |m| m.with_be(1, chain.hook as u32).with_be(2, chain.priority as u32))
            .with_be(5, u32::from(!chain.drop))
            .with_text(7, chain.kind);
        batch.push(message);
    }
    for chain in chains {
        for rule in &chain.rules {
            let put = |then: &dyn Fn(Message) -> Message| {
                Message::new(NEW_RULE, CREATE | APPEND, &inet)
                    .with_text(1, table)
                    .with_text(2, chain.name)
                    .nest(4, |m| then(rule.when.iter().fold(m, |m, when| when.put(m))))
                    .with(7, &comment(rule.why))
            };
            if rule.then == Then::Reject {
                // Of an ICMP error that comes back at once a connecting socket takes no notice.
                batch.push(put(&|m| reset(compare(meta(m, 16), true, &[TCP]))));
            }
            batch.push(put(&|m| rule.then.put(m)));
        }
    }
    transact(socket, batch)
}

/// Removes a table. `NotFound`: there is none; `EPERM`: it is a living socket's.
pub(crate) fn delete(socket: &Socket, table: &str) -> io::Result<()> {
    let inet = header(FAMILY_INET, 0);
    transact(socket, vec![Message::new(DELETE_TABLE, 0, &inet).with_text(1, table)])
}

/// Adds elements to sets of a table.
pub(crate) fn add(socket: &Socket, table: &str, elements: &[Element]) -> io::Result<()> {
    change(socket, NEW_ELEMENT, table, elements)
}

/// Removes elements from sets of a table.
pub(crate) fn remove(socket: &Socket, table: &str, elements: &[Element]) -> io::Result<()> {
    change(socket, DELETE_ELEMENT, table, elements)
}

fn change(socket: &Socket, kind: u16, table: &str, elements: &[Element]) -> io::Result<()> {
    let inet = header(FAMILY_INET, 0);
    let messages = elements.iter().map(|(set, address, user)| {
        let mut key = address.octets().to_vec();
        if set.with == With::User {
            key.extend(user.to_ne_bytes());
        }
        Message::new(kind, CREATE, &inet)
            .with_text(1, table)
            .with_text(2, set.name)
            .nest(3, |m| m.nest(LIST_ELEMENT, |m| m.nest(1, |m| m.with(1, &key))))
    });
    transact(socket, messages.collect())
}

fn transact(socket: &Socket, messages: Vec<Message>) -> io::Result<()> {
    let mark = |kind| Message::unacknowledged(kind, 0, &header(0, SUBSYSTEM >> 8));
    let mut batch = vec![mark(BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(mark(BATCH_END));
    socket.run(&batch)
}

/// As `nft` writes it: type, length, text.
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn expression(m: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    m.nest(LIST_ELEMENT, |m| m.with_text(1, name).nest(2, data))
}

/// Loads something about the packet: 6 and 7 interface names, 15 family, 16 protocol.
fn meta(m: Message, key: u32) -> Message {
    expression(m, "meta", |m| m.with_be(1, REGISTER).with_be(2, key))
}

fn compare(m: Message, equal: bool, value: &[u8]) -> Message {
    expression(m, "cmp", |m| {
        m.with_be(1, REGISTER).with_be(2, u32::from(!equal)).nest(3, |m| m.with(1, value))
    })
}

/// Loads bytes of the packet; base 1 network header, 2 transport header.
fn payload(m: Message, base: u32, offset: u32, length: u32) -> Message {
    expression(m, "payload", |m| {
        m.with_be(1, REGISTER).with_be(2, base).with_be(3, offset).with_be(4, length)
    })
}

fn mask(m: Message, mask: u32) -> Message {
    expression(m, "bitwise", |m| {
        m.with_be(1, REGISTER)
            .with_be(2, REGISTER)
            .with_be(3, 4)
            .nest(4, |m| m.with(1, &mask.to_be_bytes()))
            .nest(5, |m| m.with(1, &[0; 4]))
    })
}

/// Loads the destination, cut to so many bits.
fn destination(m: Message, bits: u8) -> Message {
    mask(payload(When::Ipv4.put(m), 1, 16, 4), network_mask(bits))
}

fn network_mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// Asks whether what is loaded is in a set.
fn lookup(m: Message, set: Set, inverted: bool) -> Message {
    expression(m, "lookup", |m| {
        m.with_text(1, set.name).with_be(2, REGISTER).with_be(5, u32::from(inverted))
    })
}

fn interface(m: Message, key: u32, equal: bool, name: &str) -> Message {
    let mut value = [0u8; INTERFACE_NAME_BYTES];
    for (to, from) in value.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    compare(meta(m, key), equal, &value)
}

impl When {
    fn put(&self, m: Message) -> Message {
        match self {
            When::From(name) => interface(m, 6, true, name),
            When::To(name) => interface(m, 7, true, name),
            When::NotTo(name) => interface(m, 7, false, name),
            When::Ipv4 => compare(meta(m, 15), true, &[IPV4]),
            When::NotIpv4 => compare(meta(m, 15), false, &[IPV4]),
            When::Source(address) => {
                let m = When::Ipv4.put(m);
                compare(payload(m, 1, 12, 4), true, &address.octets())
            }
            When::Destination(address, bits) => {
                let network = u32::from(*address) & network_mask(*bits);
                compare(destination(m, *bits), true, &network.to_be_bytes())
            }
            When::NewTcp => {
                let m = payload(compare(meta(m, 16), true, &[TCP]), 2, 13, 1);
                let m = expression(m, "bitwise", |m| {
                    m.with_be(1, REGISTER)
                        .with_be(2, REGISTER)
                        .with_be(3, 1)
                        .nest(4, |m| m.with(1, &[SYN | ACK]))
                        .nest(5, |m| m.with(1, &[0]))
                });
                compare(m, true, &[SYN])
            }
            When::To4In(set, bits) => lookup(destination(m, *bits), *set, false),
            When::NotTo4OfUser(set, bits) => {
                let m = expression(destination(m, *bits), "meta", |m| {
                    m.with_be(1, BEHIND_ADDRESS).with_be(2, 10)
                });
                lookup(m, *set, true)
            }
            When::Faster(set, rate, burst) => {
                let m = payload(When::Ipv4.put(m), 1, 12, 4);
                expression(m, "dynset", |m| {
                    let limit = |m: Message| {
                        m.with(1, &rate.to_be_bytes())
                            .with(2, &SECOND.to_be_bytes())
                            .with_be(3, *burst)
                            .with_be(4, LIMIT_PACKETS)
                            .with_be(5, LIMIT_OVER)
                    };
                    m.with_text(1, set.name)
                        .with_be(3, UPDATE)
                        .with_be(4, REGISTER)
                        .nest(7, |m| m.with_text(1, "limit").nest(2, limit))
                })
            }
            When::Port(protocol, port) => {
                let m = compare(meta(m, 16), true, &[*protocol]);
                compare(payload(m, 2, 2, 2), true, &port.to_be_bytes())
            }
            When::Established => {
                let m = expression(m, "ct", |m| m.with_be(1, REGISTER).with_be(2, 0));
                // The register is of this machine's order, and a mask is written as bytes.
                let m = mask(m, u32::from_be_bytes(ESTABLISHED_OR_RELATED.to_ne_bytes()));
                compare(m, false, &[0; 4])
            }
            When::NotElsewhere => {
                let m =
                    expression(m, "fib", |m| m.with_be(1, REGISTER).with_be(2, 3).with_be(3, 2));
                compare(m, false, &UNICAST.to_ne_bytes())
            }
        }
    }
}

impl Then {
    fn put(self, m: Message) -> Message {
        match self {
            Then::Accept => verdict(m, 1),
            Then::Drop => verdict(m, 0),
            Then::Reject => {
                expression(m, "reject", |m| m.with_be(1, 2).with(2, &[ADMINISTRATIVELY_PROHIBITED]))
            }
            Then::Masquerade => expression(m, "masq", |m| m),
        }
    }
}

fn reset(m: Message) -> Message {
    expression(m, "reject", |m| m.with_be(1, 1).with(2, &[0]))
}

fn verdict(m: Message, code: u32) -> Message {
    expression(m, "immediate", |m| {
        m.with_be(1, VERDICT_REGISTER).nest(2, |m| m.nest(2, |m| m.with_be(1, code)))
    })
}
