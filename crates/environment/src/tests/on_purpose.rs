//! Faults on purpose: what the caller, the runtime and the log see of each.

use super::fixture::{EPOCH_MS, Guest, Lab, Next, advance_ms, begin, error, settle};
use lambfold_fault::{Call, Kind, Target, Wish};
use lambfold_sandbox::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn wish(kind: Kind) -> Wish {
    Wish::new(kind, HOUR).unwrap()
}

impl Lab {
    fn spoil(&self, wish: Wish) {
        self.faults.set(Target::new(&self.version, false), wish);
    }

    fn clear(&self) {
        self.faults.clear(&self.version.scope, &self.version.name, None);
    }

    fn deeds(&self) -> Vec<String> {
        self.world.deeds.lock().unwrap().clone()
    }
}

/// An echo that keeps the events it got.
fn echo() -> (Lab, Arc<Mutex<Vec<Next>>>) {
    let events: Arc<Mutex<Vec<Next>>> = Arc::default();
    let seen = Arc::clone(&events);
    let lab = Lab::new(move |_, mut guest| {
        let seen = Arc::clone(&seen);
        async move {
            loop {
                let event = guest.next().await;
                seen.lock().unwrap().push(event.clone());
                guest.respond(&event.id, event.body.as_bytes()).await;
            }
        }
    });
    (lab, events)
}

#[tokio::test(start_paused = true)]
async fn a_slow_next_takes_its_time_from_the_timeout() {
    let (lab, events) = echo();
    let environment = lab.launch().await;
    lab.spoil(wish(Kind::SlowNext).with_delay(Duration::from_secs(2)).unwrap());
    let pending = begin(&environment, "1");
    lab.until(|| lab.faults.effects() == 1).await;
    settle().await;
    advance_ms(1_999).await;
    settle().await;
    assert!(events.lock().unwrap().is_empty());
    advance_ms(1).await;
    let finished = pending.finish().await;
    assert_eq!((finished.payload.as_str(), finished.function_error), ("1", false));
    assert_eq!(events.lock().unwrap()[0].deadline_ms, EPOCH_MS + 3_000);
    assert!(finished.tail.contains("\tDuration: 2000.00 ms\t"), "{}", finished.tail);
    let note = format!(
        "[lambfold] fault on purpose, slow-next: the next that has the event of RequestId: {} is answered 2000 ms late\n",
        finished.id
    );
    assert!(finished.tail.contains(&note), "{}", finished.tail);

    // Longer than the timeout: the runtime never sees the event.
    lab.spoil(wish(Kind::SlowNext).with_delay(Duration::from_secs(60)).unwrap());
    let pending = begin(&environment, "2");
    lab.until(|| lab.faults.effects() == 2).await;
    settle().await;
    advance_ms(3_000).await;
    let finished = pending.finish().await;
    let text = "Task timed out after 3.00 seconds";
    assert_eq!(finished.payload, error("Sandbox.Timedout", finished.id, text));
    assert_eq!(events.lock().unwrap().len(), 1);
    lab.clear();
    assert_eq!(begin(&environment, "3").finish().await.payload, "3");
}

#[tokio::test(start_paused = true)]
async fn a_call_answered_500_is_told_once_an_event() {
    let lab = Lab::new(|_, mut guest: Guest| async move {
        let mut refused = 0;
        loop {
            let (status, head, body) = guest.call("GET", "invocation/next", "", b"").await.unwrap();
            if status == 500 {
                assert!(body.contains("InternalServerError"), "{body}");
                refused += 1;
                if refused == 3 {
                    return ExitStatus::Code(5);
                }
                continue;
            }
            let id =
                head.lines().find_map(|line| line.strip_prefix("Lambda-Runtime-Aws-Request-Id: "));
            guest.respond(id.unwrap(), body.as_bytes()).await;
        }
    });
    let environment = lab.launch().await;
    assert_eq!(begin(&environment, "1").finish().await.payload, "1");
    lab.spoil(wish(Kind::Api500));
    let finished = begin(&environment, "2").finish().await;
    let text = "Runtime exited with error: exit status 5";
    assert_eq!(finished.payload, error("Runtime.ExitError", finished.id, text));
    assert_eq!(finished.tail.matches("fault on purpose, api-500").count(), 1, "{}", finished.tail);
    assert_eq!(lab.faults.effects(), 3);
    // Another version of the function is left alone.
    lab.clear();
    let mut other = (*lab.version).clone();
    other.version = lambfold_types::Version::Published(1);
    lab.faults.set(Target::new(&other, true), wish(Kind::Api500));
    assert_eq!(begin(&environment, "3").finish().await.payload, "3");
}

