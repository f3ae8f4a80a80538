#![allow(clippy::unwrap_used)]
mod cell;

use crate::environment::Environment;
use crate::isolation::{Cell, Dialing, Isolation, Made, OnMade, Squeeze};
use crate::launcher::{LaunchError, Launcher, LauncherConfig, Missing};
use crate::output::Sink;
pub(crate) use cell::ExtensionScript;
use cell::{Events, FakeIsolation};
use lambfold_fault::Faults;
use lambfold_package::{Limits, Options, Trees};
use lambfold_sandbox::{Command, Event, ExitStatus, ProcessId, Spec, Step};
use lambfold_types::{
    AccountId, Answer, Architecture, Clock, Digest, FunctionName, FunctionVersion, Invocation,
    InvocationKind, LayerUse, LayerVersionArn, LogFormat, LoggingConfig, PhaseEnd, Region,
    RequestId, RuntimeId, Scope, Version,
};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// 2026-01-02T03:04:05.678Z
pub(crate) const EPOCH_MS: u64 = 1_767_323_045_678;

pub(crate) fn version() -> FunctionVersion {
    FunctionVersion {
        scope: Scope {
            account: AccountId::parse("000000000000").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
        },
        name: FunctionName::parse("f").unwrap(),
        version: Version::Latest,
        revision: "1".into(),
        runtime: RuntimeId::ProvidedAl2023,
        architecture: Architecture::X86_64,
        handler: "h".into(),
        memory_mib: 128,
        timeout_s: 3,
        ephemeral_storage_mib: 512,
        variables: BTreeMap::new(),
        code: Digest::from_bytes(&[7; 32]),
        layers: Vec::new(),
        logging: LoggingConfig {
            group: "/aws/lambda/f".into(),
            format: LogFormat::Text,
            application_level: None,
            system_level: None,
        },
        rootfs: None,
    }
}

/// Paused time as a clock.
struct TestClock(Instant);

impl Clock for TestClock {
    fn epoch_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// What a process does: its number (from 1) and its view of the world go in, its exit comes out.
pub(crate) type Script =
    dyn Fn(u32, Guest) -> Pin<Box<dyn Future<Output = ExitStatus> + Send>> + Send + Sync;

/// The state of the fake sandbox that tests look at and change.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) oom_kills: Mutex<u64>,
    /// How the next process fails to start: the candidate, and the error number.
    pub(crate) spawn_failure: Mutex<Option<(Option<String>, i32)>>,
    /// The guests do not die.
    pub(crate) unkillable: Mutex<bool>,
    pub(crate) spec: Mutex<Spec>,
    pub(crate) command: Mutex<Command>,
    pub(crate) processes: Mutex<u32>,
    pub(crate) destroyed: Mutex<bool>,
    /// What was done to processes: `freeze`, `thaw`, `15 to the bootstrap`, `9 to e`, `kill`.
    pub(crate) deeds: Mutex<Vec<String>>,
    /// The processes ignore SIGTERM.
    pub(crate) deaf: Mutex<bool>,
    /// The environment of the last extension.
    pub(crate) extension_env: Mutex<Vec<(String, String)>>,
    /// How extensions fail to start, by name.
    pub(crate) extension_failures: Mutex<BTreeMap<String, i32>>,
    address: Mutex<Option<SocketAddr>>,
    events: Mutex<Option<Arc<Events>>>,
}

impl World {
    /// The sandbox is lost.
    pub(crate) fn lose(&self) {
        self.events.lock().unwrap().as_ref().unwrap().push(Event::Gone);
    }
    /// The launcher has asked for the sandbox: before that it merges layers, on a thread that
    /// paused time knows nothing of.
    pub(crate) fn is_created(&self) -> bool {
        self.address.lock().unwrap().is_some()
    }
    pub(crate) fn processes(&self) -> u32 {
        *self.processes.lock().unwrap()
    }
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().concat()
    }
    /// A connection to the Runtime API from beside the guests.
    pub(crate) fn outsider(&self) -> Guest {
        let address = self.address.lock().unwrap().unwrap();
        Guest { address, connection: None, output: None, pipe: None }
    }
}

