use crate::host::is_local;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a head may take to arrive, and a kept connection may say nothing.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Between two tries to accept, when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Requests that are handled at a time; more wait.
const AT_A_TIME: usize = 256;

/// A request as it came.
#[derive(Debug)]
pub struct Request {
    /// Method, target and headers.
    pub head: Parts,
    /// The whole body, or nothing when it was longer than is taken.
    pub body: Option<Bytes>,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address that it came in on.
    pub local: SocketAddr,
}

/// Whoever answers. It is called on a thread of its own for each request, and may block.
pub trait Handler: Send + Sync + 'static {
    /// The answer. Its length is set here.
    fn answer(&self, request: Request) -> http::Response<Vec<u8>>;
}

/// A listener with its threads. Dropping it ends them: no new requests, and those under way have
/// the time of [`Front::stop`], which is none when that was not called.
#[derive(Debug)]
pub struct Front {
    runtime: Option<Runtime>,
    address: SocketAddr,
    /// True once no more requests are taken; its receivers are the connections.
    stop: watch::Sender<bool>,
}

impl Front {
    /// Answers requests that come to `listener`, with bodies of at most `body_limit` bytes.
    ///
    /// # Errors
    /// When the system has no threads, or the listener is none.
    pub fn start(
        listener: std::net::TcpListener,
        body_limit: usize,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(AT_A_TIME)
            .thread_name("front")
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(accept(listener, body_limit, handler, stopped));
        Ok(Self { runtime: Some(runtime), address, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls `then` at each signal that asks the process to end: SIGINT, SIGTERM, SIGHUP. They end
    /// it no more by themselves.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn on_signal(&self, then: impl Fn() + Send + 'static) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => (),
                    _ = terminate.recv() => (),
                    _ = hang_up.recv() => (),
                }
                then();
            }
        });
        Ok(())
    }

    /// Takes no more requests, and returns when those under way are answered or the time is over.
    pub fn stop(&self, time: Duration) {
        let _ = self.stop.send(true);
        if let Some(runtime) = &self.runtime {
            let _ =
                runtime.block_on(async { tokio::time::timeout(time, self.stop.closed()).await });
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(
    listener: TcpListener,
    body_limit: usize,
    handler: Arc<dyn Handler>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (handler, stopped) = (handler.clone(), stopped.clone());
                tokio::spawn(async move { talk(stream, peer, body_limit, handler, stopped).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    body_limit: usize,
    handler: Arc<dyn Handler>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let handler = handler.clone();
        async move {
            let (head, body) = http::Request::into_parts(request);
            let request = Request { head, body: read(body, body_limit).await?, peer, local };
            let answered = tokio::task::spawn_blocking(move || handle(&*handler, request)).await;
            let answered = answered.map_err(io::Error::other)?;
            Ok::<_, io::Error>(answered.map(|body| Full::new(Bytes::from(body))))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // What goes wrong here is the peer's, who sees it.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The whole body; `None` when it is longer than `limit` bytes.
async fn read(body: Incoming, limit: usize) -> io::Result<Option<Bytes>> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn handle(handler: &dyn Handler, request: Request) -> http::Response<Vec<u8>> {
    let mut hosts = request.head.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    // The absolute form of a target carries a second name.
    let other = request.head.uri.host();
    let is_own = hosts.next().is_none()
        && host.as_deref().is_some_and(is_local)
        && other.is_none_or(is_local);
    if is_own {
        return handler.answer(request);
    }
    let host: String = host.unwrap_or_default().chars().take(200).collect();
    let mut refusal = http::Response::new(
        format!(
            "the Host header names {host:?}, which is neither an address nor localhost; a web page \
             could read what is answered under a name of its own. Open http://{}/\n",
            request.local
        )
        .into_bytes(),
    );
    *refusal.status_mut() = http::StatusCode::FORBIDDEN;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    refusal.headers_mut().insert(CONTENT_TYPE, text);
    refusal
}
