use crate::client::Response;
use crate::golden;
use crate::service::{Service, base64};
use lambfold_types::PhaseEnd;

const PATH: &str = "/2015-03-31/functions/f/invocations";

async fn invoke(service: &Service, headers: &str, payload: &[u8]) -> Response {
    service.call("POST", PATH, headers, payload).await
}

#[tokio::test]
async fn an_answer_and_its_headers() {
    let service = Service::start().await;
    service.create().await;
    let answer = invoke(&service, "", b"{\"a\": 1}").await;
    golden::check("invoke", &answer);
    assert_eq!(answer.body, b"{\"a\": 1}");
    let seen = service.fakes.seen.lock().unwrap().remove(0);
    assert_eq!(answer.header("x-amzn-requestid"), Some(&*seen.request_id.to_string()));
    assert_eq!(answer.header("x-amzn-trace-id"), seen.trace_id.as_deref());
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    assert_eq!(&*seen.invoked_function_arn, arn);
    assert_eq!(seen.content_type, None);
}

#[tokio::test]
async fn errors_of_the_function_are_200() {
    let service = Service::start().await;
    service.create().await;
    golden::check("invoke-function-error", &invoke(&service, "", b"\"fail\"").await);
}

#[tokio::test]
async fn refusals_in_aws_words() {
    let service = Service::start().await;
    let missing = service.call("POST", PATH, "", b"{}").await;
    golden::check("invoke-not-found", &missing);
    service.create().await;
    golden::check("invoke-throttled", &invoke(&service, "", b"\"throttle\"").await);
    golden::check("invoke-reserved", &invoke(&service, "", b"\"reserved\"").await);
    golden::check("invoke-no-room", &invoke(&service, "", b"\"no room\"").await);
    golden::check("invoke-lost", &invoke(&service, "", b"\"lost\"").await);
    golden::check("invoke-not-json", &invoke(&service, "", b"\x99\x98").await);
    let text = "content-type: text/plain\r\n";
    golden::check("invoke-media-type", &invoke(&service, text, b"{}").await);
    let kind = "x-amz-invocation-type: Later\r\n";
    golden::check("invoke-invalid-type", &invoke(&service, kind, b"{}").await);
    let mismatch = "/2015-03-31/functions/f:1/invocations?Qualifier=2";
    golden::check("invoke-qualifier-mismatch", &service.call("POST", mismatch, "", b"{}").await);
    let bad_name = "/2015-03-31/functions/f%21/invocations";
    golden::check("invoke-invalid-name", &service.call("POST", bad_name, "", b"{}").await);
    let id = "x-amzn-requestid: 1\r\n";
    let refused = invoke(&service, id, b"{}").await;
    assert_eq!((refused.status, refused.error_type()), (400, "InvalidRequestContentException"));
    let context = "x-amz-client-context: *\r\n";
    golden::check("invoke-client-context", &invoke(&service, context, b"{}").await);
    let tenant = "x-amz-tenant-id: a\r\n";
    assert_eq!(invoke(&service, tenant, b"{}").await.status, 501);
    let long = format!("/2015-03-31/functions/{}/invocations", "a".repeat(65));
    golden::check("invoke-long-name", &service.call("POST", &long, "", b"{}").await);
}

#[tokio::test]
async fn every_way_to_name_the_function() {
    let service = Service::start().await;
    service.create().await;
    service.json("POST", "/2015-03-31/functions/f/versions", "{}").await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let cases = [
        ("f".to_owned(), arn.to_owned(), "$LATEST"),
        ("f?Qualifier=1".to_owned(), format!("{arn}:1"), "1"),
        ("f?Qualifier=$LATEST".to_owned(), format!("{arn}:$LATEST"), "$LATEST"),
        ("f?Qualifier=%24LATEST".to_owned(), format!("{arn}:$LATEST"), "$LATEST"),
        ("f:1".to_owned(), format!("{arn}:1"), "1"),
        ("f%3A1?Qualifier=1".to_owned(), format!("{arn}:1"), "1"),
        ("000000000000:function:f".to_owned(), arn.to_owned(), "$LATEST"),
        (arn.replace(':', "%3A"), arn.to_owned(), "$LATEST"),
        (format!("{arn}:1"), format!("{arn}:1"), "1"),
    ];
    let mut client = service.client().await;
    for (named, invoked, version) in cases {
        let (name, query) = named.split_once('?').unwrap_or((&named, ""));
        let target = format!("/2015-03-31/functions/{name}/invocations?{query}");
        let answer = client.call("POST", target.trim_end_matches('?'), "", b"1").await;
        assert_eq!(answer.status, 200, "{named}: {}", answer.text());
        assert_eq!(answer.header("x-amz-executed-version"), Some(version), "{named}");
        let seen = service.fakes.seen.lock().unwrap().pop().expect("an invocation");
        assert_eq!(&*seen.invoked_function_arn, invoked, "{named}");
    }
}

#[tokio::test]
async fn dry_run_and_event() {
    let service = Service::start().await;
    service.create().await;
    let dry = invoke(&service, "x-amz-invocation-type: DryRun\r\n", b"{}").await;
    golden::check("invoke-dry-run", &dry);
    assert!(service.fakes.seen.lock().unwrap().is_empty());
    let event = invoke(&service, "x-amz-invocation-type: Event\r\n", b"{\"n\":1}").await;
    golden::check("invoke-event", &event);
    let missing = "/2015-03-31/functions/g/invocations";
    for kind in ["DryRun", "Event"] {
        let headers = format!("x-amz-invocation-type: {kind}\r\n");
        assert_eq!(service.call("POST", missing, &headers, b"{}").await.status, 404);
    }
}

