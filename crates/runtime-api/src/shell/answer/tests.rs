#![allow(clippy::unwrap_used)]
use super::*;
use crate::machine::State;
use crate::shell::stream::tests::TestSink;
use crate::shell::tests::{ID, TestHost};
use crate::shell::trailer::ERROR_BODY;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use lambfold_types::limits::STREAMED_RESPONSE_BYTES;
use proptest::prelude::*;
use std::convert::Infallible;

/// Posts to a runtime that has an event; the answer, and what the host was given.
async fn post<B>(path: &str, headers: &[(&str, &str)], body: B) -> (Reply, Posted, State)
where
    B: Body<Data = Bytes> + Unpin,
{
    post_with(None, path, headers, body).await
}

/// The same, for a caller who reads what is streamed.
async fn post_with<B>(
    sink: Option<Arc<TestSink>>,
    path: &str,
    headers: &[(&str, &str)],
    body: B,
) -> (Reply, Posted, State)
where
    B: Body<Data = Bytes> + Unpin,
{
    let (host, mut posted) = TestHost::new();
    *host.sink.lock().unwrap() = sink.map(|sink| sink as Arc<dyn ResponseSink>);
    if path != "init/error" {
        host.run();
    }
    let path = path.replace("ID", ID);
    let mut request =
        Request::post(format!("http://h/2018-06-01/runtime/{path}")).body(body).unwrap();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    let reply = answer(&*host, request).await.unwrap();
    let state = host.state();
    (reply, posted.try_recv().unwrap(), state)
}

fn full(text: &'static str) -> Full<Bytes> {
    Full::new(Bytes::from_static(text.as_bytes()))
}

