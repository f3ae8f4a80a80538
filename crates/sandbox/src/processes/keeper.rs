//! What is in the place of pid 1 where there is no pid namespace: a fork of the spawner that starts,
//! signals and reaps guests until the host hangs up.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};

use super::{tmp, tree};
use crate::init::exit_status;
use crate::init::guest::{self, Failed, Failure, Never, Outcome, Tried};
use crate::spec::{Command, Event, ProcessId, Spec};
use crate::step::Step;
use crate::sys::{self, Cloned};
use crate::wire::{self, Received, Receiver, ToInit};

/// Rounds in which what is being stopped may start others.
const STOP_ROUNDS: usize = 8;
/// After this time the living are looked for again.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// What a keeper takes along from the spawner. Everything else of the spawner's is closed first.
pub(super) struct Kit<'a> {
    pub(super) spec: &'a Spec,
    /// The other end of the host's control socket.
    pub(super) control: &'a OwnedFd,
    /// Write end of the guests' output.
    pub(super) output: &'a OwnedFd,
    /// `/dev/null`.
    pub(super) null: &'a OwnedFd,
    /// The spawner's id.
    pub(super) spawner: Pid,
    /// Held for as long as this lives.
    pub(super) lock: &'a File,
    /// Takes the most memory that a guest held that has ended, bytes, as text.
    pub(super) peak: &'a OwnedFd,
    /// Its folder for temporary files.
    pub(super) tmp: &'a Path,
}

/// The life of a keeper.
pub(super) fn run(kit: Kit<'_>) -> ! {
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut keeper = match begin(&kit) {
            Ok(signals) => {
                let running = HashMap::new();
                Keeper { kit: &kit, signals, is_told_to_end: false, running, peak_bytes: 0 }
            }
            // The host sees the control socket close.
            Err(_) => return 1,
        };
        let served = keeper.serve();
        // To nobody, perhaps: whoever was told is gone first.
        let killed = keeper.kill_all();
        tmp::remove(kit.tmp);
        i32::from(served.and(killed).is_err())
    }));
    sys::exit(code.unwrap_or(101))
}

fn begin(kit: &Kit<'_>) -> io::Result<OwnedFd> {
    let keep: Vec<_> = [kit.control, kit.output, kit.null, kit.peak]
        .into_iter()
        .map(|fd| fd.as_raw_fd())
        .chain([kit.lock.as_raw_fd(), 0, 1, 2])
        .collect();
    sys::close_all_but(&keep)?;
    for standard in 0..3 {
        sys::duplicate_to(kit.null.as_fd(), standard)?;
    }
    rustix::process::setsid()?;
    rustix::thread::set_name(c"lambfold-keeper")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let signals = sys::signal_fd(&[libc::SIGCHLD, libc::SIGTERM])?;
    // The spawner's death is an order to end, like the spawner's word.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    if rustix::process::getppid() != Some(kit.spawner) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    guest::common_limits(kit.spec)?;
    Ok(signals)
}

struct Keeper<'a> {
    kit: &'a Kit<'a>,
    signals: OwnedFd,
    is_told_to_end: bool,
    running: HashMap<Pid, ProcessId>,
    /// What the host was told of memory.
    peak_bytes: u64,
}

