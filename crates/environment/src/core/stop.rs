//! How phases fail, and how processes end.
//!
//! ```text
//!   without extensions:  ─────────────────────────────────────────────► Kill
//!   with them:           Runtime ──exit, late──► Flush ──► Extensions ──► Kill
//!                        SIGTERM                           SHUTDOWN       SIGKILL
//! ```

use super::{Core, close};
use crate::context::Context;
use crate::fault::Fault;
use crate::phase::{Effects, Invoke, Over, Phase, Stage, Stop, StopStep};
use lambfold_runtime_api::{ExtensionEvent, ExtensionRefusal, ShutdownReason};
use lambfold_types::Answer;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the kernel may take to kill the guests before the sandbox is given up.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// All that the processes of an environment with external extensions have.
const BUDGET_EXTERNAL: Duration = Duration::from_millis(2_000);
/// With internal ones only.
const BUDGET_INTERNAL: Duration = Duration::from_millis(500);
/// The runtime's part of the budget where there are external extensions.
const RUNTIME_SHARE: Duration = Duration::from_millis(300);
/// Most that is spent on handing telemetry over before SHUTDOWN is told.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

impl Core {
    /// Ends the present phase because of a fault; the first one wins.
    pub(super) fn fail(&mut self, ctx: &Context, fault: Fault, fx: &mut Effects) {
        let end = ctx.now();
        let fault = self.first_fault(fault);
        let over = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Init(init) => {
                let duration_us = end.us().saturating_sub(init.since_us);
                Over::Init { init, fault, duration_us }
            }
            Phase::Idle => {
                let text = format!(
                    "{} between invocations; the next invocation starts the runtime anew",
                    fault.notice()
                );
                self.output.drain(end.moment);
                self.output.notice(end.moment, &text);
                Over::Idle { next: None }
            }
            Phase::Invoke(mut invoke) => {
                if let Some(answer) = invoke.answer.take() {
                    fx.answer = Some((answer, self.fault_answer(&invoke, &fault)));
                    fx.close = invoke.sink.take();
                }
                Over::Invoke { invoke, fault, end }
            }
            phase @ (Phase::Reset(_) | Phase::Cold | Phase::Shutdown | Phase::Gone) => {
                self.phase = phase;
                return;
            }
        };
        let reason = match &over {
            Over::Init { fault, .. } | Over::Invoke { fault, .. } => fault.reason(),
            Over::Idle { .. } => ShutdownReason::Failure,
        };
        self.phase = Phase::Reset(over);
        self.refuse_runtime(fx);
        self.begin_stop(ctx, reason, fx);
    }

    /// An extension that announced its end is what failed, whatever followed from it.
    fn first_fault(&mut self, fault: Fault) -> Fault {
        self.exit_by = None;
        match (self.announced.take(), fault) {
            (Some(Fault::Extension { name, announced, .. }), Fault::Extension { status, .. }) => {
                Fault::Extension { name, announced, status }
            }
            (Some(announced), _) => announced,
            (None, fault) => fault,
        }
    }

    /// The caller's result of a fault: what the runtime said of its own init, if it did.
    fn fault_answer(&self, invoke: &Invoke, fault: &Fault) -> Answer {
        let during_init = matches!(invoke.stage, Stage::Init { .. });
        match (&self.init_error, fault) {
            (_, Fault::Timeout { .. } | Fault::Sandbox) => {}
            (Some(answer), _) if during_init => return answer.clone(),
            _ => {}
        }
        fault.answer(invoke.request_id)
    }

    fn refuse_runtime(&mut self, fx: &mut Effects) {
        fx.refuse = Some(self.machine.reset());
    }

    /// Nobody needs the environment any more.
    pub(crate) fn retire(&mut self, ctx: &Context, fx: &mut Effects) {
        match self.phase {
            Phase::Gone | Phase::Shutdown => {}
            Phase::Idle if !self.extensions.is_empty() => {
                self.phase = Phase::Shutdown;
                ctx.leaving.send_modify(|count| *count += 1);
                self.refuse_runtime(fx);
                self.begin_stop(ctx, ShutdownReason::Spindown, fx);
            }
            _ => self.lose(ctx, fx),
        }
    }

    /// Ends the processes: at once without extensions, in order with them.
    fn begin_stop(&mut self, ctx: &Context, reason: ShutdownReason, fx: &mut Effects) {
        self.thaw();
        let now = ctx.now().instant;
        let external = self.guests.iter().any(|guest| guest.alive);
        let (budget, share) = match external {
            true => (BUDGET_EXTERNAL, RUNTIME_SHARE),
            false => (BUDGET_INTERNAL, BUDGET_INTERNAL),
        };
        let until = now + budget;
        let step = StopStep::Runtime;
        self.stop = Some(Stop { reason, until, step, concluded: false, tail: None });
        if self.extensions.is_empty() {
            return self.kill(ctx, fx);
        }
        match (self.process, &self.cell) {
            (Some(process), Some(cell)) => {
                // One that cannot be told is killed in a moment.
                let _ = cell.signal_group(process, SIGTERM);
                self.set_deadline(now + share, fx);
            }
            _ => self.flush(ctx, fx),
        }
    }

    /// A process has ended, which this step may have been waiting for.
    pub(super) fn stop_goes_on(&mut self, ctx: &Context, of: StopStep, fx: &mut Effects) {
        let step = self.stop.as_ref().map(|stop| stop.step);
        match step {
            Some(StopStep::Runtime) if of == StopStep::Runtime => self.flush(ctx, fx),
            Some(StopStep::Extensions) if self.nobody_is_told() => self.kill(ctx, fx),
            _ => {}
        }
    }

    /// The time of a step is over.
    pub(super) fn stop_is_late(&mut self, ctx: &Context, step: StopStep, fx: &mut Effects) {
        match step {
            StopStep::Runtime => {
                if let (Some(process), Some(cell)) = (self.process, &self.cell) {
                    let _ = cell.signal_group(process, SIGKILL);
                }
                self.flush(ctx, fx);
            }
            StopStep::Flush => self.tell_shutdown(ctx, fx),
            StopStep::Extensions | StopStep::Kill => self.kill(ctx, fx),
        }
    }

    /// Hands over what subscribers have not got.
    fn flush(&mut self, ctx: &Context, fx: &mut Effects) {
        self.conclude(ctx);
        let drained = self.output.telemetry().is_none_or(|relay| {
            relay.flush();
            relay.is_drained()
        });
        let external = self.guests.iter().any(|guest| guest.alive);
        let Some(stop) = &mut self.stop else { return };
        if drained || !external {
            return self.tell_shutdown(ctx, fx);
        }
        stop.step = StopStep::Flush;
        let until = stop.until.min(ctx.now().instant + FLUSH_LIMIT);
        self.set_deadline(until, fx);
    }

    /// A subscriber has everything.
    pub(crate) fn telemetry_drained(&mut self, ctx: &Context, fx: &mut Effects) {
        let waits = self.stop.as_ref().is_some_and(|stop| stop.step == StopStep::Flush);
        if waits && self.output.telemetry().is_none_or(|relay| relay.is_drained()) {
            self.tell_shutdown(ctx, fx);
        }
    }

    fn tell_shutdown(&mut self, ctx: &Context, fx: &mut Effects) {
        let Some(stop) = &mut self.stop else { return };
        stop.step = StopStep::Extensions;
        let now = ctx.now();
        let left = stop.until.saturating_duration_since(now.instant);
        let event = Arc::new(ExtensionEvent::Shutdown {
            deadline_ms: now.moment.epoch_ms + u64::try_from(left.as_millis()).unwrap_or(0),
            shutdown_reason: stop.reason,
        });
        let until = stop.until;
        for guest in self.guests.iter_mut().filter(|guest| guest.alive) {
            match self.extensions.shutdown(&guest.name, &event) {
                Some(waiting) => {
                    guest.told = true;
                    fx.tell.extend(waiting.map(|parked| (parked, Ok(Arc::clone(&event)))));
                }
                None => {
                    if let Some(cell) = &self.cell {
                        let _ = cell.signal_group(guest.process, SIGKILL);
                    }
                }
            }
        }
        if self.nobody_is_told() {
            return self.kill(ctx, fx);
        }
        self.set_deadline(until, fx);
    }

    /// No extension that was told is still alive.
    fn nobody_is_told(&self) -> bool {
        !self.guests.iter().any(|guest| guest.alive && guest.told)
    }

    /// Kills what is left, or gives the whole sandbox up.
    fn kill(&mut self, ctx: &Context, fx: &mut Effects) {
        if matches!(self.phase, Phase::Shutdown) {
            return self.lose(ctx, fx);
        }
        if let Some(stop) = &mut self.stop {
            stop.step = StopStep::Kill;
        }
        self.refuse_extensions(fx);
        ctx.generation.fetch_add(1, Ordering::Relaxed);
        self.process = None;
        match self.cell.as_ref().map(|cell| cell.kill_guests()) {
            Some(Ok(())) => self.set_deadline(ctx.now().instant + KILL_LIMIT, fx),
            Some(Err(_)) | None => self.lose(ctx, fx),
        }
    }

    fn refuse_extensions(&mut self, fx: &mut Effects) {
        let waiting = self.extensions.reset();
        fx.tell.extend(waiting.into_iter().map(|parked| (parked, Err(ExtensionRefusal::Reset))));
        self.guests.clear();
    }

    /// The last log lines of the phase that ended; once.
    fn conclude(&mut self, ctx: &Context) {
        if self.stop.as_ref().is_some_and(|stop| stop.concluded) {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let tail = match &phase {
            Phase::Reset(Over::Init { fault, duration_us, .. }) => {
                self.log_failed_init(ctx, fault, *duration_us);
                None
            }
            Phase::Reset(Over::Invoke { invoke, fault, end }) => {
                self.log_end(ctx, invoke, *end, Some(fault))
            }
            _ => {
                self.output.drain(ctx.moment());
                None
            }
        };
        self.phase = phase;
        if let Some(stop) = &mut self.stop {
            stop.concluded = true;
            stop.tail = tail;
        }
    }

    /// The guests are dead: the phase that was reset is over.
    pub(super) fn finish_reset(&mut self, ctx: &Context, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Reset(_)) {
            return;
        }
        self.conclude(ctx);
        self.give_memory_back();
        // The last words of extensions.
        self.output.drain(ctx.moment());
        self.output.end_telemetry();
        let tail = self.stop.take().and_then(|stop| stop.tail);
        self.deadline = None;
        let Phase::Reset(over) = std::mem::replace(&mut self.phase, Phase::Cold) else { return };
        match over {
            Over::Init { init, .. } => fx.ready = Some((init.ready, true)),
            Over::Idle { next: None } => {}
            Over::Idle { next: Some(mut invoke) } => {
                match std::mem::replace(&mut invoke.stage, Stage::Run) {
                    Stage::Init { event, .. } => self.begin_cold(ctx, invoke, *event, fx),
                    Stage::Run => close(*invoke, &Fault::Sandbox, None, true, fx),
                }
            }
            Over::Invoke { invoke, fault, .. } => close(*invoke, &fault, tail, true, fx),
        }
    }

    /// The sandbox is lost or given up: whoever waits is told.
    pub(crate) fn lose(&mut self, ctx: &Context, fx: &mut Effects) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        let stop = self.stop.take();
        ctx.generation.fetch_add(1, Ordering::Relaxed);
        self.refuse_runtime(fx);
        self.refuse_extensions(fx);
        self.process = None;
        (self.deadline, self.exit_by, self.freeze_at) = (None, None, None);
        let end = ctx.now();
        match phase {
            Phase::Init(init) | Phase::Reset(Over::Init { init, .. }) => {
                fx.ready = Some((init.ready, false));
            }
            Phase::Invoke(invoke) => {
                let tail = self.log_end(ctx, &invoke, end, Some(&Fault::Sandbox));
                close(*invoke, &Fault::Sandbox, tail, false, fx);
            }
            Phase::Reset(Over::Invoke { invoke, fault, end }) => {
                let tail = match stop {
                    Some(Stop { concluded: true, tail, .. }) => tail,
                    _ => self.log_end(ctx, &invoke, end, Some(&fault)),
                };
                close(*invoke, &fault, tail, false, fx);
            }
            Phase::Reset(Over::Idle { next: Some(invoke) }) => {
                close(*invoke, &Fault::Sandbox, None, false, fx);
            }
            Phase::Shutdown => ctx.leaving.send_modify(|count| *count -= 1),
            Phase::Reset(Over::Idle { next: None }) | Phase::Idle | Phase::Cold | Phase::Gone => {}
        }
        self.output.drain(end.moment);
        self.output.end_telemetry();
        fx.destroy = self.cell.take();
    }
}
