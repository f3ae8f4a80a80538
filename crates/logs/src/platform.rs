//! What the platform itself has to say of an environment's life: as lines of text (behaviour
//! specification §4.4), and as JSON documents (§3.3, §4.5), fields in AWS's order.

use crate::line::{
    InitPhase, Report, Status, end_line, init_report_line, init_start_line, report_line,
    start_line, timestamp,
};
use lambfold_types::{RequestId, Version};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::BTreeMap;

/// How much a system line or an application line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `TRACE`
    Trace,
    /// `DEBUG`
    Debug,
    /// `INFO`
    Info,
    /// `WARN`
    Warn,
    /// `ERROR`
    Error,
    /// `FATAL`
    Fatal,
}

impl Level {
    /// Parses a level, whatever its case; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [(&str, Level); 6] = [
            ("TRACE", Level::Trace),
            ("DEBUG", Level::Debug),
            ("INFO", Level::Info),
            ("WARN", Level::Warn),
            ("ERROR", Level::Error),
            ("FATAL", Level::Fatal),
        ];
        ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, level)| *level)
    }
}

/// How a phase or a part of it ended, as JSON documents say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// `success`, `failure`, `error` or `timeout`.
    pub status: &'static str,
    /// For example `Runtime.ExitError`.
    pub error_type: Option<&'a str>,
}

impl<'a> Outcome<'a> {
    /// All is well.
    pub const SUCCESS: Self = Self { status: "success", error_type: None };

    /// The platform's own faults are failures, the function's are errors.
    #[must_use]
    pub fn new(status: Status<'a>) -> Self {
        match status {
            Status::Success => Self::SUCCESS,
            Status::Timeout => Self { status: "timeout", error_type: None },
            Status::Error(error_type) => {
                let platform = error_type.starts_with("Sandbox.");
                let status = if platform { "failure" } else { "error" };
                Self { status, error_type: Some(error_type) }
            }
        }
    }

    fn is_success(self) -> bool {
        self.status == "success"
    }

    fn write(self, record: &mut Object) {
        record.put("status", self.status);
        if let Some(error_type) = self.error_type {
            record.put("errorType", error_type);
        }
    }
}

/// A part of a phase with a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// `responseLatency`, `responseDuration`, `runtimeOverhead`, `extensionOverhead`.
    pub name: &'static str,
    /// When it began, wall time.
    pub start_ms: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
}

/// One thing that the platform says.
#[derive(Debug, Clone, Copy)]
pub enum PlatformEvent<'a> {
    /// `platform.initStart`
    InitStart {
        /// Why there is an environment, `on-demand` for example.
        initialization: &'static str,
        /// In which phase.
        phase: InitPhase,
        /// For example `provided:al2023.v1`.
        runtime_version: &'a str,
        /// Its ARN.
        runtime_version_arn: &'a str,
        /// The function.
        function_name: &'a str,
        /// Its version.
        function_version: Version,
        /// The log stream.
        instance_id: &'a str,
        /// MemorySize, MiB.
        memory_mib: u32,
    },
    /// `platform.initRuntimeDone`
    InitRuntimeDone {
        /// Why there is an environment, `on-demand` for example.
        initialization: &'static str,
        /// In which phase.
        phase: InitPhase,
        /// How it ended.
        outcome: Outcome<'a>,
    },
    /// `platform.initReport`
    InitReport {
        /// Why there is an environment, `on-demand` for example.
        initialization: &'static str,
        /// In which phase.
        phase: InitPhase,
        /// How it ended.
        status: Status<'a>,
        /// How long it took, microseconds.
        duration_us: u64,
    },
    /// `platform.start`
    Start {
        /// Of the invocation.
        request_id: RequestId,
        /// Of the function.
        version: Version,
        /// `X-Amzn-Trace-Id`.
        trace: Option<&'a str>,
    },
    /// `platform.runtimeDone`
    RuntimeDone {
        /// Of the invocation.
        request_id: RequestId,
        /// How it ended.
        outcome: Outcome<'a>,
        /// From the event's release, microseconds.
        duration_us: u64,
        /// Size of the response, bytes.
        produced_bytes: u64,
        /// Its parts.
        spans: &'a [Span],
        /// `X-Amzn-Trace-Id`.
        trace: Option<&'a str>,
    },
    /// `platform.end`, known to the Logs API alone.
    End {
        /// Of the invocation.
        request_id: RequestId,
    },
    /// `platform.report`
    Report {
        /// Its figures.
        report: Report<'a>,
        /// Its parts.
        spans: &'a [Span],
        /// `X-Amzn-Trace-Id`.
        trace: Option<&'a str>,
    },
    /// `platform.fault`, known to the Logs API alone.
    Fault {
        /// The whole line of text.
        text: &'a str,
    },
    /// `platform.extension`
    Extension {
        /// Its name.
        name: &'a str,
        /// Where it stands.
        state: &'a str,
        /// What it is told of.
        events: &'a [&'a str],
        /// What it said, or what the platform says of it.
        error_type: Option<&'a str>,
    },
    /// `platform.telemetrySubscription` or `platform.logsSubscription`
    Subscription {
        /// True for the legacy Logs API.
        legacy: bool,
        /// The extension.
        name: &'a str,
        /// `platform`, `function`, `extension`.
        types: &'a [&'a str],
    },
    /// `platform.logsDropped`
    LogsDropped {
        /// Their size.
        bytes: u64,
        /// Their number.
        records: u64,
        /// Why.
        reason: &'a str,
    },
}

