//! The state of an environment and every transition of it, under one lock and without I/O but
//! for system calls that do not block.

mod extension;
mod fault;
mod post;
mod record;
mod stop;
mod watch;

use crate::context::{Context, Now};
use crate::environment::{OnAnswer, OnEnd};
use crate::fault::Fault;
use crate::isolation::{Cell, Dialing};
use crate::output::{Output, Pipe, Writer};
use crate::phase::{Effects, Init, Invoke, Over, Phase, Stage, Stop, Timing};
use lambfold_runtime_api::{
    Delivery, EXTENSIONS, ExtensionDelivery, Extensions, Machine, Next, NextReply, Refusal, State,
    Ticket,
};
use lambfold_sandbox::ProcessId;
use lambfold_types::{Answer, Invocation, PhaseEnd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) struct Core {
    machine: Machine<oneshot::Sender<Delivery>>,
    extensions: Extensions<oneshot::Sender<ExtensionDelivery>>,
    phase: Phase,
    output: Output,
    /// Where external extensions write.
    extension_output: Option<OwnedFd>,
    /// `None` once the environment is gone.
    cell: Option<Box<dyn Cell>>,
    /// The bootstrap.
    process: Option<ProcessId>,
    /// External extensions.
    guests: Vec<Guest>,
    /// The bootstrap was started, once every external extension had registered.
    booted: bool,
    /// The runtime has asked for its first event; extensions may not be ready.
    runtime_ready: bool,
    /// What an extension said before it ends: the first fault is the one that counts.
    announced: Option<Fault>,
    /// Until when the extension that announced its end may take.
    exit_by: Option<Instant>,
    /// Out-of-memory kills that are accounted for.
    oom_kills: u64,
    /// When the guests' memory peak was read last, monotonic µs, and what it was, bytes.
    memory_peak: Option<(u64, u64)>,
    /// Length of an init phase that no `REPORT` has told yet.
    init_us: Option<u64>,
    /// What the runtime posted when its init failed.
    init_error: Option<Answer>,
    /// The processes are being ended in order.
    stop: Option<Stop>,
    frozen: bool,
    /// When an idle environment is frozen.
    freeze_at: Option<Instant>,
    /// When the present phase's time is over.
    deadline: Option<Instant>,
    /// Until when the keeper sleeps.
    armed: Option<Instant>,
    on_purpose: fault::OnPurpose,
}

/// The process of an external extension.
struct Guest {
    process: ProcessId,
    name: Arc<str>,
    alive: bool,
    /// It was told SHUTDOWN.
    told: bool,
}

impl Core {
    pub(crate) fn new(
        cell: Box<dyn Cell>,
        output: Output,
        extension_output: Option<OwnedFd>,
    ) -> Self {
        Self {
            machine: Machine::new(),
            extensions: Extensions::new(),
            phase: Phase::Cold,
            output,
            extension_output,
            cell: Some(cell),
            process: None,
            guests: Vec::new(),
            booted: false,
            runtime_ready: false,
            announced: None,
            exit_by: None,
            oom_kills: 0,
            memory_peak: None,
            init_us: None,
            init_error: None,
            stop: None,
            frozen: false,
            freeze_at: None,
            deadline: None,
            armed: None,
            on_purpose: fault::OnPurpose::default(),
        }
    }

    // Phases.

    /// Starts the init phase.
    pub(crate) fn init(&mut self, ctx: &Context, ready: oneshot::Sender<bool>, fx: &mut Effects) {
        let now = ctx.now();
        self.phase = Phase::Init(Init { since_us: now.us(), ready });
        self.set_deadline(now.instant + ctx.init_limit, fx);
        // Nothing was killed in a new sandbox before this, but perhaps its first program already.
        self.boot(ctx, 0, fx);
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
        let gone = self.time_gone(ctx);
        let mut invoke = Box::new(Invoke {
            request_id: invocation.request_id,
            since_us: now.us(),
            gone_us: 0,
            deadline: now.instant + ctx.timeout(),
            wants_tail: invocation.wants_log_tail,
            stage: Stage::Run,
            runtime_done: false,
            trace: invocation.trace_id.clone(),
            sink: invocation.sink.clone(),
            timing: None,
            answer: Some(answer),
            ended,
            withheld: None,
            refused: None,
            out_of_memory: false,
        });
        invoke.age(gone);
        let event = ctx.event(invocation, now, gone);
        match &mut self.phase {
            Phase::Idle => {
                self.thaw();
                self.open(&invoke, now, fx);
                self.log_start(ctx, now, &invoke);
                self.phase = Phase::Invoke(invoke);
                self.release(ctx, event, fx);
            }
            Phase::Cold => self.begin_cold(ctx, invoke, event, fx),
            Phase::Reset(Over::Idle { next: next @ None }) => {
                invoke.stage = Stage::Init { event: Box::new(event), since_us: now.us() };
                *next = Some(invoke);
            }
            Phase::Init(_) | Phase::Invoke(_) | Phase::Reset(_) | Phase::Shutdown | Phase::Gone => {
                close(*invoke, &Fault::Sandbox, None, false, fx);
            }
        }
    }

    /// Starts the processes inside an invoke phase.
    fn begin_cold(
        &mut self,
        ctx: &Context,
        mut invoke: Box<Invoke>,
        event: lambfold_runtime_api::Event,
        fx: &mut Effects,
    ) {
        let now = ctx.now();
        invoke.stage = Stage::Init { event: Box::new(event), since_us: now.us() };
        self.open(&invoke, now, fx);
        self.phase = Phase::Invoke(invoke);
        let oom_kills = self.cell.as_ref().and_then(|cell| cell.oom_kills()).unwrap_or(0);
        self.boot(ctx, oom_kills, fx);
    }

