//! The network `host`: sandboxes share the host's own. What listens for one of them does so on
//! loopback addresses of its own, and rules let nobody else connect.

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::nft::{self, Chain, Hook, Rule, Set, Then, When, With};
use super::{Seat, hash, open_own, table_name};
use crate::netlink::Socket;
use crate::step::{Step, StepError};
use crate::sys;

/// The first of the addresses that listeners have.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// Each sandbox has sixteen.
const BITS: u8 = 28;
const SEATS: u32 = 1 << 18;

/// Addresses of sandboxes.
const BLOCKS: Set = Set { name: "listeners", with: With::Nothing };
/// The same, each with the user that may connect.
const OWNERS: Set = Set { name: "owners", with: With::User };

/// What the spawner keeps of it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The table lives as long as this does.
    pub(crate) rules: Socket,
    host: OwnedFd,
    table: String,
    numbers: Numbers,
}

/// The numbers of an owner's sandboxes: no two that live have the same.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: u32,
    used: HashSet<u32>,
}

impl Numbers {
    /// Another owner's begin elsewhere, mostly.
    pub(crate) fn new(owner: &str) -> Numbers {
        Numbers { next: hash(owner) % SEATS, used: HashSet::new() }
    }

    /// One that is free, and was not just before.
    pub(crate) fn take(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = (self.next + 1) % SEATS;
            if self.used.insert(number) {
                return number;
            }
        }
    }

    /// Whether it was taken.
    pub(crate) fn give(&mut self, number: u32) -> bool {
        self.used.remove(&number)
    }
}

/// The address of a listener of the sandbox of this number.
pub(crate) fn address(number: u32, listener: usize) -> Ipv4Addr {
    (u32::from(FIRST) + (number << (32 - BITS)) + listener as u32).into()
}

impl Shared {
    /// This process is in the host's network before, and in an empty one after it.
    pub(crate) fn start(owner: &str, proc: BorrowedFd<'_>) -> Result<Shared, StepError> {
        let made = Shared::make(owner, proc);
        if sys::unshare(libc::CLONE_NEWNET).is_err() {
            sys::exit(1);
        }
        let what = "make the host's table of rules";
        made.map_err(|e| StepError::new(Step::NetworkRules, what, &e))
    }

    fn make(owner: &str, proc: BorrowedFd<'_>) -> io::Result<Shared> {
        let (rules, host, table) = (Socket::netfilter()?, open_own(proc)?, table_name(owner));
        let stranger = Rule {
            why: "of a sandbox's listeners others know nothing",
            when: vec![When::NewTcp, When::To4In(BLOCKS, BITS), When::NotTo4OfUser(OWNERS, BITS)],
            then: Then::Reject,
        };
        let output = Chain {
            name: "output",
            hook: Hook::Output,
            priority: 0,
            kind: "filter",
            drop: false,
            rules: vec![stranger],
        };
        nft::make(&rules, &table, true, &[BLOCKS, OWNERS], &[output])?;
        Ok(Shared { rules, host, table, numbers: Numbers::new(owner) })
    }

    /// Addresses for the listeners of a sandbox whose guest is this user of the host's.
    pub(crate) fn seat(&mut self, user: u32) -> io::Result<Seat> {
        let seat = Seat { number: self.numbers.take(), user };
        let added = self.change(seat, nft::add);
        if added.is_err() {
            self.numbers.give(seat.number);
        }
        added.map(|()| seat)
    }

    fn change(
        &self,
        seat: Seat,
        how: fn(&Socket, &str, &[nft::Element]) -> io::Result<()>,
    ) -> io::Result<()> {
        let block = address(seat.number, 0);
        how(&self.rules, &self.table, &[(BLOCKS, block, seat.user), (OWNERS, block, seat.user)])
    }

    /// Takes back the addresses of a sandbox that is gone.
    pub(crate) fn release(&mut self, seat: Seat) {
        if self.numbers.give(seat.number) {
            // Where it cannot be done the addresses stay closed to everybody.
            let _ = self.change(seat, nft::remove);
        }
    }

    /// The host's network namespace.
    pub(crate) fn namespace(&self) -> io::Result<OwnedFd> {
        self.host.as_fd().try_clone_to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_of_each_sandbox_has_its_own_loopback_address() {
        assert_eq!(address(0, 1), Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(address(1, 0), Ipv4Addr::new(127, 64, 0, 16));
        assert_eq!(address(SEATS - 1, 15), Ipv4Addr::new(127, 127, 255, 255));
    }

    #[test]
    fn a_number_is_somebodys_until_it_is_given_back() {
        let mut numbers = Numbers::new("owner");
        let first = numbers.take();
        assert_eq!(numbers.take(), (first + 1) % SEATS);
        numbers.next = first;
        assert_eq!(numbers.take(), (first + 2) % SEATS, "both of them are taken");
        assert!(numbers.give(first) && !numbers.give(first));
        numbers.next = first;
        assert_eq!(numbers.take(), first);
    }
}
