#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn dropped() -> DroppedRecord {
    Arc::new(|records, bytes| format!("dropped {records} {bytes}").into())
}

fn record(kind: RecordKind, json: &str) -> Record {
    Record { kind, telemetry: true, logs: Some(LogsSchema::V2020), json: json.into() }
}

fn subscription(json: &str) -> Subscription {
    Subscription::parse(false, json.as_bytes()).unwrap()
}

const ALL: &str = r#"{"schemaVersion":"2022-07-01","types":["platform","function","extension"],"destination":{"protocol":"TCP","port":8080}}"#;
const FUNCTION: &str = r#"{"schemaVersion":"2022-07-01","types":["function"],"destination":{"protocol":"HTTP","URI":"http://sandbox:8080"},"buffering":{"timeoutMs":25}}"#;

fn waiting(outlet: &Outlet) -> Vec<String> {
    outlet.taken().iter().map(|record| record.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn late_subscribers_are_told_everything_and_each_only_what_it_wants() {
    let mut relay = Relay::new(dropped());
    let now = Instant::now();
    relay.push(now, record(RecordKind::Platform, "p"));
    relay.push(now, record(RecordKind::Function, "f"));
    let all = relay.subscribe(now, &"a".into(), subscription(ALL)).unwrap().unwrap();
    relay.push(now, record(RecordKind::Extension, "e"));
    let some = relay.subscribe(now, &"b".into(), subscription(FUNCTION)).unwrap().unwrap();
    assert!(relay.subscribe(now, &"a".into(), subscription(FUNCTION)).unwrap().is_none());
    assert!(relay.close());
    relay.push(now, record(RecordKind::Function, "g"));
    let refused = relay.subscribe(now, &"c".into(), subscription(ALL)).unwrap_err();
    assert_eq!(refused.error_type(), "Telemetry.SubscriptionClosed");
    assert_eq!(refused.message(), "Telemetry API subscription is closed");
    assert_eq!(waiting(&all), ["p", "f", "e", "g"]);
    assert_eq!(waiting(&some), ["f", "g"]);
    assert!(!Relay::new(dropped()).close(), "nobody has subscribed");
}

#[tokio::test(start_paused = true)]
async fn the_two_apis_do_not_mix_and_see_different_records() {
    let mut relay = Relay::new(dropped());
    let now = Instant::now();
    let logs = |version: &str| {
        let json = format!(
            r#"{{"schemaVersion":"{version}","types":["platform"],"destination":{{"protocol":"HTTP","URI":"http://sandbox:80/","method":"PUT","encoding":"JSON"}}}}"#
        );
        Subscription::parse(true, json.as_bytes()).unwrap()
    };
    let old = relay.subscribe(now, &"a".into(), logs("2020-08-15")).unwrap().unwrap();
    let new = relay.subscribe(now, &"b".into(), logs("2021-03-18")).unwrap().unwrap();
    let refused = relay.subscribe(now, &"c".into(), subscription(ALL)).unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.error_type()), (400, "ValidationError"));
    let of = |telemetry, logs, json: &str| Record {
        telemetry,
        logs,
        ..record(RecordKind::Platform, json)
    };
    relay.push(now, of(true, None, "initStart"));
    relay.push(now, of(true, Some(LogsSchema::V2021), "runtimeDone"));
    relay.push(now, of(false, Some(LogsSchema::V2020), "end"));
    assert_eq!(waiting(&old), ["end"]);
    assert_eq!(waiting(&new), ["runtimeDone", "end"]);
}

#[tokio::test(start_paused = true)]
async fn the_backlog_is_bounded_and_says_so() {
    let mut relay = Relay::new(dropped());
    let now = Instant::now();
    let big = "x".repeat(BACKLOG_BYTES - 1);
    relay.push(now, record(RecordKind::Function, &big));
    relay.push(now, record(RecordKind::Function, "y"));
    relay.push(now, record(RecordKind::Function, "zz"));
    let outlet = relay.subscribe(now, &"a".into(), subscription(ALL)).unwrap().unwrap();
    let batches = [waiting(&outlet), waiting(&outlet), waiting(&outlet)];
    assert!(batches[0] == [big]);
    assert_eq!(batches[1..], [["y"], ["dropped 1 2"]]);
}

