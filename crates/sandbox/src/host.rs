//! The caller's side: asks a spawner for sandboxes and hands out what it makes.

mod check;
mod keep;
mod probe;
mod program;
mod sandbox;
mod squeeze;
mod stock;
pub(crate) mod sweep;
mod terminal;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

pub use probe::probe;
pub use program::Program;
pub use sandbox::{Sandbox, SocketRequest};
pub use squeeze::MemorySqueeze;
pub use sweep::sweep;
pub use terminal::{input_pipe, set_size, terminal};

use stock::{Lack, Stock};

use crate::capabilities::Capabilities;
use crate::spawner;
use crate::spec::{self, Config, CreateError, Spec, StartError};
use crate::wire::{self, FromSpawner, Received, Receiver, ToSpawner};

/// First statement of every `main`: never returns when this process is the spawner.
pub fn dispatch() {
    let role = std::env::args_os().next();
    if role.is_some_and(|role| role == spawner::ROLE) {
        std::process::exit(spawner::main());
    }
}

/// Whether this process is root (effective user id 0).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

type Done = Box<dyn FnOnce(Result<Sandbox, CreateError>) + Send>;

/// A sandbox that the spawner makes.
struct Pending {
    id: String,
    /// With [`Spec::first`].
    first: bool,
    control: OwnedFd,
    output: OwnedFd,
    then: Then,
}

/// Where a sandbox goes when it is made.
enum Then {
    Caller(Done),
    Stock,
}

/// A sandbox of the stock that the spawner finishes.
struct Filling {
    id: String,
    first: bool,
    sandbox: Sandbox,
    done: Done,
}

/// A message that the socket had no room for.
struct Unsent {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

#[derive(Default)]
struct State {
    /// `None` while there is no spawner.
    socket: Option<Arc<OwnedFd>>,
    spawner_pid: u32,
    pending: HashMap<u64, Pending>,
    filling: HashMap<u64, Filling>,
    stock: Stock,
    unsent: VecDeque<Unsent>,
    next_ticket: u64,
    stopping: bool,
}

/// What [`Sandboxes`], each [`Sandbox`] and the thread share.
struct Shared {
    config: Config,
    state: Mutex<State>,
    /// Wakes the thread.
    wake: OwnedFd,
    capabilities: OnceLock<Capabilities>,
}

/// Makes sandboxes. Dropping it destroys them all and waits until they are gone.
pub struct Sandboxes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandboxes").field("owner", &self.shared.config.owner).finish()
    }
}

/// A pipe for what guests write, and whose reading end does not block. Guests can open it anew, as
/// scripts do that write to `/dev/stderr`, but only for writing.
///
/// # Errors
/// No descriptor is left.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    rustix::fs::fchmod(&write, rustix::fs::Mode::from_raw_mode(0o222))?;
    Ok((read, write))
}

impl Sandboxes {
    /// Sweeps what an earlier run left, starts the spawner, and returns when it is ready.
    pub fn start(mut config: Config) -> Result<Sandboxes, StartError> {
        check::fault_of_environment(&mut config)?;
        check::config(&config)?;
        let execute =
            |source| StartError::Execute { program: config.program.executable().path, source };
        sweep(&config.owner, &config.work_dir)
            .map_err(|source| StartError::WorkDir { path: config.work_dir.clone(), source })?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| execute(e.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stock: Stock::new(config.stock.as_ref()),
                ..State::default()
            }),
            config: config.clone(),
            wake,
            capabilities: OnceLock::new(),
        });
        let (started, result) = mpsc::channel();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sandboxes".to_owned())
            .spawn(move || keep::keep(&for_thread, &started))
            .map_err(execute)?;
        let sandboxes = Sandboxes { shared, thread: Some(thread) };
        result.recv().unwrap_or(Err(StartError::Died))?;
        Ok(sandboxes)
    }

    /// What sandboxes made here have.
    pub fn capabilities(&self) -> &Capabilities {
        // Set before `start` returned.
        self.shared.capabilities.get_or_init(|| unreachable!("a started spawner has reported"))
    }

    /// Process id of the spawner, for those who watch it; 0 while it is being replaced.
    pub fn spawner_pid(&self) -> u32 {
        self.shared.lock().spawner_pid
    }

    /// How many sandboxes of [`Config::stock`] are ready to be given away.
    pub fn in_stock(&self) -> usize {
        self.shared.lock().stock.len()
    }

    /// Makes a sandbox; `done` is called once, mostly on a thread of this crate: it must not block.
    pub fn create(
        &self,
        spec: Spec,
        done: impl FnOnce(Result<Sandbox, CreateError>) + Send + 'static,
    ) {
        let id = spec.id.clone();
        if let Err((done, error)) = self.try_create(spec, Box::new(done)) {
            done(Err(match error {
                Refused::Field(field, reason) => CreateError::Invalid { field, reason },
                Refused::Gone => CreateError::SpawnerGone { id },
                Refused::System(e) => {
                    CreateError::Request { id, errno: e.raw_os_error().unwrap_or(libc::EIO) }
                }
            }));
        }
    }

    fn try_create(&self, spec: Spec, done: Done) -> Result<(), (Done, Refused)> {
        if let Err((field, reason)) = check::spec(&self.shared.config, &spec) {
            return Err((done, Refused::Field(field, reason)));
        }
        let mut state = self.shared.lock();
        let Some(socket) = state.socket.clone() else { return Err((done, Refused::Gone)) };
        let found = state.stock.take(&spec);
        state.stock.asked(&spec, Instant::now());
        let (id, first) = (spec.id.clone(), spec.first.is_some());
        let Some((ticket, sandbox)) = found else {
            let asked = state.ask(&socket, &self.shared.wake, spec, true);
            return match asked {
                Ok((ticket, control, output)) => {
                    let then = Then::Caller(done);
                    state.pending.insert(ticket, Pending { id, first, control, output, then });
                    Ok(())
                }
                Err(e) => Err((done, Refused::System(e))),
            };
        };
        let command = spec.first.clone();
        let message = ToSpawner::Fill { ticket, spec: Box::new(spec) };
        let wake = &self.shared.wake;
        match state.say(&socket, wake, &message, command.as_ref(), Vec::new()) {
            Ok(()) => {
                state.filling.insert(ticket, Filling { id, first, sandbox, done });
                Ok(())
            }
            Err(e) => {
                // Dropping it takes the lock.
                drop(state);
                drop(sandbox);
                Err((done, Refused::System(e)))
            }
        }
    }
}

