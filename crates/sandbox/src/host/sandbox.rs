//! The handle of one sandbox.

use std::io::{self, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Shared;
use crate::spec::{Command, CreateError, Event, ProcessId};
use crate::step::StepTiming;
use crate::wire::{self, FromInit, Received, Receiver, StatFiles, ToInit};

/// A living sandbox; dropping it destroys it.
pub struct Sandbox {
    /// Listening sockets of the inside, in the order of [`crate::Spec::listeners`]; nonblocking.
    pub listeners: Vec<TcpListener>,
    /// Read end of the one pipe that is stdout and stderr of every guest; nonblocking.
    pub output: OwnedFd,
    id: String,
    ticket: u64,
    shared: Arc<Shared>,
    control: OwnedFd,
    timings: Vec<StepTiming>,
    next_process: AtomicU32,
    /// The guest that was made ahead has its orders with the sandbox.
    first: bool,
    first_untold: bool,
    from_stock: bool,
    peak: Option<OwnedFd>,
    /// Where there are no namespaces: whose offspring the guests are.
    keeper: Option<u32>,
    pub(super) oom: Option<OwnedFd>,
    freeze: Option<OwnedFd>,
    freezer: Option<OwnedFd>,
}

/// What a sandbox is put together from.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) ticket: u64,
    pub(super) first: bool,
    pub(super) control: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) timings: Vec<StepTiming>,
    pub(super) listeners: usize,
    pub(super) files: StatFiles,
    pub(super) keeper: Option<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("id", &self.id).finish()
    }
}

impl Sandbox {
    pub(super) fn new(shared: Arc<Shared>, made: Made) -> Result<Sandbox, CreateError> {
        let Made { id, ticket, first, control, output, timings, listeners, files, keeper, fds } =
            made;
        let expected = listeners
            + [files.peak, files.oom, files.freeze, files.freezer].iter().filter(|f| **f).count();
        if fds.len() != expected {
            shared.destroy(ticket);
            return Err(CreateError::Request { id, errno: libc::EPROTO });
        }
        let mut fds = fds.into_iter();
        let listeners = fds.by_ref().take(listeners).map(TcpListener::from).collect();
        let mut take = |there: bool| if there { fds.next() } else { None };
        let (peak, oom) = (take(files.peak), take(files.oom));
        let (freeze, freezer) = (take(files.freeze), take(files.freezer));
        Ok(Sandbox {
            listeners,
            output,
            id,
            ticket,
            shared,
            control,
            timings,
            next_process: AtomicU32::new(ProcessId::FIRST.0 + 1),
            first,
            first_untold: first,
            from_stock: false,
            peak,
            keeper,
            oom,
            freeze,
            freezer,
        })
    }

    /// It was made ahead, and is somebody's now.
    pub(super) fn fill(&mut self, id: String, first: bool, timings: Vec<StepTiming>) {
        self.id = id;
        (self.first, self.first_untold) = (first, first);
        self.from_stock = true;
        self.timings.extend(timings);
        self.timings.sort_by_key(|timing| timing.step);
    }

    /// The id of its specification.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it was made before anybody asked for it ([`crate::Config::stock`]).
    pub fn from_stock(&self) -> bool {
        self.from_stock
    }

    /// The program that was started with the sandbox, where [`crate::Spec::first`] asked for one;
    /// once.
    pub fn take_first(&mut self) -> Option<ProcessId> {
        std::mem::take(&mut self.first_untold).then_some(ProcessId::FIRST)
    }

    /// Readable when [`Sandbox::try_event`] has something to say.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The next event, if there is one; never blocks. After [`Event::Gone`], `Gone` again.
    pub fn try_event(&self) -> io::Result<Option<Event>> {
        match Receiver::new().receive::<FromInit>(&self.control, false) {
            Ok(Received::Message(event, _)) => Ok(Some(event)),
            Ok(Received::Nothing) => Ok(None),
            Ok(Received::End) => Ok(Some(Event::Gone)),
            Err(e) => Err(e),
        }
    }

    fn say(&self, message: &ToInit) -> io::Result<()> {
        wire::send(self.control.as_fd(), message, &[], false)
    }

    /// Starts a program; what came of it arrives as an [`Event`]. `EMSGSIZE`: the command with its
    /// environment is larger than 192 KiB. `EPIPE`: the sandbox is gone.
    pub fn spawn(&self, command: Command) -> io::Result<ProcessId> {
        self.spawn_with(command, &[])
    }

    /// [`Sandbox::spawn`] with a pipe or file of the caller's as stdout and stderr.
    pub fn spawn_to(&self, command: Command, output: BorrowedFd<'_>) -> io::Result<ProcessId> {
        self.spawn_with(command, &[output])
    }

