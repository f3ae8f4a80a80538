//! The loop of pid 1 once the sandbox is ready.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::Kit;
use super::guest::{self, Blank, Failure, Outcome};
use super::setup::Inside;
use crate::spec::{Event, ExitStatus, ProcessId};
use crate::sys;
use crate::wire::{self, Received, Receiver, ToInit};

struct Watch<'a> {
    kit: &'a Kit<'a>,
    inside: &'a Inside,
    /// What the first program is started in.
    blank: Option<Blank>,
    running: HashMap<Pid, ProcessId>,
}

/// Serves the host until it hangs up; the exit code of pid 1. When pid 1 ends, the kernel kills
/// everything in its pid namespace.
pub(super) fn run(kit: &Kit<'_>, inside: &Inside) -> i32 {
    // Guests must not inherit what only the setup needed, and the host must see our end close.
    let group = kit.group;
    let keep: Vec<_> = [kit.control, kit.output, kit.spawner, kit.null, &inside.signals]
        .into_iter()
        .chain([&kit.orders.0, &kit.orders.1])
        .chain(group.enter.iter().map(|(fd, _)| fd))
        .chain(&group.clone_into)
        .chain(&inside.rules)
        // A fault point in a guest's steps speaks through it.
        .chain(kit.fault.map(|_| kit.reply))
        .map(|fd| fd.as_raw_fd())
        .chain([0, 1, 2])
        .collect();
    if sys::close_all_but(&keep).is_err() {
        return 1;
    }
    let orders = sys::adopt(kit.orders.0.as_raw_fd());
    let blank = guest::make(kit, inside, orders, &kit.orders.1);
    // The guest's end is the guest's alone: its death is seen at the other.
    drop(sys::adopt(kit.orders.1.as_raw_fd()));
    kit.makers.let_go();
    let mut watch = Watch { kit, inside, blank: None, running: HashMap::new() };
    let told = match blank {
        Ok(blank) => {
            watch.blank = Some(blank);
            Ok(())
        }
        Err(failed) => watch.started(ProcessId::FIRST, Err(failed.into())),
    };
    match told.and_then(|()| watch.serve()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

impl Watch<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let signals = &self.inside.signals;
        let mut receiver = Receiver::new();
        loop {
            let ready = wire::wait_readable([
                self.kit.control.as_fd(),
                signals.as_fd(),
                self.kit.spawner.as_fd(),
            ])?;
            if ready[2] {
                return Ok(());
            }
            if ready[1] {
                let mut drain = [0u8; 1024];
                while rustix::io::read(signals, &mut drain).is_ok_and(|n| n > 0) {}
                self.reap(WaitOptions::NOHANG)?;
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
    }

    /// What has become of the guest that was made ahead, when nothing more is to come of it: it had
    /// its orders from the spawner, or none.
    fn first(&mut self) -> io::Result<()> {
        let Some(blank) = self.blank.take() else { return Ok(()) };
        let mut poll = [PollFd::new(&blank.report, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut poll, Some(&at_once))? == 0 {
            // It still waits.
            return Ok(());
        }
        match blank.outcome() {
            Outcome::Executed(pid) => {
                self.running.insert(pid, ProcessId::FIRST);
                Ok(())
            }
            Outcome::Failed(failure) => self.say(&failure.event(self.kit, ProcessId::FIRST)),
            Outcome::Died => Ok(()),
        }
    }

    fn pid_of(&self, process: ProcessId) -> Option<Pid> {
        let first = self.blank.as_ref().filter(|_| process == ProcessId::FIRST);
        let running = || self.running.iter().find(|(_, p)| **p == process).map(|(pid, _)| *pid);
        first.map(|blank| blank.pid).or_else(running)
    }

    fn started(&mut self, process: ProcessId, started: Result<Pid, Failure>) -> io::Result<()> {
        match started {
            Ok(pid) => {
                self.running.insert(pid, process);
                self.say(&Event::Started(process))
            }
            Err(failure) => self.say(&failure.event(self.kit, process)),
        }
    }

    fn say(&self, event: &Event) -> io::Result<()> {
        wire::send(self.kit.control.as_fd(), event, &[], true)
    }

    fn handle(&mut self, message: ToInit, fds: &[OwnedFd]) -> io::Result<()> {
        match message {
            ToInit::Spawn { process, command, blank } => {
                let blank = if blank { self.blank.take() } else { None };
                let started = guest::start(self.kit, self.inside, blank, &command, fds);
                self.started(process, started)
            }
            ToInit::Socket => {
                // Nobody there, or no socket to be had: the other end sees this one close.
                if let (Some(reply), Ok(socket)) = (fds.first(), crate::network::tcp_socket()) {
                    let _ = wire::send(reply.as_fd(), &ToInit::Socket, &[socket.as_fd()], false);
                }
                Ok(())
            }
            ToInit::Signal { process, signal, group } => {
                // It may have ended meanwhile, which its exit tells.
                if let Some(pid) = self.pid_of(process) {
                    let _ =
                        if group { sys::kill_group(pid, signal) } else { sys::kill(pid, signal) };
                }
                Ok(())
            }
            ToInit::KillGuests => {
                self.first()?;
                // What a dying process forks is killed with it or seen by the next round.
                while self.alive() {
                    let _ = sys::kill_everyone(libc::SIGKILL);
                    self.reap(WaitOptions::empty())?;
                }
                self.say(&Event::GuestsKilled)
            }
            ToInit::Stop(stop) => {
                let _ = sys::kill_everyone(if stop { libc::SIGSTOP } else { libc::SIGCONT });
                Ok(())
            }
        }
    }

    /// Whether there is any process besides pid 1.
    fn alive(&self) -> bool {
        sys::kill_everyone(0).is_ok()
    }

    /// Reaps what is dead; without `NOHANG` waits until nothing is left to wait for. Orphans come
    /// here too and are of no interest.
    fn reap(&mut self, options: WaitOptions) -> io::Result<()> {
        loop {
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) => {
                    if self.blank.as_ref().is_some_and(|blank| blank.pid == pid) {
                        self.first()?;
                    }
                    if let (Some(process), Some(status)) =
                        (self.running.remove(&pid), exit_status(status))
                    {
                        self.say(&Event::Exited { process, status })?;
                    }
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// How it ended; `None` while it lives on.
pub(crate) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Code(code)),
        (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
        (None, None) => None,
    }
}
