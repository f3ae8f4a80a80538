//! The state of an environment and every transition of it, under one lock and without I/O but
//! for system calls that do not block.

mod post;
mod record;

use crate::context::Context;
use crate::environment::{OnAnswer, OnEnd};
use crate::fault::Fault;
use crate::isolation::Cell;
use crate::output::{Output, Pipe};
use crate::phase::{Effects, Init, Invoke, Over, Phase, Stage, platform_answer};
use lambfold_runtime_api::{Delivery, Machine, Next, NextReply, Refusal, State, Ticket};
use lambfold_sandbox::{Event, ExitStatus, ProcessId, Step};
use lambfold_types::{Answer, Invocation, PhaseEnd};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long the kernel may take to kill the guests before the sandbox is given up.
const KILL_LIMIT: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;

pub(crate) struct Core {
    machine: Machine<oneshot::Sender<Delivery>>,
    phase: Phase,
    output: Output,
    /// `None` once the environment is gone.
    cell: Option<Box<dyn Cell>>,
    /// The bootstrap.
    process: Option<ProcessId>,
    /// Out-of-memory kills that are accounted for.
    oom_kills: u64,
    /// Length of an init phase that no `REPORT` has told yet.
    init_us: Option<u64>,
    /// What the runtime posted when its init failed.
    init_error: Option<Answer>,
    /// When the present phase's time is over.
    deadline: Option<Instant>,
    /// Until when the keeper sleeps.
    armed: Option<Instant>,
}

impl Core {
    pub(crate) fn new(cell: Box<dyn Cell>, output: Output) -> Self {
        Self {
            machine: Machine::new(),
            phase: Phase::Cold,
            output,
            cell: Some(cell),
            process: None,
            oom_kills: 0,
            init_us: None,
            init_error: None,
            deadline: None,
            armed: None,
        }
    }

    // Phases.

    /// Starts the init phase.
    pub(crate) fn init(&mut self, ctx: &Context, ready: oneshot::Sender<bool>, fx: &mut Effects) {
        let now = ctx.now();
        self.log_init_start(ctx, now);
        self.phase = Phase::Init(Init { since_us: now.us(), ready });
        match self.spawn(ctx) {
            Ok(()) => self.set_deadline(now.instant + ctx.init_limit, fx),
            Err(()) => self.lose(ctx, fx),
        }
    }

    /// Starts an invoke phase.
    pub(crate) fn begin(
        &mut self,
        ctx: &Context,
        invocation: Invocation,
        answer: OnAnswer,
        ended: OnEnd,
        fx: &mut Effects,
    ) {
        let now = ctx.now();
        let invoke = Box::new(Invoke {
            request_id: invocation.request_id,
            since_us: now.us(),
            deadline: now.instant + ctx.timeout(),
            wants_tail: invocation.wants_log_tail,
            stage: Stage::Run,
            answer: Some(answer),
            ended,
            withheld: None,
            refused: None,
        });
        match &mut self.phase {
            Phase::Idle => {
                self.open(&invoke, fx);
                self.log_start(ctx, now, &invoke);
                let event = ctx.event(invocation, now);
                self.phase = Phase::Invoke(invoke);
                self.release(ctx, event, fx);
            }
            Phase::Cold => self.begin_cold(ctx, invoke, ctx.event(invocation, now), fx),
            Phase::Reset(Over::Idle { next: next @ None }) => {
                let mut invoke = invoke;
                let event = Box::new(ctx.event(invocation, now));
                invoke.stage = Stage::Init { event, since_us: now.us() };
                *next = Some(invoke);
            }
            Phase::Init(_) | Phase::Invoke(_) | Phase::Reset(_) | Phase::Gone => {
                close(*invoke, &Fault::Sandbox, None, false, fx);
            }
        }
    }

    /// Starts a process inside an invoke phase.
    fn begin_cold(
        &mut self,
        ctx: &Context,
        mut invoke: Box<Invoke>,
        event: lambfold_runtime_api::Event,
        fx: &mut Effects,
    ) {
        invoke.stage = Stage::Init { event: Box::new(event), since_us: ctx.now().us() };
        self.open(&invoke, fx);
        self.phase = Phase::Invoke(invoke);
        if self.spawn(ctx).is_err() {
            self.lose(ctx, fx);
        }
    }

    /// What every invoke phase begins with.
    fn open(&mut self, invoke: &Invoke, fx: &mut Effects) {
        if invoke.wants_tail {
            self.output.start_tail();
        }
        self.set_deadline(invoke.deadline, fx);
    }

