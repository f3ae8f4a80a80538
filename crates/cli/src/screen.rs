//! This process's terminal: its size, and the mode in which every key goes to somebody else.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

/// Where nobody knows it.
const USUAL: (u16, u16) = (24, 80);

/// Lines, and characters of a line; at least one each.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => USUAL,
    }
}

/// Calls `what` with each new size, and with the present one.
pub(crate) fn on_resize(what: impl Fn((u16, u16)) + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGWINCH]) else { return };
    std::thread::spawn(move || {
        // It may have changed before anybody listened.
        what(size());
        for _ in signals.forever() {
            what(size());
        }
    });
}

/// While it exists, the terminal of standard input passes every key on as it is, Ctrl-C included.
pub(crate) struct Raw(Termios);

impl Raw {
    /// `None` where standard input is no terminal. What was typed before is kept.
    pub(crate) fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).ok()?;
        let again = before.clone();
        if let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            std::thread::spawn(move || {
                // Whoever ends this process from outside gets the terminal back as it was.
                if let Some(signal) = signals.forever().next() {
                    let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &again);
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            });
        }
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}
