//! Shells in execution environments: starts them, connects them with their clients, and ends them
//! with whichever of the two ends first.

use crate::factory::Factory;
use crate::line::{Full, Line, Lines};
use lambfold_environment::{Environment, Launcher, Shell, ShellEnd, ShellKind, ShellStreams};
use lambfold_gateway::{Duplex, ShellError, ShellFuture, ShellRequest, ShellSession, Shells};
use lambfold_pool::Pool;
use lambfold_sandbox::ExitStatus;
use lambfold_terminal::{Decoder, FRAME_BYTES, Frame};
use lambfold_types::FunctionVersion;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::{interval, timeout};

/// Shells at a time.
const SHELLS: usize = 16;
/// Input that may wait for the shell to read it, bytes.
const INPUT_BYTES: usize = 256 << 10;
/// How often the client is told that we are here, which also finds out that it is not.
const ALIVE: Duration = Duration::from_secs(10);
/// How long the last output of a shell may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a client may take to read it.
const LAST_READ: Duration = Duration::from_secs(10);

/// Starts shells.
pub(crate) struct Starter {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) pool: Arc<Pool<Factory>>,
    pub(crate) lines: Arc<Lines>,
}

impl Shells for Starter {
    fn open(
        &self,
        version: Arc<FunctionVersion>,
        request: ShellRequest,
    ) -> ShellFuture<'_, Result<Box<dyn ShellSession>, ShellError>> {
        Box::pin(async move {
            let line = self.lines.open(&version, SHELLS).map_err(|full| match full {
                Full::Taken => ShellError::Taken { function: version.name.to_string() },
                Full::TooMany => ShellError::TooMany { limit: SHELLS },
            })?;
            // From here on whatever happens gives the line back.
            let held = Held { line, lines: self.lines.clone(), pool: self.pool.clone() };
            let kind = match request.terminal {
                Some(terminal) => ShellKind::Terminal {
                    rows: terminal.rows,
                    columns: terminal.columns,
                    name: terminal.name,
                },
                None => ShellKind::Pipes,
            };
            let shell = self.launcher.launch_shell(version, kind).await;
            let shell =
                shell.map_err(|error| ShellError::Launch { why: crate::run::chain(&error) })?;
            let Shell { environment, streams, ready, end, has_curl } = shell;
            held.line.attach(environment.clone(), end.clone());
            let session =
                Session { environment: Retiring(environment), held, streams, ready, end, has_curl };
            let session: Box<dyn ShellSession> = Box::new(session);
            Ok(session)
        })
    }
}

/// A line that is closed when this is dropped.
struct Held {
    line: Arc<Line>,
    lines: Arc<Lines>,
    pool: Arc<Pool<Factory>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lines.close(&self.line, &self.pool);
    }
}

/// An environment that ends when this is dropped, whoever else knows it.
struct Retiring(Arc<Environment>);

impl Drop for Retiring {
    fn drop(&mut self) {
        self.0.retire();
    }
}

struct Session {
    /// Before the line: invocations that wait go elsewhere when the environment takes no more.
    environment: Retiring,
    held: Held,
    streams: ShellStreams,
    ready: oneshot::Receiver<bool>,
    end: watch::Receiver<Option<ShellEnd>>,
    has_curl: bool,
}

impl ShellSession for Session {
    fn run(
        self: Box<Self>,
        client: Box<dyn Duplex>,
        ready: watch::Receiver<bool>,
    ) -> ShellFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = serve(*self, client, ready).await {
                tracing::debug!(%error, "the client of a shell is gone");
            }
        })
    }
}

/// Also when the environment is the first to go.
const SHUTTING_DOWN: &str = "the server is shutting down";

