#![allow(clippy::unwrap_used)]
mod slow;
mod trace;

use super::*;
use crate::event::{Delivery, Event};
use crate::extension::{
    ExtensionDelivery, ExtensionError, ExtensionNext, ExtensionRefusal, Extensions, Registration,
};
use crate::host::{
    Call, Caller, Disturbance, ExtensionReply, NextReply, Posted, Registered, SubscribeError,
};
use crate::machine::{Machine, Next, Post, Posting, State, Ticket};
use crate::refusal::Refusal;
use crate::telemetry::{Subscription, SubscriptionRefusal};
use lambfold_trace::{Hub, Tap, Watch};
use lambfold_types::limits::RESPONSE_BYTES;
use lambfold_types::{
    AccountId, FunctionName, Invocation, InvocationKind, Region, RequestId, ResponseSink, Scope,
    SystemClock, Version,
};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

pub(super) const ID: &str = "11111111-2222-4333-8444-555555555555";

/// A host that is a machine and a queue of what was posted.
pub(super) struct TestHost {
    machine: Mutex<Machine<oneshot::Sender<Delivery>>>,
    posted: mpsc::UnboundedSender<Posted>,
    generation: AtomicU64,
    disturbances: Mutex<Vec<Disturbance>>,
    disturbed: AtomicU64,
    /// Of the next event.
    pub(super) sink: Mutex<Option<Arc<dyn ResponseSink>>>,
    pub(super) extensions: Mutex<Extensions<oneshot::Sender<ExtensionDelivery>>>,
    traces: Arc<Hub>,
    tap: Tap,
}

/// Whose environment this is to those who watch.
fn function() -> (Scope, FunctionName) {
    let (account, region) = (AccountId::parse("000000000000"), Region::parse("us-east-1"));
    let scope = Scope { account: account.unwrap(), region: region.unwrap() };
    (scope, FunctionName::parse("f").unwrap())
}

impl TestHost {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Posted>) {
        let (posted, inbox) = mpsc::unbounded_channel();
        let traces = Hub::new();
        let ((scope, name), clock) = (function(), Arc::new(SystemClock::new()));
        let tap = traces.tap(&scope, &name, Version::Latest, "stream", clock);
        let host = Self {
            machine: Mutex::default(),
            posted,
            generation: AtomicU64::new(0),
            disturbances: Mutex::default(),
            disturbed: AtomicU64::new(0),
            sink: Mutex::default(),
            extensions: Mutex::default(),
            traces,
            tap,
        };
        (Arc::new(host), inbox)
    }

    fn watch(&self, body_bytes: usize) -> Watch {
        let (scope, name) = function();
        self.traces.watch(&scope, &name, None, body_bytes).unwrap()
    }

    pub(super) fn state(&self) -> State {
        self.machine.lock().unwrap().state()
    }

    /// The next call is disturbed so.
    pub(super) fn disturb(&self, disturbance: Disturbance) {
        self.disturbances.lock().unwrap().push(disturbance);
    }

    pub(super) fn disturbed(&self) -> u64 {
        self.disturbed.load(Ordering::SeqCst)
    }

    pub(super) fn waiting(&self) -> usize {
        self.machine.lock().unwrap().waiting()
    }

    /// Runs the event of `ID`; the runtime must be ready.
    pub(super) fn invoke(&self, payload: impl Into<Bytes>) {
        let invocation = Invocation {
            request_id: RequestId::parse(ID).unwrap(),
            kind: InvocationKind::Synchronous,
            invoked_function_arn: "arn:f".into(),
            payload: payload.into(),
            content_type: None,
            client_context: None,
            trace_id: None,
            wants_log_tail: false,
            sink: self.sink.lock().unwrap().take(),
        };
        let event = Event { invocation, deadline_ms: 1 };
        let handover = self.machine.lock().unwrap().invoke(event).unwrap();
        if let Some(handover) = handover {
            let _ = handover.parked.send(Ok(handover.event));
        }
    }

    /// Brings the machine to Running without a connection.
    pub(super) fn run(&self) {
        drop(self.next(Caller::new(&http::HeaderMap::new())));
        self.invoke("");
    }

    pub(super) fn reset(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let (parked, refusal) = self.machine.lock().unwrap().reset();
        for waiting in parked {
            let _ = waiting.send(Err(refusal));
        }
    }
}

