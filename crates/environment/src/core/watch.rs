//! What the keeper sees: the sandbox's events, deadlines, and the time to freeze.

use super::Core;
use crate::context::Context;
use crate::fault::Fault;
use crate::phase::{Effects, Phase, StopStep};
use lambfold_sandbox::{Event, ExitStatus, ProcessId, Step};
use std::time::Duration;
use tokio::time::Instant;

/// How long an environment is idle before it is frozen: long enough for the next event of a busy
/// function to be there already, which then costs no system call.
const FREEZE_AFTER: Duration = Duration::from_millis(5);

const SIGKILL: i32 = 9;

impl Core {
    /// The next event of the sandbox.
    pub(crate) fn poll_event(&self) -> Option<Event> {
        match self.cell.as_ref()?.try_event() {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "a sandbox's control socket failed");
                Some(Event::Gone)
            }
        }
    }

    /// `causes`: why a bootstrap could not be executed, or ended at once, in words.
    pub(crate) fn event(
        &mut self,
        ctx: &Context,
        event: Event,
        causes: &[String],
        fx: &mut Effects,
    ) {
        match event {
            Event::Started(_) => {}
            Event::SpawnFailed { process, program, step, errno } => {
                let extension = self.guest(process);
                if self.process != Some(process) && extension.is_none() {
                    return;
                }
                if step != Step::GuestExec {
                    tracing::error!(?step, errno, "a sandbox could not start its guest");
                    return self.lose(ctx, fx);
                }
                if let Some(index) = extension {
                    return self.launch_failed(ctx, index, errno, fx);
                }
                self.tell(ctx, causes);
                self.process = None;
                let fault = match program {
                    Some(program) => Fault::Execute { program, errno },
                    None => Fault::NoBootstrap,
                };
                self.fail(ctx, fault, fx);
            }
            Event::Exited { process, status } => {
                self.tell(ctx, causes);
                self.exited(ctx, process, status, fx);
            }
            Event::GuestsKilled => self.finish_reset(ctx, fx),
            Event::Gone => {
                if !self.is_gone() {
                    self.lose(ctx, fx);
                }
            }
        }
    }

    fn tell(&mut self, ctx: &Context, causes: &[String]) {
        if causes.is_empty() {
            return;
        }
        let moment = ctx.moment();
        self.output.drain(moment);
        for cause in causes {
            self.output.notice(moment, cause);
        }
    }

    /// The bootstrap ended before it asked for anything, and as a dynamic loader does that misses a
    /// library, or `env` and shells that miss a program (127), or may not execute it (126).
    pub(crate) fn fails_like_a_loader(&self, process: ProcessId, status: ExitStatus) -> bool {
        let status = matches!(status, ExitStatus::Code(126 | 127));
        status && self.process == Some(process) && self.stop.is_none() && self.is_starting()
    }

    fn guest(&self, process: ProcessId) -> Option<usize> {
        self.guests.iter().position(|guest| guest.process == process)
    }

    fn launch_failed(&mut self, ctx: &Context, index: usize, errno: i32, fx: &mut Effects) {
        const EACCES: i32 = 13;
        let guest = &mut self.guests[index];
        guest.alive = false;
        let name = guest.name.clone();
        let error_type = if errno == EACCES { "PermissionDenied" } else { "UnknownError" };
        self.extensions.launch_failed(&name, error_type);
        self.fail(ctx, Fault::ExtensionLaunch { name, errno }, fx);
    }

    fn exited(&mut self, ctx: &Context, process: ProcessId, status: ExitStatus, fx: &mut Effects) {
        if self.process == Some(process) {
            let fault = self.exit_fault(status);
            self.process = None;
            if self.stop.is_some() {
                return self.stop_goes_on(ctx, StopStep::Runtime, fx);
            }
            return self.fail(ctx, fault, fx);
        }
        let Some(index) = self.guest(process) else { return };
        let guest = &mut self.guests[index];
        guest.alive = false;
        let name = guest.name.clone();
        self.extensions.exited(&name);
        if self.stop.is_some() {
            return self.stop_goes_on(ctx, StopStep::Extensions, fx);
        }
        self.fail(ctx, Fault::Extension { name, announced: None, status: Some(status) }, fx);
    }

    /// Only the kernel's own counter tells an out-of-memory kill from another SIGKILL.
    fn exit_fault(&mut self, status: ExitStatus) -> Fault {
        let kills = self.cell.as_ref().and_then(|cell| cell.oom_kills()).unwrap_or(0);
        let new = kills > std::mem::replace(&mut self.oom_kills, kills);
        if new && status == ExitStatus::Signal(SIGKILL) {
            Fault::OutOfMemory
        } else {
            Fault::Exit(status)
        }
    }

    /// The keeper's sleep is over, or it was woken: does what is due.
    pub(crate) fn check_deadline(&mut self, ctx: &Context, fx: &mut Effects) {
        let now = Instant::now();
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if over(self.deadline) {
            match (&self.phase, &self.stop) {
                (Phase::Reset(_) | Phase::Shutdown, Some(stop)) if stop.step != StopStep::Kill => {
                    let step = stop.step;
                    self.stop_is_late(ctx, step, fx);
                }
                (Phase::Reset(_) | Phase::Shutdown, _) => {
                    let function = &ctx.version.name;
                    tracing::warn!(%function, "guests could not be killed in time");
                    self.lose(ctx, fx);
                }
                _ => self.fail(ctx, Fault::Timeout { timeout_s: ctx.version.timeout_s }, fx),
            }
        } else if over(self.exit_by) {
            // Replaced by what was announced.
            self.fail(ctx, Fault::Sandbox, fx);
        } else if over(self.freeze_at) {
            self.freeze_at = None;
            self.freeze();
        }
    }

    /// The environment is idle from now on.
    pub(super) fn rest(&mut self, now: Instant, fx: &mut Effects) {
        self.deadline = None;
        let at = now + FREEZE_AFTER;
        self.freeze_at = Some(at);
        fx.wake |= self.armed.is_none_or(|armed| armed > at);
    }

    fn freeze(&mut self) {
        if !matches!(self.phase, Phase::Idle) || self.frozen {
            return;
        }
        let Some(cell) = &self.cell else { return };
        match cell.freeze() {
            Ok(()) => self.frozen = true,
            Err(error) => tracing::warn!(%error, "an idle environment could not be frozen"),
        }
    }

    /// Before anything that its processes are to see.
    pub(super) fn thaw(&mut self) {
        self.freeze_at = None;
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        if let Some(Err(error)) = self.cell.as_ref().map(|cell| cell.thaw()) {
            tracing::error!(%error, "a frozen environment could not be thawed");
        }
    }

    /// Until when the keeper sleeps now. It keeps a sleep that ends early enough: on the warm path
    /// of a busy function it wakes once in [`FREEZE_AFTER`] at most.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let running = self.armed.filter(|armed| *armed > Instant::now());
        let due = [self.deadline, self.exit_by, self.freeze_at, running];
        self.armed = due.into_iter().flatten().min();
        self.armed
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant, fx: &mut Effects) {
        self.deadline = Some(deadline);
        fx.wake |= self.armed.is_none_or(|armed| armed > deadline);
    }
}
