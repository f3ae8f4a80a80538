//! `/metrics`: what is really counted, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// One metric of another part of the server, for example the pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// With the prefix `lambfold_`; a counter's name ends in `_total`.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    /// Now.
    pub value: f64,
}

/// Counters of the gateway.
#[derive(Debug)]
pub(crate) struct Counters {
    started: f64,
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
    invocations: [AtomicU64; 3],
    function_errors: AtomicU64,
    answers: [AtomicU64; 5],
}

/// What an invocation is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

const KINDS: [&str; 3] = ["RequestResponse", "Event", "DryRun"];

impl Counters {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: now.as_secs_f64(),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            invocations: Default::default(),
            function_errors: AtomicU64::new(0),
            answers: Default::default(),
        }
    }

    pub(crate) fn invoked(&self, kind: Kind) {
        self.invocations[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn function_error(&self) {
        self.function_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn page(&self, others: &[Metric]) -> String {
        let mut page = String::new();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        head(&mut page, "lambfold_invocations_total", "Invoke requests accepted.", "counter");
        for (kind, counter) in KINDS.iter().zip(&self.invocations) {
            let _ =
                writeln!(page, "lambfold_invocations_total{{type=\"{kind}\"}} {}", get(counter));
        }
        let name = "lambfold_function_errors_total";
        head(&mut page, name, "Synchronous invocations that ended in a function error.", "counter");
        let _ = writeln!(page, "{name} {}", get(&self.function_errors));
        head(&mut page, "lambfold_http_answers_total", "Answers by class of status.", "counter");
        for (class, counter) in (1..).zip(&self.answers) {
            let _ = writeln!(
                page,
                "lambfold_http_answers_total{{class=\"{class}xx\"}} {}",
                get(counter)
            );
        }
        let name = "lambfold_http_refused_total";
        head(&mut page, name, "Requests refused as a web page's.", "counter");
        let _ = writeln!(page, "{name} {}", get(&self.refused));
        let name = "lambfold_http_connections";
        head(&mut page, name, "Open connections.", "gauge");
        let _ = writeln!(page, "{name} {}", get(&self.connections));
        for metric in others {
            let kind = if metric.name.ends_with("_total") { "counter" } else { "gauge" };
            head(&mut page, metric.name, metric.help, kind);
            let _ = writeln!(page, "{} {}", metric.name, metric.value);
        }
        let name = "process_start_time_seconds";
        head(&mut page, name, "When the server started, seconds since the epoch.", "gauge");
        let _ = writeln!(page, "{name} {:.3}", self.started);
        if let Some(bytes) = resident_bytes() {
            let name = "process_resident_memory_bytes";
            head(&mut page, name, "Resident memory of the server process.", "gauge");
            let _ = writeln!(page, "{name} {bytes}");
        }
        page
    }
}

fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_counted() {
        let counters = Counters::new();
        counters.invoked(Kind::Event);
        counters.answered(202);
        counters.answered(404);
        let others = [Metric { name: "lambfold_cold_starts_total", help: "x", value: 3.0 }];
        let page = counters.page(&others);
        assert!(page.contains("lambfold_invocations_total{type=\"Event\"} 1\n"));
        assert!(page.contains("lambfold_http_answers_total{class=\"4xx\"} 1\n"));
        assert!(
            page.contains(
                "# TYPE lambfold_cold_starts_total counter\nlambfold_cold_starts_total 3\n"
            )
        );
        assert!(page.contains("process_resident_memory_bytes "));
    }
}