impl Host for TestHost {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
    fn disturbance(&self, _: Call) -> Option<Disturbance> {
        let disturbance = self.disturbances.lock().unwrap().pop()?;
        self.disturbed.fetch_add(1, Ordering::SeqCst);
        Some(disturbance)
    }
    fn tap(&self) -> Option<&Tap> {
        Some(&self.tap)
    }
    fn next(&self, _: Caller<'_>) -> NextReply {
        let (sender, receiver) = oneshot::channel();
        match self.machine.lock().unwrap().next(|| sender) {
            Next::Parked { ticket, .. } => NextReply::Wait(ticket, receiver),
            Next::Event(event) => NextReply::Now(Ok(event)),
            Next::Refused(refusal) => NextReply::Now(Err(refusal)),
        }
    }
    fn abandon(&self, ticket: Ticket) {
        if let Some(handover) = self.machine.lock().unwrap().abandon(ticket) {
            let _ = handover.parked.send(Ok(handover.event));
        }
    }
    fn begin_post(&self, id: &str, post: Post) -> Result<Posting, Refusal> {
        self.machine.lock().unwrap().post(id, post)
    }
    fn begin_init_error(&self) -> Result<Posting, Refusal> {
        self.machine.lock().unwrap().init_error()
    }
    fn finish(&self, posting: Posting, posted: Posted) -> Result<(), Refusal> {
        if posted != Posted::InvalidResponseMode {
            self.machine.lock().unwrap().sent(&posting)?;
        }
        self.posted.send(posted).unwrap();
        Ok(())
    }
    fn register(&self, registration: &Registration) -> Result<Registered, ExtensionRefusal> {
        let id = uuid::Uuid::new_v4();
        let id = self.extensions.lock().unwrap().register(registration, id)?;
        Ok(Registered {
            id,
            function_name: "f".to_owned(),
            function_version: "$LATEST".to_owned(),
            handler: "h".to_owned(),
            account_id: registration.wants_account.then(|| "000000000000".to_owned()),
        })
    }
    fn extension_next(&self, id: uuid::Uuid) -> ExtensionReply {
        let (sender, receiver) = oneshot::channel();
        match self.extensions.lock().unwrap().next(id, || sender) {
            Ok(ExtensionNext::Parked(ticket)) => ExtensionReply::Wait(ticket, receiver),
            Ok(ExtensionNext::Event(event)) => ExtensionReply::Now(Ok(event)),
            Err(refusal) => ExtensionReply::Now(Err(refusal)),
        }
    }
    fn extension_abandon(&self, id: uuid::Uuid, ticket: Ticket) {
        self.extensions.lock().unwrap().abandon(id, ticket);
    }
    fn extension_error(
        &self,
        id: uuid::Uuid,
        error: ExtensionError,
        error_type: &str,
    ) -> Result<(), ExtensionRefusal> {
        self.extensions.lock().unwrap().error(id, error, error_type).map(drop)
    }
    fn subscribe(
        &self,
        id: uuid::Uuid,
        subscription: Result<Subscription, SubscriptionRefusal>,
    ) -> Result<(), SubscribeError> {
        let known = self.extensions.lock().unwrap().name(id).is_some();
        if !known {
            return Err(SubscribeError::Extension(ExtensionRefusal::UnknownIdentifier));
        }
        subscription.map(drop).map_err(SubscribeError::Subscription)
    }
}

pub(super) struct Server {
    pub(super) host: Arc<TestHost>,
    posted: mpsc::UnboundedReceiver<Posted>,
    address: SocketAddr,
}

pub(super) async fn server(limits: Limits) -> Server {
    let (host, posted) = TestHost::new();
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let address = listeners[1].local_addr().unwrap();
    tokio::spawn(serve(listeners.into(), Arc::clone(&host), limits));
    Server { host, posted, address }
}

