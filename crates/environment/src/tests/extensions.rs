#![allow(clippy::unwrap_used)]
mod telemetry;

use super::fixture::*;
use lambfold_sandbox::ExitStatus;
use serde_json::Value;
use std::sync::{Arc, Mutex};

const API: &str = "/2020-01-01/extension";

impl Guest {
    /// Registers and returns the identifier.
    async fn register(&mut self, name: &str, events: &str) -> String {
        let headers = format!("Lambda-Extension-Name: {name}\r\n");
        let body = format!(r#"{{"events":[{events}]}}"#);
        let path = format!("{API}/register");
        let (status, head, body) =
            self.call("POST", &path, &headers, body.as_bytes()).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let id = head.lines().find_map(|line| line.strip_prefix("Lambda-Extension-Identifier: "));
        id.unwrap().to_owned()
    }

    /// `None`: the connection was closed, or the environment is reset.
    async fn event(&mut self, id: &str) -> Option<Value> {
        let headers = format!("Lambda-Extension-Identifier: {id}\r\n");
        let path = format!("{API}/event/next");
        let (status, _, body) = self.call("GET", &path, &headers, b"").await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    async fn report(&mut self, id: &str, which: &str, error_type: &str) -> u16 {
        let headers = format!(
            "Lambda-Extension-Identifier: {id}\r\nLambda-Extension-Function-Error-Type: {error_type}\r\n"
        );
        let path = format!("{API}/{which}/error");
        self.call("POST", &path, &headers, b"").await.unwrap().0
    }

    async fn subscribe(&mut self, id: &str, port: u16) -> u16 {
        let headers = format!("Lambda-Extension-Identifier: {id}\r\n");
        let body = format!(
            r#"{{"schemaVersion":"2022-12-13","types":["platform","function","extension"],"buffering":{{"timeoutMs":25}},"destination":{{"protocol":"TCP","port":{port}}}}}"#
        );
        let path = "/2022-07-01/telemetry";
        self.call("PUT", path, &headers, body.as_bytes()).await.unwrap().0
    }
}

const BOTH: &str = r#""INVOKE","SHUTDOWN""#;

/// What extensions saw, in order.
type Seen = Arc<Mutex<Vec<String>>>;

/// Registers for `events` and notes what it is told; exits when it is told to end.
fn obedient(
    seen: &Seen,
    events: &'static str,
) -> impl Fn(String, Guest) -> std::pin::Pin<Box<dyn Future<Output = ExitStatus> + Send>>
+ Send
+ Sync
+ 'static {
    let seen = Arc::clone(seen);
    move |name, mut guest| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            let id = guest.register(&name, events).await;
            seen.lock().unwrap().push(format!("{name} registered"));
            while let Some(event) = guest.event(&id).await {
                let kind = event["eventType"].as_str().unwrap().to_owned();
                let more = event["shutdownReason"].as_str().unwrap_or_default();
                seen.lock().unwrap().push(format!("{name} {kind} {more}").trim_end().to_owned());
                if kind == "SHUTDOWN" {
                    break;
                }
            }
            ExitStatus::Code(0)
        })
    }
}

/// Echoes, and notes when it starts.
fn noting(
    seen: &Seen,
) -> impl Fn(u32, Guest) -> std::pin::Pin<Box<dyn Future<Output = ExitStatus> + Send>>
+ Send
+ Sync
+ 'static {
    let seen = Arc::clone(seen);
    move |number, guest| {
        seen.lock().unwrap().push(format!("bootstrap {number}"));
        Box::pin(echo(guest))
    }
}