/// Who is told of a [`PlatformEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Subscribers of either API.
    Both,
    /// Of the Telemetry API.
    Telemetry,
    /// Of the Telemetry API, and of the Logs API in its version `2021-03-18`.
    TelemetryAndNewLogs,
    /// Of the legacy Logs API.
    Logs,
}

impl PlatformEvent<'_> {
    /// The line of the text format; `None` for what is not said there.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::InitStart {
                phase: InitPhase::Init,
                runtime_version,
                runtime_version_arn,
                ..
            } => init_start_line(runtime_version, runtime_version_arn),
            // A phase that went well is told by `REPORT`.
            Self::InitStart { .. }
            | Self::InitRuntimeDone { .. }
            | Self::InitReport { status: Status::Success, .. }
            | Self::RuntimeDone { .. } => return None,
            Self::InitReport { phase, status, duration_us, .. } => {
                init_report_line(*duration_us, *phase, *status)
            }
            Self::Start { request_id, version, .. } => start_line(*request_id, *version),
            Self::End { request_id } => end_line(*request_id),
            Self::Report { report, .. } => report_line(report),
            Self::Fault { text } => (*text).to_owned(),
            Self::Extension { name, state, events, error_type } => {
                let events = events.join(", ");
                let error = error_type.map_or(String::new(), |t| format!("\tError Type: {t}"));
                format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{events}]{error}\n")
            }
            Self::Subscription { legacy, name, types } => {
                let api = if *legacy { "LOGS" } else { "TELEMETRY" };
                let types: Vec<String> = types.iter().map(|text| capitalised(text)).collect();
                let types = types.join(", ");
                format!("{api}\tName: {name}\tState: Subscribed\tTypes: [{types}]\n")
            }
            Self::LogsDropped { bytes, records, reason } => {
                format!("LOGS_DROPPED\tRecords: {records}\tBytes: {bytes}\tReason: {reason}\n")
            }
        })
    }

    /// `platform.…`
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InitStart { .. } => "platform.initStart",
            Self::InitRuntimeDone { .. } => "platform.initRuntimeDone",
            Self::InitReport { .. } => "platform.initReport",
            Self::Start { .. } => "platform.start",
            Self::RuntimeDone { .. } => "platform.runtimeDone",
            Self::End { .. } => "platform.end",
            Self::Report { .. } => "platform.report",
            Self::Fault { .. } => "platform.fault",
            Self::Extension { .. } => "platform.extension",
            Self::Subscription { legacy: false, .. } => "platform.telemetrySubscription",
            Self::Subscription { legacy: true, .. } => "platform.logsSubscription",
            Self::LogsDropped { .. } => "platform.logsDropped",
        }
    }

    /// Who is told.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::InitStart { .. } | Self::InitRuntimeDone { .. } | Self::InitReport { .. } => {
                Audience::Telemetry
            }
            Self::Subscription { legacy: false, .. } => Audience::Telemetry,
            Self::RuntimeDone { .. } => Audience::TelemetryAndNewLogs,
            Self::End { .. } | Self::Fault { .. } | Self::Subscription { legacy: true, .. } => {
                Audience::Logs
            }
            Self::Start { .. }
            | Self::Report { .. }
            | Self::Extension { .. }
            | Self::LogsDropped { .. } => Audience::Both,
        }
    }

    /// How much it matters in the JSON format; `None` for what that format does not have.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        let by = |success: bool, level| if success { level } else { Level::Warn };
        Some(match self {
            // Its runtime version is always known here.
            Self::InitStart { .. } | Self::Start { .. } | Self::Subscription { .. } => Level::Info,
            Self::InitRuntimeDone { outcome, .. } | Self::RuntimeDone { outcome, .. } => {
                by(outcome.is_success(), Level::Debug)
            }
            Self::InitReport { status, .. } => by(*status == Status::Success, Level::Debug),
            Self::Report { report, .. } => by(report.status == Status::Success, Level::Info),
            Self::Extension { error_type, .. } => by(error_type.is_none(), Level::Info),
            Self::LogsDropped { .. } => Level::Warn,
            Self::End { .. } | Self::Fault { .. } => return None,
        })
    }

    /// The JSON document, without a line break.
    #[must_use]
    pub fn json(&self, epoch_ms: u64) -> String {
        envelope(epoch_ms, self.name(), &self.record())
    }

    fn record(&self) -> String {
        let mut record = Object::default();
        match self {
            Self::InitStart {
                initialization,
                phase,
                runtime_version,
                runtime_version_arn,
                function_name,
                function_version,
                instance_id,
                memory_mib,
            } => {
                record.put("initializationType", *initialization);
                record.put("phase", phase_name(*phase));
                record.put("runtimeVersion", *runtime_version);
                record.put("runtimeVersionArn", *runtime_version_arn);
                record.put("functionName", *function_name);
                record.put("functionVersion", function_version.to_string());
                record.put("instanceId", *instance_id);
                record.put("instanceMaxMemory", u64::from(*memory_mib) << 20);
            }
            Self::InitRuntimeDone { initialization, phase, outcome } => {
                record.put("initializationType", *initialization);
                record.put("phase", phase_name(*phase));
                outcome.write(&mut record);
            }
            Self::InitReport { initialization, phase, status, duration_us } => {
                record.put("initializationType", *initialization);
                record.put("phase", phase_name(*phase));
                Outcome::new(*status).write(&mut record);
                let mut metrics = Object::default();
                metrics.put("durationMs", ms(*duration_us));
                record.raw("metrics", &metrics.finish());
            }
            Self::Start { request_id, version, trace } => {
                record.put("requestId", request_id.to_string());
                record.put("version", version.to_string());
                tracing(&mut record, *trace);
            }
            Self::RuntimeDone {
                request_id,
                outcome,
                duration_us,
                produced_bytes,
                spans: parts,
                trace,
            } => {
                record.put("requestId", request_id.to_string());
                outcome.write(&mut record);
                let mut metrics = Object::default();
                metrics.put("durationMs", ms(*duration_us));
                metrics.put("producedBytes", *produced_bytes);
                record.raw("metrics", &metrics.finish());
                spans(&mut record, parts);
                tracing(&mut record, *trace);
            }
            Self::End { request_id } => record.put("requestId", request_id.to_string()),
            Self::Report { report, spans: parts, trace } => {
                record.put("requestId", report.request_id.to_string());
                Outcome::new(report.status).write(&mut record);
                record.raw("metrics", &metrics(report));
                spans(&mut record, parts);
                tracing(&mut record, *trace);
            }
            Self::Fault { text } => return Value::from(*text).to_string(),
            Self::Extension { name, state, events, error_type } => {
                record.put("name", *name);
                record.put("state", *state);
                record.put("events", *events);
                if let Some(error_type) = error_type {
                    record.put("errorType", *error_type);
                }
            }
            Self::Subscription { legacy: _, name, types } => {
                record.put("name", *name);
                record.put("state", "Subscribed");
                record.put("types", *types);
            }
            Self::LogsDropped { bytes, records, reason } => {
                record.put("droppedBytes", *bytes);
                record.put("droppedRecords", *records);
                record.put("reason", *reason);
            }
        }
        record.finish()
    }
}

