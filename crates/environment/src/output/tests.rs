#![allow(clippy::unwrap_used)]
use super::*;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Sink for Kept {
    fn push(&self, _: u64, event: &[u8]) {
        self.0.lock().unwrap().push(String::from_utf8(event.to_vec()).unwrap());
    }
}

fn output() -> (Output, UnixStream, Kept) {
    let (reads, writes) = UnixStream::pair().unwrap();
    reads.set_nonblocking(true).unwrap();
    let kept = Kept::default();
    let pipe = Arc::new(File::from(OwnedFd::from(reads)));
    let output = Output::new(pipe, None, Box::new(kept.clone()), &text(), Arc::new([]));
    (output, writes, kept)
}

fn text() -> LoggingConfig {
    LoggingConfig {
        group: String::new(),
        format: LogFormat::Text,
        application_level: None,
        system_level: None,
    }
}

fn at(ms: u64) -> Moment {
    Moment { epoch_ms: ms, monotonic_us: ms * 1000 }
}

#[test]
fn what_is_beyond_the_rate_is_dropped_and_counted() {
    let (mut output, mut pipe, kept) = output();
    let line = "x".repeat(65_535) + "\n";
    let lines = usize::try_from(LOG_BURST_BYTES).unwrap() / line.len();
    // Both sides of the limit: the burst passes whole, the line after it does not.
    for _ in 0..lines + 3 {
        let bytes = line.as_bytes();
        for part in bytes.chunks(8192) {
            pipe.write_all(part).unwrap();
            while output.read(Writer::Function, at(0)) != Pipe::Empty {}
        }
    }
    assert_eq!(kept.0.lock().unwrap().len(), lines);
    // Too little of the rate is there again, and then enough.
    for (ms, passes) in [(100, false), (249, false), (251, true)] {
        pipe.write_all(b"short\n").unwrap();
        while output.read(Writer::Function, at(ms)) != Pipe::Empty {}
        assert_eq!(kept.0.lock().unwrap().last().unwrap() == "short\n", passes, "{ms}");
    }
    let log = kept.0.lock().unwrap();
    assert_eq!(
        log[log.len() - 2],
        format!(
            "[lambfold] 5 lines ({} bytes) of output were dropped: an environment may log 4 MiB a second\n",
            3 * line.len() + 2 * "short\n".len()
        )
    );
}

#[test]
fn a_phase_ends_with_what_was_dropped_in_it() {
    let (mut output, mut pipe, kept) = output();
    output.lines.rate.bytes = 3;
    pipe.write_all(b"ab\ncd\n").unwrap();
    output.drain(at(0));
    let log = kept.0.lock().unwrap();
    assert_eq!(log[0], "ab\n");
    assert!(log[1].starts_with("[lambfold] 1 lines (3 bytes)"), "{log:?}");
}

#[test]
fn a_steady_writer_below_the_rate_loses_nothing() {
    let mut rate = Rate::new();
    // 4 MiB/s in lines of 1 KiB, one in each 250 µs, for ten seconds: the bucket never empties.
    for step in 0..40_000u64 {
        assert!(rate.admits(step * 250, 1024), "step {step}");
    }
}

#[test]
fn a_closed_pipe_is_told_apart_from_an_empty_one() {
    let (mut output, mut pipe, kept) = output();
    assert_eq!(output.read(Writer::Function, at(0)), Pipe::Empty);
    pipe.write_all(b"end").unwrap();
    drop(pipe);
    assert_eq!(output.read(Writer::Function, at(0)), Pipe::Read(3));
    assert_eq!(output.read(Writer::Function, at(0)), Pipe::Closed);
    output.drain(at(0));
    assert_eq!(*kept.0.lock().unwrap(), ["end"]);
}
