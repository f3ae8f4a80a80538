//! Idle environments go when the machine's memory runs short.

use lambfold_pool::{EnvironmentFactory, Pool};
use std::sync::Weak;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(1);
/// Available memory below this share of all memory is short.
const SHORT_PERCENT: u64 = 5;
/// Of the idle environments, those that go at a time: a quarter, but at least one.
const SHARE: u64 = 4;

/// Looks once a second, for as long as the pool exists.
pub(crate) async fn relieve<F: EnvironmentFactory>(pool: Weak<Pool<F>>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(pool) = pool.upgrade() else { return };
        let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return };
        if !is_short(&text) {
            continue;
        }
        let metrics = pool.metrics();
        let idle = metrics.idle.saturating_sub(metrics.provisioned);
        let shed = pool.shed(usize::try_from((idle / SHARE).max(1)).unwrap_or(1));
        if shed > 0 {
            tracing::warn!(
                environments = shed,
                "the machine's memory is short: idle execution environments were retired"
            );
        }
    }
}

fn is_short(meminfo: &str) -> bool {
    let value = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    match (value("MemTotal"), value("MemAvailable")) {
        (Some(total), Some(available)) => available < total / 100 * SHORT_PERCENT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_below_one_twentieth() {
        let meminfo = |available: u64| {
            format!(
                "MemTotal:        8000000 kB\nMemFree:  1 kB\nMemAvailable:    {available} kB\n"
            )
        };
        assert!(is_short(&meminfo(399_999)));
        assert!(!is_short(&meminfo(400_000)));
        assert!(!is_short("MemTotal: 8000000 kB\n"), "an old kernel does not say");
        assert!(!is_short("MemTotal: x kB\nMemAvailable: 1\n"));
    }
}
