//! Why an environment failed, in AWS's words (behaviour specification §4.3).

use crate::context::EXTENSIONS_FOLDER;
use crate::phase::platform_answer;
use bytes::Bytes;
use lambfold_logs::{Status, fault_line, timeout_line};
use lambfold_runtime_api::{EXTENSIONS, ExtensionError, ShutdownReason};
use lambfold_sandbox::ExitStatus;
use lambfold_types::{Answer, RequestId};
use std::borrow::Cow;
use std::sync::Arc;

/// Where a bootstrap is looked for, in this order.
pub(crate) const BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];

/// A reason that ends a phase; the first one wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bootstrap's own process ended.
    Exit(ExitStatus),
    /// The kernel killed it at the memory limit.
    OutOfMemory,
    /// The phase's time is over.
    Timeout {
        /// The function's timeout, seconds.
        timeout_s: u32,
    },
    /// Neither place has a bootstrap.
    NoBootstrap,
    /// The bootstrap could not be executed.
    Execute {
        /// The one that was tried.
        program: String,
        /// The kernel's reason.
        errno: i32,
    },
    /// The runtime said that its init failed.
    Init {
        /// As classified.
        error_type: Box<str>,
    },
    /// An extension's process ended, or it said that it has to.
    Extension {
        /// Its name.
        name: Arc<str>,
        /// What it announced.
        announced: Option<ExtensionError>,
        /// How its process ended; `None`: it has not.
        status: Option<ExitStatus>,
    },
    /// An external extension could not be executed.
    ExtensionLaunch {
        /// Its name.
        name: Arc<str>,
        /// The kernel's reason.
        errno: i32,
    },
    /// There are more external extensions than an environment may have.
    TooManyExtensions,
    /// The sandbox is lost, or the platform failed in another way.
    Sandbox,
}

impl Fault {
    pub(crate) fn error_type(&self) -> &str {
        match self {
            Self::Exit(_) => "Runtime.ExitError",
            Self::OutOfMemory => "Runtime.OutOfMemory",
            Self::Timeout { .. } => "Sandbox.Timedout",
            Self::NoBootstrap | Self::Execute { .. } => "Runtime.InvalidEntrypoint",
            Self::Init { error_type } => error_type,
            Self::Extension { announced: None, .. } => "Extension.Crash",
            Self::Extension { announced: Some(ExtensionError::Init), .. } => "Extension.InitError",
            Self::Extension { announced: Some(ExtensionError::Exit), .. } => "Extension.ExitError",
            Self::ExtensionLaunch { .. } | Self::TooManyExtensions => "Extension.LaunchError",
            Self::Sandbox => "Sandbox.Failure",
        }
    }

