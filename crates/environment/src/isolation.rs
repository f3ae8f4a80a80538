//! What an environment needs of a sandbox, so that tests can put something else in its place.

use lambfold_sandbox::{Command, CreateError, Event, ProcessId, Sandbox, Sandboxes, Spec};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

/// Called once, on any thread; must not block.
pub(crate) type OnMade = Box<dyn FnOnce(Result<Made, MakeError>) + Send>;

/// Makes sandboxes.
pub(crate) trait Isolation: Send + Sync + 'static {
    fn create(&self, spec: Spec, done: OnMade);
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

/// A living sandbox. Nothing here blocks.
pub(crate) trait Cell: Send {
    fn try_event(&self) -> io::Result<Option<Event>>;
    fn spawn(&self, command: Command) -> io::Result<ProcessId>;
    fn kill_guests(&self) -> io::Result<()>;
    fn memory_peak_bytes(&self) -> Option<u64>;
    fn oom_kills(&self) -> Option<u64>;
}

impl Isolation for Sandboxes {
    fn create(&self, spec: Spec, done: OnMade) {
        Sandboxes::create(self, spec, move |created| {
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
    fn try_event(&self) -> io::Result<Option<Event>> {
        Sandbox::try_event(self)
    }
    fn spawn(&self, command: Command) -> io::Result<ProcessId> {
        Sandbox::spawn(self, command)
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
}
