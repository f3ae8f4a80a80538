use crate::failure::{Exit, Failure};
use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, Instant};

/// Uploads under this size end before anybody would look at their progress, bytes.
const PROGRESS_FROM_BYTES: u64 = 1_048_576;

/// Writes data to standard output and flushes, so that a pipe's reader sees it at once.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::stdout(&error))
}

/// Writes one line of data.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    data(format!("{text}\n").as_bytes())
}

/// Writes one JSON value as data, indented.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Writes to standard error in one piece, so that nothing another program writes to the same
/// terminal gets between; there is nobody to tell when that fails.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes one line of talk to standard error.
pub(crate) fn talk(text: &str) {
    say(&format!("{text}\n"));
}

/// Writes over the last line of a terminal; the next line of talk or data begins a new one.
pub(crate) fn progress(text: &str) {
    say(&format!("\r\x1b[K{text}\r"));
}

/// A note that something is not as it should be, though the command goes on.
pub(crate) fn warn(text: &str) {
    talk(&format!("{} {text}", label("warning")));
}

/// What to do next.
pub(crate) fn hint(text: &str) {
    talk(&format!("{} {text}", label("hint")));
}

pub(crate) fn report_failure(failure: &Failure) {
    for (kind, text) in failure.lines() {
        talk(&format!("{} {text}", label(kind)));
    }
}

/// Help and version are data; everything else of the argument parser is wrong usage.
pub(crate) fn report_clap(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// Names what happened and where, once per panicking thread.
pub(crate) fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let what = panic
        .payload()
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    talk(&format!("{} this is a bug in lambfold: {what} (at {place})", label("error")));
    hint("please report it with the command that you ran");
}

fn label(kind: &str) -> String {
    let colour = match kind {
        "error" => "1;31",
        "warning" => "1;33",
        "hint" => "1;36",
        _ => "1",
    };
    if colourful() { format!("\x1b[{colour}m{kind}:\x1b[0m") } else { format!("{kind}:") }
}

fn colourful() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && std::io::stderr().is_terminal()
}

/// A reader that shows on a terminal how much of an upload has been read.
pub(crate) struct Progress<R> {
    inner: R,
    total_bytes: u64,
    done_bytes: u64,
    shown: Option<Instant>,
    visible: bool,
}

impl<R> Progress<R> {
    pub(crate) fn new(inner: R, total_bytes: u64) -> Self {
        let visible = total_bytes >= PROGRESS_FROM_BYTES && std::io::stderr().is_terminal();
        Self { inner, total_bytes, done_bytes: 0, shown: None, visible }
    }

    fn show(&mut self) {
        let now = Instant::now();
        let due = self.shown.is_none_or(|at| now - at >= Duration::from_millis(100));
        if due || self.done_bytes == self.total_bytes {
            self.shown = Some(now);
            let (done, total) = (mib(self.done_bytes), mib(self.total_bytes));
            say(&format!("\ruploading {done} of {total} MiB"));
        }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done_bytes += count as u64;
        if self.visible && count > 0 {
            self.show();
        }
        Ok(count)
    }
}

impl<R> Drop for Progress<R> {
    fn drop(&mut self) {
        if self.shown.is_some() {
            say("\n");
        }
    }
}

/// One decimal, in MiB.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / 1_048_576;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::mib;

    #[test]
    fn sizes_have_one_decimal() {
        assert_eq!(mib(0), "0.0");
        assert_eq!(mib(1_048_576), "1.0");
        assert_eq!(mib(52_428_800 + 524_288), "50.5");
    }
}
