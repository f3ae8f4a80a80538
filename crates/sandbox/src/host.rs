//! The caller's side.
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::capabilities::Capabilities;
use crate::spec::{Command, Config, CreateError, Event, ProcessId, Spec, StartError};
use crate::step::{StepReport, StepTiming};

/// First statement of every `main`: never returns when this process is the spawner.
pub fn dispatch() {}

/// Whether this process is root (effective user id 0).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Removes what an earlier run of this owner left: processes, control groups, files.
pub fn sweep(owner: &str, work_dir: &Path) -> io::Result<()> {
    let _ = (owner, work_dir);
    Ok(())
}

/// Performs every step once and says what holds; for `doctor`.
pub fn probe(config: Config) -> Vec<StepReport> {
    let _ = config;
    Vec::new()
}

/// Makes sandboxes.
#[derive(Debug)]
pub struct Sandboxes {
    capabilities: Capabilities,
}

impl Sandboxes {
    /// Sweeps, starts the spawner, and returns when it is ready.
    pub fn start(config: Config) -> Result<Sandboxes, StartError> {
        let _ = config;
        Err(StartError::Died)
    }

    /// What sandboxes made here have.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Makes a sandbox; `done` is called once, on a thread of this crate: it must not block.
    pub fn create(
        &self,
        spec: Spec,
        done: impl FnOnce(Result<Sandbox, CreateError>) + Send + 'static,
    ) {
        done(Err(CreateError::SpawnerGone { id: spec.id }));
    }
}

/// A living sandbox; dropping it destroys it.
#[derive(Debug)]
pub struct Sandbox {
    /// Listening sockets of the inside, in the order of [`Spec::listeners`]; nonblocking.
    pub listeners: Vec<TcpListener>,
    /// Read end of the one pipe that is stdout and stderr of every guest; nonblocking.
    pub output: OwnedFd,
    control: OwnedFd,
    timings: Vec<StepTiming>,
}

impl Sandbox {
    /// Readable when [`Sandbox::try_event`] has something to say.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
    /// The next event, if there is one; never blocks. After [`Event::Gone`], `Gone` again.
    pub fn try_event(&self) -> io::Result<Option<Event>> {
        Ok(Some(Event::Gone))
    }
    /// Starts a program; what came of it arrives as an [`Event`].
    pub fn spawn(&self, command: Command) -> io::Result<ProcessId> {
        let _ = command;
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
    /// Sends a signal to a process that was started by [`Sandbox::spawn`] (not to its children).
    pub fn signal(&self, process: ProcessId, signal: i32) -> io::Result<()> {
        let _ = (process, signal);
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
    /// Kills everything but pid 1, frozen or not; `/tmp` is kept. Answered by
    /// [`Event::GuestsKilled`].
    pub fn kill_guests(&self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
    /// Stops every guest from running.
    pub fn freeze(&self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
    /// Lets the guests run again.
    pub fn thaw(&self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::NotConnected))
    }
    /// Most memory that the guests held together since the last reset; `None` where it is not
    /// counted.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        None
    }
    /// Lets the peak start again from what is held now.
    pub fn reset_memory_peak(&self) {}
    /// Guests killed because the memory limit was reached; `None` where it is not counted.
    pub fn oom_kills(&self) -> Option<u64> {
        None
    }
    /// How long each setup step took.
    pub fn timings(&self) -> &[StepTiming] {
        &self.timings
    }
}
