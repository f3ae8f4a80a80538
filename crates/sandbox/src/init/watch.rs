//! The loop of pid 1 once the sandbox is ready.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::setup::Inside;
use super::{Kit, guest};
use crate::spec::{Event, ExitStatus, ProcessId};
use crate::sys;
use crate::wire::{self, Received, Receiver, ToInit};

struct Watch<'a> {
    kit: &'a Kit<'a>,
    inside: &'a Inside,
    running: HashMap<Pid, ProcessId>,
}

/// Serves the host until it hangs up; the exit code of pid 1. When pid 1 ends, the kernel kills
/// everything in its pid namespace.
pub(super) fn run(kit: &Kit<'_>, inside: &Inside) -> i32 {
    // Guests must not inherit what only the setup needed, and the host must see our end close.
    let group = kit.group;
    let keep: Vec<_> = [kit.control, kit.output, kit.spawner, kit.null, &inside.signals]
        .into_iter()
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
    let mut watch = Watch { kit, inside, running: HashMap::new() };
    match watch.serve() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

impl Watch<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let signals = &self.inside.signals;
        let mut receiver = Receiver::new();
        loop {
            let mut polls = [
                PollFd::new(self.kit.control, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(self.kit.spawner, PollFlags::IN),
            ];
            match rustix::event::poll(&mut polls, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready = [polls[0].revents(), polls[1].revents(), polls[2].revents()];
            if !ready[2].is_empty() {
                return Ok(());
            }
            if !ready[1].is_empty() {
                let mut drain = [0u8; 1024];
                while rustix::io::read(signals, &mut drain).is_ok_and(|n| n > 0) {}
                self.reap(WaitOptions::NOHANG)?;
            }
            if !ready[0].is_empty() {
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

    fn say(&self, event: &Event) -> io::Result<()> {
        wire::send(self.kit.control.as_fd(), event, &[], true)
    }

    fn handle(&mut self, message: ToInit, fds: &[OwnedFd]) -> io::Result<()> {
        match message {
            ToInit::Spawn { process, command } => {
                let stdio = match fds {
                    [input, output, errors] => [input, output, errors],
                    [output] => [self.kit.null, output, output],
                    _ => [self.kit.null, self.kit.output, self.kit.output],
                };
                match guest::start(self.kit, self.inside, process, &command, stdio) {
                    Ok(pid) => {
                        self.running.insert(pid, process);
                        self.say(&Event::Started(process))
                    }
                    Err(failed) => self.say(&failed),
                }
            }
            ToInit::Socket => {
                // Nobody there, or no socket to be had: the other end sees this one close.
                if let (Some(reply), Ok(socket)) = (fds.first(), crate::network::tcp_socket()) {
                    let _ = wire::send(reply.as_fd(), &ToInit::Socket, &[socket.as_fd()], false);
                }
                Ok(())
            }
            ToInit::Signal { process, signal, group } => {
                let pid = self.running.iter().find(|(_, p)| **p == process).map(|(pid, _)| *pid);
                // It may have ended meanwhile, which its exit tells.
                if let Some(pid) = pid {
                    let _ =
                        if group { sys::kill_group(pid, signal) } else { sys::kill(pid, signal) };
                }
                Ok(())
            }
            ToInit::KillGuests => {
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
