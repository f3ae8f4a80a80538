//! One request from its head to its answer: guard, then routing by target, path and service.

use crate::answer::{self, Answer};
use crate::download::Tickets;
use crate::guard::Guard;
use crate::invoke::Operation;
use crate::metrics::{Counters, Metric};
use crate::receive::{self, ReceiveError, Received, Receiver};
use crate::shell::{self, Shells};
use crate::{diagnosis, download, faults, import, invoke, lambda, logs_api, scope, sts, trace};
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{Method, Request};
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, Model};
use lambfold_control::Control;
use lambfold_fault::Faults;
use lambfold_invoke::Invoker;
use lambfold_logs::Logs;
use lambfold_trace::Hub;
use lambfold_types::{RequestId, Scope};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Largest form of a query-protocol request, bytes.
const FORM_BYTES: usize = 64 * 1024;

/// What can be chosen of a gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// The account, and the region of requests whose signature names none.
    pub scope: Scope,
    /// Names besides localhost that clients may call this server by.
    pub hosts: Vec<String>,
    /// What whoever asks whether this server is ready should know besides; one line.
    pub warning: Option<String>,
    /// What peers may take.
    pub limits: Limits,
}

/// What peers may take of connections and time.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// How long a head may take to arrive, and how long a kept connection may say nothing.
    pub head_time: Duration,
    /// How long a peer may say nothing in the middle of a body.
    pub silence: Duration,
    /// Memory that all bodies over 1 MiB together may take while they are read and handled, MiB.
    pub bodies_mib: usize,
}

impl Default for Limits {
    /// 4096 connections, a minute each, 512 MiB.
    fn default() -> Self {
        Self {
            connections: 4_096,
            head_time: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            bodies_mib: 512,
        }
    }
}

/// What is served beside the AWS API, below `/_lambfold/v1/`.
pub struct Tools {
    /// Where environments show their calls.
    pub traces: Arc<Hub>,
    /// Who starts shells; `None`: nobody, and they are refused.
    pub shells: Option<Arc<dyn Shells>>,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    /// Who looks at bootstraps; `None`: nobody, and whoever asks is told so.
    pub diagnose: Option<diagnosis::Diagnose>,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("traces", &self.traces).finish_non_exhaustive()
    }
}

type MetricSource = Box<dyn Fn() -> Vec<Metric> + Send + Sync>;

