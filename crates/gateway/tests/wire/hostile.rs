//! Peers that break rules: each is refused or cut off, and the next one is served.

use crate::service::{Service, create_body};
use lambfold_gateway::Limits;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

async fn alive(service: &Service) {
    assert_eq!(service.call("GET", "/health/live", "", b"").await.status, 200);
}

fn quick() -> Limits {
    Limits {
        head_time: Duration::from_millis(100),
        silence: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_hostile_page_cannot_create_a_function() {
    let service = Service::start().await;
    let body = create_body("f");
    let own = format!("http://127.0.0.1:{}", service.address.port());
    for headers in [
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "origin: http://localhost:3000\r\nsec-fetch-site: same-site\r\n",
        "content-type: text/plain\r\norigin: https://evil.example\r\n",
    ] {
        let refused = service.call("POST", "/2015-03-31/functions", headers, body.as_bytes()).await;
        assert_eq!(refused.status, 403, "{headers}");
        assert_eq!(refused.error_type(), "AccessDeniedException");
        assert!(refused.text().contains("pages of other origins"), "{}", refused.text());
    }
    let listed = service.call("GET", "/2015-03-31/functions", "", b"").await;
    assert_eq!(listed.text(), r#"{"Functions":[]}"#);
    let headers = format!("origin: {own}\r\nsec-fetch-site: same-origin\r\n");
    let created = service.call("POST", "/2015-03-31/functions", &headers, body.as_bytes()).await;
    assert_eq!(created.status, 201, "the same request from the server's own page");
}

#[tokio::test]
async fn a_rebound_name_reads_nothing() {
    let service = Service::start().await;
    for path in ["/2015-03-31/functions", "/metrics", "/health/live", "/_lambfold/v1/code/x"] {
        let mut client = service.client().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: evil.example:9000\r\n\r\n");
        client.write(request.as_bytes()).await;
        let refused = client.response("GET").await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("evil.example:9000"), "{}", refused.text());
        assert!(refused.text().contains("endpoint URL"), "{}", refused.text());
    }
    let mut client = service.client().await;
    client.write(b"GET /health/live HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response("GET").await.status, 403, "no Host at all");
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let service = Service::with_limits(quick()).await;
    let mut client = service.client().await;
    client.write(b"GET /health/live HTTP/1.1\r\nhost: local").await;
    client.ended().await;
    let mut silent = service.client().await;
    silent.ended().await;
    alive(&service).await;
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    let service = Service::with_limits(quick()).await;
    service.create().await;
    let mut client = service.client().await;
    client
        .write(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        .await;
    assert_eq!(client.response("POST").await.status, 408);
    client.ended().await;
    alive(&service).await;
}

#[tokio::test]
async fn heads_over_the_limits_are_431() {
    let service = Service::start().await;
    let mut client = service.client().await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(600_000));
    // The server may answer and close before it has read everything.
    let _ = client.stream.write_all(head.as_bytes()).await;
    let refused = client.try_response("GET").await;
    assert!(refused.is_none_or(|refused| refused.status == 431));
    let mut client = service.client().await;
    let many: String = (0..200).map(|i| format!("x{i}: 1\r\n")).collect();
    client.write(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(client.response("GET").await.status, 431);
    let fits = format!("x: {}\r\n", "a".repeat(60_000));
    assert_eq!(service.call("GET", "/health/live", &fits, b"").await.status, 200);
    alive(&service).await;
}

#[tokio::test]
async fn garbage_is_400_or_nothing() {
    let service = Service::start().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"NONSENSE\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut client = service.client().await;
        client.write(garbage).await;
        client.stream.shutdown().await.unwrap();
        if let Some(response) = client.try_response("GET").await {
            assert!((400..500).contains(&response.status), "{garbage:?}: {}", response.status);
        }
    }
    alive(&service).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let service = Service::start().await;
    service.create().await;
    let mut client = service.client().await;
    let mut requests = Vec::new();
    for i in 0..50 {
        let body = i.to_string();
        let request = format!(
            "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        requests.extend_from_slice(request.as_bytes());
    }
    client.write(&requests).await;
    for i in 0..50 {
        assert_eq!(client.response("POST").await.text(), i.to_string());
    }
}

#[tokio::test]
async fn chunked_bodies_and_continue() {
    let service = Service::start().await;
    service.create().await;
    let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\n";
    let mut client = service.client().await;
    let chunks = "transfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    client.write(format!("{head}{chunks}").as_bytes()).await;
    assert_eq!(client.response("POST").await.text(), "{\"a\":1}");

    let expect = "expect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.write(format!("{head}{expect}").as_bytes()).await;
    assert_eq!(client.response("POST").await.status, 100);
    client.write(b"{}").await;
    assert_eq!(client.response("POST").await.text(), "{}");

    // One that asks first is refused without sending its body.
    let expect = "expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n";
    client.write(format!("{head}{expect}").as_bytes()).await;
    assert_eq!(client.response("POST").await.status, 413);
}

#[tokio::test]
async fn chunks_without_end_are_stopped_at_the_limit() {
    let service = Service::start().await;
    service.create().await;
    let mut client = service.client().await;
    let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(head.as_bytes()).await;
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()];
    let chunk = chunk.concat();
    for _ in 0..8 {
        client.write(&chunk).await;
    }
    assert_eq!(client.response("POST").await.status, 413);
    alive(&service).await;
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let service = Service::with_limits(limits).await;
    let mut first = service.client().await;
    assert_eq!(first.call("GET", "/health/live", "", b"").await.status, 200);
    let mut second = service.client().await;
    assert_eq!(second.call("GET", "/health/live", "", b"").await.status, 200);
    let mut third = service.client().await;
    third.send("GET", "/health/live", "", b"").await;
    drop(first);
    assert_eq!(third.response("GET").await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_kept_connections() {
    let mut service = Service::start().await;
    service.create().await;
    let mut kept = service.client().await;
    assert_eq!(kept.call("GET", "/health/live", "", b"").await.status, 200);
    let mut waiting = service.client().await;
    let path = "/2015-03-31/functions/f/invocations";
    waiting.send("POST", path, "x-amz-log-type: Tail\r\n", b"\"late\"").await;
    while service.fakes.held.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    service.stop();
    kept.ended().await;
    assert!(!service.stopped.as_ref().unwrap().is_finished());
    let end = service.fakes.held.lock().unwrap().remove(0);
    drop(end);
    assert_eq!(waiting.response("POST").await.status, 200);
    drop(waiting);
    service.stopped.take().unwrap().await.unwrap();
}
