use super::{Buffer, Destination};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// Pause before a batch is sent again; doubled each time, up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// How often a subscriber may refuse one batch before it is dropped. One that cannot be reached is
/// tried for as long as it takes: it may not listen yet.
const REFUSALS: u32 = 4;
/// Most that is read of a subscriber's answer, bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// How subscribers are reached.
pub trait Network: Send + Sync + 'static {
    /// Connects to a port inside the sandbox.
    fn dial(&self, port: u16) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    /// A batch is gone, and nothing waits behind it.
    fn drained(&self);
}

/// What waits for one subscriber, shared with the task that sends it.
#[derive(Debug)]
pub struct Outlet {
    buffer: Mutex<Buffer>,
    wake: Notify,
    destination: Destination,
}

impl Outlet {
    pub(super) fn new(buffer: Buffer, destination: Destination) -> Self {
        Self { buffer: Mutex::new(buffer), wake: Notify::new(), destination }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, now: Instant, record: &Arc<str>) {
        let ripens = self.lock().push(now, Arc::clone(record));
        if ripens {
            self.wake.notify_one();
        }
    }

    pub(super) fn lost(&self, records: u64, bytes: u64) {
        self.lock().lost(records, bytes);
    }

    pub(super) fn flush(&self) {
        self.lock().flush();
        self.wake.notify_one();
    }

    pub(super) fn is_drained(&self) -> bool {
        self.lock().is_drained()
    }

    /// Takes what waits, ripe or not.
    #[cfg(test)]
    pub(super) fn taken(&self) -> Vec<Arc<str>> {
        self.lock().take(Instant::now())
    }

    /// Waits for a batch that is ripe.
    async fn batch(&self) -> Vec<Arc<str>> {
        loop {
            let ripe = self.lock().ripe_at();
            if ripe.is_some_and(|ripe| ripe <= Instant::now()) {
                return self.lock().take(Instant::now());
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = async {
                    match ripe {
                        Some(ripe) => sleep_until(ripe).await,
                        None => pending().await,
                    }
                } => {}
            }
        }
    }
}

/// Sends what an outlet is given, for ever. A subscriber that is frozen or hangs holds it up; what
/// comes meanwhile waits in the buffer, which is bounded.
pub async fn deliver(outlet: Arc<Outlet>, network: Arc<dyn Network>) {
    let mut line = Line { network: Arc::clone(&network), open: None };
    loop {
        let batch = outlet.batch().await;
        let sent = line.send(&outlet.destination, &batch).await;
        let drained = {
            let mut buffer = outlet.lock();
            match sent {
                Ok(()) => buffer.sent(),
                Err(Refused) => buffer.given_up(Instant::now(), &batch),
            }
            buffer.is_drained()
        };
        if drained {
            network.drained();
        }
    }
}

/// The subscriber does not want it.
struct Refused;

enum Open {
    Http(SendRequest<Full<Bytes>>),
    Tcp(TcpStream),
}

/// The connection to a subscriber, kept from batch to batch.
struct Line {
    network: Arc<dyn Network>,
    open: Option<Open>,
}

impl Line {
    async fn send(&mut self, destination: &Destination, batch: &[Arc<str>]) -> Result<(), Refused> {
        let body = match destination {
            Destination::Http { .. } => format!("[{}]", batch.join(",")),
            Destination::Tcp { .. } => {
                batch.iter().flat_map(|line| [&**line, "\n"]).collect::<String>()
            }
        };
        let body = Bytes::from(body);
        let mut pause = RETRY;
        let mut refusals = 0;
        loop {
            let was_open = self.open.is_some();
            match self.try_send(destination, &body).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    refusals += 1;
                    if refusals >= REFUSALS {
                        return Err(Refused);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, port = destination.port(), "telemetry is not taken");
                    self.open = None;
                    // A kept connection may have been closed long ago.
                    if was_open {
                        continue;
                    }
                }
            }
            sleep(pause).await;
            pause = RETRY_MOST.min(pause * 2);
        }
    }

    /// Whether it was accepted.
    async fn try_send(&mut self, destination: &Destination, body: &Bytes) -> io::Result<bool> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect(destination).await?,
        };
        match (open, destination) {
            (Open::Tcp(mut stream), _) => {
                stream.write_all(body).await?;
                self.open = Some(Open::Tcp(stream));
                Ok(true)
            }
            (Open::Http(mut sender), Destination::Http { port, path, put }) => {
                let method = if *put { Method::PUT } else { Method::POST };
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(HOST, format!("sandbox.localdomain:{port}"))
                    .header(CONTENT_TYPE, "application/json")
                    .body(Full::new(body.clone()))
                    .map_err(io::Error::other)?;
                sender.ready().await.map_err(io::Error::other)?;
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                let accepted = response.status().is_success();
                let rest = Limited::new(response.into_body(), ANSWER_BYTES);
                if rest.collect().await.is_ok() {
                    self.open = Some(Open::Http(sender));
                }
                Ok(accepted)
            }
            (Open::Http(_), Destination::Tcp { .. }) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn connect(&self, destination: &Destination) -> io::Result<Open> {
        let stream = self.network.dial(destination.port()).await?;
        if matches!(destination, Destination::Tcp { .. }) {
            return Ok(Open::Tcp(stream));
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends when the sender is dropped.
        tokio::spawn(connection);
        Ok(Open::Http(sender))
    }
}
