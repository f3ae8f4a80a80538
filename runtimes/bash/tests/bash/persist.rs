use crate::harness::{function, wait_until};

#[test]
fn variables_stay_between_events() {
    let mut runtime =
        function("count=0; handler() { ((count += 1)); last+=$1; echo \"$count $last $-\"; }")
            .persist()
            .start();
    assert!(runtime.invoke("a").starts_with("1 a "));
    assert!(runtime.invoke("b").starts_with("2 ab "));
    assert!(runtime.invoke("c").starts_with("3 abc "));
}

#[test]
fn stdin_and_large_events_work_as_with_isolation() {
    let mut runtime = function("handler() { cat; printf '%s' \"${#1}\" >&2; }").persist().start();
    let text = "x".repeat(3 << 20);
    assert_eq!(runtime.invoke(text.clone()), text);
    runtime.wait_log(&text.len().to_string());
    assert_eq!(runtime.invoke("y"), "y");
}

#[test]
fn a_failure_is_told_and_the_state_stays() {
    let mut runtime = function(
        "count=0; handler() {\n  ((count += 1))\n  [[ $1 == bad ]] && return 5\n  echo $count\n}",
    )
    .persist()
    .start();
    assert_eq!(runtime.invoke(""), "1\n");
    let error = runtime.fail("bad");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.contains("status 5") && message.contains(":3: return 5"), "{message}");
    assert_eq!(runtime.invoke(""), "3\n");
}

#[test]
fn lambda_error_leaves_every_function_and_the_state_stays() {
    let mut runtime = function(
        r#"
        count=0
        deep() { for i in 1 2 3; do ((count += 1)); lambda_error Bad "at $i"; echo no; done; echo no; }
        handler() { if [[ $1 == bad ]]; then deep; echo no; fi; set -- ; echo "$count"; }
        "#,
    )
    .persist()
    .start();
    for round in 1..4 {
        let error = runtime.fail("bad");
        assert_eq!(error["errorType"], "Bad");
        assert_eq!(error["errorMessage"], "at 1");
        assert_eq!(runtime.invoke("good"), format!("{round}\n"));
    }
    assert!(!runtime.log_so_far().contains("no"), "{}", runtime.log_so_far());
}

#[test]
fn exit_ends_the_shell_and_the_next_event_has_a_new_one() {
    let mut runtime = function(
        "echo initialised >&2; count=0; handler() {\n  ((count += 1))\n  case $1 in\n    exit) echo bye; exit 0 ;;\n    die) exit 8 ;;\n    errexit) set -e; false ;;\n    kill) kill -KILL $$ ;;\n  esac\n  echo $count\n}",
    )
    .persist()
    .start();
    assert_eq!(runtime.invoke(""), "1\n");
    assert_eq!(runtime.invoke("exit"), "bye\n");
    assert_eq!(runtime.invoke(""), "1\n");
    let error = runtime.fail("die");
    assert!(error["errorMessage"].as_str().unwrap().contains("status 8"), "{error}");
    assert!(error["errorMessage"].as_str().unwrap().ends_with(":5: exit 8"), "{error}");
    let error = runtime.fail("errexit");
    assert!(error["errorMessage"].as_str().unwrap().ends_with(":6: false"), "{error}");
    let error = runtime.fail("kill");
    assert!(error["errorMessage"].as_str().unwrap().contains("SIGKILL"), "{error}");
    assert_eq!(runtime.invoke(""), "1\n");
    assert_eq!(runtime.log_so_far().matches("initialised").count(), 5);
}

#[test]
fn options_that_a_handler_sets_do_not_reach_the_runtime() {
    let mut runtime =
        function("handler() { set -eu; cd /; [[ $1 != bad ]] || nope=$missing; echo ok; }")
            .persist()
            .start();
    assert_eq!(runtime.invoke(""), "ok\n");
    assert_eq!(runtime.invoke(""), "ok\n");
    runtime.fail("bad");
    assert_eq!(runtime.invoke(""), "ok\n");
}

#[test]
fn what_a_handler_does_to_its_input_and_output_ends_with_its_event() {
    let mut runtime = function(
        "handler() {\n  case $1 in\n    out) exec >/dev/null ;;\n    closed) exec <&- >&- ;;\n    kept) exec 7>&1 ;;\n    late) echo late >&7 ;;\n  esac\n  cat\n}",
    )
    .persist()
    .start();
    assert_eq!(runtime.invoke("out"), "null");
    assert_eq!(runtime.invoke("1"), "1");
    assert!(runtime.fail("closed")["errorMessage"].as_str().unwrap().contains(": cat"));
    assert_eq!(runtime.invoke("2"), "2");
    // A file of one event is not another one's answer.
    assert_eq!(runtime.invoke("kept"), "kept");
    assert_eq!(runtime.invoke("late"), "late");
    wait_until("the line in the log", || {
        assert_eq!(runtime.invoke("3"), "3");
        runtime.log_so_far().contains("late\n")
    });
}
