use std::time::{Duration, Instant};

use lambfold_runtime_client::scripted::{Call, Event, Post};

use crate::harness::{Runtime, function, setup, wait_until};

fn invoke_with(runtime: &mut Runtime, timeout: Duration) -> (Post, Duration) {
    let start = Instant::now();
    let post = runtime.post(Event::new("slow", "slow").with_timeout(timeout));
    (post, start.elapsed())
}

#[test]
fn a_handler_that_takes_too_long_is_stopped_before_the_deadline() {
    // A wide margin, since a busy machine is not what is tested.
    let timeout = Duration::from_secs(3);
    for setup in [
        function("handler() { [[ $1 == slow ]] && sleep 600; echo fast; }"),
        function("handler() { [[ $1 == slow ]] && sleep 600; echo fast; }").persist(),
        function("handler() { if [[ $1 == slow ]]; then while :; do :; done; fi; echo fast; }"),
        // Not even by one that will not listen.
        function(
            "handler() { trap '' TERM; if [[ $1 == slow ]]; then while :; do sleep 1; done; fi; echo fast; }",
        ),
        setup("s.sh").file("s.sh", "[[ $1 == slow ]] && sleep 600\necho fast\n", 0o644),
    ] {
        let mut runtime = setup.variable("LAMBFOLD_BASH_STOP_MS", "2000").start();
        assert_eq!(runtime.invoke("fast"), "fast\n");
        let (post, took) = invoke_with(&mut runtime, timeout);
        assert_eq!(post.call, Call::Error, "{}", post.text());
        assert_eq!(post.field("lambda-runtime-function-error-type"), Some("Function.Timeout"));
        assert!(took < timeout, "{took:?}");
        // The environment is not lost: the next event is answered.
        assert_eq!(runtime.invoke("fast"), "fast\n");
    }
}

#[test]
fn a_handler_can_clean_up_and_answer_what_it_has() {
    let mut runtime = function(
        "handler() { trap 'echo cleaned >&2; echo partial; exit 0' TERM; echo start; sleep 600; }",
    )
    .start();
    let (post, _) = invoke_with(&mut runtime, Duration::from_millis(1500));
    assert_eq!((post.call, post.text().as_str()), (Call::Response, "start\npartial\n"));
    runtime.wait_log("cleaned");
}

#[test]
fn what_the_handler_started_is_stopped_with_it() {
    let mut runtime = function(
        "handler() { if [[ $1 == slow ]]; then bash -c 'echo $$ >pid; sleep 600; :'; fi; echo ok; }",
    )
    .start();
    invoke_with(&mut runtime, Duration::from_millis(1500));
    let pid = std::fs::read_to_string(runtime.path("pid")).unwrap();
    wait_until("the end of the child", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A zombie is its new parent's to bury.
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn the_state_of_the_init_survives_a_stop() {
    let mut runtime = function(
        "echo initialised >&2; state=kept; handler() { [[ $1 == slow ]] && sleep 600; echo $state; }",
    )
    .start();
    invoke_with(&mut runtime, Duration::from_millis(1500));
    assert_eq!(runtime.invoke(""), "kept\n");
    assert_eq!(runtime.log_so_far().matches("initialised").count(), 1);
}

#[test]
fn the_stop_can_be_left_to_the_platform() {
    let runtime =
        function("handler() { [[ $1 == slow ]] && until [[ -e go ]]; do [[ -d $PWD ]] || exit; done; echo done; }")
            .variable("LAMBFOLD_BASH_STOP_MS", "0")
            .start();
    runtime.server.push(Event::new("slow", "slow").with_timeout(Duration::ZERO));
    assert!(runtime.server.post(Duration::from_millis(300)).is_none());
    std::fs::write(runtime.path("go"), "").unwrap();
    let post = runtime.server.post(crate::harness::SOON).unwrap();
    assert_eq!((post.call, post.text().as_str()), (Call::Response, "done\n"));
}