/// Answers the AWS API.
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) control: Control,
    pub(crate) invoker: Invoker,
    pub(crate) logs: Logs,
    pub(crate) counters: Arc<Counters>,
    pub(crate) receiver: Receiver,
    pub(crate) tickets: Tickets,
    pub(crate) guard: Guard,
    pub(crate) tools: Tools,
    metrics: MetricSource,
    ready: watch::Sender<bool>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway over these parts; `metrics` is asked at every scrape for what the parts below
    /// count. It is ready from the start.
    #[must_use]
    pub fn new(
        config: Config,
        control: Control,
        invoker: Invoker,
        logs: Logs,
        tools: Tools,
        metrics: impl Fn() -> Vec<Metric> + Send + Sync + 'static,
    ) -> Arc<Self> {
        // The first request should not pay for reading the table.
        let _ = Model::get();
        Arc::new(Self {
            guard: Guard::new(config.hosts.iter().cloned()),
            receiver: Receiver::new(&config.limits),
            config,
            control,
            invoker,
            logs,
            counters: Arc::new(Counters::new()),
            tickets: Tickets::new(),
            tools,
            metrics: Box::new(metrics),
            ready: watch::Sender::new(true),
        })
    }

    /// What `/health/ready` says; a server that drains is not ready, and ends what would go on for
    /// ever.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        local: IpAddr,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let id = RequestId::random();
        let mut answer = match self.guard.check(&head.uri, &head.headers, local) {
            Ok(()) => self.dispatch(head, body, id).await,
            Err(refusal) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                receive::drain(&head.headers, body);
                answer::error(&ApiError::new("AccessDeniedException", refusal.to_string()))
            }
        };
        if !answer.headers().contains_key(answer::REQUEST_ID) {
            answer::set_request_id(&mut answer, id);
        }
        self.counters.answered(answer.status().as_u16());
        answer
    }

    async fn dispatch(&self, head: Parts, body: Incoming, id: RequestId) -> Answer {
        let path = head.uri.path();
        if head.method == Method::POST
            && let Some(function) = invoke::function_of(path)
        {
            return invoke::answer(self, function, Operation::Whole, &head, body, id).await;
        }
        if head.method == Method::POST
            && let Some(function) = invoke::streaming_function_of(path)
        {
            return invoke::answer(self, function, Operation::Streaming, &head, body, id).await;
        }
        match path {
            "/" => self.root(&head, body, id).await,
            "/health/live" => answer::text(200, "live\n"),
            "/health/ready" if *self.ready.borrow() => match &self.config.warning {
                None => answer::text(200, "ready\n"),
                Some(warning) => answer::text(200, format!("ready\nwarning: {warning}\n")),
            },
            "/health/ready" => answer::text(503, "shutting down\n"),
            "/metrics" => answer::text(200, self.counters.page(&(self.metrics)())),
            _ => match path.strip_prefix("/_lambfold/v1/") {
                Some(rest) => self.own(rest, &head, body).await,
                None => lambda::answer(self, head, body).await,
            },
        }
    }

    /// What is not of the AWS API, below `/_lambfold/v1/`.
    async fn own(&self, path: &str, head: &Parts, body: Incoming) -> Answer {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["layers"] => import::answer(self, head, body).await,
            ["diagnosis"] => diagnosis::answer(self, head, body).await,
            ["faults"] => faults::answer(self, head, body).await,
            ["code", digest] => {
                let query = head.uri.query().unwrap_or_default();
                download::answer(self, &head.method, digest, query).await
            }
            ["functions", function, "trace"] => trace::answer(self, function, head),
            ["functions", function, "shell"] => shell::answer(self, function, head, body).await,
            _ => {
                receive::drain(&head.headers, body);
                let path = head.uri.path();
                answer::error(&ApiError::unknown_operation(head.method.as_str(), path))
            }
        }
    }

    /// Services whose requests all have the path `/`: they say what they want elsewhere.
    async fn root(&self, head: &Parts, body: Incoming, id: RequestId) -> Answer {
        let query = head.uri.query().unwrap_or_default();
        if let Some(target) = head.headers.get("x-amz-target") {
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            let Some(operation) = target.strip_prefix(logs_api::TARGET) else {
                receive::drain(&head.headers, body);
                let target: String = target.chars().take(200).collect();
                return logs_api::refusal(
                    400,
                    "UnknownOperationException",
                    &format!("Lambfold does not answer {target}"),
                );
            };
            let scope = scope::of(&self.config.scope, &head.headers, query).into_owned();
            return match self.read(head, body, logs_api::REQUEST_BYTES).await {
                Ok(body) => {
                    logs_api::answer(self.logs.clone(), scope, operation, &body.bytes).await
                }
                Err(ReceiveError::TooLarge) => logs_api::refusal(
                    413,
                    "RequestEntityTooLargeException",
                    &format!("Request must be at most {} bytes", logs_api::REQUEST_BYTES),
                ),
                Err(ReceiveError::Lost(answer)) => answer,
            };
        }
        let scope = scope::of(&self.config.scope, &head.headers, query).into_owned();
        let form = head.headers.get(CONTENT_TYPE).is_some_and(|value| {
            value.as_bytes().starts_with(b"application/x-www-form-urlencoded")
        });
        if head.method == Method::POST && form {
            return match self.read(head, body, FORM_BYTES).await {
                Ok(body) => sts::answer(&scope, &String::from_utf8_lossy(&body.bytes), id),
                Err(ReceiveError::TooLarge) => answer::text(413, "the form is too large\n"),
                Err(ReceiveError::Lost(answer)) => answer,
            };
        }
        receive::drain(&head.headers, body);
        if query.contains("Action=") {
            return sts::answer(&scope, query, id);
        }
        answer::error(&ApiError::unknown_operation(head.method.as_str(), "/"))
    }

    pub(crate) async fn read(
        &self,
        head: &Parts,
        body: Incoming,
        limit: usize,
    ) -> Result<Received, ReceiveError> {
        self.receiver.read(&head.headers, body, limit).await
    }
}

/// `http://<host as requested>`
pub(crate) fn base_url(head: &Parts) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("localhost"))
}
