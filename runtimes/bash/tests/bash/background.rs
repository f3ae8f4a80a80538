use std::time::Instant;

use crate::harness::{function, setup, wait_until};

#[test]
fn what_is_left_running_holds_nothing_up() {
    for setup in [
        function("handler() { sleep 600 & echo \"$1\"; }"),
        function("handler() { sleep 600 & echo \"$1\"; }").persist(),
        setup("s.sh").file("s.sh", "sleep 600 &\necho \"$1\"\n", 0o644),
    ] {
        let mut runtime = setup.start();
        let start = Instant::now();
        for round in 0..20 {
            assert_eq!(runtime.invoke(round.to_string()), format!("{round}\n"));
        }
        assert!(start.elapsed().as_secs() < 60);
    }
}

#[test]
fn late_output_goes_to_the_log_and_into_no_answer() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == leave ]]; then
                ( until [[ -e go ]]; do :; done; echo late; until [[ -e gone ]]; do :; done ) &
                echo left
            else
                echo "$1"
            fi
        }"#,
    )
    .start();
    assert_eq!(runtime.invoke("leave"), "left\n");
    std::fs::write(runtime.path("go"), "").unwrap();
    wait_until("the late line", || {
        assert_eq!(runtime.invoke("next"), "next\n");
        runtime.log_so_far().contains("late\n")
    });
    std::fs::write(runtime.path("gone"), "").unwrap();
    assert_eq!(runtime.invoke("last"), "last\n");
}

#[test]
fn a_late_lambda_error_or_stream_is_nobodys() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == leave ]]; then
                ( until [[ -e go ]]; do :; done; lambda_stream text/plain; : >reported; lambda_error Late late ) &
            else
                : >go
                until [[ -e reported ]]; do :; done
            fi
            echo "$1"
        }"#,
    )
    .start();
    assert_eq!(runtime.invoke("leave"), "leave\n");
    for _ in 0..5 {
        assert_eq!(runtime.invoke("next"), "next\n");
    }
}

#[test]
fn input_of_an_earlier_event_stays_what_it_was() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == first* ]]; then
                # Bash gives background jobs /dev/null, so stdin is passed on by hand.
                { ( until [[ -e go ]]; do :; done; cat >seen.new; mv seen.new seen ) <&3 & } 3<&0
            fi
            echo ok
        }"#,
    )
    .start();
    runtime.invoke("first event");
    runtime.invoke("another");
    std::fs::write(runtime.path("go"), "").unwrap();
    wait_until("the copy", || runtime.path("seen").exists());
    assert_eq!(std::fs::read_to_string(runtime.path("seen")).unwrap(), "first event");
}
