use lambfold_runtime_client::scripted::{Call, Event};

use crate::harness::{SOON, function, setup};

#[test]
fn what_is_printed_reaches_the_caller_before_the_end() {
    let mut runtime = function(
        "handler() { echo before; lambda_stream text/plain; echo first; until [[ -e go ]]; do [[ -d $PWD ]] || exit; done; echo last; }",
    )
    .start();
    runtime.server.push(Event::new("1", ""));
    let seen = runtime.server.wait_streamed(SOON, |bytes| bytes.ends_with(b"first\n"));
    assert_eq!(seen.unwrap(), b"before\nfirst\n");
    std::fs::write(runtime.path("go"), "").unwrap();
    let post = runtime.server.post(SOON).unwrap();
    assert_eq!(post.text(), "before\nfirst\nlast\n");
    assert_eq!(post.field("lambda-runtime-function-response-mode"), Some("streaming"));
    assert_eq!(post.field("content-type"), Some("text/plain"));
    assert!(post.trailers.is_empty());
    assert_eq!(runtime.post(Event::new("2", "")).text(), "before\nfirst\nlast\n");
}

#[test]
fn more_than_six_mebibytes_can_be_streamed() {
    let mut runtime = function("handler() { lambda_stream; head -c 20000000 /dev/zero; }").start();
    let post = runtime.post(Event::new("1", ""));
    assert_eq!((post.call, post.body.len()), (Call::Response, 20_000_000));
}

#[test]
fn status_and_headers_become_a_prelude() {
    let mut runtime = function(
        r#"handler() { lambda_stream text/html -s 201 -H 'X-One: a "quoted" \ value' -H 'Location:/x'; printf body; }"#,
    )
    .start();
    let post = runtime.post(Event::new("1", ""));
    assert_eq!(
        post.field("content-type"),
        Some("application/vnd.awslambda.http-integration-response")
    );
    let end = post.body.windows(8).position(|eight| eight == [0; 8]).unwrap();
    let prelude: serde_json::Value = serde_json::from_slice(&post.body[..end]).unwrap();
    assert_eq!(
        prelude,
        serde_json::json!({"statusCode": 201, "headers": {
            "Content-Type": "text/html", "X-One": "a \"quoted\" \\ value", "Location": "/x"
        }})
    );
    assert_eq!(&post.body[end + 8..], b"body");
}

#[test]
fn a_failure_in_mid_stream_is_in_the_trailers() {
    for setup in [
        function("handler() { lambda_stream text/plain; echo part; lambda_error Broken pipe; }"),
        function("handler() { lambda_stream text/plain; echo part; lambda_error Broken pipe; }")
            .persist(),
        setup("s.sh").file(
            "s.sh",
            "lambda_stream text/plain; echo part; lambda_error Broken pipe",
            0o644,
        ),
    ] {
        let mut runtime = setup.start();
        let post = runtime.post(Event::new("1", ""));
        assert_eq!((post.call, post.text().as_str()), (Call::Response, "part\n"));
        assert_eq!(post.trailer("lambda-runtime-function-error-type"), Some("Function.Broken"));
        assert!(post.trailer("lambda-runtime-function-error-body").is_some());
        assert!(!post.is_cut);
    }
}
