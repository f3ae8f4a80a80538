//! The platform's own log lines, each after all output that came before it.

use super::Core;
use crate::context::{Context, Now};
use crate::fault::Fault;
use crate::phase::{Invoke, Stage};
use crate::variables;
use lambfold_logs::{
    InitPhase, Report, Status, end_line, init_report_line, init_start_line, report_line, start_line,
};

impl Core {
    pub(super) fn log_init_start(&mut self, ctx: &Context, now: Now) {
        let (name, arn) = variables::runtime_version(&ctx.version);
        self.output.platform(now.moment, &init_start_line(name, &arn));
    }

    pub(super) fn log_failed_init(&mut self, ctx: &Context, fault: &Fault, duration_us: u64) {
        let moment = ctx.moment();
        self.output.drain(moment);
        let line = init_report_line(duration_us, InitPhase::Init, fault.status());
        self.output.platform(moment, &line);
    }

    pub(super) fn log_start(&mut self, ctx: &Context, now: Now, invoke: &Invoke) {
        let line = start_line(invoke.request_id, ctx.version.version);
        self.output.platform(now.moment, &line);
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
        let status = match (fault, invoke.refused) {
            (Some(fault), _) => fault.status(),
            (None, Some(error_type)) => Status::Error(error_type),
            (None, None) => Status::Success,
        };
        if let Stage::Init { since_us, .. } = &invoke.stage {
            let duration_us = end.us().saturating_sub(*since_us);
            let line = init_report_line(duration_us, InitPhase::Invoke, status);
            self.output.platform(moment, &line);
            self.output.platform(moment, &start_line(invoke.request_id, ctx.version.version));
        }
        self.output.platform(moment, &end_line(invoke.request_id));
        let peak_bytes = self.cell.as_ref().and_then(|cell| cell.memory_peak_bytes());
        let report = Report {
            request_id: invoke.request_id,
            duration_us: end.us().saturating_sub(invoke.since_us).min(ctx.timeout_us()),
            init_duration_us: self.init_us.take(),
            memory_size_mib: ctx.version.memory_mib,
            max_memory_used_mib: peak_bytes.unwrap_or(0).div_ceil(1 << 20),
            status,
        };
        self.output.platform(moment, &report_line(&report));
        let tail = self.output.take_tail();
        if let Some(fault) = fault {
            self.output.platform(moment, &fault.line(moment.epoch_ms, invoke.request_id));
        }
        tail
    }
}
