//! From what bash says about a failure to what the caller reads.

use std::fs;
use std::io::Read;

use lambfold_runtime_client::{FunctionError, quote};

use crate::report::Failure;

/// How much of a handler file is searched for a line, in bytes.
const MAX_SEARCHED_BYTES: u64 = 1 << 20;

/// `handler` is the name that the message begins with.
pub(crate) fn function_error(handler: &str, mut failure: Failure) -> FunctionError {
    let mut message = format!("{handler} exited with status {}", failure.status);
    if let Some(signal) = signal_name(failure.status) {
        message.push_str(&format!(" ({signal})"));
    }
    if let Some(command) = &failure.command {
        if let Some(frame) = failure.stack.first_mut() {
            if frame.line == 0 {
                frame.line = find_line(&frame.path, command).unwrap_or(0);
            }
            message.push_str(&match frame.line {
                0 => format!(" in {}", frame.path),
                line => format!(" at {}:{line}", frame.path),
            });
        }
        message.push_str(&format!(": {command}"));
    }
    FunctionError::new("Function.ExitError", message).with_stack(failure.stack)
}

/// The shape that the retired bash-lambda-layer gave to errors: what stood on stderr as stack.
pub(crate) fn compat_error(status: i32, stderr: &[u8]) -> FunctionError {
    let message = format!("Exited with code {status}");
    let body = format!(
        "{{\"errorMessage\":{},\"errorType\":\"RuntimeErrorException\",\"stackTrace\":{}}}",
        quote(&message),
        quote(String::from_utf8_lossy(stderr).trim_end_matches('\n'))
    );
    FunctionError::new("RuntimeErrorException", message).with_body(body)
}

/// Bash does not say on which line an `exit` or a `return` stands: it is the line that reads like
/// the command, if there is exactly one.
fn find_line(path: &str, command: &str) -> Option<u32> {
    let wanted = command.lines().next()?.trim();
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(MAX_SEARCHED_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut matching = text.lines().zip(1..).filter(|(line, _)| holds_command(line, wanted));
    match (matching.next(), matching.next()) {
        (Some((_, number)), None) => Some(number),
        _ => None,
    }
}

fn holds_command(line: &str, command: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
    line.match_indices(command).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + command.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part) && !line[..at].contains('#')
    })
}

fn signal_name(status: i32) -> Option<&'static str> {
    Some(match status - 128 {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambfold_runtime_client::Frame;

    #[test]
    fn a_line_is_found_when_it_is_the_only_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f.sh");
        fs::write(
            &path,
            "f() {\n  [[ $1 ]] || exit 3\n  exit 33\n  return 1\n  return 1\n}\n# exit 5\n",
        )
        .expect("a file");
        let path = path.to_str().expect("text");
        assert_eq!(find_line(path, "exit 3"), Some(2));
        assert_eq!(find_line(path, "exit 33"), Some(3));
        assert_eq!(find_line(path, "return 1"), None);
        assert_eq!(find_line(path, "exit 5"), None);
        assert_eq!(find_line("/nowhere", "exit 3"), None);
    }

    #[test]
    fn the_message_says_status_place_and_command() {
        let stack = vec![Frame { label: "f".into(), path: "/t/f.sh".into(), line: 4 }];
        let failure = Failure { status: 2, command: Some("ls x".into()), stack };
        let error = function_error("f.handler", failure);
        assert_eq!(error.message(), "f.handler exited with status 2 at /t/f.sh:4: ls x");
        assert_eq!(error.stack().len(), 1);
        let error = function_error("f.sh", Failure { status: 137, ..Failure::default() });
        assert_eq!(error.message(), "f.sh exited with status 137 (SIGKILL)");
    }
}
