//! A shell in place of the bootstrap: the same environment, behind the same walls, in which a person
//! plays the runtime.
//!
//! What is different: the first process is a shell whose stdin, stdout and stderr are the caller's;
//! neither the init phase nor an invocation has a deadline, and an idle environment is not frozen,
//! since who types in it would be, too. The event says the deadline that a runtime would have.

use crate::context::Context;
use crate::environment::Environment;
use crate::isolation::Cell;
use crate::launcher::{LaunchError, Launcher};
use lambfold_sandbox::{Command, ExitStatus, ProcessId};
use lambfold_types::{FunctionVersion, InitializationType};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

/// What is tried, the better ones first.
const SHELLS: [&str; 7] = [
    "/bin/bash",
    "/usr/bin/bash",
    "/usr/local/bin/bash",
    "/opt/bin/bash",
    "/bin/sh",
    "/usr/bin/sh",
    "/opt/bin/sh",
];
/// In place of a deadline: longer than anybody sits at a terminal.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Which stdin, stdout and stderr a shell has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellKind {
    /// A terminal.
    Terminal {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
        /// The value of `TERM`.
        name: String,
    },
    /// A pipe for each.
    Pipes,
}

/// How a shell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellEnd {
    /// It exited, or a signal ended it.
    Exited(ExitStatus),
    /// It was killed with everything else, because of a fault that ends a runtime: it reported that
    /// its init failed, or an extension ended.
    Reset,
    /// There is no shell in the environment's root file system.
    NoShell,
    /// Its environment was lost.
    Lost,
}

/// Our ends of what a shell reads and writes; none of them blocks.
#[derive(Debug)]
pub enum ShellStreams {
    /// Both ways.
    Terminal(AsyncFd<File>),
    /// One each.
    Pipes {
        /// The shell reads it.
        input: AsyncFd<File>,
        /// The shell writes it.
        output: AsyncFd<File>,
        /// The shell writes it.
        errors: AsyncFd<File>,
    },
}

/// A shell in an environment of its own.
#[derive(Debug)]
pub struct Shell {
    /// The environment; retire it to end the shell.
    pub environment: Arc<Environment>,
    /// What is typed and shown.
    pub streams: ShellStreams,
    /// Becomes ready when the runtime (whoever plays it) has asked for its first event; `Err` or
    /// false when that can no longer happen.
    pub ready: oneshot::Receiver<bool>,
    /// How it ended; `None` while it runs.
    pub end: watch::Receiver<Option<ShellEnd>>,
    /// Whether its `PATH` has curl.
    pub has_curl: bool,
}

/// What an environment with a shell keeps for it.
pub(crate) struct Place {
    /// The shell's ends, until it is started. A second one is never started.
    stdio: Mutex<Option<[OwnedFd; 3]>>,
    end: watch::Sender<Option<ShellEnd>>,
}

impl Place {
    /// Starts the shell.
    pub(crate) fn spawn(&self, cell: &dyn Cell, command: Command) -> io::Result<ProcessId> {
        let stdio = self.stdio.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some([input, output, errors]) = stdio else {
            return Err(io::Error::other("the shell of this environment has ended"));
        };
        cell.spawn_on(command, [input.as_fd(), output.as_fd(), errors.as_fd()])
    }

    /// It has ended; the first word counts.
    pub(crate) fn ended(&self, end: ShellEnd) {
        self.end.send_if_modified(|known| match known {
            None => {
                *known = Some(end);
                true
            }
            Some(_) => false,
        });
    }
}

impl Context {
    /// Starts the bootstrap, or the shell in its place.
    pub(crate) fn spawn_runtime(&self, cell: &dyn Cell) -> io::Result<ProcessId> {
        match &self.shell {
            Some(shell) => shell.spawn(cell, self.command.clone()),
            None => cell.spawn(self.command.clone(), None),
        }
    }

    /// The first process has ended.
    pub(crate) fn runtime_ended(&self, end: ShellEnd) {
        if let Some(shell) = &self.shell {
            shell.ended(end);
        }
    }
}

impl Launcher {
    /// Makes an environment with a shell in place of the bootstrap, and starts that. Returns as soon
    /// as it is started: whoever types in it decides when the init phase is over.
    ///
    /// Must be called within a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// When the platform could not make the sandbox, or no descriptor is left.
    pub async fn launch_shell(
        self: &Arc<Self>,
        version: Arc<FunctionVersion>,
        kind: ShellKind,
    ) -> Result<Shell, LaunchError> {
        let failed = |source| LaunchError::Descriptors {
            function: version.name.as_str().to_owned(),
            source,
        };
        let (streams, stdio) = open(&kind).map_err(failed)?;
        let (sender, end) = watch::channel(None);
        let place = Place { stdio: Mutex::new(Some(stdio)), end: sender };
        let change = move |command: &mut Command| {
            command.programs = SHELLS.map(str::to_owned).to_vec();
            command.args.clear();
            if let ShellKind::Terminal { name, .. } = kind {
                command.env.retain(|(variable, _)| variable != "TERM");
                command.env.push(("TERM".to_owned(), name));
            }
        };
        let (sender, ready) = oneshot::channel();
        let shell = Some((place, Box::new(change) as _));
        let environment =
            self.make(Arc::clone(&version), InitializationType::OnDemand, shell, sender).await?;
        let has_curl = has_program(&environment, "curl");
        Ok(Shell { environment, streams, ready, end, has_curl })
    }
}

type Opened = (ShellStreams, [OwnedFd; 3]);

fn open(kind: &ShellKind) -> io::Result<Opened> {
    match kind {
        ShellKind::Terminal { rows, columns, .. } => {
            let (ours, theirs) = lambfold_sandbox::terminal(*rows, *columns)?;
            let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs];
            Ok((ShellStreams::Terminal(both_ways(ours)?), stdio))
        }
        ShellKind::Pipes => {
            let (input, ours) = lambfold_sandbox::input_pipe()?;
            let (output, stdout) = lambfold_sandbox::output_pipe()?;
            let (errors, stderr) = lambfold_sandbox::output_pipe()?;
            let streams = ShellStreams::Pipes {
                input: register(ours, Interest::WRITABLE)?,
                output: register(output, Interest::READABLE)?,
                errors: register(errors, Interest::READABLE)?,
            };
            Ok((streams, [input, stdout, stderr]))
        }
    }
}

fn both_ways(terminal: OwnedFd) -> io::Result<AsyncFd<File>> {
    register(terminal, Interest::READABLE | Interest::WRITABLE)
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe: its caller promises that the descriptor stays open and \
              the same. `File` owns its own and keeps that promise by itself"
)]
fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<File>> {
    AsyncFd::with_interest(File::from(descriptor), interest)
}

/// Whether a folder of the shell's `PATH` has this program. Links are not followed: inside they may
/// lead elsewhere.
fn has_program(environment: &Environment, program: &str) -> bool {
    let inner = environment.inner();
    let folders = &inner.folders;
    let path = inner.ctx.command.env.iter().find(|(name, _)| name == "PATH");
    let mut places = path.map(|(_, path)| path.split(':')).into_iter().flatten();
    places.any(|place| {
        let below = |base: &Path, rest: &str| {
            base.join(rest.trim_start_matches('/')).join(program).symlink_metadata().is_ok()
        };
        if let Some(rest) = place.strip_prefix("/opt") {
            return folders.opt.as_deref().is_some_and(|opt| below(opt, rest));
        }
        if let Some(rest) = place.strip_prefix("/var/task") {
            return below(&folders.task, rest);
        }
        folders.root.as_deref().is_some_and(|root| below(root, place))
    })
}
