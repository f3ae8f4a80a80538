use lambfold_http1::Rewound;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A head up to this size is not counted: nearly all are far below it.
const FREE_HEAD_BYTES: usize = 16 << 10;

/// What unfinished request heads may hold together.
#[derive(Debug)]
pub(super) struct HeadBudget {
    used: AtomicUsize,
    limit: usize,
}

impl HeadBudget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }
}

/// Tells the reading side of a connection whether a request is being handled (odd) or the bytes
/// that arrive belong to the head of a next one (even).
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64, AtomicBool);

impl Gate {
    /// The end of the connection is a reset.
    pub(super) fn reset(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    /// A request's head is complete; it is handled until the guard is dropped.
    pub(super) fn enter(gate: &Arc<Self>) -> Handling {
        gate.0.fetch_add(1, Ordering::Relaxed);
        Handling(Arc::clone(gate))
    }
}

/// A request is being handled.
pub(super) struct Handling(Arc<Gate>);

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection that limits the time and the memory of request heads, and nothing else: it may
/// be idle, or wait for an event, for ever.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: Rewound<TcpStream>,
    gate: Arc<Gate>,
    budget: Arc<HeadBudget>,
    timeout: Duration,
    head: Option<Head>,
}

#[derive(Debug)]
struct Head {
    /// Value of the gate when its first byte came.
    gate: u64,
    until: Instant,
    /// Set only when the head did not come in one piece.
    timer: Option<Pin<Box<Sleep>>>,
    bytes: usize,
    charged: usize,
}

/// Acknowledges what has come at once. A peer that writes a request in small pieces, as shells do,
/// holds each back until the one before it is acknowledged, for which the kernel takes its time:
/// 40 ms. A whole request needs none, since its answer is one; to acknowledge each would cost every
/// invocation four packets.
pub(super) fn acknowledge(stream: &TcpStream) {
    // Where it cannot be had the peer waits.
    let _ = stream.set_quickack(true);
}

impl Guarded {
    pub(super) fn new(
        stream: Rewound<TcpStream>,
        budget: Arc<HeadBudget>,
        timeout: Duration,
    ) -> Self {
        Self { stream, gate: Arc::default(), budget, timeout, head: None }
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    fn end_head(&mut self) {
        if let Some(head) = self.head.take() {
            self.budget.used.fetch_sub(head.charged, Ordering::Relaxed);
        }
    }

    /// Accounts for `bytes` that arrived while no request is handled.
    fn grow_head(&mut self, gate: u64, bytes: usize) -> io::Result<()> {
        let timeout = self.timeout;
        let head = self.head.get_or_insert_with(|| Head {
            gate,
            until: Instant::now() + timeout,
            timer: None,
            bytes: 0,
            charged: 0,
        });
        head.bytes += bytes;
        if head.bytes > FREE_HEAD_BYTES {
            let more = head.bytes - head.charged;
            head.charged = head.bytes;
            if self.budget.used.fetch_add(more, Ordering::Relaxed) + more > self.budget.limit {
                return Err(io::Error::other("the environment's request heads hold too much"));
            }
        }
        Ok(())
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(head) = &mut self.head else { return Poll::Pending };
        let until = head.until;
        let timer = head.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the request's head did not arrive within {} s", self.timeout.as_secs()),
        ))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end_head();
        if self.gate.1.load(Ordering::Relaxed) {
            super::disturb::reset(self.stream.get_ref());
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.gate.0.load(Ordering::Relaxed);
        if self.head.as_ref().is_some_and(|head| head.gate != gate) {
            self.end_head();
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let bytes = buf.filled().len() - before;
                acknowledge(self.stream.get_ref());
                if bytes > 0 && gate.is_multiple_of(2) {
                    self.grow_head(gate, bytes)?;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_timeout(cx).map(Err),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
