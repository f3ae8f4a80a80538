//! The platform's own log lines in text format, to the byte (behaviour spec §4.4).

use lambfold_types::{RequestId, Version};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How an invoke phase or an init phase ended, as `REPORT` and `INIT_REPORT` say it.
///
/// Errors that the runtime itself reported through `/error` of an invocation are a
/// [`Status::Success`] here: AWS adds no status for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status<'a> {
    /// Nothing is added.
    Success,
    /// `Status: timeout`
    Timeout,
    /// `Status: error` with its error type, for example `Runtime.ExitError`.
    Error(&'a str),
}

/// Which phase an `INIT_REPORT` line speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitPhase {
    /// The init phase proper.
    Init,
    /// The init that is tried again inside the first invoke.
    Invoke,
}

/// The figures of a `REPORT` line.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Of the invocation.
    pub request_id: RequestId,
    /// Length of the invoke phase, microseconds, already capped at the function's timeout.
    pub duration_us: u64,
    /// Length of the init phase, microseconds; only with the first invocation after a
    /// successful one. It is billed (AWS since August 2025, all runtimes).
    pub init_duration_us: Option<u64>,
    /// MemorySize, MiB (AWS writes `MB`).
    pub memory_size_mib: u32,
    /// The kernel's peak, MiB, rounded up by the caller.
    pub max_memory_used_mib: u64,
    /// How it ended.
    pub status: Status<'a>,
}

impl Report<'_> {
    /// What is billed, milliseconds: duration and init duration, rounded up, at least 1.
    #[must_use]
    pub fn billed_ms(&self) -> u64 {
        (self.duration_us + self.init_duration_us.unwrap_or(0)).div_ceil(1000).max(1)
    }
}

/// Microseconds as milliseconds with two decimals, as C's `%.2f` writes them.
#[must_use]
pub fn milliseconds(us: u64) -> String {
    let hundredths = (us + 5) / 10;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// `INIT_START Runtime Version: …` for example `provided:al2023.v1` and its ARN.
#[must_use]
pub fn init_start_line(runtime_version: &str, runtime_version_arn: &str) -> String {
    format!(
        "INIT_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_version_arn}\n"
    )
}

/// `START RequestId: …`
#[must_use]
pub fn start_line(request_id: RequestId, version: Version) -> String {
    format!("START RequestId: {request_id} Version: {version}\n")
}

/// `END RequestId: …`
#[must_use]
pub fn end_line(request_id: RequestId) -> String {
    format!("END RequestId: {request_id}\n")
}

/// `REPORT RequestId: …`
#[must_use]
pub fn report_line(report: &Report<'_>) -> String {
    use std::fmt::Write as _;
    let mut line = format!(
        "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
        report.request_id,
        milliseconds(report.duration_us),
        report.billed_ms(),
        report.memory_size_mib,
        report.max_memory_used_mib,
    );
    if let Some(init_us) = report.init_duration_us {
        let _ = write!(line, "Init Duration: {} ms\t", milliseconds(init_us));
    }
    push_status(&mut line, report.status);
    line.push('\n');
    line
}

/// `INIT_REPORT Init Duration: …`; in text format only for init phases that failed.
#[must_use]
pub fn init_report_line(duration_us: u64, phase: InitPhase, status: Status<'_>) -> String {
    let phase = match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    };
    let mut line =
        format!("INIT_REPORT Init Duration: {} ms\tPhase: {phase}\t", milliseconds(duration_us));
    push_status(&mut line, status);
    if status == Status::Success {
        line.pop();
    }
    line.push('\n');
    line
}

fn push_status(line: &mut String, status: Status<'_>) {
    match status {
        Status::Success => {}
        Status::Timeout => line.push_str("Status: timeout"),
        Status::Error(error_type) => {
            line.push_str("Status: error\tError Type: ");
            line.push_str(error_type);
        }
    }
}

/// The line after `REPORT` that says why the environment failed; one event of two lines.
#[must_use]
pub fn fault_line(request_id: Option<RequestId>, text: &str, error_type: &str) -> String {
    match request_id {
        Some(id) => format!("RequestId: {id} Error: {text}\n{error_type}\n"),
        None => format!("Error: {text}\n{error_type}\n"),
    }
}

/// `<time> <request id> Task timed out after 3.00 seconds`, with its empty line.
#[must_use]
pub fn timeout_line(epoch_ms: u64, request_id: RequestId, timeout_s: u32) -> String {
    let time = timestamp(epoch_ms);
    format!("{time} {request_id} Task timed out after {timeout_s}.00 seconds\n\n")
}

/// `2026-01-02T03:04:05.678Z`
#[must_use]
pub fn timestamp(epoch_ms: u64) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    instant(epoch_ms).format(FORMAT).unwrap_or_default()
}

