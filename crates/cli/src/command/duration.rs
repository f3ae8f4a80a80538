//! Durations as people write them.

use std::time::Duration;

/// A number with `ms`, `s`, `m` or `h`; `None` for anything else, and for what no clock counts.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// The other way round, in at most two units.
pub(crate) fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{ms}ms"),
        1..60 if !ms.is_multiple_of(1_000) => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ if (seconds % 3_600) < 60 => format!("{}h", seconds / 3_600),
        _ => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_units() {
        for (text, ms) in
            [("10m", 600_000), ("0s", 0), ("200ms", 200), ("24h", 86_400_000), ("007s", 7_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "1.5s",
            "-1s",
            "1d",
            "1 s",
            "1S",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_left_is_short() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1500ms"),
            (2_000, "2s"),
            (60_000, "1m"),
            (599_001, "9m59s"),
            (3_600_000, "1h"),
            (86_399_000, "23h59m"),
        ] {
            assert_eq!(show(Duration::from_millis(ms)), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,12}", number in any::<u64>(), unit in "(ms|s|m|h|d)") {
            let _ = parse(&text);
            let _ = parse(&format!("{number}{unit}"));
        }

        #[test]
        fn what_is_shown_whole_leads_back(ms in 0u64..60_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(duration)), Some(duration));
        }
    }
}
