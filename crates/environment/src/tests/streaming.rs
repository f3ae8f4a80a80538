//! Responses that reach their caller while the function runs.
#![allow(clippy::unwrap_used)]
use super::fixture::*;
use bytes::Bytes;
use lambfold_sandbox::ExitStatus;
use lambfold_types::{
    Answer, CallerGone, LogFormat, PhaseEnd, RequestId, ResponseSink, SinkFuture,
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};

/// A caller who takes everything, unless it is gone.
#[derive(Debug, Default)]
struct Caller {
    received: Mutex<Vec<u8>>,
    gone: Mutex<bool>,
    closed: watch::Sender<bool>,
}

impl ResponseSink for Caller {
    fn begin(&self, _: Option<Arc<str>>) {}
    fn send(&self, chunk: Bytes) -> SinkFuture<'_, Result<(), CallerGone>> {
        Box::pin(async move {
            if *self.gone.lock().unwrap() {
                return Err(CallerGone);
            }
            self.received.lock().unwrap().extend_from_slice(&chunk);
            Ok(())
        })
    }
    fn close(&self) {
        self.closed.send_replace(true);
    }
    fn closed(&self) -> SinkFuture<'_, ()> {
        Box::pin(async { drop(self.closed.subscribe().wait_for(|closed| *closed).await) })
    }
}

/// An invocation whose caller streams, or is gone from the start.
pub(super) fn begin_random(environment: &crate::Environment, is_gone: bool) -> Pending {
    let Streaming { id, caller, answer, end } = begin_streaming(environment);
    *caller.gone.lock().unwrap() = is_gone;
    Pending { request_id: id, answer, end }
}

struct Streaming {
    id: RequestId,
    caller: Arc<Caller>,
    answer: oneshot::Receiver<Answer>,
    end: oneshot::Receiver<PhaseEnd>,
}

fn begin_streaming(environment: &crate::Environment) -> Streaming {
    let caller = Arc::new(Caller::default());
    let mut invocation = invocation("{}");
    invocation.sink = Some(caller.clone());
    let id = invocation.request_id;
    let (on_answer, answer) = oneshot::channel();
    let (on_end, end) = oneshot::channel();
    environment.begin(
        invocation,
        Box::new(move |answer| on_answer.send(answer).unwrap()),
        Box::new(move |end| drop(on_end.send(end))),
    );
    Streaming { id, caller, answer, end }
}

impl Streaming {
    fn has(&self, bytes: &[u8]) -> bool {
        *self.caller.received.lock().unwrap() == bytes
    }
    fn is_open(&mut self) -> bool {
        self.answer.try_recv().is_err() && self.end.try_recv().is_err()
    }
    /// The error under which a stream ends, and its document.
    async fn failure(&mut self) -> (Option<String>, String) {
        let answer = (&mut self.answer).await.unwrap();
        assert!(answer.function_error);
        let text = String::from_utf8(answer.payload.to_vec()).unwrap();
        (answer.stream_error.map(String::from), text)
    }
}

/// A response that is being sent.
pub(super) struct Response(TcpStream);

pub(super) async fn respond(guest: &Guest, id: &str) -> Response {
    let mut connection = guest.connect().await;
    let head = format!(
        "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: h\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    Response(connection)
}

impl Response {
    /// Whether the connection took it.
    pub(super) async fn try_chunk(&mut self, text: &str) -> bool {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).await.is_ok()
    }

    async fn chunk(&mut self, text: &str) {
        assert!(self.try_chunk(text).await);
    }

    /// Ends it; the status of the answer, if there is one.
    pub(super) async fn try_end(mut self, trailers: &str) -> Option<String> {
        self.0.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await.ok()?;
        let mut answer = [0; 12];
        self.0.read_exact(&mut answer).await.ok()?;
        Some(String::from_utf8(answer[9..].to_vec()).unwrap())
    }

    async fn end(self, trailers: &str) -> String {
        self.try_end(trailers).await.unwrap()
    }
}

