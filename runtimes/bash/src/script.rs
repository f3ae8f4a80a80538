//! A handler that is a script of its own: started for each event.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lambfold_runtime_client::Invocation;

use crate::config::Config;
use crate::coprocess::{Files, OPTIONAL_CONTEXT, bash, context};
use crate::lane::{Reports, memory_file};
use crate::process::Process;
use crate::shell::{DRIVER, push_assignment};

/// The longest single argument that Linux passes on, in bytes, without its NUL (MAX_ARG_STRLEN).
pub(crate) const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

#[derive(Debug)]
pub(crate) struct Script {
    path: PathBuf,
    kind: Kind,
    pub(crate) reports: Reports,
    number: u64,
}

/// How a script is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By itself, and it is a bash script.
    Bash,
    /// By itself, whatever it is.
    Program,
    /// By our bash: it is not executable, or does not say what it is.
    Sourceless,
}

impl Script {
    pub(crate) fn new(path: &Path) -> io::Result<Script> {
        Ok(Script {
            path: path.to_owned(),
            kind: kind(path)?,
            reports: Reports::new(0)?,
            number: 0,
        })
    }

    /// Starts the script for an event. What has to stay open until it ends comes with it.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        event: &Invocation,
        files: &Files,
    ) -> io::Result<Started> {
        self.number += 1;
        let driver = match self.kind {
            Kind::Program => None,
            Kind::Bash | Kind::Sourceless => Some(memory_file(&self.driver())?),
        };
        let mut command = match self.kind {
            Kind::Bash | Kind::Program => Command::new(&self.path),
            Kind::Sourceless => {
                let mut command = bash(config);
                command.arg(&self.path);
                command
            }
        };
        if std::env::var_os("HOME").is_none_or(|home| home.is_empty()) {
            command.env("HOME", "/tmp");
        }
        command.current_dir(&config.root);
        if let Some(driver) = &driver {
            command.env("BASH_ENV", own_path(driver));
        }
        set_context(&mut command, event);
        let argument: Vec<u8> = event.body().iter().copied().filter(|byte| *byte != 0).collect();
        if event.body().len() <= MAX_ARGUMENT_BYTES {
            use std::os::unix::ffi::OsStrExt;
            command.arg(std::ffi::OsStr::from_bytes(&argument));
        }
        // Opened anew, so that the script reads from the beginning and cannot write.
        command.stdin(File::open(own_path(&files.stdin))?);
        command.stdout(OpenOptions::new().write(true).open(own_path(files.output.writer()))?);
        let process = Process::start(&mut command)?;
        Ok(Started { process, number: self.number, _driver: driver })
    }

    /// What a bash script reads before its own text: the functions for handlers, and the traps that
    /// tell which of its lines failed. BASH_ENV is put back first, for bashes that it starts.
    fn driver(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(DRIVER.len() + 1024);
        let reports = format!("/proc/{}/fd/{}", std::process::id(), self.reports.pipe.number());
        push_assignment(&mut text, "__lambfold_reports", reports);
        push_assignment(&mut text, "__lambfold_event_number", self.number.to_string());
        push_assignment(&mut text, "__lambfold_mode", "script");
        push_assignment(&mut text, "__lambfold_file", &self.path);
        push_assignment(&mut text, "__lambfold_function", "main");
        let before = std::env::var_os("BASH_ENV");
        match &before {
            Some(before) => push_assignment(&mut text, "BASH_ENV", before),
            None => text.extend_from_slice(b"unset BASH_ENV\n"),
        }
        text.extend_from_slice(DRIVER);
        if before.is_some() {
            text.extend_from_slice(b"if [[ -r $BASH_ENV ]]; then source \"$BASH_ENV\"; fi\n");
        }
        text
    }
}

/// A script that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) number: u64,
    /// Bash opens it by path while it starts.
    _driver: Option<OwnedFd>,
}

fn own_path(file: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn set_context(command: &mut Command, event: &Invocation) {
    for name in OPTIONAL_CONTEXT {
        command.env_remove(name);
    }
    for (name, value) in context(event) {
        command.env(name, value.replace('\0', ""));
    }
}

fn kind(path: &Path) -> io::Result<Kind> {
    let file = File::open(path)?;
    let is_executable = file.metadata()?.permissions().mode() & 0o111 != 0;
    let mut line = Vec::new();
    BufReader::new(file.take(4096)).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    let names_bash = || line.split([' ', '\t', '/', '\r', '\n', '!']).any(|word| word == "bash");
    Ok(match line.strip_prefix("#!") {
        // `#!/bin/bash` with CR LF asks for a program whose name ends in CR.
        Some(interpreter) if is_executable && !interpreter.contains('\r') => match names_bash() {
            true => Kind::Bash,
            false => Kind::Program,
        },
        None if is_executable && line.starts_with("\u{7f}ELF") => Kind::Program,
        _ => Kind::Sourceless,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_how_it_is_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("script");
        let of = |content: &[u8], mode: u32| {
            std::fs::write(&path, content).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            kind(&path).expect("readable")
        };
        assert_eq!(of(b"#!/bin/bash\n", 0o755), Kind::Bash);
        assert_eq!(of(b"#!/usr/bin/env bash\n", 0o755), Kind::Bash);
        assert_eq!(of(b"#!/usr/bin/env -S bash -e\n", 0o755), Kind::Bash);
        assert_eq!(of(b"#!/usr/bin/python3\n", 0o755), Kind::Program);
        assert_eq!(of(b"#!/bin/sh\n", 0o755), Kind::Program);
        assert_eq!(of(b"\x7fELF\x02\x01\n", 0o755), Kind::Program);
        assert_eq!(of(b"#!/bin/bash\n", 0o644), Kind::Sourceless);
        assert_eq!(of(b"#!/bin/bash\r\n", 0o755), Kind::Sourceless);
        assert_eq!(of(b"echo\n", 0o755), Kind::Sourceless);
        assert_eq!(of(b"", 0o644), Kind::Sourceless);
    }
}