    /// Gives the runtime its event.
    fn release(&mut self, ctx: &Context, event: lambfold_runtime_api::Event, fx: &mut Effects) {
        match self.machine.invoke(event) {
            Ok(Some(handover)) => fx.deliver = Some((handover.parked, Ok(handover.event))),
            // Its connection broke; it comes again.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "an idle environment's runtime is not ready");
                self.lose(ctx, fx);
            }
        }
    }

    fn spawn(&mut self, ctx: &Context) -> Result<(), ()> {
        let cell = self.cell.as_ref().ok_or(())?;
        self.oom_kills = cell.oom_kills().unwrap_or(0);
        match cell.spawn(ctx.command.clone()) {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, function = %ctx.version.name, "cannot start the bootstrap");
                Err(())
            }
        }
    }

    /// Ends the present phase because of a fault; the first one wins.
    fn fail(&mut self, ctx: &Context, fault: Fault, fx: &mut Effects) {
        let end = ctx.now();
        let over = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Init(init) => {
                let duration_us = end.us().saturating_sub(init.since_us);
                Over::Init { init, fault, duration_us }
            }
            Phase::Idle => {
                let text = format!(
                    "{} between invocations; the next invocation starts the runtime anew",
                    fault.text()
                );
                self.output.drain(end.moment);
                self.output.notice(end.moment, &text);
                Over::Idle { next: None }
            }
            Phase::Invoke(mut invoke) => {
                if let Some(answer) = invoke.answer.take() {
                    fx.answer = Some((answer, self.fault_answer(&invoke, &fault)));
                }
                Over::Invoke { invoke, fault, end }
            }
            phase @ (Phase::Reset(_) | Phase::Cold | Phase::Gone) => {
                self.phase = phase;
                return;
            }
        };
        self.phase = Phase::Reset(over);
        self.reset_machine(ctx, fx);
        self.process = None;
        match self.cell.as_ref().map(|cell| cell.kill_guests()) {
            Some(Ok(())) => self.set_deadline(end.instant + KILL_LIMIT, fx),
            Some(Err(_)) | None => self.lose(ctx, fx),
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
        platform_answer(fault.payload(invoke.request_id))
    }

    fn reset_machine(&mut self, ctx: &Context, fx: &mut Effects) {
        ctx.generation.fetch_add(1, Ordering::Relaxed);
        fx.refuse = Some(self.machine.reset());
    }

    /// The guests are dead: the phase that was reset is over.
    fn finish_reset(&mut self, ctx: &Context, fx: &mut Effects) {
        let over = match std::mem::replace(&mut self.phase, Phase::Cold) {
            Phase::Reset(over) => over,
            other => {
                self.phase = other;
                return;
            }
        };
        self.deadline = None;
        match over {
            Over::Init { init, fault, duration_us } => {
                self.log_failed_init(ctx, &fault, duration_us);
                fx.ready = Some((init.ready, true));
            }
            Over::Idle { next: None } => self.output.drain(ctx.moment()),
            Over::Idle { next: Some(mut invoke) } => {
                match std::mem::replace(&mut invoke.stage, Stage::Run) {
                    Stage::Init { event, .. } => self.begin_cold(ctx, invoke, *event, fx),
                    Stage::Run => close(*invoke, &Fault::Sandbox, None, true, fx),
                }
            }
            Over::Invoke { invoke, fault, end } => {
                let tail = self.log_end(ctx, &invoke, end, Some(&fault));
                close(*invoke, &fault, tail, true, fx);
            }
        }
    }

    /// The sandbox is lost or given up: whoever waits is told.
    pub(crate) fn lose(&mut self, ctx: &Context, fx: &mut Effects) {
        let phase = std::mem::replace(&mut self.phase, Phase::Gone);
        self.reset_machine(ctx, fx);
        self.process = None;
        self.deadline = None;
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
                let tail = self.log_end(ctx, &invoke, end, Some(&fault));
                close(*invoke, &fault, tail, false, fx);
            }
            Phase::Reset(Over::Idle { next: Some(invoke) }) => {
                close(*invoke, &Fault::Sandbox, None, false, fx);
            }
            Phase::Reset(Over::Idle { next: None }) | Phase::Idle | Phase::Cold | Phase::Gone => {}
        }
        self.output.drain(end.moment);
        fx.destroy = self.cell.take();
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    // What the runtime asks for.

    /// The process has not asked for an event yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.machine.state() == State::Started
    }

    /// Nothing of an old process counts while there is no new one.
    fn has_runtime(&self) -> bool {
        matches!(self.phase, Phase::Init(_) | Phase::Idle | Phase::Invoke(_))
    }

    pub(crate) fn next(&mut self, ctx: &Context, fx: &mut Effects) -> NextReply {
        if !self.has_runtime() {
            let from = self.machine.state();
            return NextReply::Now(Err(Refusal::Concurrent { from, to: State::Ready }));
        }
        let (sender, receiver) = oneshot::channel();
        match self.machine.next(|| sender) {
            Next::Event(event) => NextReply::Now(Ok(event)),
            Next::Refused(refusal) => NextReply::Now(Err(refusal)),
            Next::Parked { ticket, was } => {
                match was {
                    State::Started => self.finish_init(ctx, fx),
                    State::RuntimeResponseSentState => self.finish_invoke(ctx, fx),
                    _ => {}
                }
                NextReply::Wait(ticket, receiver)
            }
        }
    }

    pub(crate) fn abandon(&mut self, ticket: Ticket, fx: &mut Effects) {
        if let Some(handover) = self.machine.abandon(ticket) {
            fx.deliver = Some((handover.parked, Ok(handover.event)));
        }
    }

    fn finish_init(&mut self, ctx: &Context, fx: &mut Effects) {
        self.init_error = None;
        let now = ctx.now();
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Init(init) => {
                self.deadline = None;
                self.init_us = Some(now.us().saturating_sub(init.since_us));
                fx.ready = Some((init.ready, true));
            }
            Phase::Invoke(mut invoke) => {
                let stage = std::mem::replace(&mut invoke.stage, Stage::Run);
                self.output.drain(now.moment);
                self.log_start(ctx, now, &invoke);
                self.phase = Phase::Invoke(invoke);
                if let Stage::Init { event, .. } = stage {
                    self.release(ctx, *event, fx);
                }
            }
            other => self.phase = other,
        }
    }

    fn finish_invoke(&mut self, ctx: &Context, fx: &mut Effects) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Invoke(mut invoke) => {
                self.deadline = None;
                let tail = self.log_end(ctx, &invoke, ctx.now(), None);
                if let (Some(answer), Some(withheld)) =
                    (invoke.answer.take(), invoke.withheld.take())
                {
                    fx.answer = Some((answer, withheld));
                }
                close(*invoke, &Fault::Sandbox, tail, true, fx);
            }
            other => self.phase = other,
        }
    }

    // What the keeper sees.

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

    /// `causes`: why a bootstrap could not be executed, in words.
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
                if self.process != Some(process) {
                    return;
                }
                if step != Step::GuestExec {
                    tracing::error!(?step, errno, "a sandbox could not start its guest");
                    return self.lose(ctx, fx);
                }
                let moment = ctx.moment();
                self.output.drain(moment);
                for cause in causes {
                    self.output.notice(moment, cause);
                }
                let fault = match program {
                    Some(program) => Fault::Execute { program, errno },
                    None => Fault::NoBootstrap,
                };
                self.fail(ctx, fault, fx);
            }
            Event::Exited { process, status } => {
                if self.process == Some(process) {
                    let fault = self.exit_fault(status);
                    self.fail(ctx, fault, fx);
                }
            }
            Event::GuestsKilled => self.finish_reset(ctx, fx),
            Event::Gone => {
                if !self.is_gone() {
                    self.lose(ctx, fx);
                }
            }
        }
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
        if self.deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return;
        }
        match self.phase {
            Phase::Reset(_) => {
                tracing::warn!(function = %ctx.version.name, "guests could not be killed in time");
                self.lose(ctx, fx);
            }
            _ => self.fail(ctx, Fault::Timeout { timeout_s: ctx.version.timeout_s }, fx),
        }
    }

    /// Until when the keeper sleeps now. It keeps a sleep that ends early enough, so that on the
    /// warm path it wakes at most once in a timeout's time.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        let running = self.armed.filter(|armed| *armed > Instant::now());
        self.armed = match (self.deadline, running) {
            (Some(deadline), Some(armed)) => Some(deadline.min(armed)),
            (deadline, running) => deadline.or(running),
        };
        self.armed
    }

    fn set_deadline(&mut self, deadline: Instant, fx: &mut Effects) {
        self.deadline = Some(deadline);
        fx.wake |= self.armed.is_none_or(|armed| armed > deadline);
    }

    /// Takes a chunk of the guests' output.
    pub(crate) fn read_output(&mut self, ctx: &Context) -> Pipe {
        self.output.read(ctx.moment())
    }
}

/// Ends an invocation; the answer of the fault is for a caller who has none yet.
fn close(
    mut invoke: Invoke,
    fault: &Fault,
    log_tail: Option<Vec<u8>>,
    reusable: bool,
    fx: &mut Effects,
) {
    if let Some(answer) = invoke.answer.take() {
        fx.answer = Some((answer, platform_answer(fault.payload(invoke.request_id))));
    }
    fx.ended = Some((invoke.ended, PhaseEnd { reusable, log_tail }));
}