/// A connection that speaks bytes.
pub(super) struct Client(pub(super) TcpStream);

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Server {
    pub(super) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }
    /// Waits for a condition that the server's tasks bring about.
    pub(super) async fn until(&self, condition: impl Fn(&TestHost) -> bool) {
        while !condition(&self.host) {
            tokio::task::yield_now().await;
        }
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self
    }

    pub(super) async fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET /2018-06-01/{path} HTTP/1.1\r\nHost: h\r\n\r\n")).await
    }

    pub(super) async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> &mut Self {
        let head = format!(
            "POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await
    }

    pub(super) async fn reply(&mut self) -> Reply {
        self.try_reply().await.expect("the connection was closed")
    }

    /// `None`: the connection was closed.
    async fn try_reply(&mut self) -> Option<Reply> {
        let mut bytes = Vec::new();
        let end = loop {
            match self.0.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |value| value.parse().unwrap());
        while bytes.len() < end + length {
            self.0.read_buf(&mut bytes).await.unwrap();
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Reply { status, head, body: bytes[end..].to_vec() })
    }
}

#[tokio::test]
async fn one_invocation_on_one_connection() {
    let mut server = server(Limits::default()).await;
    let mut client = server.client().await;
    client.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 1).await;
    server.host.invoke("{\"a\":1}");
    let reply = client.reply().await;
    assert_eq!((reply.status, &*reply.body), (200, &b"{\"a\":1}"[..]));
    for line in [
        "Lambda-Runtime-Aws-Request-Id: 11111111-2222-4333-8444-555555555555",
        "Lambda-Runtime-Deadline-Ms: 1",
        "Lambda-Runtime-Invoked-Function-Arn: arn:f",
        "Content-Type: application/json",
    ] {
        assert!(reply.head.contains(&format!("\r\n{line}\r\n")), "{line} in {}", reply.head);
    }

    // The same event again, without a wait.
    let again = client.get("runtime/invocation/next").await.reply().await;
    assert_eq!((again.status, again.body), (200, reply.body));

    let path = format!("invocation/{ID}/response");
    let reply = client.post(&path, "Content-Type: text/x\r\n", b"out").await.reply().await;
    assert_eq!((reply.status, &*reply.body), (202, &b"{\"status\":\"OK\"}\n"[..]));
    assert!(reply.head.contains("Content-Type: application/json"));
    let expected = Posted::Response { payload: "out".into(), content_type: Some("text/x".into()) };
    assert_eq!(server.posted.recv().await, Some(expected));

    let reply = client.post(&path, "", b"again").await.reply().await;
    assert_eq!(reply.status, 403);
    assert_eq!(
        String::from_utf8(reply.body).unwrap(),
        "{\"errorMessage\":\"State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. Error: State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n"
    );
    let reply = client.post("invocation/other/error", "", b"").await.reply().await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.body,
        b"{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n"
    );
}

#[tokio::test]
async fn the_other_routes() {
    let server = server(Limits::default()).await;
    let mut client = server.client().await;
    let reply = client.get("ping").await.reply().await;
    assert_eq!((reply.status, &*reply.body), (200, &b"pong"[..]));
    assert_eq!(client.get("runtime/restore/next").await.reply().await.status, 404);
    assert_eq!(client.post("restore/error", "", b"{}").await.reply().await.status, 404);
    assert_eq!(client.get("runtime/init/error").await.reply().await.status, 405);
    assert_eq!(client.post("invocation/next", "", b"x").await.reply().await.status, 405);
    assert_eq!(client.post("init/error", "", b"{}").await.reply().await.status, 202);
    assert_eq!(server.host.state(), State::InitError);
}

#[tokio::test]
async fn a_megabyte_of_headers_is_accepted() {
    let mut server = server(Limits::default()).await;
    server.host.run();
    let mut client = server.client().await;
    let cause = format!("Lambda-Runtime-Function-XRay-Error-Cause: {}\r\n", "x".repeat(1 << 20));
    let reply = client.post(&format!("invocation/{ID}/error"), &cause, b"{}").await.reply().await;
    assert_eq!(reply.status, 202);
    assert!(matches!(server.posted.recv().await, Some(Posted::Error { .. })));
}

