//! Messages between host, spawner and pid 1: one JSON document a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
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

/// After a message that has a [`Command`] beside it, for a guest: whoever passes that on need not
/// read it. No JSON text that is written here has this byte.
pub(crate) const SEPARATOR: u8 = b'\n';

/// Host to spawner; the first program of a sandbox is beside it. Whoever sends it keeps the
/// specification, and should the spawner die asks the next one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order<S> {
    /// The first message.
    Start(Box<Config>),
    /// With the control socket of pid 1 and the write end of the output pipe. Without `fill` it
    /// is made for nobody yet: it gets no views, and its limits may be changed once more.
    Create { ticket: u64, spec: S, fill: bool },
    /// Does for a sandbox that was made ahead what was left out.
    Fill { ticket: u64, spec: S },
    /// Kills it, if it still lives.
    Destroy { ticket: u64 },
}

/// As the spawner reads it.
pub(crate) type ToSpawner = Order<Box<Spec>>;

/// Spawner, or a pid 1 during setup, to host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSpawner {
    /// Preparation is done.
    Ready(Box<Capabilities>),
    /// Preparation failed; the spawner ends.
    StartFailed(StepError),
    /// From pid 1, with the listeners and then what `files` says. A sandbox without namespaces has a
    /// `keeper` in the place of pid 1, and this is its id.
    Created {
        ticket: u64,
        timings: Vec<StepTiming>,
        listeners: usize,
        files: StatFiles,
        keeper: Option<u32>,
    },
    /// A sandbox that was made ahead is whole.
    Filled { ticket: u64, timings: Vec<StepTiming> },
    /// Setup failed.
    Failed { ticket: u64, error: StepError },
    /// Pid 1 is dead and its control groups are gone.
    Reaped { ticket: u64, status: ExitStatus },
    /// Many sandboxes are wanted at once, or no longer.
    Burst(bool),
    /// A fault point was reached.
    Fault(Victim),
}

/// Which descriptors of the guest's control group follow the listeners, in this order.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct StatFiles {
    /// `memory.max_usage_in_bytes` or `memory.peak`, or what a keeper writes in their place.
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
    /// three are its stdin, stdout and stderr. `blank`: it may be in the guest that was made ahead,
    /// which has no other orders.
    Spawn { process: ProcessId, command: Command, blank: bool },
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

/// Receives messages; keeps its buffer, which is as large as the largest of them: memory that is
/// touched is memory that each fork copies and each execution lets go.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    buffer: Vec<u8>,
    /// What was beside the last message.
    beside: std::ops::Range<usize>,
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
    pub(crate) fn new() -> Receiver {
        Receiver::default()
    }

    /// What was beside the message that was received last.
    pub(crate) fn beside(&self) -> Option<&[u8]> {
        self.buffer.get(self.beside.clone()).filter(|bytes| !bytes.is_empty())
    }

    /// Bytes of the next message, without taking it; `None`: nothing now.
    fn length(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<usize>> {
        loop {
            let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
            match rustix::net::recv(&socket, &mut [0u8; 0], peek) {
                Ok((_, length)) => return Ok(Some(length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::CONNRESET) => return Ok(Some(0)),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether a message waits to be received.
    pub(crate) fn has_more(socket: impl AsFd) -> bool {
        matches!(Receiver::length(socket, RecvFlags::DONTWAIT), Ok(Some(length)) if length > 0)
    }

    /// Receives one message; with `wait`, blocks for it. A packet that is no message is an error.
    pub(crate) fn receive<M: DeserializeOwned>(
        &mut self,
        socket: impl AsFd,
        wait: bool,
    ) -> io::Result<Received<M>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_MAX_FDS))];
        let waiting = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let flags = waiting | RecvFlags::CMSG_CLOEXEC;
        loop {
            match Receiver::length(&socket, waiting)? {
                None => return Ok(Received::Nothing),
                Some(length) if length > MESSAGE_MAX_BYTES => {
                    return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
                }
                Some(length) if length > self.buffer.len() => self.buffer.resize(length, 0),
                Some(_) => {}
            }
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
            let end = self.buffer[..got.bytes].iter().position(|byte| *byte == SEPARATOR);
            let end = end.unwrap_or(got.bytes);
            self.beside = (end + 1).min(got.bytes)..got.bytes;
            let message = serde_json::from_slice(&self.buffer[..end])?;
            return Ok(Received::Message(message, fds));
        }
    }
}

/// Waits until one of these can be read from or has ended; which of them. None where a signal came
/// between: the caller asks again.
pub(crate) fn wait_readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match rustix::event::poll(&mut polls, None) {
        Err(rustix::io::Errno::INTR) => return Ok([false; N]),
        other => other?,
    };
    Ok(polls.map(|poll| !poll.revents().is_empty()))
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
