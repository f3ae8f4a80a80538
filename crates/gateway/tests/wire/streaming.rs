//! InvokeWithResponseStream.

use crate::client::{Client, Response};
use crate::frames::{self, Frame};
use crate::golden;
use crate::service::{Service, base64};
use lambfold_types::{Answer, PhaseEnd};
use serde_json::{Value, json};

const PATH: &str = "/2021-11-15/functions/f/response-streaming-invocations";

/// The events of a response, as they come.
struct Events {
    client: Client,
    head: Response,
    bytes: Vec<u8>,
}

async fn begin(service: &Service, headers: &str, payload: &[u8]) -> Events {
    let mut client = service.client().await;
    client.send("POST", PATH, headers, payload).await;
    let head = client.response("POST").await;
    Events { client, head, bytes: Vec::new() }
}

impl Events {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match frames::decode(&self.bytes) {
                Ok((frame, rest)) => {
                    self.bytes = rest.to_vec();
                    return Some(frame);
                }
                Err("more") => {}
                Err(error) => panic!("{error}"),
            }
            match self.client.chunk().await {
                Some(chunk) => self.bytes.extend(chunk),
                None => {
                    assert!(self.bytes.is_empty(), "half an event");
                    return None;
                }
            }
        }
    }

    /// All that is left: the payload, and what the last event says.
    async fn rest(mut self) -> (Vec<Vec<u8>>, Value) {
        let mut chunks = Vec::new();
        loop {
            let frame = self.next().await.expect("an InvokeComplete");
            match frame.header(":event-type") {
                "PayloadChunk" => chunks.push(frame.payload),
                "InvokeComplete" => {
                    assert!(self.next().await.is_none(), "nothing comes after it");
                    return (chunks, serde_json::from_slice(&frame.payload).unwrap());
                }
                other => panic!("{other}"),
            }
        }
    }
}

/// Head and events of a response, for a golden file.
async fn check(name: &str, mut events: Events) {
    let mut body = Vec::new();
    while let Some(frame) = events.next().await {
        let headers: serde_json::Map<String, Value> =
            frame.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let payload = String::from_utf8(frame.payload).unwrap();
        body.push(json!({"headers": headers, "payload": payload}));
    }
    events.head.body = serde_json::to_vec(&body).unwrap();
    golden::check(name, &events.head);
}

async fn invoke(service: &Service, headers: &str, payload: &[u8]) -> Response {
    service.call("POST", PATH, headers, payload).await
}

#[tokio::test]
async fn a_whole_answer_is_one_chunk() {
    let service = Service::start().await;
    service.create().await;
    let events = begin(&service, "", b"{\"a\": 1}").await;
    let id = events.head.header("x-amzn-requestid").unwrap().to_owned();
    let trace = events.head.header("x-amzn-trace-id").map(str::to_owned);
    check("stream-whole", events).await;
    let seen = service.fakes.seen.lock().unwrap().remove(0);
    assert_eq!((id, trace.as_deref()), (seen.request_id.to_string(), seen.trace_id.as_deref()));
    // An empty event is an empty object, and a connection serves one request after another.
    let mut events = begin(&service, "", b"").await;
    for _ in 0..2 {
        assert_eq!(events.next().await.unwrap().payload, b"{}");
        assert_eq!(events.next().await.unwrap().header(":event-type"), "InvokeComplete");
        assert!(events.next().await.is_none());
        events.client.send("POST", PATH, "", b"{}").await;
        events.head = events.client.response("POST").await;
    }
}

#[tokio::test]
async fn the_bytes_on_the_wire() {
    let service = Service::start().await;
    service.create().await;
    let mut events = begin(&service, "", b"1").await;
    let mut bytes = Vec::new();
    while let Some(chunk) = events.client.chunk().await {
        bytes.extend(chunk);
    }
    assert_eq!(frames::decode_all(&bytes).unwrap().len(), 2);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> =
        hex.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    events.head.body = serde_json::to_vec(&lines).unwrap();
    golden::check("stream-bytes", &events.head);
}

#[tokio::test]
async fn chunks_come_while_the_function_runs() {
    let service = Service::start().await;
    service.create().await;
    let tail = "x-amz-log-type: Tail\r\n";
    let mut client = service.client().await;
    client.send("POST", PATH, tail, b"\"stream\"").await;
    let running = service.fakes.running().await;
    running.sink.begin(Some("text/event-stream".into()));
    let head = client.response("POST").await;
    assert_eq!(head.header("x-amzn-remapped-content-type"), Some("text/event-stream"));
    let mut events = Events { client, head, bytes: Vec::new() };
    for chunk in ["one", "two"] {
        running.sink.send(chunk.into()).await.unwrap();
        assert_eq!(events.next().await.unwrap().payload, chunk.as_bytes());
    }
    let complete = Answer {
        payload: Default::default(),
        content_type: None,
        function_error: false,
        stream_error: None,
    };
    running.answer.send(Ok(complete)).unwrap();
    // The tail holds the lines that END and REPORT are.
    running.end.send(PhaseEnd { reusable: true, log_tail: Some(b"REPORT\n".to_vec()) }).unwrap();
    assert_eq!(events.rest().await, (Vec::new(), json!({"LogResult": base64(b"REPORT\n")})));
}

