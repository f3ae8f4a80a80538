//! `/etc/resolv.conf` of sandboxes that reach the outside: name servers of the host, as far as they
//! can be reached from there.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

/// The servers behind the local one of systemd-resolved.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const DNS: u16 = 53;

/// What sandboxes get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolver {
    /// The file.
    pub(crate) text: String,
    /// Its name servers.
    pub(crate) servers: Vec<Ipv4Addr>,
    /// Those of the host, for a message when none is left.
    pub(crate) refused: Vec<String>,
}

/// Looks at the files of the host, in its network.
pub(crate) fn of_host() -> Resolver {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = choose(&read("/etc/resolv.conf"), is_local);
    if own.servers.is_empty() {
        let behind = choose(&read(BEHIND_RESOLVED), is_local);
        if !behind.servers.is_empty() {
            return behind;
        }
    }
    own
}

/// Whether an address is of this machine: a socket connected to it has it as its own.
fn is_local(address: Ipv4Addr) -> bool {
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((address, DNS))?;
        socket.local_addr()
    });
    own.is_ok_and(|own| own.ip() == address)
}

fn choose(text: &str, is_local: impl Fn(Ipv4Addr) -> bool) -> Resolver {
    let mut resolver = Resolver { text: String::new(), servers: Vec::new(), refused: Vec::new() };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") {
            let word = words.next().unwrap_or_default();
            match word.parse() {
                Ok(address) if !Ipv4Addr::is_loopback(&address) && !is_local(address) => {
                    resolver.servers.push(address);
                }
                // Of IPv6, or of this machine: neither is reached.
                _ => {
                    resolver.refused.push(word.to_owned());
                    continue;
                }
            }
        }
        resolver.text.push_str(line);
        resolver.text.push('\n');
    }
    resolver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_this_machine_and_of_ipv6_are_left_out() {
        let text = "# made by x\nsearch a.example\nnameserver 127.0.0.53\nnameserver 10.0.0.9\n\
                    nameserver 10.0.0.2\nnameserver fe80::1\noptions edns0\nnameserver\n";
        let resolver = choose(text, |ip| ip == Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(resolver.servers, [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(resolver.refused, ["127.0.0.53", "10.0.0.9", "fe80::1", ""]);
        let expected = "# made by x\nsearch a.example\nnameserver 10.0.0.2\noptions edns0\n";
        assert_eq!(resolver.text, expected);
    }

    #[test]
    fn loopback_is_of_this_machine() {
        assert!(is_local(Ipv4Addr::LOCALHOST));
        // TEST-NET-1 is nobody's.
        assert!(!is_local(Ipv4Addr::new(192, 0, 2, 254)));
    }
}