/// The name of an environment's log stream, `YYYY/MM/DD/[version]<32 hexadecimal digits>`;
/// `unique` is random and new for every environment.
#[must_use]
pub fn stream_name(epoch_ms: u64, version: Version, unique: u128) -> String {
    let date = instant(epoch_ms);
    format!(
        "{:04}/{:02}/{:02}/[{version}]{unique:032x}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

fn instant(epoch_ms: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RequestId {
        RequestId::parse("11111111-2222-4333-8444-555555555555").expect("a request id")
    }

    #[test]
    fn lines_of_a_cold_and_a_warm_invocation() {
        assert_eq!(
            init_start_line("provided:al2023.v1", "arn:aws:lambda:us-east-1::runtime:00"),
            "INIT_START Runtime Version: provided:al2023.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:00\n"
        );
        assert_eq!(
            start_line(id(), Version::Latest),
            "START RequestId: 11111111-2222-4333-8444-555555555555 Version: $LATEST\n"
        );
        assert_eq!(end_line(id()), "END RequestId: 11111111-2222-4333-8444-555555555555\n");
        let mut report = Report {
            request_id: id(),
            duration_us: 5_000_000,
            init_duration_us: Some(578_070),
            memory_size_mib: 128,
            max_memory_used_mib: 36,
            status: Status::Success,
        };
        assert_eq!(
            report_line(&report),
            "REPORT RequestId: 11111111-2222-4333-8444-555555555555\tDuration: 5000.00 ms\tBilled Duration: 5579 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 578.07 ms\t\n"
        );
        report.duration_us = 2_901;
        report.init_duration_us = None;
        assert_eq!(
            report_line(&report),
            "REPORT RequestId: 11111111-2222-4333-8444-555555555555\tDuration: 2.90 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n"
        );
    }

    #[test]
    fn a_failure_is_named_after_the_last_field() {
        let mut report = Report {
            request_id: id(),
            duration_us: 3_000_000,
            init_duration_us: None,
            memory_size_mib: 128,
            max_memory_used_mib: 9,
            status: Status::Timeout,
        };
        assert!(report_line(&report).ends_with("\tMax Memory Used: 9 MB\tStatus: timeout\n"));
        report.status = Status::Error("Runtime.ExitError");
        report.init_duration_us = Some(1_000);
        assert!(
            report_line(&report).ends_with(
                "\tInit Duration: 1.00 ms\tStatus: error\tError Type: Runtime.ExitError\n"
            )
        );
        assert_eq!(
            init_report_line(
                150_790,
                InitPhase::Init,
                Status::Error("Runtime.UserCodeSyntaxError")
            ),
            "INIT_REPORT Init Duration: 150.79 ms\tPhase: init\tStatus: error\tError Type: Runtime.UserCodeSyntaxError\n"
        );
        assert_eq!(
            init_report_line(9_999_790, InitPhase::Invoke, Status::Timeout),
            "INIT_REPORT Init Duration: 9999.79 ms\tPhase: invoke\tStatus: timeout\n"
        );
    }

    #[test]
    fn fault_and_timeout_lines() {
        assert_eq!(
            fault_line(Some(id()), "Runtime exited with error: exit status 1", "Runtime.ExitError"),
            "RequestId: 11111111-2222-4333-8444-555555555555 Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"
        );
        assert_eq!(
            timeout_line(1_767_323_045_678, id(), 3),
            "2026-01-02T03:04:05.678Z 11111111-2222-4333-8444-555555555555 Task timed out after 3.00 seconds\n\n"
        );
    }

    #[test]
    fn milliseconds_round_to_two_decimals_and_bills_round_up() {
        for (us, text) in [(0, "0.00"), (4, "0.00"), (5, "0.01"), (9_994, "9.99"), (9_995, "10.00")]
        {
            assert_eq!(milliseconds(us), text, "{us} µs");
        }
        let billed = |duration_us| {
            let status = Status::Success;
            let (memory_size_mib, max_memory_used_mib, init_duration_us) = (128, 1, None);
            let request_id = id();
            Report {
                request_id,
                duration_us,
                init_duration_us,
                memory_size_mib,
                max_memory_used_mib,
                status,
            }
            .billed_ms()
        };
        assert_eq!([billed(0), billed(1), billed(1000), billed(1001)], [1, 1, 1, 2]);
    }

    #[test]
    fn stream_names_carry_date_version_and_32_digits() {
        assert_eq!(
            stream_name(1_767_323_045_678, Version::Latest, 0xabc),
            format!("2026/01/02/[$LATEST]{}abc", "0".repeat(29))
        );
        assert_eq!(
            stream_name(0, Version::Published(7), u128::MAX),
            format!("1970/01/01/[7]{}", "f".repeat(32))
        );
    }
}
