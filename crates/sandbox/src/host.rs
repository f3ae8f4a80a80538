//! The caller's side: asks a spawner for sandboxes and hands out what it makes.

mod check;
mod keep;
mod probe;
mod program;
mod relay;
mod sandbox;
mod squeeze;
mod stock;
pub(crate) mod sweep;
mod terminal;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

pub use probe::probe;
pub use program::Program;
pub use sandbox::{Sandbox, SocketRequest};
pub use squeeze::MemorySqueeze;
pub use sweep::sweep;
pub use terminal::{input_pipe, set_size, terminal};

use relay::Relay;
use stock::{Lack, Stock};

use crate::capabilities::Capabilities;
use crate::processors::Servers;
use crate::spawner;
use crate::spec::{self, Config, CreateError, Spec, StartError};
use crate::step::{Step, StepError};
use crate::wire::{self, FromSpawner, Order, Received, Receiver, ToSpawner};

/// For so long requests wait for the spawner that replaces a dead one; afterwards they fail at once,
/// until there is one.
const GIVEN_UP: Duration = Duration::from_secs(10);

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

/// The user that this process acts as (effective user id).
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

type Done = Box<dyn FnOnce(Result<Sandbox, CreateError>) + Send>;

/// What somebody asked for.
struct Request {
    spec: Spec,
    done: Done,
    /// It waits no longer for a spawner.
    until: Instant,
    /// The spawner that it was asked of first is dead.
    again: bool,
}

impl Request {
    fn fail(self, error: impl FnOnce(String) -> CreateError) {
        (self.done)(Err(error(self.spec.id)));
    }
}

/// A sandbox that the spawner makes.
struct Pending {
    control: OwnedFd,
    output: OwnedFd,
    then: Then,
}

/// Where a sandbox goes when it is made.
enum Then {
    Caller(Box<Request>),
    Stock,
}

/// A sandbox of the stock that the spawner finishes.
struct Filling {
    sandbox: Sandbox,
    request: Box<Request>,
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
    /// Requests for the spawner that is to replace a dead one, the oldest first.
    waiting: VecDeque<Box<Request>>,
    /// A spawner is dead, and another one is on its way.
    replacing: bool,
    /// When nobody waits for that one any longer.
    given_up: Option<Instant>,
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
    /// Whether somebody more waits for a spawner, or nobody does any longer.
    waiting: Condvar,
    capabilities: OnceLock<Capabilities>,
    servers: Mutex<Servers>,
}

/// Makes sandboxes. Dropping it destroys them all and waits until they are gone.
pub struct Sandboxes {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
            waiting: Condvar::new(),
            capabilities: OnceLock::new(),
            servers: Mutex::new(Servers::new()),
        });
        let (started, result) = mpsc::channel();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sandboxes".to_owned())
            .spawn(move || keep::keep(&for_thread, &started))
            .map_err(execute)?;
        let sandboxes = Sandboxes { shared, thread: Mutex::new(Some(thread)) };
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

    /// This thread serves sandboxes that run: while many are made at once it stays away from the
    /// processors on which they are made, until [`Sandboxes::leave_thread`].
    pub fn join_thread(&self) {
        self.shared.servers().join();
    }

    /// This thread ends, or has other things to do.
    pub fn leave_thread(&self) {
        self.shared.servers().leave();
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
        self.create_within(spec, GIVEN_UP, done);
    }

    /// [`Sandboxes::create`] for somebody who waits no longer than this, and no longer than 10 s, for
    /// another spawner where the spawner has died.
    pub fn create_within(
        &self,
        spec: Spec,
        patience: Duration,
        done: impl FnOnce(Result<Sandbox, CreateError>) + Send + 'static,
    ) {
        if let Err((field, reason)) = check::spec(&self.shared.config, &spec) {
            return done(Err(CreateError::Invalid { field, reason }));
        }
        let until = Instant::now() + patience.min(GIVEN_UP);
        let request = Box::new(Request { spec, done: Box::new(done), until, again: false });
        let refused = self.shared.lock().create(request, &self.shared);
        if let Err(refused) = refused {
            refused.tell();
        }
    }
}

/// A request that cannot be fulfilled.
struct Refused {
    request: Box<Request>,
    /// Of the system; none where there is no spawner.
    error: Option<io::Error>,
    /// What it was to be given.
    _sandbox: Option<Sandbox>,
}

impl Refused {
    /// Not under the lock, which whoever is told and the sandbox's end may take.
    fn tell(self) {
        let Refused { request, error, _sandbox } = self;
        request.fail(|id| match error {
            None => CreateError::SpawnerGone { id },
            Some(e) => CreateError::Request { id, errno: e.raw_os_error().unwrap_or(libc::EIO) },
        });
    }
}

