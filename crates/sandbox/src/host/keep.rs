//! The thread: it keeps a spawner alive and settles what the spawner answers.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{
    Filling, Pending, Sandbox, Shared, Started, Then, later, sandbox, start_spawner, sweep,
};
use crate::spec::{CreateError, StartError, Victim};
use crate::wire::{FromSpawner, Received, Receiver};

/// Between two attempts to replace a spawner that died.
const RETRY: Duration = Duration::from_millis(200);

/// The thread: one spawner after the other, until the end.
pub(super) fn keep(shared: &Arc<Shared>, started: &mpsc::Sender<Result<(), StartError>>) {
    let mut first = true;
    loop {
        let attempt = Instant::now();
        match start_spawner(shared) {
            Ok(Started { socket, mut child, capabilities, _rules }) => {
                let socket = Arc::new(socket);
                let _ = shared.capabilities.set(capabilities);
                {
                    let mut state = shared.lock();
                    state.socket = Some(Arc::clone(&socket));
                    state.spawner_pid = child.id();
                }
                if first {
                    let _ = started.send(Ok(()));
                }
                serve(shared, &socket);
                let (pending, filling, stock) = {
                    let mut state = shared.lock();
                    state.socket = None;
                    state.spawner_pid = 0;
                    state.unsent.clear();
                    let state = &mut *state;
                    (
                        std::mem::take(&mut state.pending),
                        std::mem::take(&mut state.filling),
                        state.stock.empty(),
                    )
                };
                // The last end of the socket: an orderly spawner kills its sandboxes and ends.
                drop(socket);
                drop(stock);
                for (_, Filling { id, done, .. }) in filling {
                    done(Err(CreateError::SpawnerGone { id }));
                }
                for (_, Pending { id, then, .. }) in pending {
                    if let Then::Caller(done) = then {
                        done(Err(CreateError::SpawnerGone { id }));
                    }
                }
                let _ = child.wait();
            }
            Err(error) if first => {
                let _ = started.send(Err(error));
                return;
            }
            Err(_) => {}
        }
        first = false;
        // What a killed one left must not be in the way of the next one, or stay at the end.
        let _ = sweep(&shared.config.owner, &shared.config.work_dir);
        if shared.lock().stopping {
            return;
        }
        if attempt.elapsed() < RETRY {
            let wait = Timespec { tv_sec: 0, tv_nsec: RETRY.subsec_nanos().into() };
            let _ =
                rustix::event::poll(&mut [PollFd::new(&shared.wake, PollFlags::IN)], Some(&wait));
        }
    }
}

/// Handles one spawner's messages until it is gone or everything stops.
fn serve(shared: &Arc<Shared>, socket: &OwnedFd) {
    let mut receiver = Receiver::new();
    loop {
        let (unsent, quiet, surplus) = {
            let mut state = shared.lock();
            if state.stopping {
                return;
            }
            let (quiet, surplus) = state.restock(socket, &shared.wake);
            (!state.unsent.is_empty(), quiet, surplus)
        };
        drop(surplus);
        let quiet = quiet.and_then(|wait| Timespec::try_from(wait).ok());
        let events = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut polls = [PollFd::new(socket, events), PollFd::new(&shared.wake, PollFlags::IN)];
        match rustix::event::poll(&mut polls, quiet.as_ref()) {
            Err(rustix::io::Errno::INTR) | Ok(0) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let (from_socket, woken) = (polls[0].revents(), !polls[1].revents().is_empty());
        if woken {
            let _ = rustix::io::read(&shared.wake, &mut [0u8; 8]);
        }
        if from_socket.contains(PollFlags::OUT) && !flush(shared, socket) {
            return;
        }
        if from_socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            loop {
                match receiver.receive(socket, false) {
                    Ok(Received::Message(message, fds)) => handle(shared, message, fds),
                    Ok(Received::Nothing) => break,
                    Ok(Received::End) | Err(_) => return,
                }
            }
        }
    }
}

/// Sends what waits; `false` when the spawner cannot be talked to.
fn flush(shared: &Shared, socket: &OwnedFd) -> bool {
    let mut state = shared.lock();
    while let Some(message) = state.unsent.front() {
        match message.send(socket) {
            Ok(()) => {
                state.unsent.pop_front();
            }
            Err(e) if later(&e) => return true,
            Err(_) => return false,
        }
    }
    true
}

fn handle(shared: &Arc<Shared>, message: FromSpawner, fds: Vec<OwnedFd>) {
    match message {
        FromSpawner::Created { ticket, timings, listeners, files } => {
            let pending = shared.lock().pending.remove(&ticket);
            let Some(Pending { id, first, control, output, then }) = pending else { return };
            let made = sandbox::Made {
                id,
                ticket,
                first,
                control,
                output,
                timings,
                listeners,
                files,
                fds,
            };
            let made = Sandbox::new(Arc::clone(shared), made);
            match (then, made) {
                (Then::Caller(done), made) => done(made),
                (Then::Stock, Ok(sandbox)) => shared.lock().stock.add(ticket, sandbox),
                (Then::Stock, Err(_)) => shared.lock().stock.failed(),
            }
        }
        FromSpawner::Filled { ticket, timings } => {
            let filling = shared.lock().filling.remove(&ticket);
            if let Some(Filling { id, first, mut sandbox, done }) = filling {
                sandbox.fill(id, first, timings);
                done(Ok(sandbox));
            }
        }
        // No step looks for a process but the check that the spawner still lives.
        FromSpawner::Failed { ticket, error } if error.errno == libc::ESRCH => {
            fail(shared, ticket, |id| CreateError::SpawnerGone { id });
        }
        FromSpawner::Failed { ticket, error } => {
            fail(shared, ticket, |id| CreateError::Step { id, source: error });
        }
        FromSpawner::Reaped { ticket, status } => {
            fail(shared, ticket, |id| CreateError::Died { id, status });
        }
        FromSpawner::Fault(victim) => fault(shared, victim),
        FromSpawner::Ready(_) | FromSpawner::StartFailed(_) => {}
    }
}

fn fail(shared: &Shared, ticket: u64, error: impl FnOnce(String) -> CreateError) {
    let (pending, filling, lost) = {
        let mut state = shared.lock();
        let pending = state.pending.remove(&ticket);
        if pending.as_ref().is_some_and(|pending| matches!(pending.then, Then::Stock)) {
            state.stock.failed();
        }
        (pending, state.filling.remove(&ticket), state.stock.lose(ticket))
    };
    drop(lost);
    match (pending, filling) {
        (Some(Pending { id, then: Then::Caller(done), .. }), _)
        | (_, Some(Filling { id, done, .. })) => done(Err(error(id))),
        _ => {}
    }
}

/// A fault point asks for a death that only this process can bring.
fn fault(shared: &Shared, victim: Victim) {
    let pid = match victim {
        Victim::Host => std::process::id(),
        Victim::Spawner => shared.lock().spawner_pid,
        Victim::Init => return,
    };
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
