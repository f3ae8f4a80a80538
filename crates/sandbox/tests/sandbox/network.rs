//! What a sandbox reaches, and what it does not.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};

use lambfold_sandbox::{Network, Sandboxes, Spec, StartError, Step, is_root};

use crate::Test;
use crate::nat::{REFUSED, call, called, called_by_host, sh, staged};
use crate::world::{Inside, World, config, outside_as_root, perl, spec};

pub const TESTS: &[Test] = &[
    ("network::the_hosts_is_for_root", the_hosts_is_for_root),
    ("network::hostile_guests_in_each_mode", hostile_guests_in_each_mode),
    ("network::listeners_in_the_hosts_network", || staged("listeners_in_the_hosts_network")),
];

fn world(network: Network) -> World {
    let (mut config, dir) = config();
    config.network = network;
    World::with(config, dir)
}

fn with_listeners(world: &World) -> Inside {
    let listeners = ["127.0.0.1:9001", "169.254.100.1:9001"];
    let listeners = listeners.map(|a| a.parse().unwrap()).to_vec();
    world.create(Spec { listeners, ..spec() })
}

fn addresses(inside: &Inside) -> Vec<SocketAddr> {
    inside.sandbox.listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// Connections that wait on any of its listeners.
fn waiting(inside: &Inside) -> usize {
    let accepted = inside.sandbox.listeners.iter().filter(|listener| match listener.accept() {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::WouldBlock);
            false
        }
    });
    accepted.count()
}

/// Connects and says whether it could, or the error number.
fn knock(address: SocketAddr) -> lambfold_sandbox::Command {
    perl(&call(&address.ip().to_string(), address.port()).replace("scalar(<$s>)", "qq(\\n)"))
}

/// Root plays it with a host of its own; an ordinary user has one mode only.
fn hostile_guests_in_each_mode() {
    if is_root() { staged("hostile_guests") } else { hostile_guests_in(&[Network::None]) }
}

pub fn hostile_guests() {
    sh("ip link set lo up");
    hostile_guests_in(&[Network::None, Network::Nat, Network::Host]);
}

/// The API of a server on loopback, a neighbour's listeners, raw sockets.
fn hostile_guests_in(modes: &[Network]) {
    let api = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = api.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in api.incoming() {
            let _ = stream.unwrap().write_all(b"api\n");
        }
    });
    assert_eq!(called_by_host("127.0.0.1", port), "yes: api\n");
    for mode in modes.iter().copied() {
        let world = world(mode);
        assert_eq!(world.sandboxes.capabilities().network, mode);
        let (a, b) = (with_listeners(&world), with_listeners(&world));

        // In the host's network it can be called: that mode asks for credentials, or for a word
        // that says it is insecure. It is the control run of the other two.
        let expected = if mode == Network::Host { "yes: api\n" } else { REFUSED };
        assert_eq!(called(&b, "127.0.0.1", port), expected, "{mode:?}");

        for address in addresses(&a) {
            // In namespaces of their own it is their own that they reach by this address.
            let answer = b.run(knock(address)).ok();
            let expected = if mode == Network::Host { REFUSED } else { "yes: \n" };
            assert_eq!(answer, expected, "{mode:?}: {address}");
            assert_eq!(waiting(&a), 0, "{mode:?}: {address} was reached by a neighbour");
            assert_eq!(a.run(knock(address)).ok(), "yes: \n", "{mode:?}: the control run");
            assert_eq!(waiting(&a), 1, "{mode:?}: the control run");
        }
        let raw = perl(&format!(
            "my $r = syscall({}, 2, 3, 1); print $r == -1 ? 0 + $! : 'ok', qq(\\n)",
            libc::SYS_socket
        ));
        assert_eq!(b.run(raw.clone()).ok(), "1\n", "{mode:?}: raw socket");
        assert_eq!(outside_as_root(&["--net"], &raw).ok(), "ok\n", "the control run");
    }
}

pub fn listeners_in_the_hosts_network() {
    sh("ip link set lo up");
    // Somebody has the port on every address.
    let _taken = TcpListener::bind(("0.0.0.0", 9001)).unwrap();
    let world = world(Network::Host);
    let (a, b) = (with_listeners(&world), with_listeners(&world));
    let mut all = [addresses(&a), addresses(&b)].concat();
    assert!(all.iter().all(|address| address.ip().is_loopback() && address.port() != 9001));
    // Other users of this machine are strangers too.
    for address in &all {
        assert_eq!(crate::world::outside(&knock(*address)).ok(), REFUSED, "{address}");
    }
    let table = format!("lambfold-{}", world.owner);
    let listed = sh(&format!("nft list table inet {table}"));
    assert!(listed.contains("type ipv4_addr . uid"), "{listed}");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
    // What a sandbox had is closed with it, and what others have stays.
    // Each has sixteen addresses; those of sandboxes that are made ahead come and go.
    let first = |inside: &Inside| match addresses(inside)[0].ip() {
        std::net::IpAddr::V4(ip) => std::net::Ipv4Addr::from(u32::from(ip) & !15),
        std::net::IpAddr::V6(ip) => panic!("{ip}"),
    };
    let listed =
        |ip| sh(&format!("nft list set inet {table} owners")).contains(&format!("{ip} . "));
    let (gone, stays) = (first(&a), first(&b));
    assert!(listed(gone) && listed(stays));
    drop(a);
    crate::world::wait_for("an element's end", || !listed(gone));
    assert!(listed(stays));
    assert_eq!(b.run(knock(addresses(&b)[0])).ok(), "yes: \n");
    drop(world);
    assert_eq!(sh("nft list tables"), "");
}

fn the_hosts_is_for_root() {
    let (mut config, dir) = config();
    config.network = Network::Host;
    match Sandboxes::start(config) {
        Ok(sandboxes) if is_root() => {
            assert_eq!(sandboxes.capabilities().network, Network::Host);
        }
        Err(StartError::Step(error)) if !is_root() => assert_eq!(error.step, Step::NetworkRules),
        other => panic!("{other:?}"),
    }
    drop(dir);
}