impl Keeper<'_> {
    /// Serves the host until it hangs up, or the spawner says so.
    fn serve(&mut self) -> io::Result<()> {
        let mut receiver = Receiver::new();
        while !self.is_told_to_end {
            let ready = wire::wait_readable([self.kit.control.as_fd(), self.signals.as_fd()])?;
            if ready[1] {
                self.take_signals();
                self.reap()?;
            }
            if ready[0] {
                loop {
                    match receiver.receive::<ToInit>(self.kit.control, false)? {
                        Received::Message(message, fds) => self.handle(message, &fds)?,
                        Received::Nothing => break,
                        Received::End => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        let mut signal = [0u8; size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.signals, &mut signal).is_ok_and(|n| n > 0) {
            let number = u32::from_ne_bytes([signal[0], signal[1], signal[2], signal[3]]);
            self.is_told_to_end |= number == libc::SIGTERM.unsigned_abs();
        }
    }

    fn handle(&mut self, message: ToInit, fds: &[OwnedFd]) -> io::Result<()> {
        match message {
            ToInit::Spawn { process, command, .. } => match self.start(command, fds) {
                Ok(pid) => {
                    self.running.insert(pid, process);
                    self.say(&Event::Started(process))
                }
                Err(failure) => self.say(&failure.told(process)),
            },
            ToInit::Socket => {
                // No socket to be had: the other end sees this one close.
                if let (Some(reply), Ok(socket)) = (fds.first(), crate::network::tcp_socket()) {
                    let _ = wire::send(reply.as_fd(), &ToInit::Socket, &[socket.as_fd()], false);
                }
                Ok(())
            }
            ToInit::Signal { process, signal, group } => {
                // It may have ended meanwhile, which its exit tells.
                let running = self.running.iter().find(|(_, running)| **running == process);
                if let Some((pid, _)) = running {
                    let _ =
                        if group { sys::kill_group(*pid, signal) } else { sys::kill(*pid, signal) };
                }
                Ok(())
            }
            ToInit::KillGuests => {
                self.kill_all()?;
                self.say(&Event::GuestsKilled)
            }
            ToInit::Stop(true) => {
                self.stop();
                Ok(())
            }
            ToInit::Stop(false) => {
                for pid in tree::below(rustix::process::getpid()) {
                    let _ = sys::kill(pid, libc::SIGCONT);
                }
                Ok(())
            }
        }
    }

    fn say(&self, event: &Event) -> io::Result<()> {
        wire::send(self.kit.control.as_fd(), event, &[], true)
    }

    /// Stops everybody: parents before their children, and then those that were started meanwhile.
    fn stop(&self) {
        let mut stopped = HashSet::new();
        for _ in 0..STOP_ROUNDS {
            let mut new = tree::below(rustix::process::getpid());
            new.retain(|pid| stopped.insert(*pid));
            if new.is_empty() {
                return;
            }
            for pid in new {
                let _ = sys::kill(pid, libc::SIGSTOP);
            }
        }
    }

    /// Kills everybody and returns when nobody is left, whose ends are told before.
    fn kill_all(&mut self) -> io::Result<()> {
        loop {
            for pid in tree::below(rustix::process::getpid()) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            if !self.reap()? {
                return Ok(());
            }
            let mut polls = [PollFd::new(&self.signals, PollFlags::IN)];
            match rustix::event::poll(&mut polls, Some(&AGAIN)) {
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
            self.take_signals();
        }
    }

    /// Reaps what is dead; whether there is anybody left to wait for. Orphans come here too and are of
    /// no interest.
    fn reap(&mut self) -> io::Result<bool> {
        let left = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    self.count();
                    if let (Some(process), Some(status)) =
                        (self.running.remove(&pid), exit_status(status))
                    {
                        // Whoever hung up is told in vain, and everything is about to be killed.
                        let _ = self.say(&Event::Exited { process, status });
                    }
                }
                Ok(None) => break true,
                Err(rustix::io::Errno::CHILD) => break false,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        };
        Ok(left)
    }

    /// Writes down what those that have ended have held.
    fn count(&mut self) {
        let peak = sys::children_peak_bytes().unwrap_or(0);
        if peak > self.peak_bytes {
            self.peak_bytes = peak;
            let text = peak.to_string();
            let _ = rustix::io::pwritev(self.kit.peak, &[IoSlice::new(text.as_bytes())], 0);
        }
    }

    fn start(&self, mut command: Command, stdio: &[OwnedFd]) -> Result<Pid, Failure> {
        command.env.retain(|(name, _)| name != tmp::VARIABLE);
        command.env.push((tmp::VARIABLE.to_owned(), self.kit.tmp.display().to_string()));
        let failed = |e: io::Error| Failure::from((Step::GuestExec, e));
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (report, write) = pipe.map_err(|e| failed(e.into()))?;
        match sys::fork().map_err(failed)? {
            Cloned::Child => {
                guest::or_report(&write, |tried| self.become_guest(&command, stdio, tried))
            }
            Cloned::Parent { pid } => {
                drop(write);
                match guest::outcome(pid, &report) {
                    Outcome::Executed(pid) => Ok(pid),
                    Outcome::Failed(failure) => Err(failure),
                    Outcome::Died => Err(failed(io::Error::from_raw_os_error(libc::ESRCH))),
                }
            }
        }
    }

    /// In the fork: a session and a process group of its own. Every descriptor but these is closed by
    /// the execution.
    fn become_guest(
        &self,
        command: &Command,
        stdio: &[OwnedFd],
        tried: &Tried,
    ) -> Result<Never, Failed> {
        let prepare = || {
            rustix::process::setsid()?;
            sys::duplicate_to(self.kit.null.as_fd(), 0)?;
            sys::duplicate_to(self.kit.output.as_fd(), 1)?;
            sys::duplicate_to(self.kit.output.as_fd(), 2)?;
            sys::unblock_signals();
            guest::execute(command, stdio, tried)
        };
        prepare().map_err(|e| (Step::GuestExec, e))
    }
}
