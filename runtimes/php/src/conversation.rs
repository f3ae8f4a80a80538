//! Sending to a PHP and hearing from it at the same time, with an eye on the clock and on its end.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lambfold_runtime_client::Linger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::process::{Process, describe};

/// A process that has closed its connection is on its way out; it gets this long for that.
const END_WITHIN: Duration = Duration::from_secs(1);

/// What one read brought.
pub(crate) enum Step<T> {
    /// Something; there may be more.
    More,
    /// What was waited for.
    Done(T),
    /// The other side has closed.
    Closed,
}

/// How a conversation ended.
#[derive(Debug)]
pub(crate) enum End<T> {
    /// With what was waited for; whether everything had been sent by then.
    Done(T, bool),
    /// PHP is gone: how it ended, in words.
    Died(String),
    /// Its time was up, and it was killed.
    Stopped,
}

/// As [`converse`], for an event: a PHP that is likely to answer soon is waited for awake.
pub(crate) fn converse_awake<T, E: From<io::Error> + MaybeIo>(
    linger: &mut Linger,
    process: &mut Process,
    stream: &UnixStream,
    mut bytes: &[u8],
    stop_at: Option<Instant>,
    read: impl FnMut(&mut &UnixStream) -> Result<Step<T>, E>,
) -> Result<End<T>, E> {
    let begun = Instant::now();
    linger.begin(begun);
    send(stream, &mut bytes)?;
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    let now = Timespec::default();
    linger.look(|| poll(&mut fds, Some(&now)) == Ok(1), || begun.elapsed());
    let end = converse(process, stream, bytes, stop_at, read);
    linger.end(Instant::now());
    end
}

/// Sends `bytes` and calls `read`, which reads once without blocking, until it is done.
pub(crate) fn converse<T, E: From<io::Error> + MaybeIo>(
    process: &mut Process,
    stream: &UnixStream,
    mut bytes: &[u8],
    stop_at: Option<Instant>,
    mut read: impl FnMut(&mut &UnixStream) -> Result<Step<T>, E>,
) -> Result<End<T>, E> {
    send(stream, &mut bytes)?;
    loop {
        let flags = match bytes {
            [] => PollFlags::IN,
            _ => PollFlags::IN | PollFlags::OUT,
        };
        // Nothing is there at once, so that the wait comes first.
        let may_have_ended = process.wait(stream.as_fd(), flags, stop_at)?;
        // Before the reads: what a process has said before its end is then there.
        let ended = if may_have_ended { process.status() } else { None };
        send(stream, &mut bytes)?;
        loop {
            match read(&mut &*stream) {
                Ok(Step::More) => {}
                Ok(Step::Done(result)) => return Ok(End::Done(result, bytes.is_empty())),
                Ok(Step::Closed) => return Ok(End::Died(last_words(process)?)),
                Err(error) => match error.io_kind() {
                    Some(ErrorKind::WouldBlock) => break,
                    Some(ErrorKind::Interrupted) => {}
                    Some(ErrorKind::ConnectionReset) => return Ok(End::Died(last_words(process)?)),
                    _ => return Err(error),
                },
            }
            if stop_at.is_some_and(|at| at <= Instant::now()) {
                break;
            }
        }
        if let Some(status) = ended {
            return Ok(End::Died(describe(status)));
        }
        if stop_at.is_some_and(|at| at <= Instant::now()) {
            process.kill();
            return Ok(End::Stopped);
        }
    }
}

/// Errors of a read that may only mean that there is nothing yet, or nothing more.
pub(crate) trait MaybeIo {
    /// What the system says, if it is the system that says it.
    fn io_kind(&self) -> Option<ErrorKind>;
}

/// Whether nothing has come: what a connection brings while nothing was asked, above all its end,
/// is too much.
pub(crate) fn is_silent(stream: &UnixStream) -> bool {
    let read = (&mut &*stream).read(&mut [0]);
    matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn send(mut stream: &UnixStream, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => *bytes = &bytes[sent..],
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => break,
                ErrorKind::Interrupted => {}
                // The other side reads no more. What it says, or that it is gone, is read.
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => *bytes = &[],
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

fn last_words(process: &mut Process) -> io::Result<String> {
    let until = Instant::now() + END_WITHIN;
    // A pipe that never has anything: the process is all that is waited for.
    let (read, _write) = rustix::pipe::pipe()?;
    loop {
        if let Some(status) = process.status() {
            return Ok(describe(status));
        }
        if until <= Instant::now() {
            process.kill();
            return Ok("closed its connection".to_owned());
        }
        process.wait(read.as_fd(), PollFlags::IN, Some(until))?;
    }
}