/// A JSON object whose keys keep the order in which they are put.
#[derive(Default)]
struct Object(String);

impl Object {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.raw(key, &value.into().to_string());
    }

    /// `value` is JSON.
    fn raw(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
        self.0.push_str(value);
    }

    fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// `{"time":…,"type":…,"record":…}` of one line of a guest's output: the line as a string without
/// its line break, or, when it is to be told as an `object`, what it holds.
#[must_use]
pub fn line_json(epoch_ms: u64, kind: &str, line: &[u8], object: bool) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    if object && serde_json::from_str::<BTreeMap<String, IgnoredAny>>(&text).is_ok() {
        return envelope(epoch_ms, kind, text.trim());
    }
    envelope(epoch_ms, kind, &Value::from(text).to_string())
}

fn envelope(epoch_ms: u64, name: &str, record: &str) -> String {
    format!("{{\"time\":\"{}\",\"type\":\"{name}\",\"record\":{record}}}", timestamp(epoch_ms))
}

fn metrics(report: &Report<'_>) -> String {
    let mut metrics = Object::default();
    metrics.put("durationMs", ms(report.duration_us));
    metrics.put("billedDurationMs", report.billed_ms());
    metrics.put("memorySizeMB", report.memory_size_mib);
    metrics.put("maxMemoryUsedMB", report.max_memory_used_mib);
    if let Some(init_us) = report.init_duration_us {
        metrics.put("initDurationMs", ms(init_us));
    }
    metrics.finish()
}

