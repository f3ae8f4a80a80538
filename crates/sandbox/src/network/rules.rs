//! The rules of the network `nat`, as data: what the router of the sandboxes lets through, and what
//! the host takes from it. Each has its reason, which `nft list ruleset` shows.

use std::net::Ipv4Addr;

use super::block::Block;
use super::nft::{Chain, Hook, Rule, Set, TCP, Then, UDP, When, With};
use super::resolver::{self, Resolver};

/// The router's end of the link to the host.
pub(crate) const UPLINK: &str = "up";

/// Priorities of the kernel's own: before connections are followed, address translation of
/// sources, filters.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SOURCE: i32 = 100;

/// Networks that no sandbox reaches, each with its bits.
pub(crate) const FORBIDDEN: &[(Ipv4Addr, u8, &str)] = &[
    (
        Ipv4Addr::new(169, 254, 0, 0),
        16,
        "link-local: metadata of Amazon, Google, Azure and others, with the host's credentials",
    ),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "Azure's agent service, with the host's secrets"),
    (Ipv4Addr::new(100, 100, 100, 200), 32, "Alibaba's metadata, with the host's credentials"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments: Oracle's metadata"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback of somebody else"),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network: no destination"),
    (Ipv4Addr::new(224, 0, 0, 0), 3, "multicast, reserved, broadcast: discovery of the network"),
];

/// Sandboxes that ask for names.
const ASKING: Set = Set { name: "asking", with: With::Rate };
/// Packets a second of each, as many as Amazon's name server takes from a network interface, and at
/// once. Without that a single one could fill what all share.
const ASKING_RATE: u64 = 1024;
const ASKING_BURST: u32 = 256;

fn rule(why: &'static str, when: Vec<When>, then: Then) -> Rule {
    Rule { why, when, then }
}

/// Sets that the rules of the router need.
pub(crate) fn router_sets(resolver: &Resolver) -> &'static [Set] {
    if resolver.relayed.is_empty() { &[] } else { &[ASKING] }
}

/// Rules of the router, a network namespace in which there is nothing but the sandboxes' links.
pub(crate) fn router(resolver: &Resolver, block: Block) -> Vec<Chain> {
    let up = || UPLINK.to_owned();
    let queries = |address| {
        [UDP, TCP].map(|protocol| {
            vec![When::Destination(address, 32), When::Port(protocol, resolver::PORT)]
        })
    };
    let mut input = Vec::new();
    if !resolver.relayed.is_empty() {
        let flood = When::Faster(ASKING, ASKING_RATE, ASKING_BURST);
        input.push(rule("nobody outside asks for names", vec![When::From(up())], Then::Drop));
        input.push(rule("no sandbox keeps others from asking", vec![flood], Then::Drop));
    }
    for number in 0..resolver.relayed.len() {
        for when in queries(block.name_server(number)) {
            input.push(rule("a stand-in for the host's resolver", when, Then::Accept));
        }
    }
    let mut forward = vec![
        rule("answers", vec![When::Established], Then::Accept),
        rule("nobody outside calls a sandbox", vec![When::From(up())], Then::Drop),
        rule("no sandbox calls another", vec![When::NotTo(up())], Then::Reject),
        rule("IPv4 only", vec![When::NotIpv4], Then::Drop),
    ];
    // Some clouds have such.
    for resolver in resolver.servers.iter().filter(|ip| ip.is_link_local()) {
        for when in queries(*resolver) {
            forward.push(rule("the host's resolver", when, Then::Accept));
        }
    }
    forward.extend(FORBIDDEN.iter().map(|(network, bits, why)| {
        rule(why, vec![When::Destination(*network, *bits)], Then::Reject)
    }));
    forward.push(rule("the outside", vec![When::To(up()), When::Ipv4], Then::Accept));
    vec![
        Chain {
            name: "input",
            hook: Hook::Input,
            priority: FILTER,
            kind: "filter",
            drop: true,
            rules: input,
        },
        Chain {
            name: "forward",
            hook: Hook::Forward,
            priority: FILTER,
            kind: "filter",
            drop: true,
            rules: forward,
        },
        Chain {
            name: "source",
            hook: Hook::Postrouting,
            priority: SOURCE,
            kind: "nat",
            drop: false,
            rules: vec![rule("one address", vec![When::To(up())], Then::Masquerade)],
        },
    ]
}

/// Rules of the host, all of which concern its end of the link only.
pub(crate) fn host(link: &str, block: Block) -> Vec<Chain> {
    let from = || When::From(link.to_owned());
    let to = || When::To(link.to_owned());
    let not_to = || When::NotTo(link.to_owned());
    vec![
        Chain {
            name: "arriving",
            hook: Hook::Prerouting,
            priority: RAW,
            kind: "filter",
            drop: false,
            rules: vec![
                rule("IPv4 only", vec![from(), When::NotIpv4], Then::Drop),
                rule(
                    "nothing for this machine, published ports of containers included",
                    vec![from(), When::NotElsewhere],
                    Then::Reject,
                ),
            ],
        },
        Chain {
            name: "input",
            hook: Hook::Input,
            priority: FILTER,
            kind: "filter",
            drop: false,
            rules: vec![rule("nothing for this machine", vec![from()], Then::Drop)],
        },
        Chain {
            name: "forward",
            hook: Hook::Forward,
            priority: FILTER,
            kind: "filter",
            drop: false,
            rules: vec![
                rule("answers", vec![to(), When::Established], Then::Accept),
                rule("nobody outside calls a sandbox", vec![to()], Then::Drop),
            ],
        },
        Chain {
            name: "source",
            hook: Hook::Postrouting,
            priority: SOURCE,
            kind: "nat",
            drop: false,
            rules: vec![rule(
                "sandboxes are this machine to the outside",
                vec![not_to(), When::Source(block.router())],
                Then::Masquerade,
            )],
        },
    ]
}
