//! A gateway on a port of its own, above a temporary data folder and fake environments.

use crate::client::{Client, Response};
use bytes::Bytes;
use lambfold_control::{Control, Options};
use lambfold_gateway::{Config, Gateway, Limits, Metric, Tools, serve};
use lambfold_invoke::{Invoker, Placement};
use lambfold_logs::Logs;
use lambfold_package::Trees;
use lambfold_pool::{InFlight, PoolError, ThrottleReason};
use lambfold_store::Store;
use lambfold_trace::Hub;
use lambfold_types::{
    AccountId, Answer, Architecture, FunctionVersion, Invocation, ManualClock, PhaseEnd, Region,
    ResponseSink, Scope,
};
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// 2026-01-02T03:04:05.678Z
pub(crate) const NOW_MS: u64 = 1_767_323_045_678;

/// Answers what the payload asks for.
#[derive(Clone, Default)]
pub(crate) struct Fakes {
    pub(crate) seen: Arc<Mutex<Vec<Invocation>>>,
    /// Ends of phases that a test wants to come later.
    pub(crate) held: Arc<Mutex<Vec<oneshot::Sender<PhaseEnd>>>>,
    streaming: Arc<Mutex<Vec<Running>>>,
}

/// A function whose response the test streams.
pub(crate) struct Running {
    pub(crate) sink: Arc<dyn ResponseSink>,
    pub(crate) answer: oneshot::Sender<Result<Answer, PoolError>>,
    pub(crate) end: oneshot::Sender<PhaseEnd>,
}

impl Fakes {
    /// Waits for an invocation with the payload `"stream"`.
    pub(crate) async fn running(&self) -> Running {
        loop {
            if let Some(running) = self.streaming.lock().unwrap().pop() {
                return running;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Placement for Fakes {
    fn invoke(
        &self,
        _version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        let (answer, answered) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let payload = invocation.payload.clone();
        let tail = invocation.wants_log_tail;
        let sink = invocation.sink.clone();
        self.seen.lock().unwrap().push(invocation);
        let reply = |payload: Bytes, function_error| {
            Ok(Answer { payload, content_type: None, function_error, stream_error: None })
        };
        match &payload[..] {
            b"\"throttle\"" => {
                return Err(PoolError::Throttled {
                    reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
                    limit: 1,
                    unit: "concurrent executions",
                });
            }
            b"\"reserved\"" => {
                return Err(PoolError::Throttled {
                    reason: ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
                    limit: 1,
                    unit: "concurrent executions",
                });
            }
            b"\"no room\"" => {
                return Err(PoolError::NoRoom { limit: 1, unit: "execution environments" });
            }
            b"\"stream\"" => {
                let sink = sink.expect("a caller who streams");
                self.streaming.lock().unwrap().push(Running { sink, answer, end });
                return Ok(InFlight { answer: answered, end: ended });
            }
            b"\"lost\"" => return Ok(InFlight { answer: answered, end: ended }),
            b"\"fail\"" => {
                let error = br#"{"errorType":"Boom","errorMessage":"no"}"#;
                let _ = answer.send(reply(Bytes::from_static(error), true));
            }
            _ => {
                let _ = answer.send(reply(payload.clone(), false));
            }
        }
        if payload == "\"late\"" {
            self.held.lock().unwrap().push(end);
        } else {
            let log_tail = tail.then(|| b"START\nEND\nREPORT\n".to_vec());
            let _ = end.send(PhaseEnd { reusable: true, log_tail });
        }
        Ok(InFlight { answer: answered, end: ended })
    }
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) fakes: Fakes,
    pub(crate) logs: Logs,
    pub(crate) scope: Scope,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) traces: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) stopped: Option<tokio::task::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(limits, None).await
    }

    pub(crate) async fn with(limits: Limits, warning: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scope = Scope {
            account: AccountId::parse("000000000000").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
        };
        let store = Store::ephemeral().unwrap();
        let trees = Arc::new(Trees::open(folder.path(), Default::default()).unwrap());
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let control =
            Control::open(store.clone(), trees, clock.clone(), Options::default()).await.unwrap();
        let logs = Logs::open(&folder.path().join("logs"), Default::default()).unwrap();
        let fakes = Fakes::default();
        let invoker = Invoker::new(control.clone(), fakes.clone(), store, clock);
        let config = Config { scope: scope.clone(), hosts: Vec::new(), warning, limits };
        let metrics = || vec![Metric { name: "lambfold_environments", help: "Now.", value: 2.0 }];
        let traces = Hub::new();
        let tools =
            Tools { traces: traces.clone(), shells: None, faults: Arc::default(), diagnose: None };
        let gateway = Gateway::new(config, control, invoker, logs.clone(), tools, metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = oneshot::channel();
        let serving = gateway.clone();
        let stopped = tokio::spawn(serve(listener, serving, async {
            let _ = stopping.await;
        }));
        Self {
            address,
            fakes,
            logs,
            scope,
            gateway,
            traces,
            stop: Some(stop),
            stopped: Some(stopped),
            _folder: folder,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> Response {
        self.client().await.call(method, target, headers, body).await
    }

    pub(crate) async fn json(&self, method: &str, target: &str, body: &str) -> Response {
        let headers = "content-type: application/json\r\n";
        self.call(method, target, headers, body.as_bytes()).await
    }

    /// A function `f` that the fakes run.
    pub(crate) async fn create(&self) -> Response {
        self.json("POST", "/2015-03-31/functions", &create_body("f")).await
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }
}

pub(crate) fn create_body(name: &str) -> String {
    format!(
        r#"{{"FunctionName":"{name}","Runtime":"provided.al2023","Role":"arn:aws:iam::000000000000:role/r","Handler":"function.handler","Code":{{"ZipFile":"{}"}}}}"#,
        base64(&zip())
    )
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A zip with a bootstrap.
pub(crate) fn zip() -> Bytes {
    static ZIP: OnceLock<Bytes> = OnceLock::new();
    let made = ZIP.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let bootstrap = folder.path().join("bootstrap");
        std::fs::write(&bootstrap, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        lambfold_package::pack(folder.path(), &mut file, Architecture::X86_64).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes.into()
    });
    made.clone()
}