fn spans(record: &mut Object, spans: &[Span]) {
    if spans.is_empty() {
        return;
    }
    let spans: Vec<String> = spans
        .iter()
        .map(|span| {
            let mut object = Object::default();
            object.put("name", span.name);
            object.put("start", timestamp(span.start_ms));
            object.put("durationMs", ms(span.duration_us));
            object.finish()
        })
        .collect();
    record.raw("spans", &format!("[{}]", spans.join(",")));
}

/// Only of a trace that is sampled and has a root.
fn tracing(record: &mut Object, trace: Option<&str>) {
    let Some(value) = trace else { return };
    let part = |name: &str| {
        value.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    if part("Sampled") != Some("1") || part("Root").is_none_or(str::is_empty) {
        return;
    }
    let mut tracing = Object::default();
    if let Some(parent) = part("Parent").filter(|parent| !parent.is_empty()) {
        tracing.put("spanId", parent);
    }
    tracing.put("type", "X-Amzn-Trace-Id");
    tracing.put("value", value);
    record.raw("tracing", &tracing.finish());
}

fn phase_name(phase: InitPhase) -> &'static str {
    match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    }
}

/// Milliseconds, to the microsecond.
fn ms(us: u64) -> Value {
    // durations are far below 2^52 µs: exact to the microsecond
    #[allow(clippy::cast_precision_loss)]
    let ms = us as f64 / 1000.0;
    ms.into()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Whether an application's line is let through at `least`, in the JSON format. A JSON object says
/// its own level in the key `level`; one that does not say it is `INFO`. Other lines pass.
#[must_use]
pub fn passes(line: &[u8], least: Level) -> bool {
    #[derive(serde::Deserialize)]
    struct Leveled {
        #[serde(default)]
        level: Value,
    }
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        return true;
    }
    let Ok(object) = serde_json::from_slice::<Leveled>(line) else { return true };
    let level = object.level.as_str().and_then(Level::parse).unwrap_or(Level::Info);
    level >= least
}

#[cfg(test)]
mod tests;
