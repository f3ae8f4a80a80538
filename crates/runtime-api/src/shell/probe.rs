//! What whoever watches an environment sees of one call. While nobody watches, a probe is empty
//! and each look at it costs an atomic load at most.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use lambfold_http1::Head;
use lambfold_trace::{Answer, Body as Shown, Call, Message, State, Tap};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A call in progress. Dropped before it was answered, it says that its connection ended.
pub(super) struct Probe<'a> {
    tap: Option<&'a Tap>,
    open: Option<Box<Open>>,
}

struct Open {
    since_us: Option<u64>,
    /// Most bytes of a body that are wanted.
    wanted: usize,
    call: Call,
}

/// The request of a call, as far as it is shown.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) message: Message,
}

impl Asked {
    /// A request on the short way, with its body.
    pub(super) fn plain(head: &Head<'_>, body: &[u8], wanted: usize) -> Self {
        let method = match head.method() {
            lambfold_http1::Method::Get => "GET",
            lambfold_http1::Method::Post => "POST",
        };
        let kept = Bytes::copy_from_slice(&body[..body.len().min(wanted)]);
        let body = Shown::beginning(kept, body.len() as u64);
        let message = Message::new(head.fields(), body);
        Self { method: method.to_owned(), path: head.target().to_owned(), message }
    }

    /// The head of any request.
    pub(super) fn any(head: &http::request::Parts) -> Self {
        let path = head.uri.path_and_query().map_or_else(|| head.uri.path(), |path| path.as_str());
        let message = Message::new(pairs(&head.headers), Shown::default());
        Self { method: head.method.to_string(), path: path.to_owned(), message }
    }

    /// A request of which nothing is left but what was asked.
    pub(super) fn forgotten(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), message: Message::default() }
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

impl<'a> Probe<'a> {
    /// A request has come. `asked` is called if somebody watches, with the most bytes of a body
    /// that are wanted.
    pub(super) fn open(tap: Option<&'a Tap>, asked: impl FnOnce(usize) -> Asked) -> Self {
        let mut probe = Self { tap, open: None };
        if let Some((tap, wanted)) = probe.watched() {
            let since_us = Some(tap.now_us());
            probe.open = Some(Box::new(Open::new(asked(wanted), wanted, since_us)));
        }
        probe
    }

    fn watched(&self) -> Option<(&'a Tap, usize)> {
        self.tap.and_then(|tap| Some((tap, tap.wanted()?)))
    }

    /// How many bytes of the request's body are wanted.
    pub(super) fn wanted(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.wanted)
    }

    /// It has no answer for now.
    pub(super) fn waits(&self) {
        if let (Some(tap), Some(open)) = (self.tap, &self.open) {
            tap.offer(open.call(tap, State::Waiting, None));
        }
    }

    /// It is about to be answered. A request that came before anybody watched is shown as
    /// `asked` says.
    pub(super) fn waited(&mut self, asked: impl FnOnce() -> Asked) {
        if self.open.is_none()
            && let Some((_, wanted)) = self.watched()
        {
            self.open = Some(Box::new(Open::new(asked(), wanted, None)));
        }
    }

    /// The request's body was read so far.
    pub(super) fn body(&mut self, body: Shown) {
        if let Some(open) = &mut self.open {
            open.call.request.body = body;
        }
    }

    /// It is answered like this.
    pub(super) fn answered(
        mut self,
        status: u16,
        headers: impl FnOnce() -> HeaderMap,
        body: &Bytes,
    ) {
        if let (Some(tap), Some(open)) = (self.tap, self.open.take()) {
            let message = Message::new(pairs(&headers()), Shown::new(body, open.wanted));
            tap.offer(open.call(tap, State::Answered, Some(Answer { status, message })));
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let (Some(tap), Some(open)) = (self.tap, self.open.take()) {
            tap.offer(open.call(tap, State::Gone, None));
        }
    }
}

impl Open {
    fn new(asked: Asked, wanted: usize, since_us: Option<u64>) -> Self {
        let call = Call {
            at: 0,
            environment: String::new(),
            version: String::new(),
            state: State::Waiting,
            method: asked.method,
            path: asked.path,
            request: asked.message,
            answer: None,
            took_us: None,
        };
        Self { since_us, wanted, call }
    }

    fn call(&self, tap: &Tap, state: State, answer: Option<Answer>) -> Call {
        let took_us = self.since_us.map(|since| tap.now_us().saturating_sub(since));
        Call { state, answer, took_us, ..self.call.clone() }
    }
}

/// A request's body, of which the beginning is kept while somebody wants it.
pub(super) struct Tapped<B> {
    inner: B,
    seen: Option<Seen>,
}

struct Seen {
    wanted: usize,
    kept: BytesMut,
    bytes: u64,
}

impl<B> Tapped<B> {
    pub(super) fn new(inner: B, wanted: Option<usize>) -> Self {
        let seen = wanted.map(|wanted| Seen { wanted, kept: BytesMut::new(), bytes: 0 });
        Self { inner, seen }
    }

    /// What was read of it.
    pub(super) fn take(&mut self) -> Shown {
        let seen = self.seen.take().map(|seen| Shown::beginning(seen.kept.freeze(), seen.bytes));
        seen.unwrap_or_default()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tapped<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(seen) = &mut self.seen
            && let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref())
        {
            let room = seen.wanted.saturating_sub(seen.kept.len()).min(data.len());
            seen.kept.extend_from_slice(&data[..room]);
            seen.bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