    pub(crate) fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Exit(ExitStatus::Code(0)) => "Runtime exited without providing a reason".into(),
            Self::Exit(ExitStatus::Code(code)) => {
                format!("Runtime exited with error: exit status {code}").into()
            }
            Self::Exit(ExitStatus::Signal(signal)) => {
                format!("Runtime exited with error: signal: {}", signal_name(*signal)).into()
            }
            Self::OutOfMemory => "Runtime exited with error: signal: killed".into(),
            Self::Timeout { timeout_s } => {
                format!("Task timed out after {timeout_s}.00 seconds").into()
            }
            Self::NoBootstrap => {
                format!("Couldn't find valid bootstrap(s): [{}]", BOOTSTRAPS.join(" ")).into()
            }
            Self::Execute { program, errno } => {
                format!("fork/exec {program}: {}", errno_name(*errno)).into()
            }
            Self::Init { .. } => "Unknown application error occurred".into(),
            Self::Extension { status: Some(ExitStatus::Code(0)), .. } => "exit code 0".into(),
            Self::Extension { status: Some(ExitStatus::Code(code)), .. } => {
                format!("exit status {code}").into()
            }
            Self::Extension { status: Some(ExitStatus::Signal(signal)), .. } => {
                format!("signal: {}", signal_name(*signal)).into()
            }
            Self::Extension { name, status: None, .. } => {
                format!("extension {name} reported an error and did not exit").into()
            }
            Self::ExtensionLaunch { name, errno } => {
                format!("fork/exec {EXTENSIONS_FOLDER}/{name}: {}", errno_name(*errno)).into()
            }
            Self::TooManyExtensions => format!("Extension limit ({EXTENSIONS}) reached").into(),
            Self::Sandbox => "The execution environment was lost".into(),
        }
    }

    /// What the caller receives when the runtime said nothing better.
    pub(crate) fn payload(&self, request_id: RequestId) -> Bytes {
        let (error_type, text) = (self.error_type(), self.text());
        match self {
            Self::Init { .. } => format!(
                "{{\"errorMessage\":{},\"errorType\":{}}}",
                json_string(&text),
                json_string(error_type)
            )
            .into(),
            _ => error_payload(error_type, request_id, &text),
        }
    }

    /// The caller's result.
    pub(crate) fn answer(&self, request_id: RequestId) -> Answer {
        let stream_error = match self {
            Self::Timeout { .. } => "Sandbox.Timeout",
            _ => "Sandbox.Failure",
        };
        let answer = platform_answer(self.payload(request_id));
        Answer { stream_error: Some(stream_error.into()), ..answer }
    }

    /// Why SHUTDOWN is told.
    pub(crate) fn reason(&self) -> ShutdownReason {
        match self {
            Self::Timeout { .. } => ShutdownReason::Timeout,
            _ => ShutdownReason::Failure,
        }
    }

    /// What happened, for a reader who cannot know whose fault it was.
    pub(crate) fn notice(&self) -> String {
        match self {
            Self::Extension { name, .. } => format!("Extension {name} ended ({})", self.text()),
            _ => self.text().into_owned(),
        }
    }

    pub(crate) fn status(&self) -> Status<'_> {
        match self {
            Self::Timeout { .. } => Status::Timeout,
            _ => Status::Error(self.error_type()),
        }
    }

    /// The line after `REPORT`.
    pub(crate) fn line(&self, epoch_ms: u64, request_id: RequestId) -> String {
        match self {
            Self::Timeout { timeout_s } => timeout_line(epoch_ms, request_id, *timeout_s),
            _ => fault_line(Some(request_id), &self.text(), self.error_type()),
        }
    }
}

/// `{"errorType":…,"errorMessage":"RequestId: … Error: …"}`, keys in this order.
pub(crate) fn error_payload(error_type: &str, request_id: RequestId, text: &str) -> Bytes {
    let message = format!("RequestId: {request_id} Error: {text}");
    format!(
        "{{\"errorType\":{},\"errorMessage\":{}}}",
        json_string(error_type),
        json_string(&message)
    )
    .into()
}

/// An error type may come from a header of the runtime's and hold anything.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Names as Go's `syscall.Signal` has them on Linux: they are part of what callers see on AWS.
fn signal_name(signal: i32) -> Cow<'static, str> {
    match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        16 => "stack fault",
        17 => "child exited",
        18 => "continued",
        19 => "stopped (signal)",
        20 => "stopped",
        21 => "stopped (tty input)",
        22 => "stopped (tty output)",
        23 => "urgent I/O condition",
        24 => "CPU time limit exceeded",
        25 => "file size limit exceeded",
        26 => "virtual timer expired",
        27 => "profiling timer expired",
        28 => "window changed",
        29 => "I/O possible",
        30 => "power failure",
        31 => "bad system call",
        other => return format!("signal {other}").into(),
    }
    .into()
}

