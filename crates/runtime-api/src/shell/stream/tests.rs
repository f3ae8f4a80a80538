#![allow(clippy::unwrap_used)]
use super::*;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use lambfold_types::limits::{STREAM_BURST_BYTES, STREAM_BYTES_PER_S};
use lambfold_types::{CallerGone, SinkFuture};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// A caller who takes chunks as far as it has permits.
#[derive(Debug)]
pub(in crate::shell) struct TestSink {
    pub(in crate::shell) begun: Mutex<Option<Option<Arc<str>>>>,
    pub(in crate::shell) chunks: Mutex<Vec<Bytes>>,
    room: Semaphore,
    closed: watch::Sender<bool>,
}

impl TestSink {
    pub(in crate::shell) fn new() -> Arc<Self> {
        Self::with_room(Semaphore::MAX_PERMITS)
    }

    fn with_room(chunks: usize) -> Arc<Self> {
        Arc::new(Self {
            begun: Mutex::default(),
            chunks: Mutex::default(),
            room: Semaphore::new(chunks),
            closed: watch::Sender::new(false),
        })
    }

    /// The caller goes.
    pub(in crate::shell) fn leave(&self) {
        self.room.close();
    }

    pub(in crate::shell) fn received(&self) -> Vec<u8> {
        self.chunks.lock().unwrap().concat()
    }

    fn bytes(&self) -> usize {
        self.chunks.lock().unwrap().iter().map(Bytes::len).sum()
    }

    /// Waits for a condition that the pump brings about, without letting time pass.
    pub(in crate::shell) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            tokio::task::yield_now().await;
        }
    }
}

