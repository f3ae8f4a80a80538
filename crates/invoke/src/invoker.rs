//! From a request to its answer, or into the queue.

use crate::dispatch::Dispatcher;
use crate::event::StoredEvent;
use crate::port::{Functions, Placement, Queue};
use crate::stream::{self, ResponseStream};
use crate::{InvokeError, payload};
use bytes::Bytes;
use lambfold_pool::{InFlight, PoolError};
use lambfold_store::NewEvent;
use lambfold_types::{
    Answer, Clock, Invocation, InvocationKind, PhaseEnd, RequestId, ResponseSink, Scope, Version,
    limits,
};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Policy of asynchronous invocations.
#[derive(Debug, Clone)]
pub struct AsyncConfig {
    /// Events that run at a time; a function takes at most as many as it leaves for the others.
    pub parallelism: usize,
    /// How long to wait before each attempt after the first, when the function failed; their
    /// number is the number of retries.
    pub retry_waits: Vec<Duration>,
    /// Shortest and longest wait of an event that could not run (throttled, platform error); in
    /// between, it waits as long again as it is old.
    pub backoff: (Duration, Duration),
    /// Age at which an event is given up.
    pub max_age: Duration,
}

impl Default for AsyncConfig {
    /// AWS's: 1 and 2 minutes, 1 second to 5 minutes, 6 hours; 256 events at a time.
    fn default() -> Self {
        Self {
            parallelism: 256,
            retry_waits: vec![Duration::from_secs(60), Duration::from_secs(120)],
            backoff: (Duration::from_secs(1), Duration::from_secs(300)),
            max_age: Duration::from_secs(limits::ASYNC_MAX_AGE_S),
        }
    }
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Account and region of the request.
    pub scope: &'a Scope,
    /// Name, partial or whole ARN.
    pub function: &'a str,
    /// The qualifier beside it.
    pub qualifier: Option<&'a str>,
    /// The id that the caller, the runtime and the logs see.
    pub request_id: RequestId,
    /// The event.
    pub payload: Bytes,
    /// The caller's content type.
    pub content_type: Option<Arc<str>>,
    /// JSON text, base64 already decoded; not passed on by asynchronous invocations.
    pub client_context: Option<Arc<str>>,
    /// The tracing header.
    pub trace_id: Option<Arc<str>>,
    /// `LogType: Tail`; has no meaning for asynchronous invocations.
    pub log_tail: bool,
}

/// The result of a synchronous invocation.
#[derive(Debug)]
pub struct Outcome {
    /// As requested.
    pub request_id: RequestId,
    /// The version that ran.
    pub executed_version: Version,
    /// What the caller receives.
    pub answer: Answer,
    /// The log's tail, later.
    pub log_tail: LogTailReceiver,
}

/// The beginning of the response of a streaming invocation.
#[derive(Debug)]
pub struct StreamingOutcome {
    /// The version that runs.
    pub executed_version: Version,
    /// The response, as it comes.
    pub response: ResponseStream,
    /// The log's tail, later.
    pub log_tail: LogTailReceiver,
}

/// The end of the log of one invocation, which comes when its invoke phase is over.
#[derive(Debug)]
pub struct LogTailReceiver(oneshot::Receiver<PhaseEnd>);

impl LogTailReceiver {
    /// Waits for the end of the phase; `None` when no tail was asked for, or the environment
    /// was lost.
    pub async fn wait(mut self) -> Option<Vec<u8>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// [`LogTailReceiver::wait`] as a poll function; not to be called again once it is ready.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        Pin::new(&mut self.0).poll(context).map(|end| end.ok()?.log_tail)
    }
}

/// Invokes functions; cheap to clone. Runs the queue's events as long as a clone exists.
#[derive(Clone)]
pub struct Invoker(Arc<Inner>);

struct Inner {
    functions: Arc<dyn Functions>,
    pool: Arc<dyn Placement>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
}

impl Invoker {
    /// An invoker with AWS's policy. Its dispatcher runs on the tokio runtime that this is
    /// called in, and begins with what earlier runs left in the queue.
    #[must_use]
    pub fn new(
        functions: impl Functions,
        pool: impl Placement,
        queue: impl Queue,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::with_config(functions, pool, queue, clock, AsyncConfig::default())
    }

    /// [`Invoker::new`] with another policy.
    #[must_use]
    pub fn with_config(
        functions: impl Functions,
        pool: impl Placement,
        queue: impl Queue,
        clock: Arc<dyn Clock>,
        config: AsyncConfig,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let inner = Inner {
            functions: Arc::new(functions),
            pool: Arc::new(pool),
            queue: Arc::new(queue),
            clock,
            stop,
        };
        let dispatcher = Dispatcher {
            functions: Arc::clone(&inner.functions),
            pool: Arc::clone(&inner.pool),
            queue: Arc::clone(&inner.queue),
            clock: Arc::clone(&inner.clock),
            config,
        };
        tokio::spawn(Arc::new(dispatcher).run(stopped));
        Self(Arc::new(inner))
    }

