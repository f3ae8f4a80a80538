//! The thread: it keeps a spawner alive and settles what the spawner answers.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{
    Filling, GIVEN_UP, Pending, Request, Sandbox, Shared, Started, Then, later, sandbox,
    start_spawner, sweep,
};
use crate::spec::{CreateError, StartError, Victim};
use crate::wire::{FromSpawner, Received, Receiver};

/// Between two attempts to replace a spawner that died.
const RETRY: Duration = Duration::from_millis(200);

/// The thread: one spawner after the other, until the end.
pub(super) fn keep(shared: &Arc<Shared>, started: &mpsc::Sender<Result<(), StartError>>) {
    let mut spawner = match start_spawner(shared) {
        Ok(spawner) => spawner,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut attempt = None;
    loop {
        let Started { socket, mut child, capabilities, rules, relay } = spawner;
        let socket = Arc::new(socket);
        let _ = shared.capabilities.set(capabilities);
        begin(shared, &socket, child.id());
        let _ = started.send(Ok(()));
        serve(shared, &socket);
        let stock = end(shared);
        shared.servers().burst(false);
        // The last end of the socket: an orderly spawner kills its sandboxes and ends.
        drop(socket);
        drop(stock);
        let next = std::thread::scope(|scope| {
            let watch = std::thread::Builder::new().name("sandboxes-late".to_owned());
            let _ = watch.spawn_scoped(scope, || fail_late(shared));
            let _ = child.wait();
            // Nobody can make the like while the last ones have an owner.
            drop(rules);
            // Its sockets keep the router of the last one, and the link to it.
            drop(relay);
            let next = replace(shared, &mut attempt);
            shared.lock().replacing = false;
            shared.waiting.notify_all();
            next
        });
        match next {
            Some(next) => spawner = next,
            None => break,
        }
    }
    let waiting = std::mem::take(&mut shared.lock().waiting);
    for request in waiting {
        request.fail(|id| CreateError::SpawnerGone { id });
    }
}

/// There is a spawner: who waits for one is the first to be served.
fn begin(shared: &Shared, socket: &Arc<OwnedFd>, pid: u32) {
    let refused: Vec<_> = {
        let mut state = shared.lock();
        state.socket = Some(Arc::clone(socket));
        state.spawner_pid = pid;
        let waiting = std::mem::take(&mut state.waiting);
        waiting.into_iter().filter_map(|request| state.create(request, shared).err()).collect()
    };
    for refused in refused {
        refused.tell();
    }
}

/// There is no spawner any more. What it was asked for and has not made is for the next one, but
/// only once: it may be that what it died of. Returns the stock, which is dead.
fn end(shared: &Shared) -> Vec<Sandbox> {
    let (lost, dead) = {
        let mut state = shared.lock();
        let state = &mut *state;
        state.socket = None;
        state.spawner_pid = 0;
        state.unsent.clear();
        state.given_up = Some(Instant::now() + GIVEN_UP);
        state.replacing = true;
        let mut dead = state.stock.empty();
        let mut asked: Vec<(u64, Box<Request>)> = Vec::new();
        for (ticket, Filling { sandbox, request }) in state.filling.drain() {
            dead.push(sandbox);
            asked.push((ticket, request));
        }
        for (ticket, pending) in state.pending.drain() {
            if let Then::Caller(request) = pending.then {
                asked.push((ticket, request));
            }
        }
        asked.sort_unstable_by_key(|(ticket, _)| *ticket);
        let mut lost = Vec::new();
        for (_, mut request) in asked {
            let again = std::mem::replace(&mut request.again, true);
            let waits = if again { Err(request) } else { state.wait(request) };
            lost.extend(waits.err());
        }
        (lost, dead)
    };
    for request in lost {
        request.fail(|id| CreateError::SpawnerGone { id });
    }
    dead
}

/// Another spawner; `None` when everything stops. `attempt`: when one was tried last.
fn replace(shared: &Shared, attempt: &mut Option<Instant>) -> Option<Started> {
    loop {
        // What a killed one left must not be in the way of the next one, or stay at the end.
        let _ = sweep(&shared.config.owner, &shared.config.work_dir);
        while !shared.lock().stopping {
            let wait = attempt.and_then(|last| RETRY.checked_sub(last.elapsed()));
            let Some(wait) = wait.and_then(|wait| Timespec::try_from(wait).ok()) else { break };
            let wake = &mut [PollFd::new(&shared.wake, PollFlags::IN)];
            if rustix::event::poll(wake, Some(&wait)).is_ok_and(|ready| ready > 0) {
                let _ = rustix::io::read(&shared.wake, &mut [0u8; 8]);
            }
        }
        if shared.lock().stopping {
            return None;
        }
        *attempt = Some(Instant::now());
        if let Ok(spawner) = start_spawner(shared) {
            return Some(spawner);
        }
    }
}

/// While there is no spawner: tells those who waited long enough.
fn fail_late(shared: &Shared) {
    let mut state = shared.lock();
    while state.replacing {
        let now = Instant::now();
        let waiting = std::mem::take(&mut state.waiting).into_iter();
        let (late, waiting): (VecDeque<_>, _) = waiting.partition(|request| request.until <= now);
        state.waiting = waiting;
        if !late.is_empty() {
            drop(state);
            for request in late {
                request.fail(|id| CreateError::SpawnerGone { id });
            }
            state = shared.lock();
            continue;
        }
        let patience = state.waiting.iter().map(|request| request.until - now).min();
        let patience = patience.unwrap_or(GIVEN_UP);
        let woken = shared.waiting.wait_timeout(state, patience);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
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
        FromSpawner::Created { ticket, timings, listeners, files, keeper } => {
            let pending = shared.lock().pending.remove(&ticket);
            let Some(Pending { control, output, then }) = pending else { return };
            let (id, first) = match &then {
                Then::Caller(request) => (request.spec.id.clone(), request.spec.first.is_some()),
                Then::Stock => (String::new(), false),
            };
            let made = sandbox::Made {
                id,
                ticket,
                first,
                control,
                output,
                timings,
                listeners,
                files,
                keeper,
                fds,
            };
            let made = Sandbox::new(Arc::clone(shared), made);
            match (then, made) {
                (Then::Caller(request), made) => (request.done)(made),
                (Then::Stock, Ok(sandbox)) => shared.lock().stock.add(ticket, sandbox),
                (Then::Stock, Err(_)) => shared.lock().stock.failed(),
            }
        }
        FromSpawner::Filled { ticket, timings } => {
            let filling = shared.lock().filling.remove(&ticket);
            if let Some(Filling { mut sandbox, request }) = filling {
                let Request { spec, done, .. } = *request;
                sandbox.fill(spec.id, spec.first.is_some(), timings);
                done(Ok(sandbox));
            }
        }
        // No step looks for a process but pid 1's check that the spawner still lives: its end is
        // about to be seen, and what it was asked for is settled there.
        FromSpawner::Failed { error, .. } if error.errno == libc::ESRCH => {}
        FromSpawner::Failed { ticket, error } => {
            fail(shared, ticket, |id| CreateError::Step { id, source: error });
        }
        FromSpawner::Reaped { ticket, status } => {
            fail(shared, ticket, |id| CreateError::Died { id, status });
        }
        FromSpawner::Burst(burst) => shared.servers().burst(burst),
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
        (Some(Pending { then: Then::Caller(request), .. }), _)
        | (_, Some(Filling { request, .. })) => request.fail(error),
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
