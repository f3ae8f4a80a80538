//! Addresses of the network `nat`: a private range that the host does not use, chosen at start.

use std::net::Ipv4Addr;

/// Bits of a range: 16,384 addresses.
const BITS: u32 = 18;
const MASK: u32 = u32::MAX << (32 - BITS);
/// The first addresses are the link's to the host, the gateway's and the name servers'.
const FIRST_GUEST: u32 = 16;
/// Ranges to choose from.
const RANGES: [(Ipv4Addr, u32); 3] = [
    (Ipv4Addr::new(10, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// A route to so few bits is a whole private range's, of a private network somewhere: a link of
/// four addresses in it hides nothing that matters.
const BROAD_BITS: u32 = 16;

/// A range; only its first four addresses are ever seen by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(u32);

impl Block {
    /// Addresses for sandboxes.
    pub(crate) const GUESTS: u32 = (1 << (32 - BITS)) - 1 - FIRST_GUEST;
    /// As many as programs ask (`MAXNS` of resolver(3)).
    pub(crate) const NAME_SERVERS: usize = 3;
    /// Of the link between host and router.
    pub(crate) const LINK_BITS: u8 = 30;

    /// The host's end of the link.
    pub(crate) fn host(self) -> Ipv4Addr {
        (self.0 + 1).into()
    }

    /// The router's end of the link, behind which all sandboxes are.
    pub(crate) fn router(self) -> Ipv4Addr {
        (self.0 + 2).into()
    }

    /// What every sandbox sees as the next hop.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        (self.0 + 4).into()
    }

    /// What sandboxes see as a name server; `number` is below [`Block::NAME_SERVERS`].
    pub(crate) fn name_server(self, number: usize) -> Ipv4Addr {
        (self.0 + 5 + number as u32).into()
    }

    /// A sandbox's; `number` is below [`Block::GUESTS`].
    pub(crate) fn guest(self, number: u32) -> Ipv4Addr {
        (self.0 + FIRST_GUEST + number).into()
    }

    /// One that no route of the host leads into; owners begin their search at different places.
    pub(crate) fn choose(seed: u32, routes: &[(u32, u32)]) -> Option<Block> {
        let all: Vec<u32> = RANGES
            .iter()
            .flat_map(|(start, bits)| {
                (0..1 << (BITS - bits)).map(|n| u32::from(*start) + (n << (32 - BITS)))
            })
            .collect();
        let free = |base: u32, ignored: u32| {
            let real = routes.iter().filter(|(_, mask)| mask.count_ones() > ignored);
            real.into_iter().all(|(to, mask)| (base ^ to) & mask & MASK != 0)
        };
        let start = seed as usize % all.len();
        let from_start = || all[start..].iter().chain(&all[..start]).copied();
        let found = from_start().find(|base| free(*base, 0));
        found.or_else(|| from_start().find(|base| free(*base, BROAD_BITS))).map(Block)
    }
}

/// Destinations and masks of `/proc/net/route`, without the default routes.
pub(crate) fn parse_routes(text: &str) -> Vec<(u32, u32)> {
    let number = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::from_be);
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Some((number(fields.get(1)?)?, number(fields.get(7)?)?))
        })
        .filter(|(_, mask)| *mask != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn route(network: [u8; 4], bits: u32) -> (u32, u32) {
        (u32::from_be_bytes(network), u32::MAX << (32 - bits))
    }

    #[test]
    fn routes_of_the_kernels_own_table() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nbroken\n";
        assert_eq!(parse_routes(text), [route([192, 0, 2, 0], 24)]);
    }

    #[test]
    fn a_range_in_use_is_passed_over() {
        let first = Block::choose(0, &[]).unwrap();
        assert_eq!(first.host(), Ipv4Addr::new(10, 64, 0, 1));
        let taken = [route([10, 64, 0, 0], 30), route([10, 64, 127, 9], 32)];
        let next = Block::choose(0, &taken).unwrap();
        assert_eq!(next.host(), Ipv4Addr::new(10, 64, 128, 1));
        // A private network behind a tunnel takes a whole range.
        let next = Block::choose(0, &[route([10, 0, 0, 0], 8)]).unwrap();
        assert_eq!(next.host(), Ipv4Addr::new(172, 16, 0, 1));
    }

    #[test]
    fn where_every_range_is_routed_the_narrow_routes_count() {
        let mut routes =
            vec![route([10, 0, 0, 0], 8), route([172, 16, 0, 0], 12), route([192, 168, 0, 0], 16)];
        routes.push(route([10, 64, 0, 0], 24));
        assert_eq!(Block::choose(0, &routes).unwrap().host(), Ipv4Addr::new(10, 64, 64, 1));
    }

    #[test]
    fn the_last_guest_is_in_the_range() {
        let block = Block::choose(0, &[]).unwrap();
        let last = block.guest(Block::GUESTS - 1);
        assert_eq!(last, Ipv4Addr::new(10, 64, 63, 254));
        let own = [block.router(), block.gateway(), block.name_server(0), block.name_server(2)];
        assert!(own.is_sorted() && block.guest(0) > own[3], "{own:?}");
    }
}
