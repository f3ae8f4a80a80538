//! The platform's own records, each after all output that came before it.

use super::Core;
use crate::context::{Context, Now};
use crate::fault::Fault;
use crate::phase::{Invoke, Phase, Stage, Timing};
use crate::variables;
use lambfold_logs::{InitPhase, Outcome, PlatformEvent, Report, Span, Status};

impl Core {
    fn init_phase(&self) -> InitPhase {
        match self.phase {
            Phase::Invoke(_) => InitPhase::Invoke,
            _ => InitPhase::Init,
        }
    }

    pub(super) fn log_init_start(&mut self, ctx: &Context) {
        let version = &ctx.version;
        let (runtime_version, arn) = variables::runtime_version(version);
        let event = PlatformEvent::InitStart {
            initialization: ctx.initialization.as_str(),
            phase: self.init_phase(),
            runtime_version,
            runtime_version_arn: &arn,
            function_name: version.name.as_str(),
            function_version: version.version,
            instance_id: &ctx.log_stream,
            memory_mib: version.memory_mib,
        };
        self.output.platform(ctx.moment(), &event);
    }

    /// The runtime has asked for its first event.
    pub(super) fn log_runtime_ready(&mut self, ctx: &Context) {
        let event = PlatformEvent::InitRuntimeDone {
            initialization: ctx.initialization.as_str(),
            phase: self.init_phase(),
            outcome: Outcome::SUCCESS,
        };
        self.output.platform(ctx.moment(), &event);
    }

    /// Init went well.
    pub(super) fn log_init_end(&mut self, ctx: &Context, now: Now) {
        let since_us = match &self.phase {
            Phase::Init(init) => init.since_us,
            Phase::Invoke(invoke) => match invoke.stage {
                Stage::Init { since_us, .. } => since_us,
                Stage::Run => return,
            },
            _ => return,
        };
        self.log_extensions(ctx);
        let event = PlatformEvent::InitReport {
            initialization: ctx.initialization.as_str(),
            phase: self.init_phase(),
            status: Status::Success,
            duration_us: now.us().saturating_sub(since_us),
        };
        self.output.platform(now.moment, &event);
    }

    fn log_extensions(&mut self, ctx: &Context) {
        let moment = ctx.moment();
        for extension in self.extensions.iter() {
            let state = extension.state.to_string();
            let event = PlatformEvent::Extension {
                name: &extension.name,
                state: &state,
                events: extension.events.names(),
                error_type: extension.error_type.as_deref(),
            };
            self.output.platform(moment, &event);
        }
    }

    pub(super) fn log_failed_init(&mut self, ctx: &Context, fault: &Fault, duration_us: u64) {
        self.output.drain(ctx.moment());
        self.log_init_failure(ctx, InitPhase::Init, fault.status(), duration_us);
    }

    fn log_init_failure(
        &mut self,
        ctx: &Context,
        phase: InitPhase,
        status: Status<'_>,
        duration_us: u64,
    ) {
        let moment = ctx.moment();
        let initialization = ctx.initialization.as_str();
        if !self.runtime_ready {
            let outcome = Outcome::new(status);
            let event = PlatformEvent::InitRuntimeDone { initialization, phase, outcome };
            self.output.platform(moment, &event);
        }
        self.log_extensions(ctx);
        let event = PlatformEvent::InitReport { initialization, phase, status, duration_us };
        self.output.platform(moment, &event);
    }

    pub(super) fn log_start(&mut self, ctx: &Context, now: Now, invoke: &Invoke) {
        let event = PlatformEvent::Start {
            request_id: invoke.request_id,
            version: ctx.version.version,
            trace: invoke.trace.as_deref(),
        };
        self.output.platform(now.moment, &event);
    }

    /// The runtime has asked for the next event, or will never do so.
    pub(super) fn log_runtime_done(&mut self, ctx: &Context, fault: Option<&Fault>) {
        if self.output.is_plain() {
            return;
        }
        let Phase::Invoke(invoke) = &mut self.phase else { return };
        let Some(timing) = &mut invoke.timing else { return };
        let now = ctx.moment();
        timing.done = Some(now);
        let timing = *timing;
        let (request_id, trace) = (invoke.request_id, invoke.trace.clone());
        let status = status(fault, invoke);
        self.output.drain(now);
        let spans = timing.spans();
        let event = PlatformEvent::RuntimeDone {
            request_id,
            outcome: Outcome::new(status),
            duration_us: now.monotonic_us.saturating_sub(timing.released.monotonic_us),
            produced_bytes: timing.produced_bytes,
            spans: &spans,
            trace: trace.as_deref(),
        };
        self.output.platform(now, &event);
    }