enum Refused {
    Field(&'static str, String),
    Gone,
    System(io::Error),
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Asks the spawner to kill a sandbox. When there is no spawner, the sandbox is dead.
    fn destroy(&self, ticket: u64) {
        let mut state = self.lock();
        let Some(socket) = state.socket.clone() else { return };
        let message = ToSpawner::Destroy { ticket };
        let _ = state.say(&socket, &self.wake, &message, None, Vec::new());
    }
}

impl State {
    /// Asks for a sandbox: its ticket, and our ends of its control socket and its output.
    fn ask(
        &mut self,
        socket: &OwnedFd,
        wake: &OwnedFd,
        spec: Spec,
        fill: bool,
    ) -> io::Result<(u64, OwnedFd, OwnedFd)> {
        let (control, theirs) = wire::pair()?;
        let (output, write) = output_pipe()?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let first = spec.first.clone();
        let message = ToSpawner::Create { ticket, spec: Box::new(spec), fill };
        self.say(socket, wake, &message, first.as_ref(), vec![theirs, write])?;
        Ok((ticket, control, output))
    }

    fn say(
        &mut self,
        socket: &OwnedFd,
        wake: &OwnedFd,
        message: &ToSpawner,
        first: Option<&spec::Command>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        if let Some(first) = first {
            bytes.push(wire::SEPARATOR);
            serde_json::to_writer(&mut bytes, first)?;
        }
        self.send(socket, Unsent { bytes, fds }, wake)
    }

    /// Makes a sandbox for the stock where there is one too few and the moment is quiet. Returns
    /// for how long it is to be quiet first, and what is in the stock in its place.
    fn restock(&mut self, socket: &OwnedFd, wake: &OwnedFd) -> (Option<Duration>, Option<Sandbox>) {
        if !self.pending.is_empty() {
            // Its answer comes by here.
            return (None, None);
        }
        match self.stock.lacks(Instant::now()) {
            Lack::Nothing => (None, None),
            Lack::Later(wait) => (Some(wait), None),
            Lack::One(pattern) => {
                match self.ask(socket, wake, Spec::clone(&pattern), false) {
                    Ok((ticket, control, output)) => {
                        self.stock.making(*pattern);
                        let pending = Pending {
                            id: String::new(),
                            first: false,
                            control,
                            output,
                            then: Then::Stock,
                        };
                        self.pending.insert(ticket, pending);
                    }
                    Err(_) => self.stock.failed(),
                }
                (None, self.stock.surplus())
            }
        }
    }

    /// Sends now if that is possible without waiting, else leaves it to the thread.
    fn send(&mut self, socket: &OwnedFd, message: Unsent, wake: &OwnedFd) -> io::Result<()> {
        if self.unsent.is_empty() {
            match message.send(socket) {
                Err(e) if later(&e) => {}
                other => return other,
            }
        }
        self.unsent.push_back(message);
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        Ok(())
    }
}

/// Whether sending is a matter of waiting: a full queue, or too many descriptors under way.
fn later(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock || e.raw_os_error() == Some(libc::ETOOMANYREFS)
}

impl Unsent {
    fn send(&self, socket: &OwnedFd) -> io::Result<()> {
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        wire::send_bytes(socket.as_fd(), &self.bytes, &fds, false)
    }
}

/// A spawner that is ready.
struct Started {
    socket: OwnedFd,
    child: Child,
    capabilities: Capabilities,
    /// The socket that the host's table of packet rules belongs to: should the spawner be killed,
    /// its sandboxes are gone before the rules that hold them.
    _rules: Vec<OwnedFd>,
}

/// Starts a spawner and waits for its answer.
fn start_spawner(shared: &Shared) -> Result<Started, StartError> {
    let program = shared.config.program.executable();
    let failed = |source| StartError::Execute { program: program.path.clone(), source };
    let (ours, theirs) = wire::pair().map_err(failed)?;
    let mut child = program.spawn(theirs).map_err(failed)?;
    let answer =
        wire::send(ours.as_fd(), &ToSpawner::Start(Box::new(shared.config.clone())), &[], true)
            .and_then(|()| Receiver::new().receive(&ours, true));
    match answer {
        Ok(Received::Message(FromSpawner::Ready(capabilities), _rules)) => {
            Ok(Started { socket: ours, child, capabilities: *capabilities, _rules })
        }
        other => {
            drop(ours);
            let end = child.wait();
            match other {
                _ if end.is_ok_and(|end| end.code() == Some(spawner::OTHER_SOURCES)) => {
                    Err(StartError::OtherSources)
                }
                Ok(Received::Message(FromSpawner::StartFailed(error), _)) => {
                    Err(StartError::Step(error))
                }
                _ => Err(StartError::Died),
            }
        }
    }
}