/// A runtime's view: the Runtime API and standard output.
pub(crate) struct Guest {
    address: SocketAddr,
    connection: Option<TcpStream>,
    output: Option<tokio::net::UnixStream>,
    /// Of an extension.
    pipe: Option<std::fs::File>,
}

/// An event as the runtime got it.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub(crate) id: String,
    pub(crate) deadline_ms: u64,
    pub(crate) body: String,
}

impl Guest {
    /// Another connection of the same process.
    pub(crate) fn beside(other: &Guest) -> Self {
        Guest { address: other.address, connection: None, output: None, pipe: None }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn print(&mut self, text: &str) {
        if let Some(pipe) = &mut self.pipe {
            return pipe.write_all(text.as_bytes()).unwrap();
        }
        self.output.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Next {
        let (status, head, body) = self.call("GET", "invocation/next", "", b"").await.unwrap();
        assert_eq!(status, 200, "{body}");
        let header = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap()
        };
        Next {
            id: header("Lambda-Runtime-Aws-Request-Id").to_owned(),
            deadline_ms: header("Lambda-Runtime-Deadline-Ms").parse().unwrap(),
            body,
        }
    }

    /// Answers and returns the status.
    pub(crate) async fn respond(&mut self, id: &str, body: &[u8]) -> u16 {
        self.post(&format!("invocation/{id}/response"), "", body).await
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> u16 {
        self.call("POST", path, headers, body).await.unwrap().0
    }

    /// Begins a response of 100 bytes, and breaks the connection after a few.
    pub(crate) async fn cut(&mut self, id: &str) {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
    }

    /// `None`: the connection was closed.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Option<(u16, String, String)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.address).await.unwrap(),
        };
        let length = body.len();
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/2018-06-01/runtime/{path}"),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        connection.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
        let mut bytes = Vec::new();
        let end = loop {
            if connection.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
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
            if connection.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        self.connection = Some(connection);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some((status, head, String::from_utf8(bytes[end..].to_vec()).unwrap()))
    }
}

struct TestSink(Arc<World>);

impl Sink for TestSink {
    fn push(&self, _: u64, event: &[u8]) {
        self.0.log.lock().unwrap().push(String::from_utf8_lossy(event).into_owned());
    }
}

/// A launcher over the fake sandbox, and paused time that does not move by itself: tokio moves
/// it whenever all tasks wait, for a socket even, unless a blocking task runs.
pub(crate) struct Lab {
    pub(crate) world: Arc<World>,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) version: Arc<FunctionVersion>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) folder: tempfile::TempDir,
    _hold: std::sync::mpsc::Sender<()>,
}

