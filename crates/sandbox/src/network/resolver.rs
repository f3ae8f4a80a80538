//! `/etc/resolv.conf` of sandboxes that reach the outside: name servers of the host, as far as they
//! can be reached from there, or else stand-ins for those that the host alone reaches.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::block::Block;

/// Where name servers listen.
pub(crate) const PORT: u16 = 53;

/// The servers behind the local one of systemd-resolved.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// What sandboxes get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolver {
    /// The file.
    pub(crate) text: String,
    /// Name servers that are reached from there.
    pub(crate) servers: Vec<Ipv4Addr>,
    /// Where there is none, those of the host that have a stand-in each, in order
    /// ([`Block::name_server`]).
    pub(crate) relayed: Vec<IpAddr>,
    /// Those of the host that are not reached, for a message when none is left.
    pub(crate) refused: Vec<String>,
}

/// Looks at the files of the host, in its network.
pub(crate) fn of_host(block: Block) -> Resolver {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = choose(&read("/etc/resolv.conf"), is_local);
    if own.servers.is_empty() {
        let behind = choose(&read(BEHIND_RESOLVED), is_local);
        if !behind.servers.is_empty() {
            return behind;
        }
    }
    own.relay(block)
}

impl Resolver {
    /// With stand-ins, where no server is reached.
    fn relay(mut self, block: Block) -> Resolver {
        if self.servers.is_empty() {
            let addresses = self.refused.iter().filter_map(|word| word.parse().ok());
            self.relayed = addresses.take(Block::NAME_SERVERS).collect();
            for number in 0..self.relayed.len() {
                self.text.push_str(&format!("nameserver {}\n", block.name_server(number)));
            }
        }
        self
    }

    /// Without stand-ins.
    pub(crate) fn take_stand_ins_back(&mut self) {
        self.relayed.clear();
        let lines = self.text.lines().filter(|line| !line.starts_with("nameserver "));
        self.text = lines.map(|line| format!("{line}\n")).collect();
    }
}

/// Whether an address is of this machine: a socket connected to it has it as its own.
fn is_local(address: Ipv4Addr) -> bool {
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((address, PORT))?;
        socket.local_addr()
    });
    own.is_ok_and(|own| own.ip() == address)
}

fn choose(text: &str, is_local: impl Fn(Ipv4Addr) -> bool) -> Resolver {
    let mut resolver = Resolver {
        text: String::new(),
        servers: Vec::new(),
        relayed: Vec::new(),
        refused: Vec::new(),
    };
    // Programs take 0.0.0.0 for this machine.
    let is_own = |ip: Ipv4Addr| ip.is_loopback() || ip.is_unspecified() || is_local(ip);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") {
            let word = words.next().unwrap_or_default();
            match word.parse() {
                Ok(address) if !is_own(address) => resolver.servers.push(address),
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_of_this_machine_and_of_ipv6_are_left_out() {
        let text = "# made by x\nsearch a.example\nnameserver 127.0.0.53\nnameserver 10.0.0.9\n\
                    nameserver 10.0.0.2\nnameserver fe80::1\noptions edns0\nnameserver\n\
                    nameserver 0.0.0.0\n";
        let resolver = choose(text, |ip| ip == Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(resolver.servers, [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(resolver.refused, ["127.0.0.53", "10.0.0.9", "fe80::1", "", "0.0.0.0"]);
        let expected = "# made by x\nsearch a.example\nnameserver 10.0.0.2\noptions edns0\n";
        assert_eq!(resolver.text, expected);
        // Where one is reached the others have no stand-ins.
        let block = Block::choose(0, &[]).unwrap();
        assert_eq!(resolver.clone().relay(block), resolver);
    }

    #[test]
    fn where_no_server_is_reached_the_first_three_have_stand_ins() {
        let text = "nameserver 127.0.0.1\nsearch a.example\nnameserver ::1\n\
                    nameserver fe80::1%eth0\noptions edns0\n";
        let block = Block::choose(0, &[]).unwrap();
        let relay = |text: &str| choose(text, |_| false).relay(block);
        let resolver = relay(text);
        let servers = ["127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(resolver.relayed, servers);
        let expected =
            "search a.example\noptions edns0\nnameserver 10.64.0.5\nnameserver 10.64.0.6\n";
        assert_eq!(resolver.text, expected);
        let mut without = resolver;
        without.take_stand_ins_back();
        assert_eq!(without.text, "search a.example\noptions edns0\n");
        assert!(without.relayed.is_empty() && without.refused.len() == 3);
        let four = format!("{text}nameserver 127.0.0.2\nnameserver 127.0.0.3\n");
        assert_eq!(relay(&four).relayed.len(), 3);
        assert!(relay(&four).text.ends_with("10.64.0.6\nnameserver 10.64.0.7\n"));
        assert_eq!(relay("nameserver fe80::1%eth0\n").relayed, [] as [IpAddr; 0]);
    }

    #[test]
    fn loopback_is_of_this_machine() {
        assert!(is_local(Ipv4Addr::LOCALHOST));
        // TEST-NET-1 is nobody's.
        assert!(!is_local(Ipv4Addr::new(192, 0, 2, 254)));
    }
}
