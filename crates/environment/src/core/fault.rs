//! Faults on purpose (`lambfold fault`), as far as an environment does them. Each says so in the
//! function's log, once an event.

use super::Core;
use crate::context::{Context, Now};
use crate::fault::Fault;
use crate::isolation::Squeeze;
use crate::phase::{Effects, Invoke, Phase};
use lambfold_fault::{Call as FaultCall, Kind, Sabotage};
use lambfold_runtime_api::{Call, Disturbance};
use lambfold_types::RequestId;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong in this environment at the moment, on purpose.
#[derive(Default)]
pub(crate) struct OnPurpose {
    /// This init phase does not end.
    init_hangs: bool,
    /// The event, and the kind, that the log was told of last.
    told: Option<(RequestId, Kind)>,
    /// The memory of the present processes was taken away.
    squeeze: Option<Arc<dyn Squeeze>>,
    /// For the log, at the next opportunity.
    notes: Vec<String>,
}

impl Core {
    /// The init phase begins.
    pub(super) fn spoil_init(&mut self, ctx: &Context) {
        self.on_purpose.init_hangs = false;
        let Some(strike) = ctx.faults.strikes(&ctx.version, Kind::InitTimeout) else { return };
        self.on_purpose.init_hangs = true;
        let note = strike.sentence("the init phase is not let end");
        self.output.notice(ctx.moment(), &note);
    }

    /// Whether the runtime's first `next` counts for nothing.
    pub(super) fn init_hangs(&self) -> bool {
        self.on_purpose.init_hangs
    }

    /// How much of the function's time is gone already when an event comes.
    pub(super) fn time_gone(&mut self, ctx: &Context) -> Duration {
        let Some(strike) = ctx.faults.strikes(&ctx.version, Kind::Deadline) else {
            return Duration::ZERO;
        };
        let remaining = strike.fault.wish.remaining.unwrap_or_default().min(ctx.timeout());
        let what = format!("{} ms of the timeout remain for the event", remaining.as_millis());
        self.on_purpose.notes.push(strike.sentence(&what));
        ctx.timeout() - remaining
    }

    /// Tells the log what was found before there was one for the event.
    pub(super) fn tell_notes(&mut self, now: Now) {
        for note in self.on_purpose.notes.drain(..) {
            self.output.notice(now.moment, &note);
        }
    }

    /// What is done to a call of the runtime.
    pub(crate) fn disturbance(&mut self, ctx: &Context, call: Call) -> Option<Disturbance> {
        let Phase::Invoke(invoke) = &self.phase else { return None };
        let id = invoke.request_id;
        let (fault_call, which) = match call {
            Call::Next => (FaultCall::Next, "the next that has the event of"),
            Call::Response => (FaultCall::Response, "the response of"),
        };
        let (sabotage, strike) = ctx.faults.sabotage(&ctx.version, fault_call)?;
        let kind = strike.fault.wish.kind;
        let (disturbance, how) = match sabotage {
            Sabotage::Delay(delay) => {
                (Disturbance::Delay(delay), format!("is answered {} ms late", delay.as_millis()))
            }
            Sabotage::Error => (Disturbance::Error, "is answered 500".to_owned()),
            Sabotage::Reset => (Disturbance::Reset, "has its connection reset".to_owned()),
        };
        // A runtime that asks again at once is disturbed again, and would fill the log.
        if self.on_purpose.told.replace((id, kind)) != Some((id, kind)) {
            let note = strike.sentence(&format!("{which} RequestId: {id} {how}"));
            self.output.notice(ctx.moment(), &note);
        }
        Some(disturbance)
    }

    /// The runtime has its event: takes its memory away, if that is asked for.
    pub(super) fn spoil_memory(&mut self, ctx: &Context, fx: &mut Effects) {
        let Some(strike) = ctx.faults.strikes(&ctx.version, Kind::OutOfMemory) else { return };
        let Phase::Invoke(invoke) = &mut self.phase else { return };
        invoke.out_of_memory = true;
        let squeeze = self.cell.as_ref().and_then(|cell| cell.squeeze());
        let what = match &squeeze {
            Some(_) => "the memory limit is lowered to less than is in use",
            None => "there is no memory limit here: the platform ends the runtime when it answers",
        };
        self.output.notice(ctx.moment(), &strike.sentence(what));
        self.on_purpose.squeeze.clone_from(&squeeze);
        fx.squeeze = squeeze;
    }

    /// The runtime answers although its memory was taken away: it needed no more (a kernel with
    /// cgroup v1 only kills who does). The answer does not count.
    pub(super) fn ends_for_memory(&mut self, ctx: &Context, fx: &mut Effects) -> bool {
        match &self.phase {
            Phase::Invoke(invoke) if invoke.out_of_memory => {}
            _ => return false,
        }
        let note = "the runtime needed no more memory, and is ended in place of the kernel";
        let note = format!("fault on purpose, {}: {note}", Kind::OutOfMemory);
        self.output.notice(ctx.moment(), &note);
        self.fail(ctx, Fault::OutOfMemory, fx);
        true
    }

    /// The processes are dead: the next ones have their memory.
    pub(super) fn give_memory_back(&mut self) {
        if let Some(squeeze) = self.on_purpose.squeeze.take() {
            squeeze.restore();
        }
    }
}

impl Invoke {
    /// As if a part of the timeout were over.
    pub(super) fn age(&mut self, gone: Duration) {
        self.deadline -= gone;
        self.gone_us = u64::try_from(gone.as_micros()).unwrap_or(u64::MAX);
    }
}