    /// `END`, `REPORT` and the fault; returns the tail if it was asked for.
    pub(super) fn log_end(
        &mut self,
        ctx: &Context,
        invoke: &Invoke,
        end: Now,
        fault: Option<&Fault>,
    ) -> Option<Vec<u8>> {
        let moment = ctx.moment();
        self.output.drain(moment);
        let status = status(fault, invoke);
        let trace = invoke.trace.as_deref();
        if let Stage::Init { since_us, .. } = &invoke.stage {
            let duration_us = end.us().saturating_sub(*since_us);
            self.log_init_failure(ctx, InitPhase::Invoke, status, duration_us);
            self.log_start(ctx, Now { moment, ..end }, invoke);
        }
        if !invoke.runtime_done && !self.output.is_plain() {
            let timing = invoke.timing.unwrap_or(Timing::new(moment));
            let event = PlatformEvent::RuntimeDone {
                request_id: invoke.request_id,
                outcome: Outcome::new(status),
                duration_us: end.us().saturating_sub(timing.released.monotonic_us),
                produced_bytes: timing.produced_bytes,
                spans: &timing.spans(),
                trace,
            };
            self.output.platform(moment, &event);
        }
        self.output.platform(moment, &PlatformEvent::End { request_id: invoke.request_id });
        let peak_bytes = self.memory_peak(moment.monotonic_us);
        let took_us = end.us().saturating_sub(invoke.since_us) + invoke.gone_us;
        let report = Report {
            request_id: invoke.request_id,
            duration_us: took_us.min(ctx.timeout_us()),
            init_duration_us: self.init_us.take(),
            memory_size_mib: ctx.version.memory_mib,
            max_memory_used_mib: peak_bytes.div_ceil(1 << 20),
            status,
        };
        let overhead = extension_overhead(invoke, end);
        let spans = overhead.as_slice();
        self.output.platform(moment, &PlatformEvent::Report { report, spans, trace });
        let tail = self.output.take_tail();
        if let Some(fault) = fault {
            let text = fault.line(moment.epoch_ms, invoke.request_id);
            self.output.platform(moment, &PlatformEvent::Fault { text: &text });
        }
        tail
    }

    /// The guests' peak, bytes. The kernel is asked once a millisecond at most, so that a busy
    /// function does not pay for it at each event.
    fn memory_peak(&mut self, now_us: u64) -> u64 {
        let is_fresh = |asked_us: u64| now_us.saturating_sub(asked_us) < MEMORY_PEAK_US;
        if !self.memory_peak.is_some_and(|(asked_us, _)| is_fresh(asked_us)) {
            let peak = self.cell.as_ref().and_then(|cell| cell.memory_peak_bytes());
            self.memory_peak = Some((now_us, peak.unwrap_or(0)));
        }
        self.memory_peak.map_or(0, |(_, bytes)| bytes)
    }
}

/// How long a reading of the guests' memory peak counts, µs.
const MEMORY_PEAK_US: u64 = 1_000;

fn status<'a>(fault: Option<&'a Fault>, invoke: &Invoke) -> Status<'a> {
    match (fault, invoke.refused) {
        (Some(fault), _) => fault.status(),
        (None, Some(error_type)) => Status::Error(error_type),
        (None, None) => Status::Success,
    }
}

/// What extensions took after the runtime was done.
fn extension_overhead(invoke: &Invoke, end: Now) -> Option<Span> {
    let done = invoke.timing?.done?;
    let duration_us = end.us().saturating_sub(done.monotonic_us);
    Some(Span { name: "extensionOverhead", start_ms: done.epoch_ms, duration_us })
}

impl Timing {
    /// The parts of a runtime's work that are over.
    fn spans(&self) -> Vec<Span> {
        let parts = [
            ("responseLatency", Some(self.released), self.answering),
            ("responseDuration", self.answering, self.answered),
            ("runtimeOverhead", self.answered, self.done),
        ];
        let span = |(name, start, end)| -> Option<Span> {
            let (start, end): (Option<crate::output::Moment>, Option<crate::output::Moment>) =
                (start, end);
            let (start, end) = (start?, end?);
            let duration_us = end.monotonic_us.saturating_sub(start.monotonic_us);
            Some(Span { name, start_ms: start.epoch_ms, duration_us })
        };
        parts.into_iter().filter_map(span).collect()
    }
}
