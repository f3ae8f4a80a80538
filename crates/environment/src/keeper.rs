//! The tasks of an environment beside those of its runtime's connections.

use crate::environment::Inner;
use crate::output::{Pipe, Writer};
use lambfold_package::Finding;
use lambfold_sandbox::Event;
use std::fs::File;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// Chunks of output after which other tasks get their turn.
const CHUNKS: usize = 16;

/// Does what is slow: deadlines and the sandbox's events, and what follows from them.
pub(crate) async fn keep(inner: Arc<Inner>, events: AsyncFd<OwnedFd>) {
    let sleep = sleep_until(Instant::now());
    tokio::pin!(sleep);
    loop {
        let until = inner.with(|core, _, _| core.arm());
        if let Some(until) = until
            && sleep.deadline() != until
        {
            sleep.as_mut().reset(until);
        }
        tokio::select! {
            () = inner.wake.notified() => {}
            () = async {
                match until {
                    Some(_) => sleep.as_mut().await,
                    None => pending().await,
                }
            } => inner.with(|core, ctx, fx| core.check_deadline(ctx, fx)),
            ready = events.readable() => {
                let Ok(mut ready) = ready else { return inner.retire() };
                while let Some(event) = inner.with(|core, _, _| core.poll_event()) {
                    let gone = event == Event::Gone;
                    let causes = causes(&inner, &event).await;
                    inner.with(|core, ctx, fx| core.event(ctx, event, &causes, fx));
                    if gone {
                        return;
                    }
                }
                ready.clear_ready();
            }
        }
        if inner.with(|core, _, _| core.is_gone()) {
            return;
        }
    }
}

/// Why the bootstrap could not be executed, or ended before it asked for anything, in words.
async fn causes(inner: &Arc<Inner>, event: &Event) -> Vec<String> {
    let started = match event {
        Event::SpawnFailed { .. } => None,
        Event::Exited { process, status }
            if inner.with(|core, _, _| core.fails_like_a_loader(*process, *status)) =>
        {
            Some(process)
        }
        _ => return Vec::new(),
    };
    let inner = Arc::clone(inner);
    let findings = tokio::task::spawn_blocking(move || {
        let env = &inner.ctx.command.env;
        inner.folders.diagnose(env, inner.ctx.version.architecture)
    });
    let mut findings = findings.await.unwrap_or_default();
    // One that ended was there.
    findings.retain(|finding| started.is_none() || *finding != Finding::BootstrapMissing);
    findings.iter().map(ToString::to_string).collect()
}

/// Drains the guests' output, whatever happens: a full pipe would stop them.
pub(crate) async fn pump(inner: Arc<Inner>, writer: Writer, pipe: AsyncFd<Arc<File>>) {
    loop {
        let Ok(mut ready) = pipe.readable().await else { return };
        for _ in 0..CHUNKS {
            match inner.with(|core, ctx, _| core.read_output(ctx, writer)) {
                Pipe::Read(_) => {}
                Pipe::Empty => {
                    ready.clear_ready();
                    break;
                }
                Pipe::Closed => return,
            }
        }
        tokio::task::yield_now().await;
    }
}
