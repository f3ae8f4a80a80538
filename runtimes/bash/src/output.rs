//! What handlers print: a pipe for each event, so that what an earlier event left running cannot
//! speak in a later one.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::pipe::PipeFlags;

/// Outputs of earlier events that something still holds open; more are closed, oldest first.
const MAX_LATE: usize = 16;

/// A pipe whose ends here do not block; those that others open by its number do. The write end stays
/// open here while it is in use, so that the pipe does not look finished before somebody has opened
/// it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    /// The same pipe, with a number not below `place`.
    pub(crate) fn at(self, place: RawFd) -> Pipe {
        Pipe { read: self.read, write: at(self.write, place) }
    }

    /// The number under which others open it, for reading or writing, in this process's
    /// `/proc/<pid>/fd`.
    pub(crate) fn number(&self) -> RawFd {
        self.write.as_raw_fd()
    }

    pub(crate) fn writer(&self) -> &OwnedFd {
        &self.write
    }

    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Reads what is there, up to the buffer's size; none if there is nothing now, 0 at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        read(&self.read, buffer)
    }
}

/// The same file under the first free number from `place` on; where there is none, as it was.
pub(crate) fn at(fd: OwnedFd, place: RawFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&fd, place).unwrap_or(fd)
}

fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(size) => return Ok(Some(size)),
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Outputs of events that have been answered. What a background process still prints there goes to
/// the log: it is too late for the answer, and must not be in another one's.
#[derive(Debug, Default)]
pub(crate) struct Late(Vec<OwnedFd>);

impl Late {
    pub(crate) fn add(&mut self, output: Pipe) {
        if self.0.len() == MAX_LATE {
            self.0.remove(0);
        }
        self.0.push(output.read);
    }

    pub(crate) fn readers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// Moves what has come to the log, and forgets what nobody can write to any more.
    pub(crate) fn forward(&mut self, buffer: &mut [u8]) {
        self.0.retain(|output| match read(output, buffer) {
            Ok(None) => true,
            Ok(Some(0)) | Err(_) => false,
            Ok(Some(size)) => {
                // The log is where this would be reported.
                let _ = io::stderr().write_all(&buffer[..size]);
                true
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_output_is_forgotten_when_its_last_writer_is_gone() {
        let (mut late, mut buffer) = (Late::default(), [0; 100]);
        let output = Pipe::new().expect("a pipe");
        let left_behind = output.writer().try_clone().expect("a duplicate");
        late.add(output);
        late.forward(&mut buffer);
        assert_eq!(late.0.len(), 1);
        drop(left_behind);
        late.forward(&mut buffer);
        assert_eq!(late.0.len(), 0);
    }

    #[test]
    fn only_so_many_late_outputs_are_kept() {
        let mut late = Late::default();
        for _ in 0..MAX_LATE + 3 {
            late.add(Pipe::new().expect("a pipe"));
        }
        assert_eq!(late.0.len(), MAX_LATE);
    }
}