#[tokio::test]
async fn an_empty_event_is_an_empty_object() {
    let service = Service::start().await;
    service.create().await;
    assert_eq!(invoke(&service, "", b"").await.body, b"{}");
}

#[tokio::test]
async fn context_trace_and_request_id_reach_the_runtime() {
    let service = Service::start().await;
    service.create().await;
    let id = "8f5d1f2c-0a3b-4c5d-9e6f-708192a3b4c5";
    let trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1";
    let headers = format!(
        "x-amzn-requestid: {id}\r\nx-amzn-trace-id: {trace}\r\nx-amz-client-context: {}\r\n",
        base64(b"{\"custom\":{}}")
    );
    let answer = invoke(&service, &headers, b"{}").await;
    assert_eq!(answer.header("x-amzn-requestid"), Some(id));
    assert_eq!(answer.header("x-amzn-trace-id"), Some(trace));
    let seen = service.fakes.seen.lock().unwrap().remove(0);
    assert_eq!(seen.client_context.as_deref(), Some("{\"custom\":{}}"));
    assert_eq!(seen.trace_id.as_deref(), Some(trace));
}

#[tokio::test]
async fn the_log_tail_waits_for_the_end_of_the_phase() {
    let service = Service::start().await;
    service.create().await;
    let tail = "x-amz-log-type: Tail\r\n";
    golden::check("invoke-log-tail", &invoke(&service, tail, b"{}").await);

    let mut waiting = service.client().await;
    waiting.send("POST", PATH, tail, b"\"late\"").await;
    let mut quick = service.client().await;
    // Without a tail the answer does not wait.
    assert_eq!(quick.call("POST", PATH, "", b"\"late\"").await.status, 200);
    while service.fakes.held.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let ends: Vec<_> = service.fakes.held.lock().unwrap().drain(..).collect();
    for end in ends {
        let _ = end.send(PhaseEnd { reusable: true, log_tail: Some(b"REPORT\n".to_vec()) });
    }
    let answer = waiting.response("POST").await;
    assert_eq!(answer.header("x-amz-log-result"), Some(&*base64(b"REPORT\n")));
}

#[tokio::test]
async fn payload_size_on_both_sides_of_its_limits() {
    let service = Service::start().await;
    service.create().await;
    let payload = |size: usize| format!("\"{}\"", "a".repeat(size - 2)).into_bytes();
    let sync = 6_291_456;
    let answer = invoke(&service, "", &payload(sync)).await;
    assert_eq!((answer.status, answer.body.len()), (200, sync), "{}", answer.error_type());
    golden::check("invoke-too-large", &invoke(&service, "", &payload(sync + 1)).await);
    let event = "x-amz-invocation-type: Event\r\n";
    assert_eq!(invoke(&service, event, &payload(1_048_576)).await.status, 202);
    golden::check("invoke-event-too-large", &invoke(&service, event, &payload(1_048_577)).await);
}

/// Plain requests are answered by a shorter way than others: nobody may see which.
#[tokio::test]
async fn both_ways_give_the_same_answers() {
    let service = Service::start().await;
    service.create().await;
    let tail = "x-amz-log-type: Tail\r\n";
    let event = "x-amz-invocation-type: Event\r\n";
    let dry = "x-amz-invocation-type: DryRun\r\n";
    for (path, headers, payload) in [
        (PATH, "", "{\"a\": 1}"),
        (PATH, "", ""),
        (PATH, "", "\"fail\""),
        (PATH, "", "\"throttle\""),
        (PATH, "", "\"lost\""),
        (PATH, "", "not json"),
        (PATH, tail, "{}"),
        (PATH, event, "{}"),
        (PATH, dry, "{}"),
        (PATH, "content-type: text/plain\r\n", "{}"),
        (PATH, "x-amz-client-context: *\r\n", "{}"),
        (PATH, "x-amzn-requestid: 11111111-2222-4333-8444-555555555555\r\n", "{}"),
        (PATH, "x-amzn-trace-id: Root=1-0-0;Parent=1;Sampled=1\r\n", "{}"),
        ("/2015-03-31/functions/f%21/invocations", "", "{}"),
        ("/2015-03-31/functions/f/invocations?Qualifier=9", "", "{}"),
        ("/2015-03-31/functions/g/invocations", "", "{}"),
    ] {
        let mut client = service.client().await;
        let plain = client.call("POST", path, headers, payload.as_bytes()).await;
        let chunks = match payload.len() {
            0 => String::new(),
            length => format!("{length:x}\r\n{payload}\r\n"),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{headers}\r\n{chunks}0\r\n\r\n"
        );
        // On the same connection, which stays on the long way from here on.
        client.write(request.as_bytes()).await;
        let chunked = client.response("POST").await;
        let again = client.call("POST", path, headers, payload.as_bytes()).await;
        for other in [chunked, again] {
            assert_eq!((plain.status, plain.text()), (other.status, other.text()), "{payload}");
            assert_eq!(steady(&plain), steady(&other), "{payload}");
        }
    }
}

/// Headers without what differs from request to request.
fn steady(response: &Response) -> Vec<(String, String)> {
    let mut headers = response.headers.clone();
    headers.retain(|(name, _)| !matches!(&**name, "date" | "x-amzn-requestid" | "x-amzn-trace-id"));
    headers.sort();
    headers
}
