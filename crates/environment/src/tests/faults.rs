#![allow(clippy::unwrap_used)]
use super::fixture::*;
use lambfold_sandbox::ExitStatus;
use std::sync::Arc;

/// The first process gets its event and ends so; later ones echo.
fn dies(status: ExitStatus) -> Lab {
    Lab::new(move |number, mut guest| async move {
        if number == 1 {
            guest.next().await;
            guest.print("last words\n").await;
            return status;
        }
        echo(guest).await
    })
}

#[tokio::test(start_paused = true)]
async fn each_way_to_die_has_its_result() {
    for (status, text) in [
        (ExitStatus::Code(3), "Runtime exited with error: exit status 3"),
        (ExitStatus::Code(0), "Runtime exited without providing a reason"),
        (ExitStatus::Signal(9), "Runtime exited with error: signal: killed"),
        (ExitStatus::Signal(11), "Runtime exited with error: signal: segmentation fault"),
    ] {
        let lab = dies(status);
        let environment = lab.launch().await;
        let finished = begin(&environment, "").finish().await;
        let id = finished.id;
        assert_eq!(finished.payload, error("Runtime.ExitError", id, text));
        assert!(finished.function_error && finished.reusable);
        let log = lab.world.log();
        let end = log.split_once("last words\n").unwrap().1;
        assert_eq!(
            end,
            format!(
                "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: 0.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\tInit Duration: 0.00 ms\tStatus: error\tError Type: Runtime.ExitError\nRequestId: {id} Error: {text}\nRuntime.ExitError\n"
            )
        );
        assert!(finished.tail.ends_with("Status: error\tError Type: Runtime.ExitError\n"));
        // The same environment, a new process.
        assert_eq!(begin(&environment, "again").finish().await.payload, "again");
        assert_eq!(lab.world.processes(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_kernels_counter_makes_a_kill_an_out_of_memory_kill() {
    for (status, error_type) in [
        (ExitStatus::Signal(9), "Runtime.OutOfMemory"),
        (ExitStatus::Code(137), "Runtime.ExitError"),
    ] {
        let lab = dies(status);
        let environment = lab.launch().await;
        *lab.world.oom_kills.lock().unwrap() += 1;
        let finished = begin(&environment, "").finish().await;
        assert!(finished.payload.starts_with(&format!(r#"{{"errorType":"{error_type}""#)));
        if error_type == "Runtime.OutOfMemory" {
            let text = "Runtime exited with error: signal: killed";
            assert_eq!(finished.payload, error(error_type, finished.id, text));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_never_early_hardly_late_and_keeps_the_environment() {
    let lab = Lab::new(|number, mut guest| async move {
        if number == 1 {
            guest.next().await;
            guest.print("working\n").await;
            return std::future::pending().await;
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    let mut pending = begin(&environment, "");
    let id = pending.request_id;
    lab.until(|| lab.world.log().ends_with("working\n")).await;
    advance_ms(2_999).await;
    settle().await;
    assert!(pending.is_open(), "early");
    advance_ms(1 + 5).await;
    settle().await;
    let answer = pending.answer.try_recv().expect("late");
    let text = "Task timed out after 3.00 seconds";
    assert_eq!(answer.payload, error("Sandbox.Timedout", id, text));
    assert!(pending.end.await.unwrap().reusable);
    let log = lab.world.log();
    let end = log.split_once("working\n").unwrap().1;
    let report = format!(
        "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\tInit Duration: 0.00 ms\tStatus: timeout\n"
    );
    let fault = end.strip_prefix(&report).expect("REPORT before the fault");
    assert!(fault.starts_with("2026-01-02T03:04:0"), "{fault}");
    assert!(fault.ends_with(&format!("Z {id} {text}\n\n")), "{fault}");

    // A late answer is a stranger's.
    let mut late = lab.world.outsider();
    assert_eq!(late.respond(&id.to_string(), b"late").await, 400);
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
    assert_eq!(lab.world.outsider().respond(&id.to_string(), b"late").await, 400);
}

#[tokio::test(start_paused = true)]
async fn the_keeper_does_not_miss_a_deadline_that_follows_many_warm_invocations() {
    let lab = Lab::new(|_, mut guest| async move {
        loop {
            let next = guest.next().await;
            if next.body == "hang" {
                return std::future::pending().await;
            }
            guest.respond(&next.id, b"").await;
        }
    });
    let environment = lab.launch().await;
    for pause_ms in [0, 10, 2_990, 700, 40_000, 3_000, 1] {
        begin(&environment, "").finish().await;
        advance_ms(pause_ms).await;
    }
    let mut pending = begin(&environment, "hang");
    settle().await;
    advance_ms(2_999).await;
    settle().await;
    assert!(pending.is_open(), "early");
    advance_ms(6).await;
    settle().await;
    assert!(pending.answer.try_recv().is_ok(), "late");
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_process_that_was_given_up_are_closed() {
    let lab = dies(ExitStatus::Code(1));
    let environment = lab.launch().await;
    let mut old = lab.world.outsider();
    assert_eq!(old.call("GET", "nothing", "", b"").await.unwrap().0, 404);
    begin(&environment, "").finish().await;
    // A late init/error, say, must not be taken for the new process's.
    assert!(old.call("POST", "init/error", "", b"{}").await.is_none());
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
    let mut new = lab.world.outsider();
    assert_eq!(new.call("GET", "nothing", "", b"").await.unwrap().0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_response_leaves_the_caller_the_good_answer() {
    let lab = Lab::new(|number, mut guest| async move {
        if number == 1 {
            let next = guest.next().await;
            guest.respond(&next.id, b"good").await;
            return ExitStatus::Code(9);
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!((&*finished.payload, finished.function_error), ("good", false));
    assert!(finished.reusable);
    assert!(finished.tail.ends_with("Status: error\tError Type: Runtime.ExitError\n"));
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_hangs_after_its_response_times_out_behind_the_good_answer() {
    let lab = Lab::new(|_, mut guest| async move {
        let next = guest.next().await;
        guest.respond(&next.id, b"good").await;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let mut pending = begin(&environment, "");
    assert_eq!((&mut pending.answer).await.unwrap().payload, "good");
    settle().await;
    assert!(pending.end.try_recv().is_err());
    advance_ms(3_005).await;
    let tail = pending.end.await.unwrap().log_tail.unwrap();
    assert!(tail.ends_with(b"Status: timeout\n"));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_off_is_told_unless_the_runtime_died() {
    for dies in [false, true] {
        let lab = Lab::new(move |_, mut guest| async move {
            let next = guest.next().await;
            guest.cut(&next.id).await;
            if dies {
                return ExitStatus::Code(1);
            }
            echo(guest).await
        });
        let environment = lab.launch().await;
        let finished = begin(&environment, "").finish().await;
        let (error_type, text) = if dies {
            ("Runtime.ExitError", "Runtime exited with error: exit status 1")
        } else {
            ("Runtime.TruncatedResponse", "HTTP request detected as truncated")
        };
        assert_eq!(finished.payload, error(error_type, finished.id, text));
        assert!(finished.function_error && finished.reusable);
        assert!(finished.tail.ends_with(&format!("Status: error\tError Type: {error_type}\n")));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_fault_wins() {
    // It hangs until its time is over, resists being killed, and exits then.
    let exits = Arc::new(tokio::sync::Notify::new());
    let exit = Arc::clone(&exits);
    let lab = Lab::new(move |_, mut guest| {
        let exit = Arc::clone(&exit);
        async move {
            guest.next().await;
            exit.notified().await;
            guest.print("bye\n").await;
            ExitStatus::Code(1)
        }
    });
    let environment = lab.launch().await;
    *lab.world.unkillable.lock().unwrap() = true;
    let mut pending = begin(&environment, "");
    settle().await;
    advance_ms(3_005).await;
    let answer = (&mut pending.answer).await.unwrap();
    assert!(answer.payload.starts_with(br#"{"errorType":"Sandbox.Timedout""#));
    exits.notify_one();
    lab.until(|| lab.world.log().ends_with("bye\n")).await;
    settle().await;
    advance_ms(2_005).await;
    let tail = String::from_utf8(pending.end.await.unwrap().log_tail.unwrap()).unwrap();
    assert!(tail.contains("bye\nEND RequestId"), "{tail}");
    assert!(tail.ends_with("Status: timeout\n"), "{tail}");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_ends_while_idle_is_started_by_the_next_invocation() {
    let lab = Lab::new(|number, mut guest| async move {
        if number == 1 {
            // Another connection waits, and the process ends beside it.
            tokio::select! {
                _ = guest.next() => panic!("got an event"),
                () = tokio::time::sleep(std::time::Duration::from_secs(5)) => {}
            }
            return ExitStatus::Code(1);
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    settle().await;
    advance_ms(5_001).await;
    lab.until(|| lab.world.log().contains("[lambfold]")).await;
    assert!(lab.world.log().ends_with(
        "[lambfold] Runtime exited with error: exit status 1 between invocations; the next invocation starts the runtime anew\n"
    ));
    // The guests may not be dead yet: the invocation waits for that, too.
    let finished = begin(&environment, "works").finish().await;
    assert_eq!((&*finished.payload, finished.reusable), ("works", true));
    assert_eq!(lab.world.processes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_answers_who_waits_and_is_not_used_again() {
    let lab = Lab::new(|_, mut guest| async move {
        guest.next().await;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let pending = begin(&environment, "");
    settle().await;
    lab.world.lose();
    let finished = pending.finish().await;
    let text = "The execution environment was lost";
    assert_eq!(finished.payload, error("Sandbox.Failure", finished.id, text));
    assert!(finished.function_error && !finished.reusable);
    assert!(finished.tail.ends_with("Status: error\tError Type: Sandbox.Failure\n"));
    assert!(*lab.world.destroyed.lock().unwrap());
    let finished = begin(&environment, "").finish().await;
    assert!(finished.payload.contains("Sandbox.Failure") && !finished.reusable);
}

#[tokio::test(start_paused = true)]
async fn guests_that_cannot_be_killed_cost_the_environment() {
    let lab = Lab::new(|_, mut guest| async move {
        guest.next().await;
        ExitStatus::Code(1)
    });
    let environment = lab.launch().await;
    *lab.world.unkillable.lock().unwrap() = true;
    let mut pending = begin(&environment, "");
    let answer = (&mut pending.answer).await.unwrap();
    assert!(answer.payload.starts_with(br#"{"errorType":"Runtime.ExitError""#));
    settle().await;
    advance_ms(1_990).await;
    settle().await;
    assert!(pending.end.try_recv().is_err());
    advance_ms(20).await;
    assert!(!pending.end.await.unwrap().reusable);
    assert!(*lab.world.destroyed.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn retiring_destroys_the_sandbox_at_once() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    assert!(!*lab.world.destroyed.lock().unwrap());
    environment.retire();
    assert!(*lab.world.destroyed.lock().unwrap());
    environment.retire();

    // Dropping it does the same, and its tasks end.
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    let inner = Arc::downgrade(environment.inner());
    drop(environment);
    assert!(*lab.world.destroyed.lock().unwrap());
    lab.until(|| inner.strong_count() == 0).await;

    // In the middle of an invocation.
    let lab = Lab::new(|_, mut guest| async move {
        guest.next().await;
        std::future::pending().await
    });
    let environment = lab.launch().await;
    let pending = begin(&environment, "");
    settle().await;
    environment.retire();
    let finished = pending.finish().await;
    assert!(finished.payload.contains("Sandbox.Failure") && !finished.reusable);
}
