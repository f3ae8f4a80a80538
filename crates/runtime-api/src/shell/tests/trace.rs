//! What whoever watches sees: the same, whichever way a request is served.

use super::*;
use lambfold_trace::{Call, Seen, Watch};
use std::task::{Context, Waker};

/// Everything there is to see now.
fn seen(watch: &mut Watch) -> Vec<Arc<Call>> {
    let mut all = Vec::new();
    while let Poll::Ready(Seen::Call(call)) = watch.poll(&mut Context::from_waker(Waker::noop())) {
        all.push(call);
    }
    all
}

/// State, method, path, status and bodies of a call.
fn text(call: &Call) -> String {
    let body = |message: &lambfold_trace::Message| {
        let more = if message.body.is_whole() { "" } else { "…" };
        format!("{}{more}", String::from_utf8_lossy(message.body.kept()))
    };
    let answer = call.answer.as_ref();
    let answer = answer.map(|answer| format!(" -> {} {}", answer.status, body(&answer.message)));
    let request = body(&call.request);
    let (state, method, path) = (call.state, &call.method, &call.path);
    format!("{state:?} {method} {path} {request}{}", answer.unwrap_or_default())
}

fn texts(watch: &mut Watch) -> Vec<String> {
    seen(watch).iter().map(|call| text(call)).collect()
}

/// With these headers of its requests, so that they are served one way or the other.
async fn one_invocation(headers: &str) {
    let server = server(Limits::default()).await;
    let mut watch = server.host.watch(12);
    let mut client = server.client().await;
    let next = "/2018-06-01/runtime/invocation/next";
    client
        .send(format!("GET {next} HTTP/1.1\r\nHost: h\r\nUser-Agent: r/1\r\n{headers}\r\n"))
        .await;
    server.until(|host| host.waiting() == 1).await;
    server.host.invoke("{\"event\":\"longer\"}");
    client.reply().await;
    let calls = seen(&mut watch);
    assert_eq!(text(&calls[0]), format!("Waiting GET {next} "));
    assert_eq!(text(&calls[1]), format!("Answered GET {next}  -> 200 {{\"event\":\"lo…"));
    assert_eq!(calls[1].request.headers["user-agent"], "r/1");
    assert!(!calls[1].request.headers.contains_key("host"));
    let answer = &calls[1].answer.as_ref().unwrap().message.headers;
    assert_eq!(answer["lambda-runtime-aws-request-id"], ID);
    assert_eq!(answer["content-type"], "application/json");
    assert!(calls[1].took_us.is_some());

    let mut client = server.client().await;
    let path = format!("invocation/{ID}/response");
    client.post(&path, headers, b"a longer answer").await.reply().await;
    let mut client = server.client().await;
    client.post("invocation/other/error", headers, b"{}").await.reply().await;
    let refused = r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
    assert_eq!(
        texts(&mut watch),
        [
            format!(
                "Answered POST /2018-06-01/runtime/{path} a longer ans… -> 202 {{\"status\":\"O…"
            ),
            format!(
                "Answered POST /2018-06-01/runtime/invocation/other/error {{}} -> 400 {}…",
                &refused[..12]
            ),
        ]
    );
}

#[tokio::test]
async fn the_short_way_is_seen() {
    one_invocation("").await;
}

#[tokio::test]
async fn the_other_way_is_seen() {
    one_invocation("Connection: close\r\n").await;
}

#[tokio::test]
async fn a_next_that_waited_before_anybody_watched_is_seen_when_it_is_answered() {
    for headers in ["", "Connection: close\r\n"] {
        let server = server(Limits::default()).await;
        let mut client = server.client().await;
        let next = "/2018-06-01/runtime/invocation/next";
        client.send(format!("GET {next} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        server.until(|host| host.waiting() == 1).await;
        let mut watch = server.host.watch(1024);
        server.host.invoke("{}");
        client.reply().await;
        let calls = seen(&mut watch);
        assert_eq!(text(&calls[0]), format!("Answered GET {next}  -> 200 {{}}"));
        assert_eq!(calls[0].took_us, None);
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_its_answer_is_seen() {
    for headers in ["", "Connection: close\r\n"] {
        let server = server(Limits::default()).await;
        let mut watch = server.host.watch(1024);
        let mut client = server.client().await;
        let next = "/2018-06-01/runtime/invocation/next";
        client.send(format!("GET {next} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        server.until(|host| host.waiting() == 1).await;
        drop(client);
        server.until(|host| host.waiting() == 0).await;
        let mut all = texts(&mut watch);
        while all.len() < 2 {
            tokio::task::yield_now().await;
            all.extend(texts(&mut watch));
        }
        assert_eq!(all, [format!("Waiting GET {next} "), format!("Gone GET {next} ")]);
    }
}

#[tokio::test]
async fn extensions_are_seen() {
    let server = server(Limits::default()).await;
    let mut watch = server.host.watch(1024);
    let mut client = server.client().await;
    client
        .send(
            "POST /2020-01-01/extension/register HTTP/1.1\r\nHost: h\r\nLambda-Extension-Name: e\r\nContent-Length: 13\r\n\r\n{\"events\":[]}",
        )
        .await
        .reply()
        .await;
    client
        .send("GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .reply()
        .await;
    let calls = seen(&mut watch);
    let register = text(&calls[0]);
    assert!(
        register.starts_with(
            "Answered POST /2020-01-01/extension/register {\"events\":[]} -> 200 {\"functionName\""
        ),
        "{register}"
    );
    let identifier =
        &calls[0].answer.as_ref().unwrap().message.headers["lambda-extension-identifier"];
    assert_eq!(identifier.chars().count(), 9, "only its beginning: {identifier}");
    assert!(text(&calls[1]).contains("event/next  -> 403"), "{}", text(&calls[1]));
}
