//! Compares what came out with what a page shows. What differs from run to run is the same on both
//! sides: ids, times, durations, addresses. In a page, `…` stands for anything in a line, and on
//! a line of its own for any number of lines.

use regex::{NoExpand, Regex};
use std::sync::LazyLock;

/// What differs from run to run, and what it becomes; in this order.
static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let table = [
        (r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
        (r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16}", "<trace>"),
        (r"\d{4}/\d\d/\d\d/(\[[^\]]*\])[0-9a-f]{32}\b", "<stream>"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", "<time>"),
        (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\b", "<date>"),
        (r"\b\d+(\.\d+)? ms\b", "<n> ms"),
        (r"\bMax Memory Used: \d+ MB\b", "Max Memory Used: <n> MB"),
        // Milliseconds since the epoch, until the year 2286.
        (r"\b1\d{12}\b", "<epoch ms>"),
        (r"\b127\.0\.0\.1:\d+\b", "<address>"),
        (r"\(\d+ bytes of code\)", "(<n> bytes of code)"),
    ];
    table.into_iter().map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).collect()
});

fn normalise(text: &str) -> String {
    let mut text = text.replace('\r', "").replace('\t', " ");
    for (pattern, name) in VARYING.iter() {
        text = pattern.replace_all(&text, NoExpand(name)).into_owned();
    }
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Whether `actual` is what a page shows as `expected`; else both, normalised.
pub(crate) fn compare(expected: &str, actual: &str) -> Result<(), String> {
    let (expected, actual) = (normalise(expected), normalise(actual));
    let lines = expected.lines().map(|line| match line {
        "…" => r"(?s:.*\n)??".to_owned(),
        line => regex::escape(line).replace('…', r"[^\n]*") + r"\n",
    });
    let pattern = format!(r"\A{}\z", lines.collect::<String>());
    if Regex::new(&pattern).unwrap().is_match(&format!("{actual}\n")) {
        return Ok(());
    }
    Err(format!("--- the page shows\n{expected}\n--- the commands printed\n{actual}\n---"))
}

#[test]
fn ids_and_times_may_differ_and_nothing_else() {
    let page = "START RequestId: 11111111-2222-3333-4444-555555555555\n\
                REPORT\tDuration: 1.50 ms\tMax Memory Used: 5 MB\t\n";
    let run = "START RequestId: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\r\n\
               REPORT\tDuration: 10.25 ms\tMax Memory Used: 12 MB\t\r\n";
    assert_eq!(compare(page, run), Ok(()));
    let cold = run.replace("Max", "Init Duration: 3 ms\tMax");
    assert!(compare(page, &cold).is_err());
    assert!(compare(page, &format!("{run}more")).is_err());
    assert!(compare("2026-11-22T16:10:28.568Z a", "2027-01-02T03:04:05Z a").is_ok());
    assert!(compare("2026-11-22T16:10:28.568Z a", "2027-01-02T03:04:05Z b").is_err());
}

#[test]
fn an_ellipsis_stands_for_a_part_of_a_line_or_for_lines() {
    assert!(compare("a … c\n", "a b (b) c\n").is_ok());
    assert!(compare("a … c\n", "a b\nc\n").is_err());
    assert!(compare("a\n…\nd", "a\nb\nc\nd\n").is_ok());
    assert!(compare("a\n…\nd", "a\nd\n").is_ok());
    assert!(compare("a\n…\nd", "a\nb\n").is_err());
    assert!(compare("…\nd", "d\n").is_ok());
    assert!(compare("a\n…", "a\n").is_ok());
    assert!(compare("a.c", "abc").is_err());
}
