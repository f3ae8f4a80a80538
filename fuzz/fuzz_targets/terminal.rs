//! Any bytes as frames of a terminal: no panic, and a cut makes no difference.
#![no_main]

use lambfold_terminal::Decoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    let read = |parts: &[&[u8]]| {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for part in parts {
            decoder.feed(part);
            loop {
                match decoder.take() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    };
    let cut = cut.min(bytes.len());
    assert_eq!(read(&[bytes]), read(&[&bytes[..cut], &bytes[cut..]]));
});
