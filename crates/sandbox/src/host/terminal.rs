//! What a guest's stdin, stdout and stderr can be besides the common pipe.

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A pseudo-terminal: our end, which does not block, and the guest's, for
/// [`Sandbox::spawn_on`](crate::Sandbox::spawn_on). The guest has the descriptor and no path to it:
/// the host's `/dev/pts` is not seen inside.
///
/// # Errors
/// No descriptor or terminal is left.
pub fn terminal(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    set_size(&ours, rows, columns)?;
    Ok((ours, theirs))
}

/// Tells a terminal, by either end, how large it is; its foreground processes get SIGWINCH when that
/// is new.
///
/// # Errors
/// The descriptor is not a terminal's.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// A pipe for what guests read: their end, which they can open anew for reading, and ours, which
/// does not block.
///
/// # Errors
/// No descriptor is left.
pub fn input_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write, true)?;
    rustix::fs::fchmod(&read, rustix::fs::Mode::from_raw_mode(0o444))?;
    Ok((read, write))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_ends_are_one_terminal_of_its_size() {
        let (ours, theirs) = terminal(24, 80).unwrap();
        assert!(rustix::termios::isatty(&theirs));
        let size = rustix::termios::tcgetwinsize(&theirs).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (24, 80));
        set_size(&ours, 10, 20).unwrap();
        let size = rustix::termios::tcgetwinsize(&theirs).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (10, 20));
        rustix::io::write(&theirs, b"hi\n").unwrap();
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::read(&ours, &mut bytes).unwrap(), 4);
        assert_eq!(&bytes[..4], b"hi\r\n");
        // Nothing more for now: it does not block.
        assert_eq!(rustix::io::read(&ours, &mut bytes), Err(rustix::io::Errno::AGAIN));
        drop(theirs);
        assert_eq!(rustix::io::read(&ours, &mut bytes), Err(rustix::io::Errno::IO));
    }
}
