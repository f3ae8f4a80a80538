//! The built program: its help, its exit codes, and its conversation with a scripted server.
#![allow(clippy::unwrap_used)]

mod code;
mod deploy;
mod help;
mod init;
mod invoke;
mod logs;
mod manual;
mod scripted;
mod usage;

use scripted::Scripted;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program, in a folder of its own choice, with nothing of this process's environment that
/// could change what it does.
fn lambfold(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lambfold"));
    let kept = std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR");
    let kept: Vec<_> = kept.collect();
    command.env_clear().envs(kept).args(args).stdin(Stdio::null());
    command
}

/// What came of a run.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Ran {
    ran(command.output().unwrap())
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a client command against the scripted server.
fn against(server: &Scripted, args: &[&str]) -> Ran {
    run(lambfold(args).env("AWS_ENDPOINT_URL", server.url()))
}

/// The same with something on its standard input.
fn fed(server: &Scripted, args: &[&str], input: &str) -> Ran {
    let mut command = lambfold(args);
    command.env("AWS_ENDPOINT_URL", server.url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    ran(child.wait_with_output().unwrap())
}

/// A file with a mode.
fn write(path: &Path, content: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