/// Names as Go's `syscall.Errno` has them, for what `execve` may answer.
fn errno_name(errno: i32) -> Cow<'static, str> {
    match errno {
        1 => "operation not permitted",
        2 => "no such file or directory",
        5 => "input/output error",
        7 => "argument list too long",
        8 => "exec format error",
        11 => "resource temporarily unavailable",
        12 => "cannot allocate memory",
        13 => "permission denied",
        20 => "not a directory",
        21 => "is a directory",
        22 => "invalid argument",
        24 => "too many open files",
        26 => "text file busy",
        36 => "file name too long",
        40 => "too many levels of symbolic links",
        80 => "accessing a corrupted shared library",
        other => return format!("errno {other}").into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(fault: &Fault) -> String {
        let id = RequestId::parse("11111111-2222-4333-8444-555555555555").expect("a request id");
        String::from_utf8(fault.payload(id).to_vec()).expect("UTF-8")
    }

    #[test]
    fn each_cause_has_its_result() {
        const PREFIX: &str = "RequestId: 11111111-2222-4333-8444-555555555555 Error: ";
        let extension =
            |announced, status| Fault::Extension { name: "e".into(), announced, status };
        let execute = |errno| Fault::Execute { program: BOOTSTRAPS[0].to_owned(), errno };
        for (fault, error_type, text) in [
            (
                Fault::Exit(ExitStatus::Code(127)),
                "Runtime.ExitError",
                "Runtime exited with error: exit status 127",
            ),
            (
                Fault::Exit(ExitStatus::Code(0)),
                "Runtime.ExitError",
                "Runtime exited without providing a reason",
            ),
            (
                Fault::Exit(ExitStatus::Signal(9)),
                "Runtime.ExitError",
                "Runtime exited with error: signal: killed",
            ),
            (
                Fault::Exit(ExitStatus::Signal(11)),
                "Runtime.ExitError",
                "Runtime exited with error: signal: segmentation fault",
            ),
            (
                Fault::Exit(ExitStatus::Signal(40)),
                "Runtime.ExitError",
                "Runtime exited with error: signal: signal 40",
            ),
            (
                Fault::OutOfMemory,
                "Runtime.OutOfMemory",
                "Runtime exited with error: signal: killed",
            ),
            (
                Fault::Timeout { timeout_s: 3 },
                "Sandbox.Timedout",
                "Task timed out after 3.00 seconds",
            ),
            (
                Fault::NoBootstrap,
                "Runtime.InvalidEntrypoint",
                "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]",
            ),
            (
                execute(13),
                "Runtime.InvalidEntrypoint",
                "fork/exec /var/task/bootstrap: permission denied",
            ),
            (
                execute(8),
                "Runtime.InvalidEntrypoint",
                "fork/exec /var/task/bootstrap: exec format error",
            ),
            (
                execute(2),
                "Runtime.InvalidEntrypoint",
                "fork/exec /var/task/bootstrap: no such file or directory",
            ),
            (extension(None, Some(ExitStatus::Code(0))), "Extension.Crash", "exit code 0"),
            (extension(None, Some(ExitStatus::Code(2))), "Extension.Crash", "exit status 2"),
            (
                extension(Some(ExtensionError::Init), Some(ExitStatus::Signal(9))),
                "Extension.InitError",
                "signal: killed",
            ),
            (
                extension(Some(ExtensionError::Exit), None),
                "Extension.ExitError",
                "extension e reported an error and did not exit",
            ),
            (
                Fault::ExtensionLaunch { name: "e".into(), errno: 13 },
                "Extension.LaunchError",
                "fork/exec /opt/extensions/e: permission denied",
            ),
            (Fault::TooManyExtensions, "Extension.LaunchError", "Extension limit (10) reached"),
        ] {
            assert_eq!(
                payload(&fault),
                format!(r#"{{"errorType":"{error_type}","errorMessage":"{PREFIX}{text}"}}"#)
            );
        }
        assert_eq!(
            payload(&Fault::Init { error_type: "Runtime.Unknown".into() }),
            r#"{"errorMessage":"Unknown application error occurred","errorType":"Runtime.Unknown"}"#
        );
    }
}
