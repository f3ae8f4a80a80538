//! Faults on purpose: who hears of them, and when they end.

use lambfold_fault::{Fault, Faults, Kind, Note};
use lambfold_gateway::Metric;
use lambfold_logs::Logs;
use lambfold_pool::Pool;
use lambfold_types::{Clock, FunctionVersion, Version};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::Notify;

use crate::factory::Factory;

/// Where a function's log says what no environment can say.
const LOG_STREAM: &str = "lambfold/faults";

/// What the journal needs of the server, as it becomes known.
#[derive(Default)]
struct Around {
    pool: OnceLock<Weak<Pool<Factory>>>,
    changed: Notify,
}

/// The server's faults, with a journal in the functions' logs and in the server's own.
pub(crate) struct OnPurpose {
    pub(crate) faults: Arc<Faults>,
    around: Arc<Around>,
}

impl OnPurpose {
    pub(crate) fn new(clock: Arc<dyn Clock>, logs: Logs) -> Self {
        let around: Arc<Around> = Arc::default();
        let hearing = Arc::clone(&around);
        let time = Arc::clone(&clock);
        let faults = Faults::new(clock, move |note| {
            let (fault, text) = match &note {
                Note::On(fault) => {
                    let lasts_s = fault.wish.lasts.as_secs();
                    let text = format!("fault on purpose, {fault}: on for {lasts_s} s");
                    warn(fault, &text);
                    (fault, text)
                }
                Note::Off(fault, why) => {
                    let effects = fault.effects;
                    let reason = why.reason();
                    let text = format!(
                        "fault on purpose, {fault}: off ({reason}); it acted {effects} times"
                    );
                    warn(fault, &text);
                    (fault, text)
                }
                Note::Effect { fault, what } => (fault, (*what).to_owned()),
            };
            let target = &fault.target;
            let stream = logs.stream(&target.scope, &target.log_group, LOG_STREAM);
            stream.push(time.epoch_ms(), format!("[lambfold] {text}\n").as_bytes());
            if let Note::On(fault) = note {
                hearing.begin(fault);
            }
        });
        Self { faults: Arc::new(faults), around }
    }

    /// Begins to end faults whose time is over; `pool` is for those that want cold starts.
    pub(crate) fn run(&self, pool: &Arc<Pool<Factory>>) {
        // There is one pool.
        let _ = self.around.pool.set(Arc::downgrade(pool));
        let (faults, around) = (Arc::downgrade(&self.faults), Arc::clone(&self.around));
        tokio::spawn(async move {
            loop {
                let changed = around.changed.notified();
                let Some(next) = faults.upgrade().map(|faults| faults.expire()) else { return };
                match next {
                    // A little later, so that it is over then.
                    Some(left) => {
                        let _ =
                            tokio::time::timeout(left + Duration::from_millis(1), changed).await;
                    }
                    None => changed.await,
                }
            }
        });
    }
}

impl Around {
    fn begin(&self, fault: &Fault) {
        self.changed.notify_one();
        // A function that is warm would not see it. What is provisioned stays: it is only ever of
        // published versions.
        if fault.wish.kind == Kind::InitTimeout
            && let Some(pool) = self.pool.get().and_then(Weak::upgrade)
        {
            let is_meant = |version: &FunctionVersion| {
                version.version == Version::Latest && fault.target.holds(version)
            };
            pool.forget(is_meant);
        }
    }
}

fn warn(fault: &Fault, text: &str) {
    let region = fault.target.scope.region.as_str();
    tracing::warn!(function = %fault.target.function, region, "{text}");
}

pub(crate) fn metrics(faults: &Faults) -> Vec<Metric> {
    // counters far below 2^52: exact
    #[allow(clippy::cast_precision_loss)]
    let metric = |name, help, value: u64| Metric { name, help, value: value as f64 };
    vec![
        metric(
            "lambfold_faults",
            "Faults on purpose that are on; nought where nobody tries anything.",
            faults.count() as u64,
        ),
        metric(
            "lambfold_fault_effects_total",
            "Times that faults on purpose acted.",
            faults.effects(),
        ),
    ]
}
