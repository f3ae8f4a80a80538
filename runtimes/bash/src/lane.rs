//! Where a shell takes one event after another: commands, context and reports.
//!
//! A shell that stays has one lane, and is it. With isolation a shell has two, each with a shell of its
//! own that makes one subshell after another, and events go to them in turn.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom};

use crate::coprocess::MAX_INLINE_BYTES;
use crate::output::{Pipe, at};
use crate::process;
use crate::report::{Message, Parser, Report};

/// What one lane needs places for.
pub(crate) const PLACES: i32 = 3;

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) reports: Reports,
    pub(crate) commands: Pipe,
    pub(crate) context: Context,
    pub(crate) shell: Shell,
    /// The subshell that reported the end of an event last; its own end is no news.
    pub(crate) ended_slot: u64,
}

impl Lane {
    /// What others open has numbers from `place` on.
    pub(crate) fn new(place: i32) -> io::Result<Lane> {
        Ok(Lane {
            reports: Reports::new(place)?,
            commands: Pipe::new()?.at(place),
            context: Context { file: at(memory_file(&[])?, place), bytes: 0 },
            shell: Shell::default(),
            ended_slot: 0,
        })
    }

    /// Whether its shell has ended. Between events.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.has_shell() && self.shell.is_gone()
    }

    /// Whether its shell has said that it is there.
    pub(crate) fn has_shell(&mut self) -> bool {
        if self.shell.pid.is_none() {
            self.reports.wake();
            // Before its first event a lane says nothing else.
            while let Ok(Some(report)) = self.reports.next() {
                if let Message::Lane(pid) = report.message {
                    self.shell = Shell::new(pid);
                }
            }
        }
        self.shell.pid.is_some()
    }
}

/// The shell of a lane, if it is another one than the first, as soon as that has reported it.
#[derive(Debug, Default)]
pub(crate) struct Shell {
    pub(crate) pid: Option<u32>,
    end: Option<OwnedFd>,
}

impl Shell {
    pub(crate) fn new(pid: u32) -> Shell {
        Shell { pid: Some(pid), end: process::end_of(pid) }
    }

    /// Becomes readable when it has ended, where the kernel offers that.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has ended. The first shell, whose child it is, waits for it at once.
    pub(crate) fn is_gone(&self) -> bool {
        match (&self.end, self.pid) {
            (Some(end), _) => {
                poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&Timespec::default())) == Ok(1)
            }
            (None, pid) => pid.is_some_and(process::is_gone),
        }
    }
}

/// The fields of an event, in a memory file that shells have open.
#[derive(Debug)]
pub(crate) struct Context {
    file: OwnedFd,
    /// As many as were written last.
    bytes: usize,
}

impl Context {
    pub(crate) fn write(&mut self, fields: &[u8]) -> io::Result<()> {
        write_all(&self.file, fields)?;
        if self.bytes > MAX_INLINE_BYTES {
            // So that a long one is not read again with each of the short ones that follow.
            rustix::fs::ftruncate(&self.file, fields.len() as u64)?;
        }
        self.bytes = fields.len();
        self.rewind()
    }

    /// The number under which others open it.
    pub(crate) fn number(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// For a shell that inherits it, position and all.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Has the next shell read from the beginning.
    pub(crate) fn rewind(&self) -> io::Result<()> {
        rustix::fs::seek(&self.file, SeekFrom::Start(0))?;
        Ok(())
    }

    /// Whether a subshell has begun to run the handler: it empties the file before.
    pub(crate) fn has_begun(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(&self.file)?.st_size == 0)
    }
}

/// What is written to hand over the event of a number.
pub(crate) fn command(number: u64) -> String {
    format!("{number:08}")
}

/// What is written to ask whether anybody waits, while the event of a number is under way.
pub(crate) fn does_anybody_wait(number: u64) -> String {
    format!("?{number:07}")
}

/// Where handlers' shells report to.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) pipe: Pipe,
    parser: Parser,
    is_drained: bool,
}

impl Reports {
    pub(crate) fn new(place: i32) -> io::Result<Reports> {
        Ok(Reports { pipe: Pipe::new()?.at(place), parser: Parser::default(), is_drained: false })
    }

    /// Says that there is something to read.
    pub(crate) fn wake(&mut self) {
        self.is_drained = false;
    }

    /// The next report, if one has come.
    pub(crate) fn next(&mut self) -> io::Result<Option<Report>> {
        loop {
            if let Some(report) = self.parser.next() {
                return Ok(Some(report));
            }
            if self.is_drained {
                return Ok(None);
            }
            let mut buffer = [0; 4096];
            let size = self.pipe.read(&mut buffer)?.unwrap_or(0);
            self.parser.push(&buffer[..size]);
            self.is_drained = size < buffer.len();
        }
    }
}

/// A file in memory that others open by path.
pub(crate) fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("lambfold-bash", MemfdFlags::CLOEXEC)?;
    write_all(&file, content)?;
    Ok(file)
}

pub(crate) fn write_all(file: &OwnedFd, content: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < content.len() {
        written += rustix::io::pwrite(file, &content[written..], written as u64)?;
    }
    Ok(())
}
