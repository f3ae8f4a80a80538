//! Sandboxes that are none ([`Isolation::Process`](crate::Isolation::Process)): the spawner without
//! namespaces. It forks a *keeper* for each, which starts the guests and looks after them.
//!
//! Nothing of a sandbox outlives the host. Whatever a guest starts stays below its keeper, which
//! adopts what loses its parent, and which kills all of it when the host hangs up, when it is told to,
//! or when the spawner dies. What is below a keeper that was killed is adopted by the spawner, which
//! kills it. Should somebody kill all three, the next start finds the rest by its `TMPDIR`
//! ([`sweep`]).

mod keeper;
mod tmp;
mod tree;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::capabilities::{Capabilities, FreezeMode, IdMode, Note, ShellView, TmpMode};
use crate::network::{self, Numbers};
use crate::spawner::wait_child;
use crate::spec::{Config, Isolation, Network, Spec};
use crate::step::{Step, StepError, StepTiming};
use crate::sys::{self, Cloned};
use crate::wire::{self, FromSpawner, Received, Receiver, StatFiles, ToSpawner};

pub(crate) use tmp::sweep;
pub(crate) use tree::memory_peak_bytes;

/// The host has swept before: the lock is free, or free in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A keeper that runs.
struct Living {
    ticket: u64,
    /// Whose listeners' addresses are taken.
    number: u32,
}

struct Spawner {
    config: Config,
    socket: OwnedFd,
    /// Keepers have it too: an owner's next spawner waits for the last of them.
    lock: File,
    signals: OwnedFd,
    null: OwnedFd,
    numbers: Numbers,
    living: HashMap<Pid, Living>,
    /// The living by their tickets.
    tickets: HashMap<u64, Pid>,
}

/// The life of the spawner, once it has its configuration.
pub(crate) fn run(
    config: Config,
    socket: OwnedFd,
    null: OwnedFd,
    receiver: &mut Receiver,
) -> io::Result<()> {
    let reply = socket.try_clone()?;
    let mut spawner = match prepare(config, socket, null) {
        Ok(spawner) => spawner,
        Err(error) => {
            return wire::send(reply.as_fd(), &FromSpawner::StartFailed(error), &[], true);
        }
    };
    drop(reply);
    spawner.say(&FromSpawner::Ready(Box::new(capabilities())), &[])?;
    sys::trim_memory();
    let outcome = spawner.serve(receiver);
    spawner.end();
    outcome
}

fn prepare(config: Config, socket: OwnedFd, null: OwnedFd) -> Result<Spawner, StepError> {
    let step = |what: &str, e: &io::Error| StepError::new(Step::WorkFolder, what, e);
    let signals = sys::signal_fd(&[libc::SIGCHLD]).map_err(|e| step("watch children", &e))?;
    fs::create_dir_all(&config.work_dir).map_err(|e| step("make the work folder", &e))?;
    let lock = crate::host::sweep::lock(&config.work_dir, LOCK_PATIENCE)
        .map_err(|e| step("lock the work folder", &e))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| step("adopt what loses its parent", &e.into()))?;
    // All that is below can be killed: no program makes it somebody else's.
    rustix::thread::set_no_new_privs(true)
        .map_err(|e| step("give up new privileges", &e.into()))?;
    let numbers = Numbers::new(&config.owner);
    let (living, tickets) = (HashMap::new(), HashMap::new());
    Ok(Spawner { config, socket, lock, signals, null, numbers, living, tickets })
}

fn capabilities() -> Capabilities {
    let note = Note::new(
        Step::Clone,
        "THERE ARE NO WALLS (isolation process): each guest is a plain process of this user, which can \
         read, change and end all that this user can, and nothing limits its memory, its processes and \
         its temporary files",
        "take isolation namespace wherever namespaces can be had",
    );
    Capabilities {
        isolation: Isolation::Process,
        ids: IdMode::One,
        memory_limit: false,
        memory_accounting: false,
        processes_limit: false,
        cpu_weight: false,
        cpu_quota: false,
        landlock: 0,
        freeze: FreezeMode::Signals,
        tmp: TmpMode::Folder,
        network: Network::Host,
        shell: ShellView::HostShell,
        host_files_seen_as_root: true,
        missing_programs: crate::programs::missing(std::path::Path::new("/")),
        more_missing_programs: Default::default(),
        relayed_name_servers: Vec::new(),
        notes: vec![note],
    }
}

impl Spawner {
    fn serve(&mut self, receiver: &mut Receiver) -> io::Result<()> {
        loop {
            let ready = wire::wait_readable([self.socket.as_fd(), self.signals.as_fd()])?;
            if ready[1] {
                self.reap()?;
            }
            if ready[0] {
                match receiver.receive(&self.socket, false)? {
                    Received::Message(message, fds) => self.handle(message, fds)?,
                    Received::Nothing => {}
                    Received::End => return Ok(()),
                }
            }
        }
    }

