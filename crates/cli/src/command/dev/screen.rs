//! What is printed: lines for people, or one JSON object a line.

use super::lines::{Note, Report};
use crate::args::Format;
use crate::command::shared::show_time;
use crate::failure::Failure;
use crate::output;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) struct Screen {
    format: Format,
    /// Whoever read it went away.
    closed: AtomicBool,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        Self { format, closed: AtomicBool::new(false) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn data(&self, text: &str) {
        if output::line(text).is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    /// One of the two.
    fn say(&self, json: impl FnOnce() -> Value, text: impl FnOnce()) {
        match self.format {
            Format::Json => self.data(&json().to_string()),
            Format::Text => text(),
        }
    }

    pub(super) fn ready(&self, url: &str, function: &str, endpoint: &str, has_event: bool) {
        self.say(
            || json!({"Type": "ready", "Url": url, "FunctionName": function, "Endpoint": endpoint}),
            || {
                self.data(url);
                output::talk(&format!("function {function} on the server {endpoint}"));
                if has_event {
                    output::talk("Enter sends the event again, q ends");
                }
            },
        );
    }

    pub(super) fn reloaded(&self, version: &str, took: Duration, is_warm: bool) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.say(
            || json!({"Type": "reload", "Version": version, "Milliseconds": ms, "Warm": is_warm}),
            || output::talk(&format!("reloaded in {ms} ms")),
        );
    }

    /// `hints`: what is known of why.
    pub(super) fn failed_init(&self, reason: &str, hints: &[String]) {
        let text = "the function's init phase failed; its requests are answered with the error";
        self.say(
            || json!({"Type": "error", "Message": text, "Causes": [reason], "Hints": hints}),
            || {
                output::warn(text);
                hints.iter().for_each(|hint| output::hint(hint));
            },
        );
    }

    pub(super) fn cold(&self, why: &str) {
        let text = "the function could not be initialised ahead, so its first request is cold";
        self.say(
            || json!({"Type": "error", "Message": text, "Causes": [why], "Hints": []}),
            || output::warn(&format!("{text}: {why}")),
        );
    }

    pub(super) fn failure(&self, failure: &Failure) {
        let texts = |of: &str| {
            let lines = failure.lines().filter(|(kind, _)| *kind == of).map(|(_, text)| text);
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        self.say(
            || {
                json!({
                    "Type": "error", "Message": texts("error").first(),
                    "Causes": texts("caused by"), "Hints": texts("hint"),
                })
            },
            || output::report_failure(failure),
        );
    }

    pub(super) fn log(&self, epoch_ms: i64, message: &str) {
        let text = message.trim_end_matches(['\n', '\r']);
        self.say(
            || json!({"Type": "log", "Time": show_time(epoch_ms), "Message": text}),
            || self.data(text),
        );
    }

    pub(super) fn note(&self, note: &Note) {
        match note {
            Note::Request { id, method, target, status, elapsed, version, cold, report } => self.say(
                || {
                    json!({
                        "Type": "request", "Method": method, "Target": target, "Status": status,
                        "Milliseconds": millis(*elapsed), "Version": version, "Cold": cold,
                        "RequestId": id, "MaxMemoryMB": report.as_ref().and_then(|r| r.memory_mib),
                        "InitMilliseconds": report.as_ref().and_then(|r| r.init_ms).filter(|_| *cold),
                    })
                },
                || {
                    let rest = report.as_ref().map(|report| usage(report, *cold));
                    let rest = rest.unwrap_or_default();
                    self.data(&format!("{method} {target} {status} {:.1} ms{rest}", millis(*elapsed)));
                },
            ),
            Note::Response { id, payload, error, elapsed, cold, report } => {
                let text = String::from_utf8_lossy(payload);
                self.say(
                    || {
                        let value = serde_json::from_slice(payload)
                            .unwrap_or_else(|_| Value::from(text.as_ref()));
                        json!({
                            "Type": "response", "Payload": value, "FunctionError": error,
                            "Milliseconds": millis(*elapsed), "Cold": cold, "RequestId": id,
                            "MaxMemoryMB": report.memory_mib,
                        })
                    },
                    || {
                        let what = if error.is_some() { "error" } else { "event" };
                        let rest = usage(report, *cold);
                        let text = text.trim_end();
                        self.data(&format!("{what} {:.1} ms{rest}: {text}", millis(*elapsed)));
                    },
                );
            }
            Note::Failure(failure) => self.failure(failure),
            Note::Stop => {}
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn usage(report: &Report, cold: bool) -> String {
    let mut text = match (cold, report.init_ms) {
        (true, Some(init)) => format!(" cold (init {init:.1} ms)"),
        (true, None) => " cold".to_owned(),
        (false, _) => " warm".to_owned(),
    };
    if let Some(memory) = report.memory_mib {
        text.push_str(&format!(" {memory} MB"));
    }
    text
}