async fn json_of(reply: Reply) -> serde_json::Value {
    serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

fn error_of(payload: &str, content_type: Option<&str>, error_type: &str) -> Posted {
    Posted::Error {
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        content_type: content_type.map(Into::into),
        error_type: error_type.into(),
    }
}

#[tokio::test]
async fn errors_are_forwarded_verbatim() {
    for (headers, body, expected) in [
        (
            &[(ERROR_TYPE, "Function.Oops"), ("content-type", "text/odd")][..],
            "no json",
            error_of("no json", Some("text/odd"), "Function.Oops"),
        ),
        (&[], "", error_of("", None, "Runtime.Unknown")),
        (
            &[("lambda-runtime-function-xray-error-cause", "not json {")],
            "{}",
            error_of("{}", None, "Runtime.Unknown"),
        ),
    ] {
        for path in ["invocation/ID/error", "init/error"] {
            let (reply, posted, _) = post(path, headers, full(body)).await;
            assert_eq!(reply.status(), 202);
            assert_eq!(posted, expected);
        }
    }
}

#[tokio::test]
async fn an_error_cause_is_taken_out_of_the_document() {
    const TYPE: (&str, &str) = ("content-type", "application/vnd.aws.lambda.error.cause+json");
    for (body, payload, content_type) in [
        (
            r#"{"errorMessage":"m","errorType":"t","stackTrace":["a"],"errorCause":{"x":1}}"#,
            r#"{"errorMessage":"m","errorType":"t","stackTrace":["a"]}"#,
            "application/json",
        ),
        (
            r#"{"errorMessage":"m","errorType":"t"}"#,
            r#"{"errorMessage":"m","errorType":"t"}"#,
            "application/json",
        ),
        ("{", r#""Invalid error body""#, "application/octet-stream"),
        (r#"{"errorMessage":1}"#, r#""Invalid error body""#, "application/octet-stream"),
    ] {
        let (reply, posted, _) = post("invocation/ID/error", &[TYPE], full(body)).await;
        assert_eq!(reply.status(), 202, "{body}");
        assert_eq!(posted, error_of(payload, Some(content_type), "Runtime.Unknown"));
    }
}

#[tokio::test]
async fn response_modes() {
    for mode in ["streaming", ""] {
        let (reply, posted, state) =
            post("invocation/ID/response", &[(RESPONSE_MODE, mode)], full("x")).await;
        assert_eq!(reply.status(), 202);
        assert_eq!(posted, Posted::Response { payload: "x".into(), content_type: None });
        assert_eq!(state, State::RuntimeResponseSentState);
    }
    for mode in ["Streaming", "buffered", "streaming "] {
        let mode = [(RESPONSE_MODE, mode)];
        let (reply, posted, state) = post("invocation/ID/response", &mode, full("x")).await;
        assert_eq!(reply.status(), 400);
        assert_eq!(posted, Posted::InvalidResponseMode);
        assert_eq!(state, State::InvocationResponse, "its next is refused");
        let document = json_of(reply).await;
        assert_eq!(document["errorType"], "InvalidFunctionResponseMode");
        assert_eq!(document["errorMessage"], "Invalid function response mode");
    }
}

/// Chunks and trailers, as a streamed response comes.
fn stream(
    chunks: &[&'static str],
    trailers: &[(&'static str, &'static str)],
) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> =
        chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
    if !trailers.is_empty() {
        let trailers =
            trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        frames.push(Ok(Frame::trailers(trailers.collect())));
    }
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn trailers_of_a_streamed_response_report_its_error() {
    const MODE: (&str, &str) = (RESPONSE_MODE, "streaming");
    // {"errorType":"a"}
    const BODY: &str = "eyJlcnJvclR5cGUiOiJhIn0=";
    let reported = [(ERROR_TYPE, "Runtime.StreamError"), (ERROR_BODY, BODY)];
    let body = || stream(&["par", "tial"], &reported);
    let (reply, posted, _) = post("invocation/ID/response", &[MODE], body()).await;
    assert_eq!(reply.status(), 202);
    let json = Some("application/json");
    assert_eq!(posted, error_of(r#"{"errorType":"a"}"#, json, "Runtime.StreamError"));

    // Buffered responses have no such trailers.
    let (_, posted, _) = post("invocation/ID/response", &[], body()).await;
    assert_eq!(posted, Posted::Response { payload: "partial".into(), content_type: None });

    let bad = [(ERROR_TYPE, "x"), (ERROR_BODY, "not base64!")];
    let (_, posted, _) = post("invocation/ID/response", &[MODE], stream(&["a"], &bad)).await;
    assert_eq!(posted, error_of("", json, "Runtime.Unknown"));

    let other = [("x-checksum", "1")];
    let (_, posted, _) = post("invocation/ID/response", &[MODE], stream(&["a"], &other)).await;
    assert_eq!(posted, Posted::Response { payload: "a".into(), content_type: None });
}

#[tokio::test]
async fn trailers_written_into_the_body_are_recognised() {
    const MODE: (&str, &str) = (RESPONSE_MODE, "streaming");
    const TRAILER: (&str, &str) = ("trailer", "Lambda-Runtime-Function-Error-Type");
    const TEXT: &str = "Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: Ym9vbQ==\r\n";
    let (_, posted, _) =
        post("invocation/ID/response", &[MODE, TRAILER], stream(&["partial", TEXT], &[])).await;
    assert_eq!(posted, error_of("boom", Some("application/json"), "Runtime.StreamError"));

    // Only where they were announced, and only at the end.
    for (headers, chunks) in [
        (&[MODE][..], &["partial", TEXT][..]),
        (&[TRAILER], &["partial", TEXT]),
        (&[MODE, TRAILER], &[TEXT, "more"]),
        (&[MODE, TRAILER], &["Lambda-Runtime-Function-Error-Body: Ym9vbQ==\r\n"]),
    ] {
        let (_, posted, _) = post("invocation/ID/response", headers, stream(chunks, &[])).await;
        let payload = chunks.concat().into();
        assert_eq!(posted, Posted::Response { payload, content_type: None });
    }
}

#[tokio::test]
async fn a_streamed_response_goes_to_the_caller_who_wants_it_so() {
    const MODE: (&str, &str) = (RESPONSE_MODE, "streaming");
    let sink = TestSink::new();
    let headers = [MODE, ("content-type", "text/x")];
    let body = stream(&["par", "tial"], &[]);
    let (reply, posted, state) =
        post_with(Some(sink.clone()), "invocation/ID/response", &headers, body).await;
    assert_eq!((reply.status(), state), (StatusCode::ACCEPTED, State::RuntimeResponseSentState));
    assert_eq!(posted, Posted::Streamed { end: StreamEnd::Complete, bytes: 7 });
    assert_eq!(*sink.begun.lock().unwrap(), Some(Some("text/x".into())));
    assert_eq!(sink.received(), b"partial");

    // One that is not streamed is whole for everybody.
    let sink = TestSink::new();
    let (_, posted, _) =
        post_with(Some(sink.clone()), "invocation/ID/response", &[], full("x")).await;
    assert_eq!(posted, Posted::Response { payload: "x".into(), content_type: None });
    assert_eq!(*sink.begun.lock().unwrap(), None);

    // An error that its trailers report was taken well.
    let reported = [(ERROR_TYPE, "Runtime.StreamError")];
    let body = stream(&["partial"], &reported);
    let (reply, posted, _) =
        post_with(Some(TestSink::new()), "invocation/ID/response", &[MODE], body).await;
    assert_eq!(reply.status(), 202);
    let error_type = "Runtime.StreamError".into();
    let end = StreamEnd::Error { payload: Bytes::new(), error_type };
    assert_eq!(posted, Posted::Streamed { end, bytes: 7 });
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_may_be_larger_than_a_whole_one_but_not_endless() {
    const MODE: (&str, &str) = (RESPONSE_MODE, "streaming");
    let limit = usize::try_from(STREAMED_RESPONSE_BYTES).unwrap();
    for (size, status) in [(RESPONSE_BYTES + 1, 202), (limit, 202), (limit + 1, 413)] {
        let sink = TestSink::new();
        // Nobody reads: the bandwidth is not limited, and nothing is copied.
        sink.leave();
        let body = Full::new(Bytes::from(vec![0; size]));
        let (reply, posted, state) =
            post_with(Some(sink), "invocation/ID/response", &[MODE], body).await;
        assert_eq!(reply.status(), status, "{size}");
        assert_eq!(state, State::RuntimeResponseSentState, "it may ask for the next event");
        let Posted::Streamed { end, bytes } = posted else { panic!("not a stream") };
        assert_eq!(bytes, size.min(limit) as u64);
        assert_eq!(end == StreamEnd::TooLarge, status == 413);
        if status == 413 {
            let text = "Exceeded maximum allowed payload size (209715200 bytes).";
            assert_eq!(json_of(reply).await["errorMessage"], text);
        }
    }
}

#[tokio::test]
async fn a_runtime_that_is_given_up_while_it_streams_loses_its_connection() {
    let (host, mut posted) = TestHost::new();
    let sink = TestSink::new();
    *host.sink.lock().unwrap() = Some(sink.clone());
    host.run();
    let body = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let path = format!("http://h/2018-06-01/runtime/invocation/{ID}/response");
    let request = Request::post(path).header(RESPONSE_MODE, "streaming").body(body).unwrap();
    let given_up = async {
        sink.until(|sink| sink.begun.lock().unwrap().is_some()).await;
        host.reset();
        sink.close();
    };
    let (reply, ()) = tokio::join!(answer(&*host, request), given_up);
    let reply = reply.unwrap();
    assert_eq!(reply.status(), 403);
    assert_eq!(reply.headers()["connection"], "close");
    assert!(posted.try_recv().is_err(), "it is refused");
}

#[tokio::test]
async fn a_body_in_one_piece_is_not_copied() {
    let bytes = Bytes::from(vec![b'x'; 100_000]);
    let (_, posted, _) = post("invocation/ID/response", &[], Full::new(bytes.clone())).await;
    let Posted::Response { payload, .. } = posted else { panic!("not a response") };
    assert_eq!(payload.as_ptr(), bytes.as_ptr());
}

proptest! {
    /// Whatever headers and bytes a runtime sends, it is answered, and the host hears of each
    /// post that was begun exactly once.
    #[test]
    fn any_request_is_answered(
        path in "(next|init/error|invocation/ID/(response|error)|[a-z/%]{0,12})",
        is_post in any::<bool>(),
        names in prop::collection::vec(0usize..6, 0..6),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 6),
        body in prop::collection::vec(any::<u8>(), 0..300),
        running in any::<bool>(),
    ) {
        const NAMES: [&str; 6] = [
            ERROR_TYPE, RESPONSE_MODE, "content-type", "trailer",
            "lambda-runtime-function-xray-error-cause", "user-agent",
        ];
        let (host, mut posted) = TestHost::new();
        if running {
            host.run();
        }
        let before = host.state();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = if is_post { http::Method::POST } else { http::Method::GET };
        let path = format!("/2018-06-01/runtime/{}", path.replace("ID", ID));
        *request.uri_mut() = path.parse().unwrap_or_default();
        for (at, name) in names.into_iter().enumerate() {
            if let Ok(value) = HeaderValue::from_bytes(&values[at]) {
                request.headers_mut().append(NAMES[name], value);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reply = runtime.block_on(async { answer(&*host, request).await.unwrap() });
        let begun = [202, 400].contains(&reply.status().as_u16()) && host.state() != before;
        prop_assert_eq!(posted.try_recv().is_ok(), begun);
        prop_assert!(posted.try_recv().is_err());
    }
}