fn small() -> Buffering {
    Buffering { items: 3, bytes: 10, timeout: Duration::from_millis(100) }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_ripe_at_the_first_of_its_limits() {
    let start = Instant::now();
    let mut buffer = Buffer::new(small(), dropped());
    assert_eq!(buffer.ripe_at(), None);
    assert!(buffer.push(start, "1".into()), "a timer is to be set");
    assert!(!buffer.push(start + Duration::from_millis(9), "2".into()), "it runs already");
    assert_eq!(buffer.ripe_at(), Some(start + Duration::from_millis(100)));
    assert!(buffer.push(start, "3".into()), "three are full");
    assert_eq!(buffer.ripe_at(), Some(start));
    assert_eq!(buffer.take(start).len(), 3);
    assert_eq!(buffer.ripe_at(), None);
    assert!(!buffer.is_drained(), "it is on its way");
    buffer.sent();
    assert!(buffer.is_drained());
    buffer.push(start, "0123456789".into());
    assert_eq!(buffer.ripe_at(), Some(start));
    // The last record may go beyond the limit, never another one.
    buffer.push(start, "x".into());
    assert_eq!(buffer.take(start).len(), 1);
    buffer.flush();
    assert!(buffer.ripe_at().unwrap() <= start);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_loses_the_newest_and_is_told_in_their_place() {
    let now = Instant::now();
    let mut buffer = Buffer::new(small(), dropped());
    for n in 0..15 {
        buffer.push(now, format!("{n:02}").into());
    }
    // Twelve records, four batches, is what waits at most.
    let mut seen = Vec::new();
    while !buffer.queue_is_empty() {
        seen.extend(buffer.take(now));
        buffer.sent();
        if seen.len() == 3 {
            buffer.push(now, "later".into());
        }
    }
    let seen: Vec<&str> = seen.iter().map(|record| &**record).collect();
    assert_eq!(seen[11..], ["11", "dropped 3 6", "later"]);
    // A batch that is refused for good is counted, too.
    buffer.push(now, "a".into());
    let batch = buffer.take(now);
    buffer.given_up(now, &batch);
    buffer.push(now, "b".into());
    let batches = [buffer.take(now), buffer.take(now)].concat();
    assert_eq!(batches.iter().map(|r| &**r).collect::<Vec<_>>(), ["dropped 1 1", "b"]);
}

#[test]
fn what_cannot_be_subscribed_to_is_named() {
    let base = |types: &str, more: &str| {
        format!(r#"{{"schemaVersion":"2022-07-01","types":[{types}],"destination":{{{more}}}}}"#)
    };
    let tcp = |port: &str| base(r#""function""#, &format!(r#""protocol":"TCP","port":{port}"#));
    let http = |uri: &str| base(r#""function""#, &format!(r#""protocol":"HTTP","URI":"{uri}""#));
    let with = |buffering: &str| {
        tcp("1").replace(r#""types""#, &format!(r#""buffering":{{{buffering}}},"types""#))
    };
    for (body, part) in [
        (base("", r#""protocol":"TCP","port":1"#), "types must not be empty"),
        (base(r#""all""#, r#""protocol":"TCP","port":1"#), "types: \"all\""),
        (tcp("0"), "from 1 to 65535"),
        (tcp("65536"), "from 1 to 65535"),
        (tcp("9001"), "Runtime API"),
        (base(r#""function""#, r#""protocol":"UDP""#), "destination.protocol"),
        (http("https://sandbox:1"), "http://"),
        (http("http://example.com:1/"), "sandbox.localdomain"),
        (http("http://sandbox.localdomain/"), "port"),
        (http("http://sandbox.localdomain:9001/"), "Runtime API"),
        (http("\\n"), "destination.URI"),
        (with(r#""maxItems":999"#), "from 1000 to 10000"),
        (with(r#""maxItems":10001"#), "from 1000 to 10000"),
        (with(r#""maxBytes":262143"#), "from 262144 to 1048576"),
        (with(r#""maxBytes":1048577"#), "from 262144 to 1048576"),
        (with(r#""timeoutMs":24"#), "from 25 to 30000"),
        (with(r#""timeoutMs":30001"#), "from 25 to 30000"),
        (tcp("1").replace("2022-07-01", "2020-08-15"), "schemaVersion"),
        (tcp("1").replace(r#""schemaVersion":"2022-07-01","#, ""), "schemaVersion"),
        ("[".to_owned(), ""),
    ] {
        let refused = Subscription::parse(false, body.as_bytes()).unwrap_err();
        assert_eq!(refused.error_type(), "ValidationError");
        assert!(refused.message().contains(part), "{body}: {}", refused.message());
    }
    for body in [
        tcp("65535"),
        http("http://sandbox.localdomain:8080/a?b"),
        with(r#""maxItems":1000,"maxBytes":262144,"timeoutMs":25"#),
        with(r#""maxItems":10000,"maxBytes":1048576,"timeoutMs":30000"#),
        tcp("1").replace("2022-07-01", "2025-01-29"),
    ] {
        Subscription::parse(false, body.as_bytes()).unwrap();
    }
    // The Logs API has a schema version of its own, and needs none.
    let logs = tcp("1").replace(r#""schemaVersion":"2022-07-01","#, "");
    let logs = Subscription::parse(true, logs.as_bytes()).unwrap();
    assert_eq!(logs.api, TelemetryApi::Logs(LogsSchema::V2020));
}

/// A network with one address.
struct TestNetwork {
    port: u16,
    dials: AtomicU32,
    drained: AtomicU32,
    /// Dials that fail first.
    failures: u32,
}

impl Network for TestNetwork {
    fn dial(&self, _: u16) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>> {
        let number = self.dials.fetch_add(1, Ordering::SeqCst);
        let (port, fails) = (self.port, number < self.failures);
        Box::pin(async move {
            if fails {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            TcpStream::connect(("127.0.0.1", port)).await
        })
    }
    fn drained(&self) {
        self.drained.fetch_add(1, Ordering::SeqCst);
    }
}

async fn network(failures: u32) -> (TcpListener, Arc<TestNetwork>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let counters = (AtomicU32::new(0), AtomicU32::new(0));
    let network = TestNetwork { port, dials: counters.0, drained: counters.1, failures };
    (listener, Arc::new(network))
}

/// Reads one request with a body.
async fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed");
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return (head.to_owned(), body.to_owned());
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

#[tokio::test]
async fn http_batches_are_arrays_on_one_connection_and_are_tried_until_taken() {
    let (listener, network) = network(2).await;
    let mut relay = Relay::new(dropped());
    let outlet =
        relay.subscribe(Instant::now(), &"a".into(), subscription(FUNCTION)).unwrap().unwrap();
    relay.push(Instant::now(), record(RecordKind::Function, "{\"n\":1}"));
    relay.push(Instant::now(), record(RecordKind::Function, "{\"n\":2}"));
    let task = tokio::spawn(deliver(outlet, Arc::clone(&network) as Arc<dyn Network>));
    relay.started(task.abort_handle());
    let (mut stream, _) = listener.accept().await.unwrap();
    let (head, body) = request(&mut stream).await;
    assert!(head.starts_with("POST / HTTP/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("host: sandbox.localdomain:8080"), "{head}");
    assert_eq!(body, "[{\"n\":1},{\"n\":2}]");
    assert!(!relay.is_drained());
    stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let (_, again) = request(&mut stream).await;
    assert_eq!(again, body);
    stream.write_all(OK).await.unwrap();
    while !relay.is_drained() {
        tokio::task::yield_now().await;
    }
    // Closed while idle: the next batch finds another connection without being lost.
    drop(stream);
    relay.push(Instant::now(), record(RecordKind::Function, "{\"n\":3}"));
    relay.flush();
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(request(&mut stream).await.1, "[{\"n\":3}]");
    stream.write_all(OK).await.unwrap();
    while network.drained.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    drop(relay);
    assert!(task.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn tcp_carries_a_document_a_line() {
    let (listener, network) = network(0).await;
    let mut relay = Relay::new(dropped());
    let outlet = relay.subscribe(Instant::now(), &"a".into(), subscription(ALL)).unwrap().unwrap();
    relay.started(tokio::spawn(deliver(outlet, network)).abort_handle());
    for text in ["1", "2"] {
        relay.push(Instant::now(), record(RecordKind::Platform, text));
        relay.flush();
    }
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"1\n2\n");
}

#[tokio::test]
async fn a_subscriber_that_refuses_for_good_loses_the_batch_and_is_told() {
    let (listener, network) = network(0).await;
    let mut relay = Relay::new(dropped());
    let outlet =
        relay.subscribe(Instant::now(), &"a".into(), subscription(FUNCTION)).unwrap().unwrap();
    relay.started(tokio::spawn(deliver(outlet, network)).abort_handle());
    relay.push(Instant::now(), record(RecordKind::Function, "abc"));
    let (mut stream, _) = listener.accept().await.unwrap();
    for _ in 0..4 {
        assert_eq!(request(&mut stream).await.1, "[abc]");
        stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    }
    while !relay.is_drained() {
        tokio::task::yield_now().await;
    }
    relay.push(Instant::now(), record(RecordKind::Function, "d"));
    assert_eq!(request(&mut stream).await.1, "[dropped 1 3,d]");
}

proptest! {
    #[test]
    fn what_is_pushed_is_taken_in_order_or_counted(
        steps in prop::collection::vec((0usize..12, any::<bool>()), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = runtime.enter();
        let now = Instant::now();
        let mut buffer = Buffer::new(small(), dropped());
        let mut expected = VecDeque::new();
        let mut lost = 0u64;
        let mut seen = Vec::new();
        for (n, (size, take)) in steps.into_iter().enumerate() {
            let text = format!("{n}:{}", "x".repeat(size));
            buffer.push(now, text.as_str().into());
            expected.push_back(text);
            if take && buffer.ripe_at().is_some() {
                seen.extend(buffer.take(now));
                buffer.sent();
            }
        }
        buffer.flush();
        while buffer.ripe_at().is_some() {
            let batch = buffer.take(now);
            prop_assert!(!batch.is_empty() && batch.len() <= small().items + 1);
            seen.extend(batch);
            buffer.sent();
        }
        for record in seen {
            if let Some(rest) = record.strip_prefix("dropped ") {
                lost += rest.split(' ').next().unwrap().parse::<u64>().unwrap();
                continue;
            }
            // What was lost came before this one.
            while expected.front().is_some_and(|front| **front != *record) {
                expected.pop_front();
                prop_assert!(lost > 0, "{record} came out of order");
                lost -= 1;
            }
            expected.pop_front();
        }
        prop_assert_eq!(u64::try_from(expected.len()).unwrap(), lost);
    }

    #[test]
    fn any_subscription_is_survived(
        body in prop::collection::vec(any::<u8>(), 0..60),
        uri in "(http|s|://|sandbox|\\.localdomain|:|8080|/|@|\\[|%|[a-z0-9]){0,10}",
        legacy: bool,
    ) {
        let _ = Subscription::parse(legacy, &body);
        let json = serde_json::json!({
            "schemaVersion": "2022-07-01",
            "types": ["platform"],
            "destination": { "protocol": "HTTP", "URI": uri },
        });
        if let Ok(parsed) = Subscription::parse(false, json.to_string().as_bytes()) {
            prop_assert!(parsed.destination.port() > 0);
        }
    }
}
