//! The spawner: a program of its own, or the host's executed once more ([`crate::Program`]), with one
//! thread and an empty environment, whose clones become the sandboxes' first processes.
//!
//! It waits for three things only: the host's socket, dead children, and `/tmp` images that are
//! ready. When the host hangs up, however it ended, all sandboxes are killed and their control
//! groups removed.

mod create;
mod prepare;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::capabilities::Capabilities;
use crate::cgroup::{Group, Hierarchies, Limits};
use crate::ids::Ids;
use crate::init::exit_status;
use crate::network::{Prepared, Seat, Way};
use crate::processors::Makers;
use crate::seccomp::Filter;
use crate::spec::{Config, ExitStatus, Isolation, Spec};
use crate::step::StepError;
use crate::sys;
use crate::tmp::Maker;
use crate::wire::{self, FromSpawner, Received, Receiver, ToSpawner};

/// Name by which [`crate::dispatch`] knows the role; `ps` shows it.
pub(crate) const ROLE: &str = "lambfold-sandbox-spawner";

/// The sources that this was built from.
pub(crate) const SOURCES: &str = env!("LAMBFOLD_SANDBOX_SOURCES");
/// Exit code of a spawner whose host was built from others.
pub(crate) const OTHER_SOURCES: i32 = 3;

/// Groups and user namespaces that are kept ready.
const READY_PARTS: usize = 4;
/// For so long nobody must have asked for anything before things are made ready: they would take
/// the processor from a sandbox that is just starting.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Of the stack, used by what handles a message at least.
const STACK_BYTES: usize = 16 << 10;
/// Images that are kept ready of each size in use.
const READY_IMAGES: usize = 3;
/// Sizes of which images are kept ready.
const READY_SIZES: usize = 8;

/// What a sandbox needs and does not depend on its specification.
struct Parts {
    group: Group,
    namespace: OwnedFd,
    /// The guest's id on the host, as root.
    user: u32,
    /// Made ahead only.
    network: Option<Prepared>,
}

/// A request that waits for its image.
struct Waiting {
    ticket: u64,
    spec: Box<Spec>,
    /// Its first program, as the guest is told it.
    first: Option<Vec<u8>>,
    /// It is for somebody, and not made ahead.
    fill: bool,
    control: OwnedFd,
    output: OwnedFd,
}

struct Living {
    ticket: u64,
    group: u64,
    seat: Option<Seat>,
    /// It was made ahead, and is nobody's yet.
    unfilled: Option<Unfilled>,
}

/// What it takes to finish a sandbox that was made ahead.
struct Unfilled {
    /// Its mount namespace.
    mounts: OwnedFd,
    group: Group,
    /// The limits that the group has.
    limits: Limits,
    /// Where its first guest is told its program.
    orders: OwnedFd,
    /// Its `/tmp` is charged to its guests.
    tmpfs: bool,
}

/// Images of one size.
#[derive(Default)]
struct Stock {
    ready: Vec<OwnedFd>,
    asked: usize,
    waiting: VecDeque<Waiting>,
}

struct Spawner {
    config: Config,
    socket: OwnedFd,
    /// Tells the next spawner of this owner that this one still lives.
    _lock: std::fs::File,
    signals: OwnedFd,
    own_pidfd: OwnedFd,
    null: OwnedFd,
    /// The host's `/proc`, open.
    proc: OwnedFd,
    /// Mount namespace that follows the host's: sources of views are looked up there.
    host_mounts: OwnedFd,
    own_mounts: OwnedFd,
    /// The like with another root, by the names of the configuration.
    more_roots: BTreeMap<String, OwnedFd>,
    own_network: OwnedFd,
    /// How sandboxes reach more than themselves, where they do; the router of `nat` is the network
    /// of this process.
    way: Option<Way>,
    /// Addresses that the last sandbox had, and the next one will have.
    addresses: Vec<Ipv4Addr>,
    /// User namespace whose map shows root's files as root's inside.
    file_map: Option<OwnedFd>,
    ids: Ids,
    filter: Filter,
    groups: Hierarchies,
    maker: Option<Maker>,
    makers: Makers,
    capabilities: Capabilities,
    parts: Vec<Parts>,
    stocks: HashMap<u64, Stock>,
    living: HashMap<Pid, Living>,
    /// Closed in a quiet moment: a guest has just been told its program, and may need this processor.
    spent: Vec<Unfilled>,
    /// The living by their tickets.
    tickets: HashMap<u64, Pid>,
}