/// What the first process does with its event after the first chunk, `one`, of its response;
/// later processes echo.
fn lab<F>(then: impl Fn(Guest, Response) -> F + Send + Sync + 'static) -> Lab
where
    F: Future<Output = ExitStatus> + Send + 'static,
{
    let then = Arc::new(then);
    Lab::new(move |number, mut guest| {
        let then = Arc::clone(&then);
        async move {
            if number > 1 {
                return echo(guest).await;
            }
            let next = guest.next().await;
            let mut response = respond(&guest, &next.id).await;
            response.chunk("one").await;
            then(guest, response).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn chunks_reach_the_caller_while_the_function_runs() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let lab = lab(move |guest, mut response| {
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            response.chunk(", two").await;
            assert_eq!(response.end("").await, "202");
            echo(guest).await
        }
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    settle().await;
    assert!(streaming.is_open(), "the function runs");
    go.notify_one();
    let answer = streaming.answer.await.unwrap();
    assert!(!answer.function_error && answer.payload.is_empty());
    assert_eq!(*streaming.caller.received.lock().unwrap(), b"one, two");
    let tail = streaming.end.await.unwrap().log_tail.unwrap();
    let tail = String::from_utf8(tail).unwrap();
    assert!(tail.contains("\nREPORT RequestId: ") && !tail.contains("Status"), "{tail}");
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_in_the_middle_ends_the_stream() {
    let lab = lab(|_guest, response| async move {
        let _open = response;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    advance_ms(2_999).await;
    settle().await;
    assert!(streaming.is_open());
    advance_ms(1).await;
    let (code, text) = streaming.failure().await;
    assert_eq!(code.as_deref(), Some("Sandbox.Timeout"));
    let timed_out = "Task timed out after 3.00 seconds";
    assert_eq!(text, error("Sandbox.Timedout", streaming.id, timed_out));
    assert!(*streaming.caller.closed.borrow(), "nothing more is read from the old process");
    let end = streaming.end.await.unwrap();
    assert!(String::from_utf8(end.log_tail.unwrap()).unwrap().contains("\tStatus: timeout\n"));
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
    assert_eq!(lab.world.processes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_ends_the_stream() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let lab = lab(move |_guest, response| {
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            drop(response);
            ExitStatus::Code(7)
        }
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    go.notify_one();
    let (code, text) = streaming.failure().await;
    assert_eq!(code.as_deref(), Some("Sandbox.Failure"));
    let exited = "Runtime exited with error: exit status 7";
    assert_eq!(text, error("Runtime.ExitError", streaming.id, exited));
    assert!(streaming.end.await.unwrap().reusable);
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_lost_in_the_middle_ends_the_stream() {
    let lab = lab(|_guest, response| async move {
        let _open = response;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    lab.world.lose();
    assert_eq!(streaming.failure().await.0.as_deref(), Some("Sandbox.Failure"));
    assert!(!streaming.end.await.unwrap().reusable);
    assert!(*streaming.caller.closed.borrow());
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_trailers_ends_the_stream_and_the_runtime_stays() {
    // {"a":1}
    const TRAILERS: &str = "Lambda-Runtime-Function-Error-Type: Function.Oops\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n";
    let lab = lab(|guest, response| async move {
        assert_eq!(response.end(TRAILERS).await, "202");
        echo(guest).await
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    let expected = (Some("Function.Oops".to_owned()), r#"{"a":1}"#.to_owned());
    assert_eq!(streaming.failure().await, expected);
    assert!(streaming.has(b"one"));
    assert!(streaming.end.await.unwrap().reusable);
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
    assert_eq!(lab.world.processes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_off_by_a_runtime_that_lives_is_truncated() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let lab = lab(move |guest, response| {
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            drop(response);
            echo(guest).await
        }
    });
    let environment = lab.launch().await;
    let mut streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    go.notify_one();
    // `next` may come before the end of the other connection is noticed, and is then refused; so
    // the outcome is told by the error alone.
    let (code, text) = streaming.failure().await;
    let truncated =
        error("Runtime.TruncatedResponse", streaming.id, "HTTP request detected as truncated");
    assert_eq!((code.as_deref(), text), (Some("Runtime.TruncatedResponse"), truncated));
}

#[tokio::test(start_paused = true)]
async fn the_function_runs_on_when_its_caller_is_gone() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let lab = lab(move |mut guest, mut response| {
        let goes = Arc::clone(&goes);
        async move {
            goes.notified().await;
            for _ in 0..100 {
                response.chunk("more").await;
            }
            guest.print("all sent\n").await;
            assert_eq!(response.end("").await, "202");
            echo(guest).await
        }
    });
    let environment = lab.launch().await;
    let streaming = begin_streaming(&environment);
    lab.until(|| streaming.has(b"one")).await;
    *streaming.caller.gone.lock().unwrap() = true;
    go.notify_one();
    let end = streaming.end.await.unwrap();
    assert!(end.reusable);
    assert!(String::from_utf8(end.log_tail.unwrap()).unwrap().contains("all sent\n"));
    assert!(!streaming.answer.await.unwrap().function_error);
}

#[tokio::test(start_paused = true)]
async fn whole_answers_are_whole_for_a_caller_who_would_stream() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    let streaming = begin_streaming(&environment);
    let answer = streaming.answer.await.unwrap();
    assert_eq!(answer.payload, "{}");
    assert!(streaming.caller.received.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_is_whole_for_a_caller_who_would_not_stream() {
    let lab = lab(|guest, mut response| async move {
        response.chunk(", two").await;
        assert_eq!(response.end("").await, "202");
        echo(guest).await
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!((&*finished.payload, finished.function_error), ("one, two", false));
}

#[tokio::test(start_paused = true)]
async fn telemetry_tells_when_a_stream_began_and_how_long_it_took() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let mut lab = Lab::new(move |_, mut guest| {
        let goes = Arc::clone(&goes);
        async move {
            let next = guest.next().await;
            goes.notified().await;
            let mut response = respond(&guest, &next.id).await;
            response.chunk("one").await;
            goes.notified().await;
            response.chunk(", two").await;
            assert_eq!(response.end("").await, "202");
            echo(guest).await
        }
    });
    let logging = &mut Arc::get_mut(&mut lab.version).unwrap().logging;
    logging.format = LogFormat::Json;
    logging.system_level = Some("DEBUG".to_owned());
    let environment = lab.launch().await;
    let streaming = begin_streaming(&environment);
    advance_ms(20).await;
    go.notify_one();
    lab.until(|| streaming.has(b"one")).await;
    advance_ms(300).await;
    go.notify_one();
    streaming.end.await.unwrap();
    let log = lab.world.log();
    let record = |kind: &str| -> Value {
        let of_kind = |line: &Value| line["type"] == kind;
        let found = log.lines().map(|line| serde_json::from_str(line).unwrap()).find(of_kind);
        found.unwrap_or_else(|| panic!("no {kind} in {log}"))["record"].clone()
    };
    let done = record("platform.runtimeDone");
    assert_eq!(done["status"], "success");
    assert_eq!(done["metrics"]["producedBytes"], 8);
    let spans: Vec<(&str, f64)> = done["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| (span["name"].as_str().unwrap(), span["durationMs"].as_f64().unwrap()))
        .collect();
    assert_eq!(spans[..2], [("responseLatency", 20.0), ("responseDuration", 300.0)]);
    assert_eq!(record("platform.report")["metrics"]["durationMs"], 320.0);
}
