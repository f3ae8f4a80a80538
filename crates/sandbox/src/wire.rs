//! Messages between host, spawner and pid 1: one JSON document a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::spec::{Command, Config, Event, ExitStatus, ProcessId, Spec, Victim};
use crate::step::{StepError, StepTiming};

/// Largest message; commands with their environment are the largest.
const MESSAGE_MAX_BYTES: usize = 192 * 1024;
/// Most descriptors in one message; the kernel's own limit is 253.
const MESSAGE_MAX_FDS: usize = 64;

/// Host to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSpawner {
    /// The first message.
    Start(Box<Config>),
    /// With the control socket of pid 1 and the write end of the output pipe.
    Create { ticket: u64, spec: Box<Spec> },
    /// Kills it, if it still lives.
    Destroy { ticket: u64 },
}

/// Spawner, or a pid 1 during setup, to host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSpawner {
    /// Preparation is done.
    Ready(Box<Capabilities>),
    /// Preparation failed; the spawner ends.
    StartFailed(StepError),
    /// From pid 1, with the listeners and then what `files` says.
    Created { ticket: u64, timings: Vec<StepTiming>, listeners: usize, files: StatFiles },
    /// Setup failed.
    Failed { ticket: u64, error: StepError },
    /// Pid 1 is dead and its control groups are gone.
    Reaped { ticket: u64, status: ExitStatus },
    /// A fault point was reached.
    Fault(Victim),
}

/// Which descriptors of the guest's control group follow the listeners, in this order.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct StatFiles {
    /// `memory.max_usage_in_bytes` or `memory.peak`.
    pub(crate) peak: bool,
    /// `memory.oom_control` or `memory.events`.
    pub(crate) oom: bool,
    /// `cgroup.freeze`.
    pub(crate) freeze: bool,
    /// v1 `freezer.state`.
    pub(crate) freezer: bool,
}

/// Host to pid 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Starts a program; one descriptor beside it takes its output in place of the common pipe,
    /// three are its stdin, stdout and stderr.
    Spawn { process: ProcessId, command: Command },
    /// Signals one, or its process group.
    Signal { process: ProcessId, signal: i32, group: bool },
    /// Makes a TCP socket; it is sent through the socket beside it.
    Socket,
    /// Kills all.
    KillGuests,
    /// SIGSTOP or SIGCONT to all.
    Stop(bool),
}

/// Pid 1 to host.
pub(crate) type FromInit = Event;

/// A connected pair of packet sockets, close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((a, b))
}

/// Sends one message whole, or fails. `wait`: block while the peer's queue is full.
pub(crate) fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_bytes(socket, &bytes, fds, wait)
}

/// [`send`] for a message that is encoded already.
pub(crate) fn send_bytes(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<()> {
    if bytes.len() > MESSAGE_MAX_BYTES || fds.len() > MESSAGE_MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_MAX_FDS))];
    let mut flags = SendFlags::NOSIGNAL;
    if !wait {
        flags |= SendFlags::DONTWAIT;
    }
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives messages; keeps its buffer.
#[derive(Debug)]
pub(crate) struct Receiver {
    buffer: Vec<u8>,
}

/// What [`Receiver::receive`] found.
#[derive(Debug)]
pub(crate) enum Received<M> {
    /// A message.
    Message(M, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The peer is gone.
    End,
}

impl Receiver {
    /// For commands, which may be large.
    pub(crate) fn new() -> Receiver {
        Receiver { buffer: vec![0; MESSAGE_MAX_BYTES] }
    }

    /// For events, which are small.
    pub(crate) fn for_events() -> Receiver {
        Receiver { buffer: vec![0; 16 * 1024] }
    }

    /// Receives one message; with `wait`, blocks for it. A packet that is no message is an error.
    pub(crate) fn receive<M: DeserializeOwned>(
        &mut self,
        socket: impl AsFd,
        wait: bool,
    ) -> io::Result<Received<M>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_MAX_FDS))];
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        if !wait {
            flags |= RecvFlags::DONTWAIT;
        }
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut self.buffer)];
            let got = match rustix::net::recvmsg(&socket, parts, &mut control, flags) {
                Ok(got) => got,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
                Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
                Err(e) => return Err(e.into()),
            };
            let mut fds = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(list) = message {
                    fds.extend(list);
                }
            }
            if got.bytes == 0 {
                return Ok(Received::End);
            }
            if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            let message = serde_json::from_slice(&self.buffer[..got.bytes])?;
            return Ok(Received::Message(message, fds));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn carries_a_message_and_its_descriptors() {
        let (a, b) = pair().unwrap();
        let (x, _y) = pair().unwrap();
        send(a.as_fd(), &ToInit::Stop(true), &[x.as_fd(), x.as_fd()], false).unwrap();
        let mut receiver = Receiver::new();
        let Received::Message(ToInit::Stop(true), fds) = receiver.receive(&b, true).unwrap() else {
            panic!("another message");
        };
        assert_eq!(fds.len(), 2);
        assert!(matches!(receiver.receive::<ToInit>(&b, false).unwrap(), Received::Nothing));
        drop(a);
        assert!(matches!(receiver.receive::<ToInit>(&b, false).unwrap(), Received::End));
    }

    #[test]
    fn refuses_what_is_too_large_or_no_message() {
        let (a, b) = pair().unwrap();
        let error = send_bytes(a.as_fd(), &vec![b' '; MESSAGE_MAX_BYTES + 1], &[], false);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        let longest = vec![b' '; MESSAGE_MAX_BYTES];
        send_bytes(a.as_fd(), &longest, &[], false).unwrap();
        assert!(Receiver::new().receive::<ToInit>(&b, false).is_err());
    }
}