#[tokio::test]
async fn bodies_are_limited_and_the_connection_survives() {
    for (path, bytes, status) in [
        ("response", RESPONSE_BYTES, 202),
        ("response", RESPONSE_BYTES + 1, 413),
        ("error", RESPONSE_BYTES + 1, 413),
    ] {
        for chunked in [false, true] {
            let mut server = server(Limits::default()).await;
            server.host.run();
            let mut client = server.client().await;
            let body = vec![b'x'; bytes];
            let path = format!("invocation/{ID}/{path}");
            if chunked {
                let head = format!(
                    "POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n"
                );
                client.send(head).await.send(&body).await.send("\r\n0\r\n\r\n").await;
            } else {
                client.post(&path, "", &body).await;
            }
            let reply = client.reply().await;
            assert_eq!(reply.status, status, "{path} {bytes} chunked: {chunked}");
            if status == 413 {
                assert_eq!(
                    String::from_utf8(reply.body).unwrap(),
                    "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\",\"errorType\":\"RequestEntityTooLarge\"}\n"
                );
                assert_eq!(server.posted.recv().await, Some(Posted::TooLarge));
                assert_eq!(server.host.state(), State::RuntimeResponseSentState);
                // The runtime stays well and goes on.
                client.get("runtime/invocation/next").await;
                server.until(|host| host.state() == State::Ready).await;
            } else {
                let payload = Bytes::from(body);
                let expected = Posted::Response { payload, content_type: None };
                assert!(server.posted.recv().await == Some(expected));
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_told() {
    let mut server = server(Limits::default()).await;
    server.host.run();
    let mut client = server.client().await;
    client
        .send(format!(
            "POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"
        ))
        .await;
    server.until(|host| host.state() == State::InvocationResponse).await;
    client.0.shutdown().await.unwrap();
    assert_eq!(server.posted.recv().await, Some(Posted::Truncated));
    let reply = client.reply().await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.body,
        b"{\"errorMessage\":\"HTTP request detected as truncated\",\"errorType\":\"TruncatedHTTPRequest\"}\n"
    );
}

#[tokio::test]
async fn a_poller_that_disconnects_loses_no_event() {
    let server = server(Limits::default()).await;
    let mut dead = server.client().await;
    dead.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 1).await;
    drop(dead);
    server.until(|host| host.waiting() == 0).await;
    server.host.invoke("e");
    let mut alive = server.client().await;
    assert_eq!(alive.get("runtime/invocation/next").await.reply().await.body, b"e");
}

#[tokio::test]
async fn an_event_that_was_on_its_way_to_a_dead_connection_is_served_again() {
    let server = server(Limits::default()).await;
    let mut older = server.client().await;
    older.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 1).await;
    let mut newer = server.client().await;
    newer.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 2).await;
    // Both at once: the server's task finds the connection closed and the event there.
    drop(newer);
    server.host.invoke("e");
    let body = tokio::select! {
        reply = older.reply() => reply.body,
        () = async {
            // The kernel took the event for the dead connection: the runtime asks again.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        } => server.client().await.get("runtime/invocation/next").await.reply().await.body,
    };
    assert_eq!(body, b"e");
}

#[tokio::test]
async fn connections_of_an_old_process_are_closed() {
    let server = server(Limits::default()).await;
    let mut parked = server.client().await;
    parked.get("runtime/invocation/next").await;
    let mut idle = server.client().await;
    assert_eq!(idle.get("ping").await.reply().await.status, 200);
    server.until(|host| host.waiting() == 1).await;
    server.host.reset();
    let reply = parked.reply().await;
    assert_eq!(reply.status, 403);
    assert!(String::from_utf8(reply.body).unwrap().contains("Concurrent state modification"));
    assert!(parked.get("ping").await.try_reply().await.is_none());
    assert!(idle.get("ping").await.try_reply().await.is_none());
    assert_eq!(server.client().await.get("ping").await.reply().await.status, 200);
}

#[tokio::test]
async fn connections_are_bounded() {
    let server = server(Limits { connections: 2, ..Limits::default() }).await;
    let mut first = server.client().await;
    let mut second = server.client().await;
    assert_eq!(first.get("ping").await.reply().await.status, 200);
    assert_eq!(second.get("ping").await.reply().await.status, 200);
    let mut third = server.client().await;
    third.get("ping").await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(third.0.try_read(&mut [0]).is_err(), "a third connection was served");
    drop(first);
    assert_eq!(third.reply().await.status, 200);
}
