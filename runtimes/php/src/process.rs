//! A PHP, its end, and everything that it started.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// How often a child is looked at where the kernel cannot say when it ends (before Linux 5.3).
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A child process in a process group of its own; the group is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Readable when the child has ended.
    end: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Process> {
        let child = command.process_group(0).spawn()?;
        let pid = pid(&child);
        let end = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Process { child, end, status: None })
    }

    /// How the process ended, once it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Ends the process and its group, and waits for that; how it ended.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        if let Some(status) = self.status() {
            self.kill_group();
            return status;
        }
        self.kill_group();
        match self.child.wait() {
            Ok(status) => *self.status.insert(status),
            // Somebody else has reaped it: nothing better is known.
            Err(_) => *self.status.insert(ExitStatus::from_raw(9)),
        }
    }

    fn kill_group(&self) {
        if let Some(pid) = pid(&self.child) {
            // The group may be empty by now.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }

    /// Waits until `fd` is ready for what is asked, the process has ended or the time is up; gives
    /// whether the process may have ended.
    pub(crate) fn wait(
        &self,
        fd: BorrowedFd<'_>,
        flags: PollFlags,
        until: Option<Instant>,
    ) -> io::Result<bool> {
        let mut limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        let asked = PollFd::from_borrowed_fd(fd, flags);
        let end = self.end.as_ref();
        let end = end.map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN));
        if end.is_none() {
            limit = Some(limit.unwrap_or(LOOK_AGAIN_AFTER).min(LOOK_AGAIN_AFTER));
        }
        // Rounded up: a wait that ends early would only be repeated.
        let limit = limit.map(|limit| limit + Duration::from_millis(1));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let poll = |fds: &mut [PollFd<'_>]| match poll(fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        };
        match end {
            Some(end) => {
                let mut fds = [asked, end];
                poll(&mut fds)?;
                Ok(!fds[1].revents().is_empty())
            }
            None => poll(&mut [asked]).map(|()| true),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// How a process ended, in words: `exit status 3`, `signal 9 (SIGKILL)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                31 => " (SIGSYS)",
                _ => "",
            };
            format!("was ended by signal {signal}{name}")
        }
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "ended with exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(11)), "was ended by signal 11 (SIGSEGV)");
        assert_eq!(describe(ExitStatus::from_raw(1)), "was ended by signal 1");
    }

    #[test]
    fn a_process_takes_what_it_started_with_it() {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & exit 0"]).stdout(write);
        let mut process = Process::start(&mut command).expect("sh runs");
        drop(command);
        while process.status().is_none() {
            process.wait(read.as_fd(), PollFlags::IN, None).expect("a wait");
        }
        assert_eq!(process.kill().code(), Some(0));
        // The last writer is gone.
        assert_eq!(rustix::io::read(&read, &mut [0; 1]), Ok(0));
    }
}
