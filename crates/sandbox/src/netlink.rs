//! The one thing that is asked of rtnetlink: an address on the loopback interface.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST_ACK_CREATE_EXCL: u16 = 0x1 | 0x4 | 0x400 | 0x200;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;
const SCOPE_HOST: u8 = 254;

/// Adds `address/32` to `lo` of the current network namespace.
pub(crate) fn add_loopback_address(address: Ipv4Addr) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let request = new_address(address);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match parse_answer(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

/// `nlmsghdr`, `ifaddrmsg` and two attributes.
fn new_address(address: Ipv4Addr) -> Vec<u8> {
    let mut m = Vec::with_capacity(40);
    m.extend(40u32.to_ne_bytes());
    m.extend(RTM_NEWADDR.to_ne_bytes());
    m.extend(NLM_F_REQUEST_ACK_CREATE_EXCL.to_ne_bytes());
    m.extend(1u32.to_ne_bytes());
    m.extend(0u32.to_ne_bytes());
    m.extend([libc::AF_INET as u8, 32, 0, SCOPE_HOST]);
    m.extend(LOOPBACK.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        m.extend(8u16.to_ne_bytes());
        m.extend(attribute.to_ne_bytes());
        m.extend(address.octets());
    }
    m
}

/// The error number of an acknowledgement; 0 is done.
fn parse_answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(-code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_its_own_length() {
        let request = new_address(Ipv4Addr::new(169, 254, 100, 1));
        assert_eq!(request.len(), 40);
        assert_eq!(&request[28..32], &[169, 254, 100, 1]);
    }

    #[test]
    fn answers_that_are_short_or_no_acknowledgement() {
        assert_eq!(parse_answer(&[0; 19]), None);
        assert_eq!(parse_answer(&[0; 20]), None);
        let mut refused = [0u8; 20];
        refused[4] = NLMSG_ERROR as u8;
        refused[16..].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        assert_eq!(parse_answer(&refused), Some(libc::EEXIST));
    }
}
