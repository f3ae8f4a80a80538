//! A response that its caller reads while the function runs.

use bytes::Bytes;
use lambfold_pool::PoolError;
use lambfold_types::{Answer, CallerGone, ResponseSink, SinkFuture};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot, watch};

/// Chunks that wait for the caller; each is one piece that was read from the runtime.
const CHUNKS: usize = 2;

type Head = Option<Arc<str>>;

/// The two ends of a response: the sink goes with the invocation.
pub(crate) fn channel() -> (Arc<dyn ResponseSink>, oneshot::Receiver<Head>, mpsc::Receiver<Bytes>) {
    let (head_sender, head) = oneshot::channel();
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS);
    let sink = Sink {
        head: Mutex::new(Some(head_sender)),
        chunks: chunk_sender,
        closed: watch::Sender::new(false),
    };
    (Arc::new(sink), head, chunks)
}

#[derive(Debug)]
struct Sink {
    head: Mutex<Option<oneshot::Sender<Head>>>,
    chunks: mpsc::Sender<Bytes>,
    closed: watch::Sender<bool>,
}

impl ResponseSink for Sink {
    fn begin(&self, content_type: Head) {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(head) = head {
            // A caller who is gone is noticed at the first chunk.
            let _ = head.send(content_type);
        }
    }

    fn send(&self, chunk: Bytes) -> SinkFuture<'_, Result<(), CallerGone>> {
        Box::pin(async move { self.chunks.send(chunk).await.map_err(|_| CallerGone) })
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }

    fn closed(&self) -> SinkFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
        })
    }
}

/// A part of a response.
#[derive(Debug)]
pub enum Part {
    /// The next bytes of it; never none.
    Chunk(Bytes),
    /// It is over, in one of two ways: complete, or with an error. Nothing comes after it.
    End(Result<(), Failure>),
}

/// How a response ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `Unhandled` for what Invoke calls so; of a stream that had begun, what befell it.
    pub code: String,
    /// The error document.
    pub details: Bytes,
}

/// A response: streamed by the runtime, or whole, which is a stream of one chunk. When it is
/// dropped the function runs on.
#[derive(Debug)]
pub struct ResponseStream {
    content_type: Option<Arc<str>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The runtime streams.
    Streaming {
        chunks: mpsc::Receiver<Bytes>,
        answer: oneshot::Receiver<Result<Answer, PoolError>>,
    },
    /// What was streamed last, or the whole answer.
    Last {
        chunks: Option<mpsc::Receiver<Bytes>>,
        answer: Result<Answer, PoolError>,
    },
    Over,
}

impl ResponseStream {
    /// Waits for the beginning.
    pub(crate) async fn open(
        head: oneshot::Receiver<Head>,
        chunks: mpsc::Receiver<Bytes>,
        mut answer: oneshot::Receiver<Result<Answer, PoolError>>,
    ) -> Result<Self, PoolError> {
        tokio::select! {
            biased;
            Ok(content_type) = head => {
                Ok(Self { content_type, state: State::Streaming { chunks, answer } })
            }
            answer = &mut answer => {
                let answer = answer.unwrap_or(Err(PoolError::Lost))?;
                let content_type = answer.content_type.clone();
                Ok(Self { content_type, state: State::Last { chunks: None, answer: Ok(answer) } })
            }
        }
    }

    /// As the runtime declared it.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The next part.
    pub async fn next(&mut self) -> Part {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`ResponseStream::next`] as a poll function.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Part> {
        if let State::Streaming { chunks, answer } = &mut self.state {
            if let Poll::Ready(Some(chunk)) = chunks.poll_recv(context) {
                return Poll::Ready(Part::Chunk(chunk));
            }
            // Every chunk of a stream is sent before its answer.
            let Poll::Ready(answer) = Pin::new(answer).poll(context) else { return Poll::Pending };
            let answer = answer.unwrap_or(Err(PoolError::Lost));
            let state = std::mem::replace(&mut self.state, State::Over);
            if let State::Streaming { chunks, .. } = state {
                self.state = State::Last { chunks: Some(chunks), answer };
            }
        }
        Poll::Ready(self.last())
    }

    fn last(&mut self) -> Part {
        let (streamed, answer) = match &mut self.state {
            State::Last { chunks: Some(chunks), answer } => {
                if let Ok(chunk) = chunks.try_recv() {
                    return Part::Chunk(chunk);
                }
                (true, answer)
            }
            State::Last { chunks: None, answer } => (false, answer),
            State::Streaming { .. } | State::Over => return Part::End(Ok(())),
        };
        let end = match answer {
            Ok(answer) if answer.function_error => {
                let code = answer.stream_error.as_deref().filter(|_| streamed);
                let code = code.unwrap_or("Unhandled").to_owned();
                Err(Failure { code, details: std::mem::take(&mut answer.payload) })
            }
            Ok(answer) => {
                let payload = std::mem::take(&mut answer.payload);
                if !payload.is_empty() {
                    return Part::Chunk(payload);
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a streamed response has no end");
                let details = "{\"errorMessage\":\"The execution environment was lost\",\"errorType\":\"Sandbox.Failure\"}";
                Err(Failure { code: "Sandbox.Failure".to_owned(), details: details.into() })
            }
        };
        self.state = State::Over;
        Part::End(end)
    }
}

#[cfg(test)]
mod tests;
