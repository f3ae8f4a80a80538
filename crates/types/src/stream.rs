use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future of a [`ResponseSink`].
pub type SinkFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Nobody reads the response any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller of the function is gone")]
pub struct CallerGone;

/// Where a streamed response goes while the function runs. It travels down with the invocation;
/// whoever invokes makes it, and keeps the end that reads.
///
/// The [`Answer`](crate::Answer) tells the end of a stream, not the sink.
pub trait ResponseSink: fmt::Debug + Send + Sync + 'static {
    /// The runtime streams its response: called once at most, before the first chunk.
    fn begin(&self, content_type: Option<Arc<str>>);

    /// Hands a chunk over. Waits as long as the caller is behind: what a stream holds in memory
    /// is bounded by that.
    fn send(&self, chunk: Bytes) -> SinkFuture<'_, Result<(), CallerGone>>;

    /// The runtime process was given up: what it still sends is not wanted.
    fn close(&self);

    /// Ready once [`ResponseSink::close`] was called.
    fn closed(&self) -> SinkFuture<'_, ()>;
}