impl ResponseSink for TestSink {
    fn begin(&self, content_type: Option<Arc<str>>) {
        assert!(self.begun.lock().unwrap().replace(content_type).is_none(), "begun twice");
    }
    fn send(&self, chunk: Bytes) -> SinkFuture<'_, Result<(), CallerGone>> {
        assert!(!chunk.is_empty());
        Box::pin(async move {
            self.room.acquire().await.map_err(|_| CallerGone)?.forget();
            self.chunks.lock().unwrap().push(chunk);
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

type Item = Result<Frame<Bytes>, io::Error>;

/// A body whose frames come when the test says so, and the pump that reads it.
struct Flowing {
    body: mpsc::Sender<Item>,
    sink: Arc<TestSink>,
    pump: tokio::task::JoinHandle<Pumped>,
}

fn flowing(sink: Arc<TestSink>, announced: bool) -> Flowing {
    let (sender, mut receiver) = mpsc::channel::<Item>(1);
    let pumped = Arc::clone(&sink);
    let pump = tokio::spawn(async move {
        let frames = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        pump(&mut StreamBody::new(frames), &*pumped, announced).await
    });
    Flowing { body: sender, sink, pump }
}

impl Flowing {
    async fn data(&self, bytes: impl Into<Bytes>) {
        self.body.send(Ok(Frame::data(bytes.into()))).await.unwrap();
    }

    async fn end(self) -> Pumped {
        drop(self.body);
        self.pump.await.unwrap()
    }
}

fn complete(bytes: u64) -> Pumped {
    Pumped { end: Some(StreamEnd::Complete), bytes }
}

#[tokio::test(start_paused = true)]
async fn each_chunk_passes_before_the_next_is_there() {
    let flow = flowing(TestSink::new(), true);
    for (at, chunk) in ["a", "lambda", "last"].into_iter().enumerate() {
        flow.data(chunk).await;
        flow.sink.until(|sink| sink.chunks.lock().unwrap().len() == at + 1).await;
    }
    let sink = Arc::clone(&flow.sink);
    assert_eq!(flow.end().await, complete(11));
    assert_eq!(sink.received(), b"alambdalast");
}

#[tokio::test(start_paused = true)]
async fn a_slow_caller_stops_the_reading() {
    let flow = flowing(TestSink::with_room(1), false);
    flow.data("a").await;
    flow.data("b").await;
    flow.sink.until(|sink| sink.bytes() == 1).await;
    // One chunk is in hand, one in the channel of the test's body; there is no room for a third.
    flow.data("c").await;
    let third = Frame::data(Bytes::from_static(b"d"));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(flow.body.try_send(Ok(third)).is_err());
    flow.sink.room.add_permits(10);
    flow.sink.until(|sink| sink.received() == b"abc").await;
    assert_eq!(flow.end().await, complete(3));
}

#[tokio::test(start_paused = true)]
async fn the_bandwidth_is_limited_after_the_burst() {
    let start = Instant::now();
    let flow = flowing(TestSink::new(), false);
    let sent = STREAM_BURST_BYTES + 3 * STREAM_BYTES_PER_S;
    let data = Bytes::from(vec![0; sent]);
    flow.data(data).await;
    flow.sink.until(|sink| sink.bytes() == STREAM_BURST_BYTES).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(flow.sink.bytes(), STREAM_BURST_BYTES + STREAM_BYTES_PER_S);
    assert_eq!(flow.end().await, complete(sent as u64));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_the_largest_response() {
    let limit = usize::try_from(STREAMED_RESPONSE_BYTES).unwrap();
    let chunk = Bytes::from(vec![0; 1 << 20]);
    for (over, end) in [(0, StreamEnd::Complete), (1, StreamEnd::TooLarge)] {
        let flow = flowing(TestSink::new(), false);
        for _ in 0..limit / chunk.len() {
            flow.data(chunk.clone()).await;
        }
        let sink = Arc::clone(&flow.sink);
        if over > 0 {
            flow.data(vec![0; over]).await;
        }
        let bytes = STREAMED_RESPONSE_BYTES;
        assert_eq!(flow.end().await, Pumped { end: Some(end), bytes });
        assert_eq!(sink.bytes(), limit, "all before the limit is passed on");
    }
}

#[tokio::test(start_paused = true)]
async fn the_function_runs_on_without_its_caller() {
    let start = Instant::now();
    let flow = flowing(TestSink::with_room(1), false);
    flow.data("a").await;
    flow.data("b").await;
    flow.sink.until(|sink| sink.bytes() == 1).await;
    flow.sink.leave();
    let sent = STREAM_BURST_BYTES * 2;
    flow.data(vec![0; sent]).await;
    let sink = Arc::clone(&flow.sink);
    assert_eq!(flow.end().await, complete(2 + sent as u64));
    assert_eq!((sink.bytes(), start.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_given_up_is_read_no_further() {
    // It waits for the body, for the caller, for bandwidth.
    for (room, size) in [(9, 1), (0, 1), (9, STREAM_BURST_BYTES + 1)] {
        let flow = flowing(TestSink::with_room(room), false);
        flow.data(vec![0; size]).await;
        flow.sink.until(|sink| room == 0 || sink.bytes() == size.min(STREAM_BURST_BYTES)).await;
        let start = Instant::now();
        flow.sink.close();
        assert_eq!(flow.pump.await.unwrap().end, None);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_in_the_middle() {
    let error = |payload: &'static str| StreamEnd::Error {
        payload: payload.into(),
        error_type: "Runtime.StreamError".into(),
    };
    let flow = flowing(TestSink::new(), false);
    flow.data("part").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("lambda-runtime-function-error-type", "Runtime.StreamError".parse().unwrap());
    trailers.insert("lambda-runtime-function-error-body", "Ym9vbQ==".parse().unwrap());
    flow.body.send(Ok(Frame::trailers(trailers))).await.unwrap();
    let sink = Arc::clone(&flow.sink);
    assert_eq!(flow.end().await, Pumped { end: Some(error("boom")), bytes: 4 });
    assert_eq!(sink.received(), b"part");

    let text = "Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: Ym9vbQ==\r\n";
    for (announced, end, received) in [
        (true, error("boom"), "part".to_owned()),
        (false, StreamEnd::Complete, format!("part{text}")),
    ] {
        let flow = flowing(TestSink::new(), announced);
        flow.data("part").await;
        flow.data(text).await;
        let sink = Arc::clone(&flow.sink);
        assert_eq!(flow.end().await.end, Some(end));
        assert_eq!(sink.received(), received.as_bytes());
    }

    let flow = flowing(TestSink::new(), false);
    flow.data("part").await;
    flow.body.send(Err(io::ErrorKind::ConnectionReset.into())).await.unwrap();
    let end = Some(StreamEnd::Truncated);
    assert_eq!(flow.pump.await.unwrap(), Pumped { end, bytes: 4 });
}

#[tokio::test(start_paused = true)]
async fn nothing_at_all_is_a_response() {
    let sink = TestSink::new();
    let empty: [Result<Frame<Bytes>, Infallible>; 0] = [];
    let mut body = StreamBody::new(futures_util::stream::iter(empty));
    assert_eq!(pump(&mut body, &*sink, true).await, complete(0));
    assert_eq!(sink.received(), b"");
}
