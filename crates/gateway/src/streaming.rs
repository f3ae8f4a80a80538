//! The body of InvokeWithResponseStream: a function's response as events, while it runs.

use crate::eventstream;
use crate::metrics::Counters;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lambfold_invoke::{Failure, LogTailReceiver, Part, ResponseStream};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Takes a part of the response whenever the connection has room for it.
#[derive(Debug)]
pub(crate) struct EventBody {
    response: ResponseStream,
    state: State,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum State {
    /// `Some`: the log's tail is wanted.
    Response(Option<LogTailReceiver>),
    Tail(Option<Failure>, LogTailReceiver),
    Over,
}

impl EventBody {
    pub(crate) fn new(
        response: ResponseStream,
        log_tail: Option<LogTailReceiver>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { response, state: State::Response(log_tail), counters }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The next event.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Response(tail) => match ready!(self.response.poll_next(context)) {
                    Part::Chunk(chunk) => {
                        return Poll::Ready(Some(eventstream::payload_chunk(&chunk)));
                    }
                    Part::End(end) => {
                        let failure = end.err();
                        if failure.is_some() {
                            self.counters.function_error();
                        }
                        let Some(tail) = tail.take() else { return self.complete(failure, None) };
                        self.state = State::Tail(failure, tail);
                    }
                },
                State::Tail(failure, tail) => {
                    let tail = ready!(tail.poll(context));
                    let failure = failure.take();
                    return self.complete(failure, tail);
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn complete(&mut self, failure: Option<Failure>, tail: Option<Vec<u8>>) -> Poll<Option<Bytes>> {
        self.state = State::Over;
        let tail = tail.map(|tail| STANDARD.encode(tail));
        Poll::Ready(Some(eventstream::invoke_complete(failure.as_ref(), tail.as_deref())))
    }
}
