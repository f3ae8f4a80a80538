//! A program without walls, for callers that were told to do without them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::spec::{Command, ExitStatus};

/// A process of this machine with nothing around it: it runs as this user, sees the host's files
/// and network, and has no limits. Only its environment, its output and its end are taken care of.
/// Dropping it kills it and its process group.
#[derive(Debug)]
pub struct Unconfined {
    child: Child,
    end: OwnedFd,
    /// Read end of the pipe that is its stdout and stderr; nonblocking.
    pub output: OwnedFd,
}

impl Unconfined {
    /// Starts the first of the programs that is a file, in a process group of its own.
    ///
    /// # Errors
    /// What the system said; `NotFound` also where no candidate is a file.
    pub fn start(command: &Command) -> io::Result<Unconfined> {
        let found = command.programs.iter().find(|program| std::path::Path::new(program).is_file());
        let program = found.ok_or(io::ErrorKind::NotFound)?;
        let (output, write) = io::pipe()?;
        let output = OwnedFd::from(output);
        rustix::io::ioctl_fionbio(&output, true)?;
        let mut child = std::process::Command::new(program)
            .args(&command.args)
            .env_clear()
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .current_dir(if command.cwd.is_empty() { "/" } else { &command.cwd })
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(write.try_clone()?)
            .stderr(write)
            .spawn()?;
        match rustix::process::pidfd_open(pid(&child), PidfdFlags::empty()) {
            Ok(end) => Ok(Unconfined { child, end, output }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Its process id, which is that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Readable when it has ended.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// How it ended; `None` while it runs. Never blocks.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or_default()),
        }))
    }

    /// Sends a signal to its process group; one that has ended meanwhile is no error.
    ///
    /// # Errors
    /// `EINVAL`: there is no such signal.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(rustix::io::Errno::INVAL)?;
        match rustix::process::kill_process_group(pid(&self.child), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Unconfined {
    fn drop(&mut self) {
        // Its group may outlive it.
        let _ = self.signal_group(libc::SIGKILL);
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::event::{PollFd, PollFlags};
    use std::io::Read;

    fn shell(text: &str) -> Command {
        Command {
            programs: vec!["/nonexistent".to_owned(), "/bin/sh".to_owned()],
            args: vec!["-c".to_owned(), text.to_owned()],
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            cwd: "/".to_owned(),
        }
    }

    fn ended(process: &mut Unconfined) -> ExitStatus {
        rustix::event::poll(&mut [PollFd::new(&process.event_fd(), PollFlags::IN)], None).unwrap();
        process.try_wait().unwrap().unwrap()
    }

    #[test]
    fn it_has_its_environment_and_its_output_and_its_end() {
        let mut process = Unconfined::start(&shell("echo $GREETING; pwd >&2; exit 7")).unwrap();
        assert_eq!(ended(&mut process), ExitStatus::Code(7));
        let mut text = String::new();
        std::fs::File::from(process.output.try_clone().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n/\n");
    }

    #[test]
    fn signals_reach_its_group() {
        let mut process = Unconfined::start(&shell("sleep 1000 & wait")).unwrap();
        assert_eq!(process.try_wait().unwrap(), None);
        process.signal_group(libc::SIGTERM).unwrap();
        assert_eq!(ended(&mut process), ExitStatus::Signal(libc::SIGTERM));
        process.signal_group(libc::SIGTERM).unwrap();
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let command = Command { programs: vec!["/nonexistent".to_owned()], ..Command::default() };
        assert_eq!(Unconfined::start(&command).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
