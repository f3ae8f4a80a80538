//! What an environment needs of a sandbox, so that tests can put something else in its place.

use crate::launcher::watch;
use lambfold_sandbox::{
    Command, CreateError, Event, MemorySqueeze, ProcessId, Sandbox, Sandboxes, Spec,
};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// A connection that is being made to what listens inside a sandbox.
pub(crate) type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Called once, on any thread; must not block.
pub(crate) type OnMade = Box<dyn FnOnce(Result<Made, MakeError>) + Send>;

/// Makes sandboxes.
pub(crate) trait Isolation: Send + Sync + 'static {
    /// `patience`: how long it may wait for whoever makes it, should that have died.
    fn create(&self, spec: Spec, patience: Duration, done: OnMade);
}

/// A sandbox that was made, taken apart.
pub(crate) struct Made {
    /// Listening sockets of the inside, nonblocking.
    pub(crate) listeners: Vec<TcpListener>,
    /// Read end of the guests' output, nonblocking.
    pub(crate) output: OwnedFd,
    /// Readable when [`Cell::try_event`] has something to say.
    pub(crate) events: OwnedFd,
    /// The rest; dropping it destroys the sandbox.
    pub(crate) cell: Box<dyn Cell>,
}

/// Why a sandbox is not there.
#[derive(Debug)]
pub(crate) enum MakeError {
    Create(CreateError),
    /// Its descriptors could not be duplicated.
    Descriptors(io::Error),
}

/// Takes the guests' memory away and gives it back.
pub(crate) trait Squeeze: Send + Sync {
    /// Blocks for some milliseconds.
    fn lower(&self) -> io::Result<()>;
    fn restore(&self);
}

impl Squeeze for MemorySqueeze {
    fn lower(&self) -> io::Result<()> {
        MemorySqueeze::lower(self)
    }
    fn restore(&self) {
        MemorySqueeze::restore(self);
    }
}

/// A living sandbox. Nothing here blocks.
pub(crate) trait Cell: Send {
    fn try_event(&self) -> io::Result<Option<Event>>;
    /// The program that was started with the sandbox, told once.
    fn first(&mut self) -> Option<ProcessId>;
    /// `output`: where it writes, in place of the common pipe.
    fn spawn(&self, command: Command, output: Option<BorrowedFd<'_>>) -> io::Result<ProcessId>;
    /// With these as stdin, stdout and stderr.
    fn spawn_on(&self, command: Command, stdio: [BorrowedFd<'_>; 3]) -> io::Result<ProcessId>;
    fn signal_group(&self, process: ProcessId, signal: i32) -> io::Result<()>;
    fn kill_guests(&self) -> io::Result<()>;
    fn freeze(&self) -> io::Result<()>;
    fn thaw(&self) -> io::Result<()>;
    /// Connects to a port of the inside's 127.0.0.1.
    fn dial(&self, port: u16) -> Dialing;
    fn memory_peak_bytes(&self) -> Option<u64>;
    fn oom_kills(&self) -> Option<u64>;
    /// `None` where there is no memory limit.
    fn squeeze(&self) -> Option<Arc<dyn Squeeze>>;
}

impl Isolation for Sandboxes {
    fn create(&self, spec: Spec, patience: Duration, done: OnMade) {
        self.create_within(spec, patience, move |created| {
            done(
                created
                    .map_err(MakeError::Create)
                    .and_then(|sandbox| take_apart(sandbox).map_err(MakeError::Descriptors)),
            );
        });
    }
}

fn take_apart(mut sandbox: Sandbox) -> io::Result<Made> {
    Ok(Made {
        listeners: std::mem::take(&mut sandbox.listeners),
        output: sandbox.output.try_clone()?,
        events: sandbox.event_fd().try_clone_to_owned()?,
        cell: Box::new(sandbox),
    })
}

impl Cell for Sandbox {
    fn first(&mut self) -> Option<ProcessId> {
        self.take_first()
    }
    fn try_event(&self) -> io::Result<Option<Event>> {
        Sandbox::try_event(self)
    }
    fn spawn(&self, command: Command, output: Option<BorrowedFd<'_>>) -> io::Result<ProcessId> {
        match output {
            Some(output) => self.spawn_to(command, output),
            None => Sandbox::spawn(self, command),
        }
    }
    fn spawn_on(&self, command: Command, stdio: [BorrowedFd<'_>; 3]) -> io::Result<ProcessId> {
        Sandbox::spawn_on(self, command, stdio)
    }
    fn signal_group(&self, process: ProcessId, signal: i32) -> io::Result<()> {
        Sandbox::signal_group(self, process, signal)
    }
    fn freeze(&self) -> io::Result<()> {
        Sandbox::freeze(self)
    }
    fn thaw(&self) -> io::Result<()> {
        Sandbox::thaw(self)
    }
    fn dial(&self, port: u16) -> Dialing {
        let request = self.socket();
        Box::pin(async move {
            let request = watch(request?)?;
            let socket = loop {
                let mut ready = request.readable().await?;
                match request.get_ref().try_take()? {
                    Some(socket) => break socket,
                    None => ready.clear_ready(),
                }
            };
            TcpSocket::from_std_stream(socket).connect((Ipv4Addr::LOCALHOST, port).into()).await
        })
    }
    fn kill_guests(&self) -> io::Result<()> {
        Sandbox::kill_guests(self)
    }
    fn memory_peak_bytes(&self) -> Option<u64> {
        Sandbox::memory_peak_bytes(self)
    }
    fn oom_kills(&self) -> Option<u64> {
        Sandbox::oom_kills(self)
    }
    fn squeeze(&self) -> Option<Arc<dyn Squeeze>> {
        Some(Arc::new(self.memory_squeeze()?))
    }
}