/// The role's main: returns its exit code.
pub(crate) fn main() -> i32 {
    if std::env::args().nth(1).as_deref() != Some(SOURCES) {
        return OTHER_SOURCES;
    }
    match run() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn run() -> io::Result<()> {
    // Number 0 is the socket: the only descriptor that the host passes.
    // Inherited by every guest.
    sys::default_signals();
    let socket = rustix::io::fcntl_dupfd_cloexec(sys::adopt(0), 3)?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let null = rustix::io::fcntl_dupfd_cloexec(null, 3)?;
    sys::duplicate_to(null.as_fd(), 0)?;
    use std::os::fd::AsRawFd;
    sys::close_all_but(&[0, 1, 2, socket.as_raw_fd(), null.as_raw_fd()])?;
    rustix::thread::set_name(c"lambfold-spawn")?;
    // Out of the terminal's group: an interrupt is for the host, which stops sandboxes in order.
    let _ = rustix::process::setsid();
    let mut receiver = Receiver::new();
    let config = match receiver.receive(&socket, true)? {
        Received::Message(ToSpawner::Start(config), _) => *config,
        _ => return Err(io::Error::from_raw_os_error(libc::EPROTO)),
    };
    if config.isolation == Isolation::Process {
        return crate::processes::run(config, socket, null, &mut receiver);
    }
    let mut spawner = match prepare::prepare(config, socket.try_clone()?, null) {
        Ok(spawner) => spawner,
        Err(error) => {
            return wire::send(socket.as_fd(), &FromSpawner::StartFailed(error), &[], true);
        }
    };
    drop(socket);
    let ready = FromSpawner::Ready(Box::new(spawner.capabilities.clone()));
    let beside: Vec<_> = spawner.way.iter().flat_map(Way::sockets_of_host).collect();
    wire::send(spawner.socket.as_fd(), &ready, &beside, true)?;
    drop(beside);
    if let Some(Way::Nat(nat)) = &mut spawner.way {
        nat.name_sockets.clear();
    }
    sys::trim_memory();
    let outcome = spawner.serve(&mut receiver);
    spawner.end();
    outcome
}

impl Spawner {
    fn serve(&mut self, receiver: &mut Receiver) -> io::Result<()> {
        // Whether there is something to make ready, which waits for a quiet moment.
        let mut to_do = true;
        loop {
            let mut polls = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            polls.extend(self.maker.as_ref().map(|m| PollFd::new(m, PollFlags::IN)));
            match rustix::event::poll(&mut polls, to_do.then_some(&QUIET)) {
                Ok(0) => {
                    drop(polls);
                    self.spent.clear();
                    if self.waiting() == 0 && self.makers.quiet() {
                        self.burst(false)?;
                    }
                    to_do = self.make_ready()?;
                    if !to_do {
                        self.rehearse();
                    }
                    continue;
                }
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = polls.iter().map(|p| !p.revents().is_empty()).collect();
            drop(polls);
            if ready[1] {
                self.reap()?;
            }
            if ready.get(2) == Some(&true) {
                self.images()?;
            }
            if ready[0] {
                to_do = true;
                match receiver.receive(&self.socket, false)? {
                    Received::Message(message, fds) => {
                        // A sandbox's end is no request.
                        let request = !matches!(message, ToSpawner::Destroy { .. });
                        self.handle(message, fds, receiver.beside())?;
                        if request {
                            let more = Receiver::has_more(&self.socket);
                            if self.makers.requested(more, self.waiting()) {
                                self.burst(true)?;
                            }
                        }
                    }
                    Received::Nothing => {}
                    Received::End => return Ok(()),
                }
            }
        }
    }

    fn handle(
        &mut self,
        message: ToSpawner,
        fds: Vec<OwnedFd>,
        first: Option<&[u8]>,
    ) -> io::Result<()> {
        match message {
            ToSpawner::Create { ticket, spec, fill } => {
                let mut fds = fds.into_iter();
                let (Some(control), Some(output)) = (fds.next(), fds.next()) else {
                    return Err(io::Error::from_raw_os_error(libc::EPROTO));
                };
                let first = first.map(<[u8]>::to_vec);
                self.create(Waiting { ticket, spec, first, fill, control, output })
            }
            ToSpawner::Fill { ticket, spec } => self.fill(ticket, &spec, first),
            ToSpawner::Destroy { ticket } => {
                if let Some(pid) = self.tickets.get(&ticket) {
                    kill(*pid);
                }
                Ok(())
            }
            ToSpawner::Start(_) => Err(io::Error::from_raw_os_error(libc::EPROTO)),
        }
    }

    /// Does for nothing what is done when a sandbox that was made ahead is filled: the memory that it
    /// takes is shared with the copies of this process until it is written to, and the first write
    /// would take as long as the doing.
    fn rehearse(&self) {
        let spec = self.config.stock.as_ref().map(|stock| Box::new(stock.first.clone()));
        let message = spec.map(|spec| ToSpawner::Fill { ticket: 0, spec });
        let read = message.and_then(|message| {
            let bytes = serde_json::to_vec(&message).ok()?;
            serde_json::from_slice::<ToSpawner>(&bytes).ok()
        });
        let stack = std::hint::black_box([0u8; STACK_BYTES]);
        drop((read, stack));
    }

    /// How many requests wait for an image.
    fn waiting(&self) -> usize {
        self.stocks.values().map(|stock| stock.waiting.len()).sum()
    }

    /// Makes room for what runs, and tells the host to serve it there; or takes it back.
    fn burst(&self, begins: bool) -> io::Result<()> {
        self.makers.move_there(self.maker.as_ref().map(Maker::pid));
        self.say(&FromSpawner::Burst(begins))
    }

    fn say(&self, message: &FromSpawner) -> io::Result<()> {
        wire::send(self.socket.as_fd(), message, &[], true)
    }

    fn fail(&self, ticket: u64, error: StepError) -> io::Result<()> {
        self.say(&FromSpawner::Failed { ticket, error })
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut drain = [0u8; 1024];
        while rustix::io::read(&self.signals, &mut drain).is_ok_and(|n| n > 0) {}
        while let Some((pid, status)) = wait_child(WaitOptions::NOHANG)? {
            if let Some(living) = self.living.remove(&pid) {
                self.tickets.remove(&living.ticket);
                self.groups.remove(living.group);
                self.release(living.seat);
                self.say(&FromSpawner::Reaped { ticket: living.ticket, status })?;
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        for pid in self.living.keys() {
            kill(*pid);
        }
        while !self.living.is_empty() {
            match wait_child(WaitOptions::empty()) {
                Ok(Some((pid, _))) => {
                    if let Some(living) = self.living.remove(&pid) {
                        self.groups.remove(living.group);
                    }
                }
                _ => break,
            }
        }
        for parts in self.parts.drain(..) {
            self.groups.remove(parts.group.number());
        }
        // The folders have paths only where the host's file systems are.
        if sys::setns(self.host_mounts.as_fd(), libc::CLONE_NEWNS).is_ok() {
            self.groups.remove_all();
            if let Some(way) = self.way.take() {
                way.end();
            }
        }
        // Whoever waits for this process removes the folder in which images are made.
        self.maker = None;
        while let Ok(Some(_)) = wait_child(WaitOptions::empty()) {}
    }

    /// Takes back a sandbox's place in the network.
    fn release(&mut self, seat: Option<Seat>) {
        if let (Some(way), Some(seat)) = (&mut self.way, seat) {
            way.release(seat);
        }
    }
}

/// Kills a child that was not waited for yet: until then its number is nobody else's. A descriptor
/// for each would make the tables of descriptors larger that all pid 1s and guests begin with.
fn kill(child: Pid) {
    let _ = rustix::process::kill_process(child, Signal::KILL);
}

/// The next dead child; `None` when there is none.
pub(crate) fn wait_child(options: WaitOptions) -> io::Result<Option<(Pid, ExitStatus)>> {
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) => {
                if let Some(status) = exit_status(status) {
                    return Ok(Some((pid, status)));
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
