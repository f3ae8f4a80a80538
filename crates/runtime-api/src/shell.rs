//! HTTP/1.1 over the listening sockets of one environment.

mod answer;
mod body;
mod disturb;
mod extension;
mod io;
mod probe;
mod route;
mod shaping;
mod short;
mod stream;
mod trailer;

pub use trailer::{Reported, TrailerText};

use crate::host::Host;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use io::{Gate, Guarded, HeadBudget};
use lambfold_http1::{Arrival, Connection};
use lambfold_types::limits::{RESPONSE_BYTES, RUNTIME_API_HEADER_BYTES};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bounds for what one environment may make the host hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; further ones wait in the listener's queue.
    pub connections: usize,
    /// Time for a request's head to arrive, once its first byte is there. Idle connections and
    /// waiting `next`s have no limit.
    pub head_timeout: Duration,
    /// Most that the unfinished request heads of all connections hold together, bytes.
    pub head_bytes: usize,
}

impl Default for Limits {
    /// 256 connections, 30 s, 16 MiB.
    fn default() -> Self {
        Self { connections: 256, head_timeout: Duration::from_secs(30), head_bytes: 16 << 20 }
    }
}

/// Headers of one request.
const HEADERS: usize = 256;
/// How long accepting pauses when the system has no resources for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the Runtime API on an environment's listeners. Never returns; when the future is
/// dropped, all its connections are closed.
pub async fn serve<H: Host>(listeners: Vec<TcpListener>, host: Arc<H>, limits: Limits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let budget = Arc::new(HeadBudget::new(limits.head_bytes));
    // One event at a time is answered; a second large body would be out of turn.
    let large = Arc::new(Semaphore::new(1));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, accept(&listeners).await)
        };
        tokio::select! {
            (permit, accepted) = accepted => match accepted {
                Ok(stream) if !host.admits(&stream) => {
                    tracing::warn!("a stranger's connection to the runtime api was closed");
                }
                Ok(stream) => {
                    let (budget, host) = (Arc::clone(&budget), Arc::clone(&host));
                    let connection =
                        Connection::new(stream, None).with_room(Arc::clone(&large), RESPONSE_BYTES);
                    connections.spawn(async move {
                        let _permit = permit;
                        serve_connection(connection, budget, limits.head_timeout, host).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the runtime api");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listeners: &[TcpListener]) -> std::io::Result<TcpStream> {
    let (stream, _) = poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why a connection is ended in the middle of a request.
#[derive(Debug, thiserror::Error)]
enum Given {
    /// It belongs to a process that was given up.
    #[error("the runtime process of this connection was given up")]
    Up,
    #[error(transparent)]
    Reset(#[from] disturb::Reset),
}

async fn serve_connection<H: Host>(
    connection: Connection<TcpStream>,
    budget: Arc<HeadBudget>,
    head_timeout: Duration,
    host: Arc<H>,
) {
    let generation = host.generation();
    let mut connection = connection.with_title_case().when_unfinished(io::acknowledge);
    loop {
        match connection.next(short::wants).await {
            Arrival::Request if host.generation() != generation => return,
            Arrival::Request => {
                if let Err(error) = short::answer(&*host, &mut connection).await {
                    if disturb::Reset::is(&error) {
                        disturb::reset(connection.rewind().get_ref());
                        return;
                    }
                    tracing::debug!(%error, "connection to the runtime api ended");
                    return;
                }
            }
            Arrival::Foreign => break,
            Arrival::Closed => return,
        }
    }
    let stream = Guarded::new(connection.rewind(), budget, head_timeout);
    serve_any(stream, generation, host).await;
}

/// Serves whatever may be asked of the Runtime API.
async fn serve_any<H: Host>(stream: Guarded, generation: u64, host: Arc<H>) {
    let gate = stream.gate();
    let service = service_fn(move |request: Request<Incoming>| {
        let host = Arc::clone(&host);
        let handling = Gate::enter(&gate);
        let gate = Arc::clone(&gate);
        async move {
            if host.generation() != generation {
                return Err(Given::Up);
            }
            let response: Result<Response<Full<Bytes>>, _> = answer::answer(&*host, request).await;
            if response.is_err() {
                gate.reset();
            }
            drop(handling);
            Ok(response?)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Ours begins with the first byte of a head; the library's would end idle connections.
        .header_read_timeout(None)
        .max_buf_size(RUNTIME_API_HEADER_BYTES)
        .max_headers(HEADERS)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection to the runtime api ended");
    }
}

#[cfg(test)]
mod tests;