async fn serve(
    session: Session,
    client: Box<dyn Duplex>,
    mut serving: watch::Receiver<bool>,
) -> io::Result<()> {
    let Session { environment, held, streams, ready, mut end, has_curl } = session;
    let is_serving = serving.clone();
    let (from_client, mut to_client) = tokio::io::split(client);
    if !has_curl {
        let text = "there is no curl in this environment; the Runtime API can be had with a layer that has it \
                    (lambfold layer build bash --with curl), or in bash with exec 3<>/dev/tcp/…";
        send(&mut to_client, &Frame::Notice(text.to_owned())).await?;
    }
    let line = held.line.clone();
    let played = environment.0.clone();
    let init = async move {
        if ready.await == Ok(true) && played.is_initialized() {
            line.is_free();
        }
        std::future::pending::<()>().await;
    };
    let (input, output) = halves(streams);
    let (stop, stopped) = watch::channel(false);
    let mut outbound = Box::pin(outbound(&mut to_client, &output, stopped));
    let mut inbound = Box::pin(inbound(from_client, input));
    let mut init = Box::pin(init);
    // It may close all that it writes to, and go on.
    let mut is_silent = false;
    let last = loop {
        tokio::select! {
            known = end.wait_for(Option::is_some) => {
                let known = known.ok().and_then(|end| *end).unwrap_or(ShellEnd::Lost);
                if known == ShellEnd::Lost && !*is_serving.borrow() {
                    break Frame::Failed(SHUTTING_DOWN.to_owned());
                }
                break last(known);
            }
            written = &mut outbound, if !is_silent => {
                written?;
                is_silent = true;
            }
            read = &mut inbound => return read,
            () = &mut init => {}
            _ = serving.wait_for(|serving| !serving) => {
                break Frame::Failed(SHUTTING_DOWN.to_owned());
            }
        }
    };
    let is_reset = *end.borrow() == Some(ShellEnd::Reset);
    // With the environment all that the shell started ends, and with that its output.
    drop(environment);
    drop(held);
    if !is_silent {
        let rest = async {
            if timeout(LAST_WORDS, &mut outbound).await.is_err() {
                stop.send_replace(true);
                let _ = outbound.as_mut().await;
            }
        };
        if timeout(LAST_READ, rest).await.is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    drop(outbound);
    let finish = async {
        if is_reset {
            let text = "the platform has ended this runtime and everything that it started, as it does when \
                        init has failed (a post to init/error) or an extension has ended";
            send(&mut to_client, &Frame::Notice(text.to_owned())).await?;
        }
        send(&mut to_client, &last).await?;
        to_client.shutdown().await
    };
    timeout(LAST_READ, finish).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

fn last(end: ShellEnd) -> Frame {
    match end {
        ShellEnd::Exited(ExitStatus::Code(code)) => Frame::Exit(u8::try_from(code & 0xff).unwrap_or(255)),
        ShellEnd::Exited(ExitStatus::Signal(signal)) => {
            Frame::Exit(u8::try_from(128 + signal).unwrap_or(255))
        }
        // As if it had been a runtime: by SIGKILL.
        ShellEnd::Reset => Frame::Exit(128 + 9),
        ShellEnd::NoShell => Frame::Failed(
            "there is neither bash nor sh in this environment; a layer can bring one: lambfold layer build bash"
                .to_owned(),
        ),
        ShellEnd::Lost => Frame::Failed("the execution environment was lost".to_owned()),
    }
}

/// Where what was typed goes.
enum Input {
    Terminal(Arc<AsyncFd<File>>),
    /// `None` once there is no more.
    Pipe(Option<AsyncFd<File>>),
}

/// Where what is shown comes from.
enum Output {
    Terminal(Arc<AsyncFd<File>>),
    Pipes(AsyncFd<File>, AsyncFd<File>),
}

fn halves(streams: ShellStreams) -> (Input, Output) {
    match streams {
        ShellStreams::Terminal(terminal) => {
            let terminal = Arc::new(terminal);
            (Input::Terminal(terminal.clone()), Output::Terminal(terminal))
        }
        ShellStreams::Pipes { input, output, errors } => {
            (Input::Pipe(Some(input)), Output::Pipes(output, errors))
        }
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Reads some; `None` at the end. A terminal whose other end is closed says so by an error.
async fn read(from: &AsyncFd<File>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; FRAME_BYTES];
    loop {
        let mut ready = from.readable().await.ok()?;
        match ready.try_io(|from| from.get_ref().read(&mut bytes)) {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(count)) => {
                bytes.truncate(count);
                return Some(bytes);
            }
            Err(_) => {}
        }
    }
}

/// Shows the client what the shell writes, until that ends or, once `stopped`, there is no more for
/// now. Never stops within a frame.
async fn outbound(
    client: &mut (impl AsyncWrite + Unpin),
    output: &Output,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let (one, mut other) = match output {
        Output::Terminal(terminal) => (&**terminal, None),
        Output::Pipes(output, errors) => (output, Some(errors)),
    };
    let mut one = Some(one);
    let mut alive = interval(ALIVE);
    alive.reset();
    while one.is_some() || other.is_some() {
        let of = async |from: Option<&AsyncFd<File>>| match from {
            Some(from) => read(from).await,
            None => std::future::pending().await,
        };
        let frame = tokio::select! {
            biased;
            bytes = of(one) => match bytes {
                Some(bytes) => Frame::Output(bytes),
                None => { one = None; continue }
            },
            bytes = of(other) => match bytes {
                Some(bytes) => Frame::Errors(bytes),
                None => { other = None; continue }
            },
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            _ = alive.tick() => Frame::Alive,
        };
        send(client, &frame).await?;
    }
    Ok(())
}

/// Gives the shell what the client types. Ends when the client has gone, or speaks nonsense.
async fn inbound(mut client: impl AsyncRead + Unpin, mut input: Input) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; FRAME_BYTES];
    let mut pending: Vec<u8> = Vec::new();
    let mut is_last = false;
    loop {
        let target = match &input {
            Input::Terminal(terminal) => Some(&**terminal),
            Input::Pipe(pipe) => pipe.as_ref(),
        };
        let writable = async {
            match target {
                Some(target) if !pending.is_empty() => target.writable().await,
                _ => std::future::pending().await,
            }
        };
        let count = tokio::select! {
            ready = writable => {
                let mut ready = ready?;
                match ready.try_io(|target| target.get_ref().write(&pending)) {
                    Ok(Ok(count)) => { pending.drain(..count); }
                    // It reads no more.
                    Ok(Err(_)) => { pending.clear(); is_last = true; }
                    Err(_) => {}
                }
                0
            }
            read = client.read(&mut bytes), if pending.len() < INPUT_BYTES => match read? {
                0 => return Ok(()),
                count => count,
            },
        };
        decoder.feed(&bytes[..count]);
        while let Some(frame) = decoder.take().map_err(io::Error::other)? {
            match (frame, &input) {
                (Frame::Input(typed), _) if !is_last => pending.extend_from_slice(&typed),
                (Frame::InputEnd, Input::Pipe(_)) => is_last = true,
                (Frame::Size { rows, columns }, Input::Terminal(terminal)) => {
                    // A terminal that has just ended has no size.
                    let _ = lambfold_sandbox::set_size(terminal.get_ref(), rows, columns);
                }
                _ => {}
            }
        }
        if is_last
            && pending.is_empty()
            && let Input::Pipe(pipe) = &mut input
        {
            *pipe = None;
        }
    }
}
