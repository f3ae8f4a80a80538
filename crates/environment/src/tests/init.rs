#![allow(clippy::unwrap_used)]
use super::fixture::*;
use crate::LaunchError;
use lambfold_sandbox::ExitStatus;
use std::sync::Arc;

fn launch(lab: &Lab) -> tokio::task::JoinHandle<Result<Arc<crate::Environment>, LaunchError>> {
    let (launcher, version) = (Arc::clone(&lab.launcher), Arc::clone(&lab.version));
    tokio::spawn(async move { launcher.launch(version).await })
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_init_phase_is_tried_again_inside_the_invocation() {
    let lab = Lab::new(|number, mut guest| async move {
        advance_ms(150).await;
        if number < 3 {
            guest.print("cannot start\n").await;
            return ExitStatus::Code(127);
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    assert!(lab.world.log().ends_with(
        "cannot start\nINIT_REPORT Init Duration: 150.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
    ), "{}", lab.world.log());

    let failed = begin(&environment, "1").finish().await;
    let id = failed.id;
    let text = "Runtime exited with error: exit status 127";
    assert_eq!(failed.payload, error("Runtime.ExitError", id, text));
    assert!(failed.function_error && failed.reusable);
    assert_eq!(
        failed.tail,
        format!(
            "cannot start\n\
             INIT_REPORT Init Duration: 150.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\n\
             START RequestId: {id} Version: $LATEST\nEND RequestId: {id}\n\
             REPORT RequestId: {id}\tDuration: 150.00 ms\tBilled Duration: 150 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\tStatus: error\tError Type: Runtime.ExitError\n"
        )
    );
    assert!(
        lab.world.log().ends_with(&format!("RequestId: {id} Error: {text}\nRuntime.ExitError\n"))
    );

    // Its time counts against the timeout and is billed; there is no init duration.
    let good = begin(&environment, "2").finish().await;
    assert_eq!(good.payload, "2");
    let id = good.id;
    assert_eq!(
        good.tail,
        format!(
            "START RequestId: {id} Version: $LATEST\nEND RequestId: {id}\n\
             REPORT RequestId: {id}\tDuration: 150.00 ms\tBilled Duration: 150 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\t\n"
        )
    );
    assert_eq!(lab.world.processes(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_said_of_its_init_answers_the_invocation_that_fails_too() {
    const DOCUMENT: &[u8] =
        br#"{"errorMessage":"no module","errorType":"Runtime.ImportModuleError","requestId":""}"#;
    const TYPE: &str = "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\n";
    let lab = Lab::new(|number, mut guest| async move {
        match number {
            1 => assert_eq!(guest.post("init/error", TYPE, DOCUMENT).await, 202),
            3 => assert_eq!(guest.post("init/error", "", br#"{"other":3}"#).await, 202),
            4 => assert_eq!(guest.post("init/error", "", b"").await, 202),
            5 => return echo(guest).await,
            6 => assert_eq!(guest.post("init/error", "", b"").await, 202),
            _ => {}
        }
        ExitStatus::Code(1)
    });
    let environment = lab.launch().await;
    assert!(lab.world.log().contains("Status: error\tError Type: Runtime.ImportModuleError\n"));
    // The second process only exits: the cached document is the better answer.
    let finished = begin(&environment, "").finish().await;
    assert_eq!(finished.payload.as_bytes(), DOCUMENT);
    assert!(finished.function_error && finished.reusable);
    // The third says something else, the fourth nothing.
    assert_eq!(begin(&environment, "").finish().await.payload, r#"{"other":3}"#);
    assert_eq!(begin(&environment, "").finish().await.payload, r#"{"other":3}"#);
    // A runtime that starts makes the past forgotten.
    assert_eq!(begin(&environment, "works").finish().await.payload, "works");
    environment.retire();

    let lab = Lab::new(|_, mut guest| async move {
        guest.post("init/error", "Lambda-Runtime-Function-Error-Type: a\"b\r\n", b"").await;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!(
        finished.payload,
        r#"{"errorMessage":"Unknown application error occurred","errorType":"Runtime.Unknown"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_told_whatever_the_runtime_said_before() {
    let lab = Lab::new(|number, mut guest| async move {
        if number == 1 {
            guest.post("init/error", "", br#"{"old":1}"#).await;
        }
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let pending = begin(&environment, "");
    settle().await;
    advance_ms(3_005).await;
    let finished = pending.finish().await;
    let text = "Task timed out after 3.00 seconds";
    assert_eq!(finished.payload, error("Sandbox.Timedout", finished.id, text));
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_environment_has_130_seconds_to_initialise() {
    let lab = Lab::new(|number, guest| async move {
        if number == 1 {
            return std::future::pending().await;
        }
        echo(guest).await
    });
    let launching = {
        let (launcher, version) = (Arc::clone(&lab.launcher), Arc::clone(&lab.version));
        let reason = lambfold_types::InitializationType::ProvisionedConcurrency;
        tokio::spawn(async move { launcher.launch_as(version, reason).await })
    };
    lab.until(|| lab.world.processes() == 1).await;
    settle().await;
    advance_ms(129_999).await;
    settle().await;
    assert!(!launching.is_finished(), "cut off early");
    advance_ms(6).await;
    assert!(!launching.await.unwrap().unwrap().is_initialized());
}

#[tokio::test(start_paused = true)]
async fn the_init_phase_has_ten_seconds_and_the_retry_has_the_timeout() {
    let lab = Lab::new(|number, guest| async move {
        if number < 3 {
            return std::future::pending().await;
        }
        echo(guest).await
    });
    let launching = launch(&lab);
    lab.until(|| lab.world.processes() == 1).await;
    settle().await;
    advance_ms(9_999).await;
    settle().await;
    assert!(!launching.is_finished(), "cut off early");
    advance_ms(6).await;
    let environment = launching.await.unwrap().unwrap();
    let log = lab.world.log();
    assert!(log.ends_with("Phase: init\tStatus: timeout\n"), "{log}");

    let mut pending = begin(&environment, "");
    settle().await;
    advance_ms(2_999).await;
    settle().await;
    assert!(pending.is_open(), "cut off early");
    advance_ms(6).await;
    let finished = pending.finish().await;
    let id = finished.id;
    assert_eq!(
        finished.payload,
        error("Sandbox.Timedout", id, "Task timed out after 3.00 seconds")
    );
    assert!(finished.tail.contains("Phase: invoke\tStatus: timeout\nSTART RequestId"));
    assert!(finished.reusable);
    assert_eq!(begin(&environment, "e").finish().await.payload, "e");
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_cannot_be_executed_is_explained() {
    let mut lab = Lab::new(|_, guest| echo(guest));
    let tree = lab.folder.path().join("trees").join(lab.version.code.as_str());
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("bootstrap"), "#!/bin/sh\r\necho\r\n").unwrap();
    Arc::get_mut(&mut lab.version).unwrap().timeout_s = 1;
    let program = || Some("/var/task/bootstrap".to_owned());
    for (failure, text) in [
        ((program(), 13), "fork/exec /var/task/bootstrap: permission denied"),
        ((program(), 2), "fork/exec /var/task/bootstrap: no such file or directory"),
        ((program(), 8), "fork/exec /var/task/bootstrap: exec format error"),
        ((None, 2), "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
    ] {
        lab.world.log.lock().unwrap().clear();
        *lab.world.spawn_failure.lock().unwrap() = Some(failure.clone());
        let environment = lab.launch().await;
        let log = lab.world.log();
        assert!(log.contains("[lambfold] /var/task/bootstrap is not executable"), "{log}");
        assert!(log.contains("ends in a carriage return"), "{log}");
        assert!(log.ends_with("Status: error\tError Type: Runtime.InvalidEntrypoint\n"), "{log}");
        *lab.world.spawn_failure.lock().unwrap() = Some(failure);
        let finished = begin(&environment, "").finish().await;
        assert_eq!(finished.payload, error("Runtime.InvalidEntrypoint", finished.id, text));
        assert!(finished.reusable);
        assert!(finished.tail.contains("is not executable"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_lost_during_init_is_the_platforms_error() {
    let lab = Lab::new(|_, _| std::future::pending());
    let launching = launch(&lab);
    lab.until(|| lab.world.processes() == 1).await;
    lab.world.lose();
    let error = launching.await.unwrap().unwrap_err();
    assert!(matches!(error, LaunchError::Lost { .. }));
    assert!(*lab.world.destroyed.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_given_up_leaves_no_sandbox() {
    let lab = Lab::new(|_, _| std::future::pending());
    let launching = launch(&lab);
    lab.until(|| lab.world.processes() == 1).await;
    launching.abort();
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
}