    fn handle(&mut self, message: ToSpawner, fds: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            // One that is made ahead lacks nothing but somebody to use it.
            ToSpawner::Create { ticket, spec, .. } => {
                let mut fds = fds.into_iter();
                let (Some(control), Some(output)) = (fds.next(), fds.next()) else {
                    return Err(io::Error::from_raw_os_error(libc::EPROTO));
                };
                let number = self.numbers.take();
                match self.create(ticket, &spec, number, control, output) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        self.numbers.give(number);
                        self.say(&FromSpawner::Failed { ticket, error }, &[])
                    }
                }
            }
            ToSpawner::Fill { ticket, .. } if self.tickets.contains_key(&ticket) => {
                self.say(&FromSpawner::Filled { ticket, timings: Vec::new() }, &[])
            }
            // It died, which the host was told before.
            ToSpawner::Fill { .. } => Ok(()),
            ToSpawner::Destroy { ticket } => {
                if let Some(keeper) = self.tickets.get(&ticket) {
                    end(*keeper);
                }
                Ok(())
            }
            ToSpawner::Start(_) => Err(io::Error::from_raw_os_error(libc::EPROTO)),
        }
    }

    fn create(
        &mut self,
        ticket: u64,
        spec: &Spec,
        number: u32,
        control: OwnedFd,
        output: OwnedFd,
    ) -> Result<(), StepError> {
        let mut timings = Vec::new();
        let mut timed = |step, start: Instant| {
            timings.push(StepTiming { step, took: start.elapsed() });
        };
        let start = Instant::now();
        let tmp = tmp::of(&self.config.work_dir, ticket);
        fs::DirBuilder::new().mode(0o700).create(&tmp).map_err(|e| {
            StepError::new(Step::MountTmp, format!("make the folder {}", tmp.display()), &e)
        })?;
        timed(Step::MountTmp, start);
        let start = Instant::now();
        let made = network::listen_beside(number, &spec.listeners)
            .map_err(|e| StepError::new(Step::Listeners, "listen on the host's loopback", &e))
            .and_then(|listeners| {
                timed(Step::Listeners, start);
                let failed = |e| StepError::new(Step::Clone, "fork a keeper", &e);
                let peak = rustix::fs::memfd_create(c"memory-peak", MemfdFlags::CLOEXEC);
                let peak = peak.map_err(|e| failed(e.into()))?;
                rustix::io::write(&peak, b"0").map_err(|e| failed(e.into()))?;
                let start = Instant::now();
                let spawner = rustix::process::getpid();
                let keeper = match sys::fork().map_err(failed)? {
                    Cloned::Parent { pid } => pid,
                    Cloned::Child => keeper::run(keeper::Kit {
                        spec,
                        control: &control,
                        output: &output,
                        null: &self.null,
                        spawner,
                        lock: &self.lock,
                        peak: &peak,
                        tmp: &tmp,
                    }),
                };
                timed(Step::Clone, start);
                Ok((listeners, peak, keeper))
            });
        let (listeners, peak, keeper) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = fs::remove_dir(&tmp);
                return Err(error);
            }
        };
        self.living.insert(keeper, Living { ticket, number });
        self.tickets.insert(ticket, keeper);
        let message = FromSpawner::Created {
            ticket,
            timings,
            listeners: listeners.len(),
            files: StatFiles { peak: true, ..StatFiles::default() },
            keeper: Some(keeper.as_raw_nonzero().get().unsigned_abs()),
        };
        let fds: Vec<_> = listeners.iter().chain([&peak]).map(AsFd::as_fd).collect();
        self.say(&message, &fds).map_err(|e| StepError::new(Step::Ready, "report to the host", &e))
    }

    fn say(&self, message: &FromSpawner, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
        wire::send(self.socket.as_fd(), message, fds, true)
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut drain = [0u8; 1024];
        while rustix::io::read(&self.signals, &mut drain).is_ok_and(|n| n > 0) {}
        while let Some((pid, status)) = wait_child(WaitOptions::NOHANG)? {
            if let Some(Living { ticket, number }) = self.living.remove(&pid) {
                self.tickets.remove(&ticket);
                self.numbers.give(number);
                // It does so itself, unless it was killed.
                self.end_strays();
                tmp::remove(&tmp::of(&self.config.work_dir, ticket));
                self.say(&FromSpawner::Reaped { ticket, status }, &[])?;
            }
        }
        Ok(())
    }

    /// Kills what was below a keeper that was killed, and is below this process now.
    fn end_strays(&self) {
        let own = rustix::process::getpid();
        loop {
            let mut strays = tree::children(own);
            strays.retain(|child| !self.living.contains_key(child));
            if strays.is_empty() {
                return;
            }
            for stray in strays {
                for pid in tree::below(stray).into_iter().chain([stray]) {
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                let _ = rustix::process::waitpid(Some(stray), WaitOptions::empty());
            }
        }
    }

    fn end(&mut self) {
        self.living.keys().for_each(|keeper| end(*keeper));
        loop {
            self.end_strays();
            match wait_child(WaitOptions::empty()) {
                Ok(Some((pid, _))) => {
                    if let Some(living) = self.living.remove(&pid) {
                        self.end_strays();
                        tmp::remove(&tmp::of(&self.config.work_dir, living.ticket));
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Tells a keeper to end, even one that a guest has stopped.
fn end(keeper: Pid) {
    for signal in [Signal::TERM, Signal::CONT] {
        let _ = rustix::process::kill_process(keeper, signal);
    }
}