impl Sandboxes {
    /// Destroys them all and waits until they are gone; from then on none is made. For who cannot
    /// know who else still has this value.
    pub fn end(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake();
        self.shared.waiting.notify_all();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Asks the spawner to kill a sandbox. When there is no spawner, the sandbox is dead.
    fn destroy(&self, ticket: u64) {
        let mut state = self.lock();
        let Some(socket) = state.socket.clone() else { return };
        let message = Order::Destroy { ticket };
        let _ = state.say(&socket, &self.wake, &message, None, Vec::new());
    }
}

impl State {
    /// Asks for what was requested, or lets it wait for a spawner. It is the request's end when it
    /// comes back.
    fn create(&mut self, request: Box<Request>, shared: &Shared) -> Result<(), Box<Refused>> {
        let wake = &shared.wake;
        let Some(socket) = self.socket.clone() else {
            shared.waiting.notify_all();
            let refuse = |request| Box::new(Refused { request, error: None, _sandbox: None });
            return self.wait(request).map_err(refuse);
        };
        let found = self.stock.take(&request.spec);
        self.stock.asked(&request.spec, Instant::now());
        let Some((ticket, sandbox)) = found else {
            return match self.ask(&socket, wake, &request.spec, true) {
                Ok((ticket, control, output)) => {
                    let then = Then::Caller(request);
                    self.pending.insert(ticket, Pending { control, output, then });
                    Ok(())
                }
                Err(e) => Err(Box::new(Refused { request, error: Some(e), _sandbox: None })),
            };
        };
        let message = Order::Fill { ticket, spec: &request.spec };
        match self.say(&socket, wake, &message, request.spec.first.as_ref(), Vec::new()) {
            Ok(()) => {
                self.filling.insert(ticket, Filling { sandbox, request });
                Ok(())
            }
            Err(e) => Err(Box::new(Refused { request, error: Some(e), _sandbox: Some(sandbox) })),
        }
    }

    /// Lets it wait for a spawner, if there is any hope of one.
    fn wait(&mut self, mut request: Box<Request>) -> Result<(), Box<Request>> {
        match self.given_up {
            Some(given_up) if !self.stopping && given_up > Instant::now() => {
                request.until = request.until.min(given_up);
                self.waiting.push_back(request);
                Ok(())
            }
            _ => Err(request),
        }
    }

    /// Asks for a sandbox: its ticket, and our ends of its control socket and its output.
    fn ask(
        &mut self,
        socket: &OwnedFd,
        wake: &OwnedFd,
        spec: &Spec,
        fill: bool,
    ) -> io::Result<(u64, OwnedFd, OwnedFd)> {
        let (control, theirs) = wire::pair()?;
        let (output, write) = output_pipe()?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let message = Order::Create { ticket, spec, fill };
        self.say(socket, wake, &message, spec.first.as_ref(), vec![theirs, write])?;
        Ok((ticket, control, output))
    }

    fn say(
        &mut self,
        socket: &OwnedFd,
        wake: &OwnedFd,
        message: &Order<&Spec>,
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
                match self.ask(socket, wake, &pattern, false) {
                    Ok((ticket, control, output)) => {
                        self.stock.making(*pattern);
                        self.pending.insert(ticket, Pending { control, output, then: Then::Stock });
                    }
                    Err(_) => self.stock.failed(),
                }
                (None, self.stock.surplus())
            }
        }
    }

    /// Sends now if that is possible without waiting, else leaves it to the thread: which also is
    /// about to see that the spawner is dead, and knows what to do with all that was asked of it.
    fn send(&mut self, socket: &OwnedFd, message: Unsent, wake: &OwnedFd) -> io::Result<()> {
        if self.unsent.is_empty() {
            match message.send(socket) {
                Err(e) if later(&e) => {}
                Err(e) if dead(&e) => return Ok(()),
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

/// Whether nobody is there any more, who may have left messages unread.
fn dead(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
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
    rules: Vec<OwnedFd>,
    /// Serves the sandboxes' name queries, where this machine alone reaches a name server.
    relay: Option<Relay>,
}

/// Starts a spawner and waits for its answer.
fn start_spawner(shared: &Shared) -> Result<Started, StartError> {
    let program = shared.config.program.executable();
    let failed = |source| StartError::Execute { program: program.path.clone(), source };
    let (ours, theirs) = wire::pair().map_err(failed)?;
    let (mut child, note) = program.spawn(theirs).map_err(failed)?;
    let answer =
        wire::send(ours.as_fd(), &ToSpawner::Start(Box::new(shared.config.clone())), &[], true)
            .and_then(|()| Receiver::new().receive(&ours, true));
    match answer {
        Ok(Received::Message(FromSpawner::Ready(mut capabilities), mut rules)) => {
            capabilities.notes.extend(note);
            let servers = &capabilities.relayed_name_servers;
            let sockets = rules.split_off(rules.len().saturating_sub(2 * servers.len()));
            let relay = (!servers.is_empty()).then(|| Relay::start(servers, sockets)).transpose();
            match relay {
                Ok(relay) => {
                    Ok(Started { socket: ours, child, capabilities: *capabilities, rules, relay })
                }
                Err(e) => {
                    drop(ours);
                    let _ = child.wait();
                    let what = "start what passes name queries on";
                    Err(StartError::Step(StepError::new(Step::NetworkLink, what, &e)))
                }
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_busy_whether_they_left_messages_unread_or_not() {
        let message = Unsent { bytes: b"{}".to_vec(), fds: Vec::new() };
        let (ours, theirs) = wire::pair().unwrap();
        let full = loop {
            if let Err(full) = message.send(&ours) {
                break full;
            }
        };
        assert!(later(&full) && !dead(&full), "{full}");
        drop(theirs);
        let unread = message.send(&ours).unwrap_err();
        let closed = message.send(&ours).unwrap_err();
        assert_eq!(unread.kind(), io::ErrorKind::ConnectionReset);
        assert!([&unread, &closed].into_iter().all(|e| dead(e) && !later(e)), "{closed}");
    }
}