    /// Takes no more events from the queue; those that run go on. For shutdown, before the
    /// pool is drained. What is left runs after the next start.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// `RequestResponse`: runs the function and waits for its answer, a function error
    /// included. When the future is dropped the function runs on.
    ///
    /// # Errors
    /// See [`InvokeError`]: the function did not run, or its environment was lost.
    pub async fn invoke(&self, request: Request<'_>) -> Result<Outcome, InvokeError> {
        let request_id = request.request_id;
        let (executed_version, in_flight) = self.start(request, None)?;
        let answer = in_flight.answer.await.unwrap_or(Err(PoolError::Lost))?;
        let log_tail = LogTailReceiver(in_flight.end);
        Ok(Outcome { request_id, executed_version, answer, log_tail })
    }

    /// Like [`Invoker::invoke`], for a caller who reads the response while the function runs:
    /// ready as soon as the runtime begins to stream, or has answered whole.
    ///
    /// # Errors
    /// As [`Invoker::invoke`].
    pub async fn invoke_streaming(
        &self,
        request: Request<'_>,
    ) -> Result<StreamingOutcome, InvokeError> {
        let (sink, head, chunks) = stream::channel();
        let (executed_version, in_flight) = self.start(request, Some(sink))?;
        let InFlight { answer, end } = in_flight;
        let response = ResponseStream::open(head, chunks, answer).await?;
        Ok(StreamingOutcome { executed_version, response, log_tail: LogTailReceiver(end) })
    }

    fn start(
        &self,
        request: Request<'_>,
        sink: Option<Arc<dyn ResponseSink>>,
    ) -> Result<(Version, InFlight), InvokeError> {
        let resolved =
            self.0.functions.resolve(request.scope, request.function, request.qualifier)?;
        check_size(&request.payload, limits::SYNC_REQUEST_BYTES, "RequestResponse")?;
        payload::check(&request.payload)?;
        let executed_version = resolved.version.version;
        let invocation = Invocation {
            request_id: request.request_id,
            kind: InvocationKind::Synchronous,
            invoked_function_arn: resolved.invoked_arn.into(),
            payload: request.payload,
            content_type: request.content_type,
            client_context: request.client_context,
            trace_id: request.trace_id,
            wants_log_tail: request.log_tail,
            sink,
        };
        Ok((executed_version, self.0.pool.invoke(resolved.version, invocation)?))
    }

    /// `DryRun`: all checks, nothing runs.
    ///
    /// # Errors
    /// When a real invocation would be refused for what it asks.
    pub fn dry_run(&self, request: &Request<'_>) -> Result<(), InvokeError> {
        self.0.functions.resolve(request.scope, request.function, request.qualifier)?;
        check_size(&request.payload, limits::SYNC_REQUEST_BYTES, "DryRun")?;
        payload::check(&request.payload)
    }

    /// `Event`: durable when it returns; runs at least once.
    ///
    /// # Errors
    /// When the function does not exist, the event is over 1 MiB or no JSON, or the queue
    /// cannot be written.
    pub async fn enqueue(&self, request: Request<'_>) -> Result<(), InvokeError> {
        let resolved =
            self.0.functions.resolve(request.scope, request.function, request.qualifier)?;
        check_size(&request.payload, limits::ASYNC_REQUEST_BYTES, "Event")?;
        payload::check(&request.payload)?;
        // The qualifier as it was given, in either place: the event runs under that ARN.
        let function = resolved.version.name.to_string();
        let qualifier = resolved.invoked_arn.splitn(8, ':').nth(7).map(str::to_owned);
        let event = StoredEvent {
            request_id: request.request_id,
            scope: request.scope.clone(),
            function,
            qualifier,
            content_type: request.content_type,
            trace_id: request.trace_id,
            payload: request.payload,
        };
        let now_ms = self.0.clock.epoch_ms();
        let new = NewEvent {
            scope: event.queue_scope(),
            payload: event.to_bytes(),
            enqueued_ms: now_ms,
            not_before_ms: now_ms,
        };
        self.0.queue.enqueue(new).await.map_err(InvokeError::Queue)?;
        Ok(())
    }
}

fn check_size(
    payload: &Bytes,
    limit: usize,
    invocation_type: &'static str,
) -> Result<(), InvokeError> {
    let bytes = payload.len();
    if bytes > limit {
        return Err(InvokeError::TooLarge { bytes, limit, invocation_type });
    }
    Ok(())
}
