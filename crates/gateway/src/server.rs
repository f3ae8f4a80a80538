//! The listener: connections, their limits, and their end.

use crate::gateway::Gateway;
use crate::invoke;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lambfold_http1::{Arrival, Connection, Head, Rewound};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Largest head of a request, bytes; beyond it the answer is 431, at the latest at twice the size,
/// since what one read brings is still looked at. The buffer of a connection
/// grows to it.
const HEAD_BYTES: usize = 128 * 1024;
/// Most headers of a request; beyond it the answer is 431.
const HEADERS: usize = 128;
/// A pause after an error of accept, for example when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` ends, then takes no more connections, lets the requests in flight
/// finish and returns. Whoever cannot wait drops the future, which leaves the remaining
/// connections to the runtime.
pub async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = gateway.config.limits.connections;
    let slots = Arc::new(Semaphore::new(connections));
    let (closing, closed) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let gateway = gateway.clone();
        let closed = closed.clone();
        tokio::spawn(async move {
            gateway.counters().connections.fetch_add(1, Ordering::Relaxed);
            connection(stream, &gateway, closed).await;
            gateway.counters().connections.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
    drop(listener);
    let _ = closing.send(true);
    // Every connection holds a slot until it ends.
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = slots.acquire_many(all).await;
}

async fn connection(stream: TcpStream, gateway: &Arc<Gateway>, mut closed: watch::Receiver<bool>) {
    let Ok(local) = stream.local_addr() else { return };
    let local: IpAddr = local.ip();
    // An answer is one small write: waiting for more to send with it costs 40 ms.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream, Some(gateway.config.limits.head_time));
    loop {
        let is_wanted =
            |head: &Head<'_>| invoke::is_plain(head) && gateway.guard.admits(head, local);
        let arrival = tokio::select! {
            biased;
            arrival = connection.next(is_wanted) => arrival,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match arrival {
            Arrival::Request => {
                let closes = || *closed.borrow();
                match invoke::answer_plain(gateway, &mut connection, closes).await {
                    Ok(()) if *closed.borrow() => return,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a connection ended early");
                        return;
                    }
                }
            }
            Arrival::Foreign => break,
            Arrival::Closed => return,
        }
    }
    serve_any(connection.rewind(), local, gateway, closed).await;
}

/// Serves whatever is not an Invoke request of the plain kind, and all that comes after it.
async fn serve_any(
    stream: Rewound<TcpStream>,
    local: IpAddr,
    gateway: &Arc<Gateway>,
    mut closed: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.handle(request, local).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.config.limits.head_time)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = async { drop(closed.wait_for(|closed| *closed).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
