//! Any bytes as a recording or a line of a trace: no panic, and what is read is written again as it
//! was read.
#![no_main]

use lambfold_trace::{Line, Recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = Line::parse(bytes) {
        assert_eq!(Line::parse(&line.to_bytes()).ok(), Some(line));
    }
    if let Ok(recording) = Recording::open(bytes) {
        for event in recording.flatten() {
            assert!(event.event.kept().len() as u64 <= event.event.bytes());
            assert!(event.answer.body.kept().len() as u64 <= event.answer.body.bytes());
        }
    }
    let mut file = lambfold_trace::Recorder::head("f", 0);
    file.extend_from_slice(bytes);
    let events = Recording::open(&file[..]).into_iter().flatten();
    assert!(
        events.filter(Result::is_ok).count() <= bytes.iter().filter(|b| **b == b'\n').count() + 1
    );
});
