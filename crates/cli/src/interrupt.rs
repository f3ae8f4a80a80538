//! Ctrl-C as an event, for commands that have something to say before they end.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `what` once when the process is asked to end. A second signal ends it at once.
pub(crate) fn on_interrupt(what: impl FnOnce() + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            what();
        }
        if let Some(signal) = arrived.next() {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
}