impl Lab {
    pub(crate) fn new<F>(script: impl Fn(u32, Guest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ExitStatus> + Send + 'static,
    {
        Self::with_extensions(&[], script, |_, _| std::future::pending())
    }

    /// With external extensions of these names.
    pub(crate) fn with_extensions<F, E>(
        names: &[&str],
        script: impl Fn(u32, Guest) -> F + Send + Sync + 'static,
        extensions: impl Fn(String, Guest) -> E + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ExitStatus> + Send + 'static,
        E: Future<Output = ExitStatus> + Send + 'static,
    {
        let world = Arc::new(World::default());
        let script: Arc<Script> = Arc::new(move |number, guest| Box::pin(script(number, guest)));
        let extensions: Arc<ExtensionScript> =
            Arc::new(move |name, guest| Box::pin(extensions(name, guest)));
        let isolation = Arc::new(FakeIsolation { world: Arc::clone(&world), script, extensions });
        let folder = tempfile::tempdir().unwrap();
        let options = Options { durable: false, limits: Limits::default() };
        let trees = Arc::new(Trees::open(folder.path(), options).unwrap());
        let sink_world = Arc::clone(&world);
        let clock = Arc::new(TestClock(Instant::now()));
        let faults = Arc::new(Faults::new(clock.clone(), |_| {}));
        let launcher = Launcher::with_isolation(
            isolation,
            trees,
            Box::new(move |_, _| Box::new(TestSink(Arc::clone(&sink_world)))),
            Missing {
                default: Arc::new([("jq".to_owned(), "jq".to_owned())]),
                more: BTreeMap::new(),
            },
            LauncherConfig { clock, faults: Arc::clone(&faults), ..LauncherConfig::default() },
        );
        let (hold, held) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || held.recv());
        let mut version = version();
        if !names.is_empty() {
            let layer = Digest::from_bytes(&[8; 32]);
            let extensions = folder.path().join("trees").join(layer.as_str()).join("extensions");
            std::fs::create_dir_all(extensions.join("a folder")).unwrap();
            for name in names {
                std::fs::write(extensions.join(name), "").unwrap();
            }
            version.layers = vec![LayerUse {
                arn: LayerVersionArn::parse("arn:aws:lambda:us-east-1:000000000000:layer:l:1")
                    .unwrap(),
                code: layer,
                zip_bytes: 1,
                unpacked_bytes: 1,
            }];
        }
        Self { world, launcher, version: Arc::new(version), faults, folder, _hold: hold }
    }

    pub(crate) async fn try_launch(&self) -> Result<Arc<Environment>, LaunchError> {
        self.launcher.launch(Arc::clone(&self.version)).await
    }

    pub(crate) async fn launch(&self) -> Arc<Environment> {
        self.try_launch().await.unwrap()
    }

    /// Waits for a condition that other tasks bring about.
    pub(crate) async fn until(&self, mut condition: impl FnMut() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }
}

/// Lets every task have its turn, sockets included.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn advance_ms(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
}

/// What became of one `begin`.
pub(crate) struct Pending {
    pub(crate) request_id: RequestId,
    pub(crate) answer: oneshot::Receiver<Answer>,
    pub(crate) end: oneshot::Receiver<PhaseEnd>,
}

pub(crate) fn invocation(payload: &str) -> Invocation {
    Invocation {
        request_id: RequestId::random(),
        kind: InvocationKind::Synchronous,
        invoked_function_arn: "arn:f".into(),
        payload: payload.to_owned().into(),
        content_type: None,
        client_context: None,
        trace_id: None,
        wants_log_tail: true,
        sink: None,
    }
}

pub(crate) fn begin(environment: &Environment, payload: &str) -> Pending {
    let (on_answer, answer) = oneshot::channel();
    let (on_end, end) = oneshot::channel();
    let invocation = invocation(payload);
    let request_id = invocation.request_id;
    environment.begin(
        invocation,
        Box::new(move |answer| on_answer.send(answer).unwrap()),
        Box::new(move |end| drop(on_end.send(end))),
    );
    Pending { request_id, answer, end }
}

/// A finished invocation.
pub(crate) struct Finished {
    pub(crate) id: RequestId,
    pub(crate) payload: String,
    pub(crate) function_error: bool,
    pub(crate) reusable: bool,
    pub(crate) tail: String,
}

impl Pending {
    pub(crate) async fn finish(self) -> Finished {
        let answer = self.answer.await.unwrap();
        let end = self.end.await.unwrap();
        Finished {
            id: self.request_id,
            payload: String::from_utf8(answer.payload.to_vec()).unwrap(),
            function_error: answer.function_error,
            reusable: end.reusable,
            tail: String::from_utf8(end.log_tail.unwrap_or_default()).unwrap(),
        }
    }

    /// True while neither callback was called.
    pub(crate) fn is_open(&mut self) -> bool {
        self.answer.try_recv().is_err() && self.end.try_recv().is_err()
    }
}

/// A runtime that echoes for ever.
pub(crate) async fn echo(mut guest: Guest) -> ExitStatus {
    loop {
        let next = guest.next().await;
        assert_eq!(guest.respond(&next.id, next.body.as_bytes()).await, 202);
    }
}

/// `{"errorType":…,"errorMessage":…}` as the platform writes it.
pub(crate) fn error(error_type: &str, id: RequestId, text: &str) -> String {
    format!(r#"{{"errorType":"{error_type}","errorMessage":"RequestId: {id} Error: {text}"}}"#)
}
