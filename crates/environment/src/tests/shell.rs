//! A shell in place of the bootstrap.
#![allow(clippy::unwrap_used)]

use super::fixture::*;
use crate::shell::{Shell, ShellEnd, ShellKind};
use lambfold_sandbox::ExitStatus;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;

async fn open(lab: &Lab, kind: ShellKind) -> Shell {
    lab.launcher.launch_shell(lab.version.clone(), kind).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_has_a_deadline_and_nothing_is_frozen() {
    let lab = Lab::new(|number, mut guest| async move {
        assert_eq!(number, 1, "a shell is not started twice");
        let hour = Duration::from_millis(HOUR_MS);
        tokio::time::sleep(hour).await;
        let next = guest.next().await;
        tokio::time::sleep(hour).await;
        let told = format!("{}", next.deadline_ms);
        guest.respond(&next.id, told.as_bytes()).await;
        guest.next().await;
        std::future::pending().await
    });
    let mut shell = open(&lab, ShellKind::Pipes).await;
    settle().await;
    advance_ms(HOUR_MS + 1).await;
    assert_eq!((&mut shell.ready).await, Ok(true));
    assert!(shell.environment.is_initialized());
    settle().await;
    advance_ms(HOUR_MS).await;
    settle().await;
    let begun = EPOCH_MS + 2 * HOUR_MS + 1;
    let pending = begin(&shell.environment, "x");
    settle().await;
    advance_ms(HOUR_MS + 1).await;
    // The event says what a runtime would be told.
    assert_eq!(pending.finish().await.payload, format!("{}", begun + 3_000));
    let deeds = lab.world.deeds.lock().unwrap().clone();
    assert_eq!(deeds, [""; 0], "nothing was frozen or killed");
    assert_eq!(*shell.end.borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn its_command_is_a_shell_with_the_bootstraps_environment() {
    let lab = Lab::new(|_, _| std::future::pending());
    let bootstrap = {
        let lab = Lab::new(|_, guest| echo(guest));
        lab.launch().await;
        lab.world.command.lock().unwrap().clone()
    };
    let name = "xterm".to_owned();
    let shell = open(&lab, ShellKind::Terminal { rows: 24, columns: 80, name }).await;
    let command = lab.world.command.lock().unwrap().clone();
    assert_eq!(command.programs[0], "/bin/bash");
    assert!(command.programs.contains(&"/bin/sh".to_owned()));
    assert_eq!(command.cwd, bootstrap.cwd);
    let names = |env: &[(String, String)]| -> Vec<String> {
        env.iter().map(|(name, _)| name.clone()).filter(|name| name != "TERM").collect()
    };
    assert_eq!(names(&command.env), names(&bootstrap.env));
    assert!(command.env.contains(&("TERM".to_owned(), "xterm".to_owned())));
    drop(shell);
}

#[tokio::test(start_paused = true)]
async fn how_it_ends_is_told() {
    let lab = Lab::new(|_, _| async { ExitStatus::Code(5) });
    let mut shell = open(&lab, ShellKind::Pipes).await;
    let end = shell.end.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(end, ShellEnd::Exited(ExitStatus::Code(5)));

    // A runtime that reports a failed init is ended by the platform; so is this one.
    let lab = Lab::new(|_, mut guest| async move {
        guest.post("init/error", "", b"{}").await;
        std::future::pending().await
    });
    let mut shell = open(&lab, ShellKind::Pipes).await;
    let end = shell.end.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(end, ShellEnd::Reset);

    let lab = Lab::new(|_, _| std::future::pending());
    let mut shell = open(&lab, ShellKind::Pipes).await;
    lab.world.lose();
    let end = shell.end.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(end, ShellEnd::Lost);

    let lab = Lab::new(|_, _| std::future::pending());
    *lab.world.spawn_failure.lock().unwrap() = Some((None, 2));
    let mut shell = open(&lab, ShellKind::Pipes).await;
    let end = shell.end.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(end, ShellEnd::NoShell);
}
