//! Any pieces of a streamed response: no panic, nothing is lost, and what is held back is bounded.
#![no_main]

use lambfold_runtime_api::TrailerText;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut text = TrailerText::new(true);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for piece in pieces {
        sent.extend_from_slice(&piece);
        received.extend_from_slice(&text.feed(piece.into()));
        assert!(sent.starts_with(&received));
        assert!(sent.len() - received.len() <= 1 << 20);
    }
    if let Ok(rest) = text.finish() {
        received.extend_from_slice(&rest);
        assert_eq!(sent, received);
    }
});
