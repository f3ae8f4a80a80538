//! For `doctor`: every step, done once, and what came of it.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Sandbox, Sandboxes};
use crate::capabilities::Capabilities;
use crate::spec::{Command, Config, CreateError, Event, ExitStatus, Spec, StartError};
use crate::step::{Step, StepError, StepOutcome, StepReport};

/// More than the slowest step takes anywhere.
const PATIENCE: Duration = Duration::from_secs(30);
const TRIAL_BYTES: u64 = 16 << 20;

/// Performs every step once, down to a program that runs inside, and says what holds. The owner of
/// the configuration must not be running.
pub fn probe(config: Config) -> Vec<StepReport> {
    let (capabilities, failure) = attempt(config);
    let mut reports: Vec<_> = Step::ALL
        .iter()
        .map(|step| report(*step, capabilities.as_ref(), failure.as_ref()))
        .collect();
    if let Some(capabilities) = &capabilities {
        reports.push(programs(capabilities));
    }
    reports
}

/// How far it came: the capabilities when there were any, and the step that failed.
fn attempt(config: Config) -> (Option<Capabilities>, Option<StepError>) {
    let failed = |step, what: &dyn std::fmt::Display| {
        let what = what.to_string();
        Some(StepError { step, what, errno: libc::EIO })
    };
    let sandboxes = match Sandboxes::start(config) {
        Ok(sandboxes) => sandboxes,
        Err(StartError::Step(error)) => return (None, Some(error)),
        Err(StartError::WorkDir { path, source }) => {
            let what = path.display().to_string();
            return (None, Some(StepError::new(Step::WorkFolder, what, &source)));
        }
        Err(error) => return (None, failed(Step::WorkFolder, &error)),
    };
    let capabilities = sandboxes.capabilities().clone();
    let spec = Spec {
        id: "probe".to_owned(),
        tmp_bytes: TRIAL_BYTES,
        memory_bytes: 64 << 20,
        processes: 16,
        listeners: vec!["127.0.0.1:9001".parse().unwrap_or_else(|_| unreachable!("an address"))],
        hostname: "probe".to_owned(),
        ..Spec::default()
    };
    let (done, made) = mpsc::channel();
    sandboxes.create(spec, move |sandbox| {
        let _ = done.send(sandbox);
    });
    let failure = match made.recv_timeout(PATIENCE) {
        Ok(Ok(sandbox)) => run(&sandbox),
        Ok(Err(CreateError::Step { source, .. })) => Some(source),
        Ok(Err(error)) => failed(Step::Clone, &error),
        Err(_) => failed(Step::Clone, &"no answer from the spawner"),
    };
    (Some(capabilities), failure)
}

/// Runs a program that does nothing; the step that failed.
fn run(sandbox: &Sandbox) -> Option<StepError> {
    let failed = |step, what: &str, errno| Some(StepError { step, what: what.to_owned(), errno });
    let command = Command {
        programs: ["/usr/bin/true", "/bin/true", "/bin/sh"].map(str::to_owned).to_vec(),
        // Of no concern to `true`, and a script that does nothing to a shell.
        args: vec!["-c".to_owned(), ":".to_owned()],
        env: Vec::new(),
        cwd: "/".to_owned(),
    };
    if let Err(e) = sandbox.spawn(command) {
        return Some(StepError::new(Step::GuestExec, "ask for a program", &e));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sandbox.try_event() {
            Ok(None) if Instant::now() < deadline => {
                let fd = sandbox.event_fd();
                let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
                let _ = rustix::event::poll(
                    &mut [PollFd::new(&fd.as_fd(), PollFlags::IN)],
                    Some(&wait),
                );
            }
            Ok(None) => return failed(Step::GuestExec, "run a program", libc::ETIMEDOUT),
            Ok(Some(Event::Started(_))) => {}
            Ok(Some(Event::Exited { status: ExitStatus::Code(0), .. })) => return None,
            Ok(Some(Event::SpawnFailed { step, program, errno, .. })) => {
                let what = program.unwrap_or_else(|| "find /bin/true or /bin/sh".to_owned());
                return failed(step, &what, errno);
            }
            Ok(Some(_)) => return failed(Step::GuestExec, "run a program", libc::ECANCELED),
            Err(e) => return Some(StepError::new(Step::GuestExec, "listen to pid 1", &e)),
        }
    }
}

fn report(
    step: Step,
    capabilities: Option<&Capabilities>,
    failure: Option<&StepError>,
) -> StepReport {
    let name = step.name().to_owned();
    let mut explanation = step.explanation().to_owned();
    let remedy = String::new();
    let relayed = capabilities.map_or(&[][..], |capabilities| &capabilities.relayed_name_servers);
    if step == Step::NetworkLink && !relayed.is_empty() {
        let servers: Vec<String> = relayed.iter().map(ToString::to_string).collect();
        let servers = servers.join(", ");
        explanation.push_str(&format!(
            " Their name queries are passed on to name servers that only this machine reaches \
             ({servers})."
        ));
    }
    match failure {
        Some(error) if error.step == step => {
            return StepReport {
                name,
                outcome: StepOutcome::Fails,
                explanation: format!("{explanation} It failed: {error}"),
                remedy: error.remedy().to_owned(),
            };
        }
        Some(error) if error.step < step => {
            return StepReport { name, outcome: StepOutcome::NotReached, explanation, remedy };
        }
        _ => {}
    }
    let notes: Vec<_> =
        capabilities.iter().flat_map(|c| &c.notes).filter(|note| note.step == step).collect();
    if notes.is_empty() {
        return StepReport { name, outcome: StepOutcome::Holds, explanation, remedy };
    }
    let mut remedies: Vec<&str> = notes.iter().map(|n| n.remedy.as_str()).collect();
    remedies.dedup();
    let whats: Vec<&str> = notes.iter().map(|n| n.what.as_str()).collect();
    StepReport {
        name,
        outcome: StepOutcome::Lesser,
        explanation: format!("{explanation} But {}.", whats.join("; ")),
        remedy: remedies.join("; "),
    }
}

fn programs(capabilities: &Capabilities) -> StepReport {
    let missing = &capabilities.missing_programs;
    let names: Vec<&str> = missing.iter().map(|(program, _)| program.as_str()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    let (outcome, explanation, remedy) = if missing.is_empty() {
        let text = "Programs of Amazon Linux that scripts call are there.".to_owned();
        (StepOutcome::Holds, text, String::new())
    } else {
        let text = format!("Amazon Linux has {}; here they are missing.", names.join(", "));
        (StepOutcome::Lesser, text, format!("install the packages: {}", packages.join(" ")))
    };
    StepReport { name: "programs".to_owned(), outcome, explanation, remedy }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_before_a_failure_hold_and_those_after_are_not_reached() {
        let error = StepError { step: Step::PivotRoot, what: "x".into(), errno: libc::EPERM };
        let outcome = |step| report(step, None, Some(&error)).outcome;
        assert_eq!(outcome(Step::RootTemplate), StepOutcome::Holds);
        assert_eq!(outcome(Step::PivotRoot), StepOutcome::Fails);
        assert_eq!(outcome(Step::GuestExec), StepOutcome::NotReached);
    }

    #[test]
    fn every_failed_step_has_a_remedy() {
        for step in Step::ALL {
            for errno in [libc::EPERM, libc::ENOSPC, libc::ENOENT, libc::EINVAL] {
                let error = StepError { step: *step, what: String::new(), errno };
                assert!(!report(*step, None, Some(&error)).remedy.is_empty());
            }
        }
    }
}