    /// [`Sandbox::spawn`] with stdin, stdout and stderr of the caller's. Where stdin is a terminal,
    /// such as [`terminal`](crate::terminal) makes, it is the process's controlling one.
    pub fn spawn_on(&self, command: Command, stdio: [BorrowedFd<'_>; 3]) -> io::Result<ProcessId> {
        self.spawn_with(command, &stdio)
    }

    fn spawn_with(&self, command: Command, fds: &[BorrowedFd<'_>]) -> io::Result<ProcessId> {
        let process = ProcessId(self.next_process.fetch_add(1, Ordering::Relaxed));
        let message = ToInit::Spawn { process, command, blank: !self.first };
        wire::send(self.control.as_fd(), &message, fds, false)?;
        Ok(process)
    }

    /// Sends a signal to a process that was started by [`Sandbox::spawn`] (not to its children);
    /// one that has ended meanwhile is no error.
    pub fn signal(&self, process: ProcessId, signal: i32) -> io::Result<()> {
        self.say(&ToInit::Signal { process, signal, group: false })
    }

    /// Sends a signal to the process group of a process that was started by [`Sandbox::spawn`];
    /// each leads a group, and a session, of its own.
    pub fn signal_group(&self, process: ProcessId, signal: i32) -> io::Result<()> {
        self.say(&ToInit::Signal { process, signal, group: true })
    }

    /// Asks for a TCP socket of the inside's network, to connect to a guest that listens there.
    pub fn socket(&self) -> io::Result<SocketRequest> {
        let (ours, theirs) = wire::pair()?;
        wire::send(self.control.as_fd(), &ToInit::Socket, &[theirs.as_fd()], false)?;
        Ok(SocketRequest(ours))
    }

    /// Kills everything but pid 1, frozen or not; `/tmp` is kept. Answered by
    /// [`Event::GuestsKilled`], after the `Exited` of each process that was started here.
    pub fn kill_guests(&self) -> io::Result<()> {
        // A v1 freezer holds even the dying, and a later guest must not start frozen.
        self.thaw()?;
        self.say(&ToInit::KillGuests)
    }

    /// Stops every guest from running.
    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)
    }

    /// Lets the guests run again.
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        if let Some(file) = &self.freeze {
            return put(file, if frozen { b"1" } else { b"0" });
        }
        if let Some(file) = &self.freezer {
            return put(file, if frozen { b"FROZEN" } else { b"THAWED" });
        }
        self.say(&ToInit::Stop(frozen))
    }

    /// Most memory that the guests held together since the last reset; `None` where it is not
    /// counted. Without namespaces: the most that each of those that run has held, together, or what
    /// one that has ended held, if that was more.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let counted = read(self.peak.as_ref()?)?.trim().parse().ok()?;
        let running = self.keeper.map_or(0, crate::processes::memory_peak_bytes);
        Some(running.max(counted))
    }

    /// Lets the peak start again from what is held now; without effect where the kernel cannot
    /// (cgroup v2 before Linux 6.12, and sandboxes without namespaces).
    pub fn reset_memory_peak(&self) {
        if let (Some(file), None) = (&self.peak, self.keeper) {
            let _ = put(file, b"0");
        }
    }

    /// Guests killed because the memory limit was reached; `None` where it is not counted.
    pub fn oom_kills(&self) -> Option<u64> {
        let text = read(self.oom.as_ref()?)?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// How long each setup step took, in order.
    pub fn timings(&self) -> &[StepTiming] {
        &self.timings
    }
}

/// A socket of the inside's network that is on its way; see [`Sandbox::socket`].
#[derive(Debug)]
pub struct SocketRequest(OwnedFd);

impl SocketRequest {
    /// The socket, neither bound nor connected, nonblocking; `None` until the descriptor of this
    /// request is readable. Never blocks.
    ///
    /// # Errors
    /// `ConnectionAborted`: the sandbox is gone, or its kernel has no socket for it.
    pub fn try_take(&self) -> io::Result<Option<TcpStream>> {
        match Receiver::new().receive::<ToInit>(&self.0, false)? {
            Received::Message(ToInit::Socket, fds) => match fds.into_iter().next() {
                Some(fd) => Ok(Some(fd.into())),
                None => Err(io::ErrorKind::ConnectionAborted.into()),
            },
            Received::Nothing => Ok(None),
            Received::Message(..) | Received::End => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl AsFd for SocketRequest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SocketRequest {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Pid 1 ends when its control socket closes; should it be stuck, the spawner kills it.
        self.shared.destroy(self.ticket);
    }
}

fn put(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    rustix::io::pwritev(file, &[IoSlice::new(bytes)], 0)?;
    Ok(())
}

fn read(file: &OwnedFd) -> Option<String> {
    let mut bytes = [0u8; 4096];
    let length = rustix::io::pread(file, &mut bytes, 0).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}