#[tokio::test(start_paused = true)]
async fn responses_can_be_refused_too() {
    let lab = Lab::new(|_, mut guest| async move {
        let event = guest.next().await;
        let mut statuses = Vec::new();
        while statuses.last() != Some(&202) {
            statuses.push(guest.respond(&event.id, format!("{statuses:?}").as_bytes()).await);
            advance_ms(1).await;
        }
        guest.next().await;
        ExitStatus::Code(0)
    });
    let environment = lab.launch().await;
    let wish = Wish::new(Kind::Api500, Duration::from_secs(1)).unwrap();
    lab.spoil(wish.with_call(Call::Response).unwrap());
    let pending = begin(&environment, "");
    let answer = pending.answer.await.unwrap();
    // It ended by itself, after a second.
    let answer = String::from_utf8(answer.payload.to_vec()).unwrap();
    assert!(answer.starts_with("[500, 500, "), "{answer}");
    assert!(!answer.contains("202"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn little_time_remains_as_if_the_rest_were_over() {
    let lab = Lab::new(|number, mut guest| async move {
        let event = guest.next().await;
        if number == 1 {
            guest.print(&format!("deadline {}\n", event.deadline_ms)).await;
            return std::future::pending().await;
        }
        guest.respond(&event.id, b"again").await;
        guest.next().await;
        ExitStatus::Code(0)
    });
    let environment = lab.launch().await;
    lab.spoil(wish(Kind::Deadline).with_remaining(Duration::from_millis(70)).unwrap());
    let pending = begin(&environment, "");
    let deadline = format!("deadline {}\n", EPOCH_MS + 70);
    lab.until(|| lab.world.log().contains(&deadline)).await;
    advance_ms(69).await;
    settle().await;
    assert!(!lab.world.log().contains("timed out"), "{}", lab.world.log());
    advance_ms(1).await;
    let finished = pending.finish().await;
    let text = "Task timed out after 3.00 seconds";
    assert_eq!(finished.payload, error("Sandbox.Timedout", finished.id, text));
    assert!(finished.tail.contains("\tDuration: 3000.00 ms\t"), "{}", finished.tail);
    let note = "[lambfold] fault on purpose, deadline: 70 ms of the timeout remain for the event\n";
    assert!(finished.tail.starts_with(note), "{}", finished.tail);
    lab.clear();
    assert_eq!(begin(&environment, "").finish().await.payload, "again");
}

#[tokio::test(start_paused = true)]
async fn an_init_phase_that_hangs_ends_at_its_limit_and_again_inside_the_invocation() {
    let (lab, events) = echo();
    lab.spoil(wish(Kind::InitTimeout));
    let launching = {
        let launcher = Arc::clone(&lab.launcher);
        let version = Arc::clone(&lab.version);
        tokio::spawn(async move { launcher.launch(version).await.unwrap() })
    };
    lab.until(|| lab.world.processes() == 1).await;
    settle().await;
    advance_ms(9_999).await;
    settle().await;
    assert!(!launching.is_finished());
    advance_ms(1).await;
    let environment = launching.await.unwrap();
    assert!(!environment.is_initialized());
    let log = lab.world.log();
    assert!(log.contains("[lambfold] fault on purpose, init-timeout: "), "{log}");
    assert!(
        log.ends_with("INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"),
        "{log}"
    );
    let pending = begin(&environment, "1");
    lab.until(|| lab.world.processes() == 2).await;
    settle().await;
    advance_ms(3_000).await;
    let finished = pending.finish().await;
    let text = "Task timed out after 3.00 seconds";
    assert_eq!(finished.payload, error("Sandbox.Timedout", finished.id, text));
    assert!(events.lock().unwrap().is_empty());
    lab.clear();
    assert_eq!(begin(&environment, "2").finish().await.payload, "2");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_answers_without_memory_is_ended_and_the_next_has_its_memory() {
    let (lab, _) = echo();
    let environment = lab.launch().await;
    lab.spoil(wish(Kind::OutOfMemory));
    let finished = begin(&environment, "1").finish().await;
    let text = "Runtime exited with error: signal: killed";
    assert_eq!(finished.payload, error("Runtime.OutOfMemory", finished.id, text));
    assert!(finished.function_error && finished.reusable);
    assert!(finished.tail.contains("oom: the memory limit is lowered"), "{}", finished.tail);
    assert!(finished.tail.contains("in place of the kernel"), "{}", finished.tail);
    lab.until(|| lab.deeds().contains(&"lower the limit".to_owned())).await;
    let deeds: Vec<String> = lab.deeds();
    assert!(deeds.contains(&"restore the limit".to_owned()), "{deeds:?}");
    lab.clear();
    let finished = begin(&environment, "2").finish().await;
    assert_eq!((finished.payload.as_str(), finished.function_error), ("2", false));
    assert_eq!(lab.world.processes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_the_kernel_kills_needs_no_help() {
    let lab = Lab::new(|_, mut guest| async move {
        guest.next().await;
        ExitStatus::Signal(9)
    });
    let environment = lab.launch().await;
    lab.spoil(wish(Kind::OutOfMemory));
    *lab.world.oom_kills.lock().unwrap() += 1;
    let finished = begin(&environment, "1").finish().await;
    let text = "Runtime exited with error: signal: killed";
    assert_eq!(finished.payload, error("Runtime.OutOfMemory", finished.id, text));
    assert!(!finished.tail.contains("in place of the kernel"), "{}", finished.tail);
}