    /// What every invoke phase begins with.
    fn open(&mut self, invoke: &Invoke, now: Now, fx: &mut Effects) {
        if invoke.wants_tail {
            self.output.start_tail();
        }
        self.tell_notes(now);
        self.set_deadline(invoke.deadline, fx);
    }

    /// Gives the runtime and the extensions their event.
    fn release(&mut self, ctx: &Context, event: lambfold_runtime_api::Event, fx: &mut Effects) {
        if !self.extensions.is_empty() {
            self.tell_invoke(&event, fx);
        }
        if !self.output.is_plain()
            && let Phase::Invoke(invoke) = &mut self.phase
        {
            invoke.timing = Some(Timing::new(ctx.moment()));
        }
        match self.machine.invoke(event) {
            Ok(Some(handover)) => fx.deliver = Some((handover.parked, Ok(handover.event))),
            // Its connection broke; it comes again.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "an idle environment's runtime is not ready");
                self.lose(ctx, fx);
            }
        }
        self.spoil_memory(ctx, fx);
    }

    /// Starts the external extensions, and the bootstrap when there are none.
    fn boot(&mut self, ctx: &Context, oom_kills: u64, fx: &mut Effects) {
        self.output.open_telemetry(&ctx.clock);
        self.log_init_start(ctx);
        self.spoil_init(ctx);
        self.booted = false;
        self.runtime_ready = false;
        self.oom_kills = oom_kills;
        if ctx.extensions.is_empty() {
            return self.start_runtime(ctx, fx);
        }
        self.extensions.launch(&ctx.extensions);
        if let Some(over) = ctx.extensions.get(EXTENSIONS) {
            self.extensions.launch_failed(over, "TooManyExtensions");
            return self.fail(ctx, Fault::TooManyExtensions, fx);
        }
        for name in &ctx.extensions {
            let output = self.extension_output.as_ref().map(std::os::fd::AsFd::as_fd);
            let spawned = match &self.cell {
                Some(cell) => cell.spawn(ctx.extension_command(name), output),
                None => return,
            };
            match spawned {
                Ok(process) => {
                    let name = Arc::clone(name);
                    self.guests.push(Guest { process, name, alive: true, told: false });
                }
                Err(error) => {
                    tracing::warn!(%error, name = &**name, "cannot start an extension");
                    return self.lose(ctx, fx);
                }
            }
        }
    }

    fn start_runtime(&mut self, ctx: &Context, fx: &mut Effects) {
        self.booted = true;
        let Some(cell) = &mut self.cell else { return };
        // That of a new sandbox is on its way already.
        let started = match cell.first() {
            Some(process) => Ok(process),
            None => ctx.spawn_runtime(&**cell),
        };
        match started {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                tracing::warn!(%error, function = %ctx.version.name, "cannot start the runtime");
                self.lose(ctx, fx);
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
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
                    State::Started if self.init_hangs() => {}
                    State::Started => {
                        self.extensions.close();
                        self.runtime_ready = true;
                        self.log_runtime_ready(ctx);
                        self.try_finish_init(ctx, fx);
                    }
                    State::RuntimeResponseSentState => {
                        if let Phase::Invoke(invoke) = &mut self.phase {
                            invoke.runtime_done = true;
                        }
                        self.log_runtime_done(ctx, None);
                        self.try_finish_invoke(ctx, fx);
                    }
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

    /// Init is over when the runtime and every extension wait.
    fn try_finish_init(&mut self, ctx: &Context, fx: &mut Effects) {
        let in_init = match &self.phase {
            Phase::Init(_) => true,
            Phase::Invoke(invoke) => matches!(invoke.stage, Stage::Init { .. }),
            _ => false,
        };
        if !in_init || !self.runtime_ready || !self.extensions.all_ready() {
            return;
        }
        self.init_error = None;
        let now = ctx.now();
        self.log_init_end(ctx, now);
        self.output.close_telemetry();
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Init(init) => {
                self.rest(ctx, now.instant, fx);
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

    /// The invoke phase is over when the runtime waits again, and every extension that was told.
    fn try_finish_invoke(&mut self, ctx: &Context, fx: &mut Effects) {
        let done = match &self.phase {
            Phase::Invoke(invoke) => invoke.runtime_done && self.extensions.invoke_done(),
            _ => false,
        };
        if !done {
            return;
        }
        if let Phase::Invoke(mut invoke) = std::mem::replace(&mut self.phase, Phase::Idle) {
            let now = ctx.now();
            self.rest(ctx, now.instant, fx);
            let tail = self.log_end(ctx, &invoke, now, None);
            if let (Some(answer), Some(withheld)) = (invoke.answer.take(), invoke.withheld.take()) {
                fx.answer = Some((answer, withheld));
            }
            close(*invoke, &Fault::Sandbox, tail, true, fx);
        }
    }

    /// Takes a chunk of the guests' output.
    pub(crate) fn read_output(&mut self, ctx: &Context, writer: Writer) -> Pipe {
        self.output.read(writer, ctx.moment())
    }

    /// Connects to what listens inside.
    pub(crate) fn dial(&self, port: u16) -> Dialing {
        match &self.cell {
            Some(cell) => cell.dial(port),
            None => Box::pin(async { Err(io::ErrorKind::NotConnected.into()) }),
        }
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
        fx.answer = Some((answer, fault.answer(invoke.request_id)));
        fx.close = invoke.sink.take();
    }
    fx.ended = Some((invoke.ended, PhaseEnd { reusable, log_tail }));
}