#[tokio::test]
async fn an_error_in_the_middle_is_in_the_last_event() {
    let service = Service::start().await;
    service.create().await;
    let mut client = service.client().await;
    client.send("POST", PATH, "", b"\"stream\"").await;
    let running = service.fakes.running().await;
    running.sink.begin(None);
    running.sink.send("part".into()).await.unwrap();
    let failed = Answer {
        payload: r#"{"errorType":"Sandbox.Timedout","errorMessage":"late"}"#.into(),
        content_type: None,
        function_error: true,
        stream_error: Some("Sandbox.Timeout".into()),
    };
    running.answer.send(Ok(failed)).unwrap();
    let head = client.response("POST").await;
    check("stream-error-in-the-middle", Events { client, head, bytes: Vec::new() }).await;
    let page = service.call("GET", "/metrics", "", b"").await.text();
    assert!(page.contains("lambfold_function_errors_total 1\n"), "{page}");
    assert!(page.contains("lambfold_invocations_total{type=\"RequestResponse\"} 1\n"), "{page}");
}

#[tokio::test]
async fn errors_of_the_function_and_the_log() {
    let service = Service::start().await;
    service.create().await;
    let tail = "x-amz-log-type: Tail\r\n";
    check("stream-function-error", begin(&service, tail, b"\"fail\"").await).await;
}

#[tokio::test]
async fn refusals_are_those_of_invoke() {
    let service = Service::start().await;
    golden::check("stream-not-found", &invoke(&service, "", b"{}").await);
    service.create().await;
    golden::check("stream-throttled", &invoke(&service, "", b"\"throttle\"").await);
    golden::check("stream-lost", &invoke(&service, "", b"\"lost\"").await);
    golden::check("stream-not-json", &invoke(&service, "", b"\x99").await);
    let event = "x-amz-invocation-type: Event\r\n";
    golden::check("stream-invalid-type", &invoke(&service, event, b"{}").await);
    let text = "content-type: text/plain\r\n";
    assert_eq!(invoke(&service, text, b"{}").await.status, 415);
    let mismatch = "/2021-11-15/functions/f:1/response-streaming-invocations?Qualifier=2";
    let refused = service.call("POST", mismatch, "", b"{}").await;
    assert_eq!((refused.status, refused.error_type()), (400, "InvalidParameterValueException"));
    let bad = "/2021-11-15/functions/f%21/response-streaming-invocations";
    let refused = service.call("POST", bad, "", b"{}").await;
    assert_eq!((refused.status, refused.error_type()), (400, "ValidationException"));
    let context = "x-amz-client-context: *\r\n";
    assert_eq!(invoke(&service, context, b"{}").await.status, 400);
    assert_eq!(invoke(&service, "x-amz-tenant-id: a\r\n", b"{}").await.status, 501);
    assert_eq!(service.call("GET", PATH, "", b"").await.status, 405);
    let page = "origin: http://evil.example\r\n";
    assert_eq!(invoke(&service, page, b"{}").await.status, 403);
    let payload = |size: usize| format!("\"{}\"", "a".repeat(size - 2)).into_bytes();
    let (chunks, complete) = begin(&service, "", &payload(6_291_456)).await.rest().await;
    assert_eq!((chunks.len(), chunks[0].len(), complete), (1, 6_291_456, json!({})));
    assert_eq!(invoke(&service, "", &payload(6_291_457)).await.status, 413);
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let service = Service::start().await;
    service.create().await;
    let dry = "x-amz-invocation-type: DryRun\r\n";
    golden::check("stream-dry-run", &invoke(&service, dry, b"{}").await);
    assert!(service.fakes.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_qualifier_counts() {
    let service = Service::start().await;
    service.create().await;
    service.json("POST", "/2015-03-31/functions/f/versions", "{}").await;
    for named in
        ["f/response-streaming-invocations?Qualifier=1", "f:1/response-streaming-invocations"]
    {
        let mut client = service.client().await;
        client.send("POST", &format!("/2021-11-15/functions/{named}"), "", b"1").await;
        let head = client.response("POST").await;
        assert_eq!(head.header("x-amz-executed-version"), Some("1"), "{named}");
        let seen = service.fakes.seen.lock().unwrap().pop().unwrap();
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f:1";
        assert_eq!(&*seen.invoked_function_arn, arn);
    }
}

#[tokio::test]
async fn a_caller_who_does_not_read_stops_the_stream_and_one_who_goes_frees_it() {
    let service = Service::start().await;
    service.create().await;
    let mut client = service.client().await;
    client.send("POST", PATH, "", b"\"stream\"").await;
    let running = service.fakes.running().await;
    running.sink.begin(None);
    client.response("POST").await;
    // The kernel's buffers and ours are full at some time: then nothing more is taken.
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    let mut taken = 0_u64;
    let blocked = loop {
        let mut sending = running.sink.send(chunk.clone());
        let quiet = async {
            for _ in 0..20_000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            sent = &mut sending => sent.unwrap(),
            () = quiet => break sending,
        }
        taken += 1;
        assert!(taken < 200, "{taken} MiB were taken for a caller who reads nothing");
    };
    drop(client);
    assert!(blocked.await.is_err(), "the caller is gone");
}
