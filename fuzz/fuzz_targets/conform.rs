//! Any bytes as requests of a bootstrap: no panic, and a cut makes no difference.
#![no_main]

use lambfold_conform::wire::Reader;
use libfuzzer_sys::fuzz_target;
use std::time::Instant;

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    let read = |parts: &[&[u8]]| {
        let (mut reader, now) = (Reader::default(), Instant::now());
        let fine = parts.iter().all(|part| reader.feed(part, now).is_ok());
        let requests = std::iter::from_fn(|| reader.take());
        let requests =
            requests.map(|r| (r.head, r.framing, r.body, r.trailers)).collect::<Vec<_>>();
        (fine, requests)
    };
    let cut = cut.min(bytes.len());
    assert_eq!(read(&[bytes]), read(&[&bytes[..cut], &bytes[cut..]]));
});
