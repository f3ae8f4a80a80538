//! Pages that are streamed.

use serde_json::{Value, json};

use crate::harness::{SOON, get, index};

const PAGE: &str = r#"<?php
if ($_SERVER['REQUEST_URI'] === '/fatal') { undefined_function(); }
header('Content-Type: text/plain'); setcookie('a', '1'); http_response_code(201);
echo 'first'; flush();
if ($_SERVER['REQUEST_URI'] === '/kill') { usleep(1000); posix_kill(getmypid(), SIGKILL); }
while (!file_exists('go')) { usleep(1000); clearstatcache(); }
echo 'second';
"#;

fn parts(body: &[u8]) -> (Value, &[u8]) {
    let at = body.windows(8).position(|eight| eight == [0; 8]).unwrap();
    (serde_json::from_slice(&body[..at]).unwrap(), &body[at + 8..])
}

#[test]
fn what_is_flushed_is_on_its_way() {
    let mut runtime = index(PAGE).variable("LAMBFOLD_PHP_STREAM", "1").start();
    let event = runtime.event(&get("/"));
    runtime.server.push(event);
    runtime.server.wait_streamed(SOON, |bytes| bytes.ends_with(b"first")).unwrap();
    std::fs::write(runtime.folder().join("go"), "").unwrap();
    let post = runtime.server.post(SOON).unwrap();
    assert_eq!(
        post.field("content-type"),
        Some("application/vnd.awslambda.http-integration-response")
    );
    assert_eq!(post.field("lambda-runtime-function-response-mode"), Some("streaming"));
    let (prelude, body) = parts(&post.body);
    assert_eq!((&prelude["statusCode"], &prelude["cookies"]), (&json!(201), &json!(["a=1"])));
    assert!(prelude["headers"]["Content-type"].as_str().unwrap().starts_with("text/plain"));
    assert_eq!(body, b"firstsecond");
    assert_eq!(post.trailer("lambda-runtime-function-error-type"), None);
}

#[test]
fn a_stream_that_breaks_says_so_at_its_end() {
    let mut runtime = index(PAGE).variable("LAMBFOLD_PHP_STREAM", "1").start();
    let event = runtime.event(&get("/kill"));
    let post = runtime.post(event);
    assert_eq!(parts(&post.body).1, b"first");
    assert_eq!(post.trailer("lambda-runtime-function-error-type"), Some("Function.WorkerDied"));
    // Before the first byte a page can still be a 500.
    let event = runtime.event(&get("/fatal"));
    let post = runtime.post(event);
    let (prelude, body) = parts(&post.body);
    assert_eq!((&prelude["statusCode"], body), (&json!(500), &b""[..]));
}

#[test]
fn pages_are_streamed_to_who_streams_unless_a_setting_says_otherwise() {
    for (setting, caller_streams, is_stream) in
        [("", false, false), ("", true, true), ("0", true, false), ("1", false, true)]
    {
        let mut runtime = index(PAGE).variable("LAMBFOLD_PHP_STREAM", setting).start();
        std::fs::write(runtime.folder().join("go"), "").unwrap();
        let mut event = runtime.event(&get("/"));
        if caller_streams {
            event = event.with_field("Lambfold-Invoke-Mode", "RESPONSE_STREAM");
        }
        let post = runtime.post(event);
        let mode = post.field("lambda-runtime-function-response-mode");
        assert_eq!(mode, is_stream.then_some("streaming"), "{setting:?} {caller_streams}");
        if !is_stream {
            let answer: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(answer["body"], "firstsecond");
        }
    }
}
