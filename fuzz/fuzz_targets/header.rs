//! Any headers that a runtime could send: no panic, and what goes on to others is bounded.
#![no_main]

use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use lambfold_runtime_api::{classify_error_type, runtime_release};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (first, second) = input;
    let kind = classify_error_type(first);
    assert!(kind.contains("Runtime.") || kind.contains("Function."));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(first) {
        headers.insert(USER_AGENT, value);
    }
    if let Ok(value) = HeaderValue::from_bytes(second) {
        headers.insert("lambda-runtime-features", value);
    }
    assert!(runtime_release(&headers).len() <= 128);
});
