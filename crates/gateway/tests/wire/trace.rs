//! `GET /_lambfold/v1/functions/FUNCTION/trace`.

use crate::client::Client;
use crate::service::Service;
use lambfold_trace::{Call, Message, State, Tap};
use lambfold_types::{FunctionName, ManualClock, Version};
use serde_json::Value;
use std::sync::Arc;

const PATH: &str = "/_lambfold/v1/functions/f/trace";

fn tap(service: &Service, version: Version) -> Tap {
    let name = FunctionName::parse("f").unwrap();
    let clock = Arc::new(ManualClock::at(7));
    service.traces.tap(&service.scope, &name, version, "stream", clock)
}

fn call(path: &str, state: State) -> Call {
    Call {
        at: 0,
        environment: String::new(),
        version: String::new(),
        state,
        method: "GET".into(),
        path: path.into(),
        request: Message::default(),
        answer: None,
        took_us: None,
    }
}

/// The lines of a trace, as they come.
struct Lines {
    client: Client,
    bytes: Vec<u8>,
}

impl Lines {
    async fn begin(service: &Service, query: &str) -> Self {
        let mut client = service.client().await;
        client.send("GET", &format!("{PATH}{query}"), "", b"").await;
        let head = client.response("GET").await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("application/x-ndjson"));
        Self { client, bytes: Vec::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            match self.client.chunk().await {
                Some(chunk) => self.bytes.extend(chunk),
                None => {
                    assert!(self.bytes.is_empty(), "half a line");
                    return None;
                }
            }
        }
    }
}

#[tokio::test]
async fn calls_come_as_lines_and_end_with_the_count() {
    let service = Service::start().await;
    service.create().await;
    let tap = tap(&service, Version::Latest);
    let mut lines = Lines::begin(&service, "?count=2&body=5").await;
    let begin = lines.next().await.unwrap();
    assert_eq!(begin["type"], "begin");
    assert_eq!(begin["function"], "arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_eq!((&begin["format"], &begin["bodyBytes"]), (&1.into(), &5.into()));
    assert_eq!(tap.wanted(), Some(5));
    // What waits comes again, and is not counted.
    tap.offer(call("a", State::Waiting));
    tap.offer(call("a", State::Answered));
    assert_eq!(lines.next().await.unwrap()["state"], "waiting");
    assert_eq!(lines.next().await.unwrap()["state"], "answered");
    tap.offer(call("b", State::Gone));
    tap.offer(call("c", State::Answered));
    assert_eq!(lines.next().await.unwrap()["path"], "b");
    let end = lines.next().await.unwrap();
    assert_eq!((&end["type"], &end["reason"]), (&"end".into(), &"count".into()));
    assert_eq!(lines.next().await, None);
    assert_eq!(tap.wanted(), None);
    // The connection is as good as before.
    assert_eq!(lines.client.call("GET", "/health/live", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_version_is_watched_alone() {
    let service = Service::start().await;
    service.create().await;
    let (latest, first) = (tap(&service, Version::Latest), tap(&service, Version::Published(1)));
    let mut lines = Lines::begin(&service, "?qualifier=%24LATEST&count=1").await;
    let begin = lines.next().await.unwrap();
    assert!(begin["function"].as_str().unwrap().ends_with(":f:$LATEST"), "{begin}");
    first.offer(call("first", State::Answered));
    latest.offer(call("latest", State::Answered));
    assert_eq!(lines.next().await.unwrap()["path"], "latest");
}

#[tokio::test]
async fn time_ends_a_trace() {
    let service = Service::start().await;
    service.create().await;
    let mut lines = Lines::begin(&service, "?seconds=0").await;
    lines.next().await;
    assert_eq!(lines.next().await.unwrap()["reason"], "time");
}

#[tokio::test]
async fn nobody_is_watched_when_the_client_has_gone() {
    let service = Service::start().await;
    service.create().await;
    let tap = tap(&service, Version::Latest);
    let mut lines = Lines::begin(&service, "").await;
    lines.next().await;
    assert_eq!(tap.wanted(), Some(1024));
    drop(lines);
    while tap.wanted().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_ends_its_traces() {
    let mut service = Service::start().await;
    service.create().await;
    let mut lines = Lines::begin(&service, "").await;
    lines.next().await;
    service.gateway.set_ready(false);
    service.stop();
    assert_eq!(lines.next().await.unwrap()["reason"], "shutdown");
    service.stopped.take().unwrap().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_traced_is_refused() {
    let service = Service::start().await;
    service.create().await;
    async fn refused(service: &Service, method: &str, target: &str) -> (u16, String) {
        let response = service.call(method, target, "", b"").await;
        (response.status, response.error_type().to_owned())
    }
    let none = "/_lambfold/v1/functions/nobody/trace";
    assert_eq!(refused(&service, "GET", none).await, (404, "ResourceNotFoundException".into()));
    let odd = format!("{PATH}?count=x");
    assert_eq!(
        refused(&service, "GET", &odd).await,
        (400, "InvalidParameterValueException".into())
    );
    assert_eq!(refused(&service, "POST", PATH).await, (405, "MethodNotAllowedException".into()));
    let other = "/_lambfold/v1/functions/f/traces";
    assert_eq!(refused(&service, "GET", other).await, (404, "UnknownOperationException".into()));
    let mut watches = Vec::new();
    for _ in 0..lambfold_trace::WATCHES {
        watches.push(Lines::begin(&service, "").await);
    }
    assert_eq!(refused(&service, "GET", PATH).await, (429, "TooManyRequestsException".into()));
}

#[tokio::test]
async fn a_shell_wants_its_own_protocol_and_says_so() {
    let service = Service::start().await;
    service.create().await;
    let path = "/_lambfold/v1/functions/f/shell";
    let upgrade = "connection: Upgrade\r\nupgrade: lambfold-shell/1\r\n";
    let plain = service.call("POST", path, "", b"").await;
    assert_eq!((plain.status, plain.error_type()), (400, "InvalidParameterValueException"));
    assert!(plain.text().contains("Upgrade: lambfold-shell/1"), "{}", plain.text());
    let other = "connection: Upgrade\r\nupgrade: websocket\r\n";
    assert_eq!(service.call("POST", path, other, b"").await.status, 400);
    assert_eq!(service.call("GET", path, upgrade, b"").await.status, 405);
    let nobody = "/_lambfold/v1/functions/nobody/shell";
    assert_eq!(service.call("POST", nobody, upgrade, b"").await.status, 404);
    let odd = format!("{path}?rows=0&columns=80");
    assert_eq!(service.call("POST", &odd, upgrade, b"").await.status, 400);
    // A page of another origin gets as far as with anything else: nowhere.
    let page = format!("{upgrade}origin: http://evil.example\r\n");
    assert_eq!(service.call("POST", path, &page, b"").await.status, 403);
    // Nobody starts shells here.
    assert_eq!(service.call("POST", path, upgrade, b"").await.status, 501);
}