fn deeds(lab: &Lab) -> Vec<String> {
    lab.world.deeds.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn extensions_start_first_and_are_part_of_every_phase() {
    let seen = Seen::default();
    let lab = Lab::with_extensions(&["b", "a"], noting(&seen), obedient(&seen, BOTH));
    let environment = lab.launch().await;
    let finished = begin(&environment, "x").finish().await;
    assert_eq!(finished.payload, "x");
    let order = seen.lock().unwrap().clone();
    assert_eq!(order.iter().filter(|line| line.ends_with("INVOKE")).count(), 2);
    let log = lab.world.log();
    assert!(
        log.contains("EXTENSION\tName: a\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n"),
        "{log}"
    );

    environment.retire();
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
    lab.launcher.drained().await;
    assert_eq!(deeds(&lab).last().unwrap(), "15 to the bootstrap");
    let last = seen.lock().unwrap().clone();
    assert!(last.contains(&"a SHUTDOWN spindown".to_owned()), "{last:?}");
    assert!(last.contains(&"b SHUTDOWN spindown".to_owned()), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn the_runtime_waits_for_every_registration_and_the_phase_for_every_extension() {
    let (go, gate) = tokio::sync::watch::channel(0);
    let lab = Lab::with_extensions(
        &["early", "late"],
        |_, guest| echo(guest),
        move |name, mut guest| {
            let mut gate = gate.clone();
            async move {
                if name == "late" {
                    gate.wait_for(|step| *step >= 1).await.unwrap();
                }
                let id = guest.register(&name, "").await;
                if name == "late" {
                    gate.wait_for(|step| *step >= 2).await.unwrap();
                }
                guest.event(&id).await;
                std::future::pending().await
            }
        },
    );
    let launching = {
        let (launcher, version) = (Arc::clone(&lab.launcher), Arc::clone(&lab.version));
        tokio::spawn(async move { launcher.launch(version).await })
    };
    lab.until(|| lab.world.is_created()).await;
    settle().await;
    assert_eq!(lab.world.processes(), 0, "one has not registered");
    go.send(1).unwrap();
    lab.until(|| lab.world.processes() == 1).await;
    settle().await;
    assert!(!launching.is_finished(), "one is not ready");
    go.send(2).unwrap();
    let environment = launching.await.unwrap().unwrap();
    assert_eq!(begin(&environment, "x").finish().await.payload, "x");
}

#[tokio::test(start_paused = true)]
async fn a_phase_ends_when_the_last_extension_that_was_told_waits_again() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let lab = Lab::with_extensions(
        &["slow", "idle"],
        |_, guest| echo(guest),
        move |name, mut guest| {
            let mut gate = gate.clone();
            async move {
                let events = if name == "slow" { r#""INVOKE""# } else { "" };
                let id = guest.register(&name, events).await;
                guest.event(&id).await;
                gate.wait_for(|open| *open).await.unwrap();
                guest.event(&id).await;
                std::future::pending().await
            }
        },
    );
    let environment = lab.launch().await;
    let mut pending = begin(&environment, "x");
    // The answer does not wait for extensions, the end does.
    let answer = (&mut pending.answer).await.unwrap();
    assert_eq!(answer.payload, "x");
    settle().await;
    assert!(pending.end.try_recv().is_err(), "the extension is not done");
    advance_ms(100).await;
    go.send(true).unwrap();
    assert!(pending.end.await.unwrap().reusable);
    let log = lab.world.log();
    assert!(log.contains("Duration: 100.00 ms"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_late_times_the_phase_out_after_the_answer() {
    let seen = Seen::default();
    let told = Arc::clone(&seen);
    let lab = Lab::with_extensions(
        &["late"],
        |_, guest| echo(guest),
        move |_, mut guest| {
            let told = Arc::clone(&told);
            async move {
                let id = guest.register("late", BOTH).await;
                guest.event(&id).await;
                let mut other = Guest::beside(&guest);
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
                let event = other.event(&id).await.unwrap();
                told.lock().unwrap().push(event["shutdownReason"].as_str().unwrap().to_owned());
                ExitStatus::Code(0)
            }
        },
    );
    let environment = lab.launch().await;
    let pending = begin(&environment, "x");
    settle().await;
    advance_ms(3_005).await;
    let finished = pending.finish().await;
    assert_eq!((finished.payload.as_str(), finished.function_error), ("x", false));
    assert!(finished.reusable);
    assert!(finished.tail.ends_with("Status: timeout\n"), "{}", finished.tail);
    assert_eq!(*seen.lock().unwrap(), ["timeout"]);
    assert_eq!(deeds(&lab)[..2], ["15 to the bootstrap", "kill"]);
}

#[tokio::test(start_paused = true)]
async fn the_deaf_are_killed_when_their_share_of_the_budget_is_over() {
    let seen = Seen::default();
    let told = Arc::clone(&seen);
    let lab = Lab::with_extensions(
        &["deaf", "silent"],
        |_, guest| echo(guest),
        move |name, mut guest| {
            let told = Arc::clone(&told);
            async move {
                let events = if name == "deaf" { BOTH } else { "" };
                let id = guest.register(&name, events).await;
                let event = guest.event(&id).await.unwrap();
                told.lock().unwrap().push(event["deadlineMs"].to_string());
                std::future::pending().await
            }
        },
    );
    *lab.world.deaf.lock().unwrap() = true;
    let environment = lab.launch().await;
    settle().await;
    environment.retire();
    settle().await;
    assert_eq!(deeds(&lab), ["15 to the bootstrap"]);
    advance_ms(301).await;
    settle().await;
    // Who is not told is killed at once.
    assert_eq!(deeds(&lab)[1..], ["9 to the bootstrap", "9 to silent"]);
    let told = seen.lock().unwrap()[0].parse::<u64>().unwrap() - EPOCH_MS;
    assert_eq!(told, 2_000);
    advance_ms(1_600).await;
    settle().await;
    assert!(!*lab.world.destroyed.lock().unwrap(), "cut off early");
    advance_ms(120).await;
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn internal_extensions_have_half_a_second_and_no_shutdown_event() {
    let lab = Lab::new(|_, mut guest| async move {
        let mut inside = Guest::beside(&guest);
        let id = inside.register("inside", r#""INVOKE""#).await;
        tokio::spawn(async move { while inside.event(&id).await.is_some() {} });
        let next = guest.next().await;
        // Too late now.
        let headers = "Lambda-Extension-Name: other\r\n";
        let path = format!("{API}/register");
        let (status, _, body) = guest.call("POST", &path, headers, b"{}").await.unwrap();
        assert_eq!(status, 403);
        guest.respond(&next.id, body.as_bytes()).await;
        echo(guest).await
    });
    *lab.world.deaf.lock().unwrap() = true;
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert!(finished.payload.contains("Extension.RegistrationClosed"), "{}", finished.payload);
    environment.retire();
    settle().await;
    assert_eq!(deeds(&lab), ["15 to the bootstrap"]);
    advance_ms(498).await;
    settle().await;
    assert!(!*lab.world.destroyed.lock().unwrap(), "cut off early");
    advance_ms(5).await;
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn without_extensions_nobody_is_asked() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    environment.retire();
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
    assert_eq!(deeds(&lab), [""; 0]);
}

/// Waits with time passing.
async fn passing<T>(lab: &Lab, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    let mut turns = 0;
    while turns < 200 {
        tokio::select! {
            biased;
            result = &mut future => return result,
            () = settle() => if lab.world.is_created() {
                turns += 1;
                advance_ms(50).await;
            }
        }
    }
    panic!("it never ended")
}

/// An extension named after how it ends.
async fn ends(name: String, mut guest: Guest) -> ExitStatus {
    if name == "early" {
        return ExitStatus::Code(0);
    }
    let id = guest.register(&name, BOTH).await;
    match name.as_str() {
        "crashes" => ExitStatus::Signal(11),
        "init-error" => {
            assert_eq!(guest.report(&id, "init", "Mine.Init").await, 202);
            assert_eq!(guest.report(&id, "exit", "Mine.Exit").await, 403);
            ExitStatus::Code(4)
        }
        "exit-error" => {
            assert_eq!(guest.report(&id, "exit", "Mine.Exit").await, 202);
            assert_eq!(guest.report(&id, "exit", "Mine.Other").await, 202);
            std::future::pending().await
        }
        "later" => {
            guest.event(&id).await;
            ExitStatus::Code(1)
        }
        _ => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_of_an_extension_to_fail_has_its_result() {
    for (name, error_type, text, state) in [
        ("early", "Extension.Crash", "exit code 0", "Exited"),
        ("crashes", "Extension.Crash", "signal: segmentation fault", "Exited"),
        ("init-error", "Extension.InitError", "exit status 4", "InitError"),
        (
            "exit-error",
            "Extension.ExitError",
            "extension exit-error reported an error and did not exit",
            "ExitError",
        ),
        ("later", "Extension.Crash", "exit status 1", ""),
    ] {
        let lab = Lab::with_extensions(&[name], |_, guest| echo(guest), ends);
        let environment = passing(&lab, lab.launch()).await;
        let init = lab.world.log();
        if name != "later" {
            let end = format!("Phase: init\tStatus: error\tError Type: {error_type}\n");
            assert!(init.ends_with(&end), "{init}");
            assert!(init.contains(&format!("Name: {name}\tState: {state}\t")), "{init}");
        }
        let finished = passing(&lab, begin(&environment, "").finish()).await;
        // The runtime may have answered before the extension ended, and that answer stands.
        if name != "later" || finished.function_error {
            assert_eq!(finished.payload, error(error_type, finished.id, text), "{name}");
        }
        let end = format!("Status: error\tError Type: {error_type}\n");
        assert!(finished.tail.ends_with(&end), "{}", finished.tail);
        assert!(finished.reusable);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_cannot_be_started_and_too_many_of_them() {
    let lab = Lab::with_extensions(&["bad"], |_, guest| echo(guest), ends);
    lab.world.extension_failures.lock().unwrap().insert("bad".to_owned(), 13);
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    let text = "fork/exec /opt/extensions/bad: permission denied";
    assert_eq!(finished.payload, error("Extension.LaunchError", finished.id, text));
    let log = lab.world.log();
    assert!(
        log.contains("State: LaunchError\tEvents: []\tError Type: PermissionDenied\n"),
        "{log}"
    );

    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    for (count, fits) in [(10, true), (11, false)] {
        let seen = Seen::default();
        let lab = Lab::with_extensions(&names[..count], noting(&seen), obedient(&seen, ""));
        let environment = lab.launch().await;
        let finished = begin(&environment, "x").finish().await;
        assert_eq!(finished.payload == "x", fits, "{}", finished.payload);
        if !fits {
            let text = "Extension limit (10) reached";
            assert_eq!(finished.payload, error("Extension.LaunchError", finished.id, text));
            assert_eq!(lab.world.processes(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_ends_between_invocations_is_started_anew() {
    let lab = Lab::with_extensions(
        &["e"],
        |_, guest| echo(guest),
        |_, mut guest| async move {
            let id = guest.register("e", r#""INVOKE""#).await;
            guest.event(&id).await;
            // Dies with its next request: the phase is over for it.
            let mut other = Guest::beside(&guest);
            let waiting = tokio::spawn(async move { other.event(&id).await });
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            drop(waiting);
            ExitStatus::Code(7)
        },
    );
    let environment = lab.launch().await;
    assert_eq!(begin(&environment, "1").finish().await.payload, "1");
    advance_ms(2).await;
    lab.until(|| lab.world.log().contains("Extension e ended (exit status 7)")).await;
    lab.until(|| deeds(&lab).contains(&"kill".to_owned())).await;
    settle().await;
    assert_eq!(begin(&environment, "2").finish().await.payload, "2");
    assert_eq!(lab.world.processes(), 2);
}

#[tokio::test(start_paused = true)]
async fn extensions_have_the_functions_environment_without_the_runtimes() {
    let mut lab =
        Lab::with_extensions(&["e"], |_, guest| echo(guest), obedient(&Seen::default(), ""));
    let version = Arc::get_mut(&mut lab.version).unwrap();
    version.variables.insert("MINE".to_owned(), "yes".to_owned());
    lab.launch().await;
    let env = lab.world.extension_env.lock().unwrap().clone();
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    for there in
        ["MINE", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION", "PATH"]
    {
        assert!(names.contains(&there), "{there} is missing in {names:?}");
    }
    for hidden in [
        "_HANDLER",
        "_AWS_XRAY_DAEMON_PORT",
        "AWS_XRAY_DAEMON_ADDRESS",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    ] {
        assert!(!names.contains(&hidden), "{hidden}");
    }
}
