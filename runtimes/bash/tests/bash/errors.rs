use lambfold_runtime_client::scripted::{Call, Event};
use serde_json::Value;

use crate::harness::{function, setup};

fn message(error: &Value) -> &str {
    error["errorMessage"].as_str().unwrap()
}

#[test]
fn a_failing_command_is_named_with_its_line_and_its_callers() {
    let mut runtime = function(
        "helper() {\n  ls /does/not/exist\n}\nhandler() {\n  set -e\n  helper x\n  echo not reached\n}\n",
    )
    .start();
    let path = runtime.path("function.sh").display().to_string();
    let error = runtime.fail("");
    assert_eq!(error["errorType"], "Function.ExitError");
    assert_eq!(
        message(&error),
        format!("function.handler exited with status 2 at {path}:2: ls /does/not/exist")
    );
    assert_eq!(
        error["stackTrace"],
        serde_json::json!([format!("helper ({path}:2)"), format!("handler ({path}:6)")])
    );
    runtime.wait_log("No such file");
}

#[test]
fn every_way_to_fail_says_where() {
    for (body, status, line, command) in [
        ("false", 1, 2, "false"),
        ("grep x /dev/null", 1, 2, "grep x /dev/null"),
        ("true\n  return 7", 7, 3, "return 7"),
        ("exit 9", 9, 2, "exit 9"),
        ("if true; then\n    exit 4\n  fi", 4, 3, "exit 4"),
        ("set -u; echo \"$nothing\"", 1, 2, "echo \"$nothing\""),
        ("does-not-exist --at-all", 127, 2, "does-not-exist --at-all"),
        ("local x; x=$(exit 6)", 6, 2, "x=$(exit 6)"),
        ("set -o pipefail; true | (exit 5) | cat", 5, 2, "cat"),
        ("false\n  true\n  return 1", 1, 4, "return 1"),
    ] {
        let mut runtime = function(&format!("handler() {{\n  {body}\n}}\n")).start();
        let path = runtime.path("function.sh").display().to_string();
        let error = runtime.fail("");
        let start =
            format!("function.handler exited with status {status} at {path}:{line}: {command}");
        assert!(message(&error).starts_with(&start), "{body}: {error}");
        // And the next event is none the worse.
        assert_eq!(message(&runtime.fail("")), message(&error));
    }
}

#[test]
fn a_good_event_after_a_bad_one_is_good() {
    let mut runtime = function("handler() { [[ $1 == good ]] && echo fine; }").start();
    for _ in 0..3 {
        runtime.fail("bad");
        assert_eq!(runtime.invoke("good"), "fine\n");
    }
}

#[test]
fn exit_zero_is_an_answer() {
    let mut runtime = function("handler() { echo partial; exit 0; echo more; }").start();
    assert_eq!(runtime.invoke(""), "partial\n");
}

#[test]
fn exec_replaces_the_shell_and_its_status_counts() {
    let mut runtime = function("handler() { exec sh -c \"$1\"; }").start();
    assert_eq!(runtime.invoke("echo from sh"), "from sh\n");
    assert!(message(&runtime.fail("exit 12")).contains("status 12"));
    assert_eq!(runtime.invoke("echo again"), "again\n");
}

#[test]
fn a_killed_handler_is_an_error_that_names_the_signal() {
    let mut runtime = function("handler() { kill -$1 $BASHPID; echo no; }").start();
    for (signal, name) in [("KILL", "SIGKILL"), ("TERM", "SIGTERM"), ("SEGV", "SIGSEGV")] {
        let error = runtime.fail(signal);
        assert!(message(&error).contains(name), "{error}");
    }
}

#[test]
fn lambda_error_ends_the_event_with_type_message_and_stack() {
    let mut runtime = function(
        "deep() {\n  lambda_error OutOfStock \"no \\\"$1\\\"\nleft\"\n  echo no\n}\nhandler() {\n  deep \"$1\"\n  echo no\n}\n",
    )
    .start();
    let path = runtime.path("function.sh").display().to_string();
    let post = runtime.post(Event::new("1", "apple's"));
    assert_eq!(post.call, Call::Error);
    assert_eq!(post.field("lambda-runtime-function-error-type"), Some("Function.OutOfStock"));
    let cause: Value =
        serde_json::from_str(post.field("lambda-runtime-function-xray-error-cause").unwrap())
            .unwrap();
    assert_eq!(cause["exceptions"][0]["stack"][0]["label"], "deep");
    let error: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(error["errorType"], "OutOfStock");
    assert_eq!(message(&error), "no \"apple's\"\nleft");
    let stack = error["stackTrace"].as_array().unwrap();
    assert_eq!(stack[1], format!("handler ({path}:7)"));
}

#[test]
fn lambda_error_counts_in_a_pipeline_too() {
    let mut runtime =
        function("handler() { echo \"$1\" | while read -r x; do [[ $x == bad ]] && lambda_error Bad \"$x\"; done; echo rest; }")
            .start();
    assert_eq!(runtime.fail("bad")["errorType"], "Bad");
    assert_eq!(runtime.invoke("good"), "rest\n");
}

#[test]
fn an_exit_trap_of_the_handlers_runs_and_its_output_counts() {
    let mut runtime =
        function("handler() { trap 'echo cleaned' EXIT; echo work; return $1; }").start();
    assert_eq!(runtime.invoke("0"), "work\ncleaned\n");
    assert!(message(&runtime.fail("3")).contains("status 3"));
}

#[test]
fn an_error_trap_of_the_files_is_kept() {
    let mut runtime = function(
        "set -E; trap 'echo \"mine: $BASH_COMMAND\" >&2' ERR\nhandler() { false; echo on; }",
    )
    .start();
    assert_eq!(runtime.invoke(""), "on\n");
    runtime.wait_log("mine: false");
}

#[test]
fn an_init_that_cannot_work_says_why() {
    let init = |text: &str| function(text).start().init_error();
    let error = init("handler() { echo\n");
    assert_eq!(error["errorType"], "Runtime.UserCodeSyntaxError");
    assert!(message(&error).contains("function.sh: line"), "{error}");

    let error = init("handler() {\r\n  echo\r\n}\r\n");
    assert_eq!(error["errorType"], "Runtime.UserCodeSyntaxError");
    assert!(message(&error).contains("CR LF"), "{error}");

    let error = init("other() { :; }\n");
    assert_eq!(error["errorType"], "Runtime.HandlerNotFound");
    assert!(message(&error).contains("does not define the function `handler`"), "{error}");

    let error = init("set -e\ntrue\nls /does/not/exist\nhandler() { :; }\n");
    assert_eq!(error["errorType"], "Runtime.InitError");
    assert!(message(&error).ends_with("function.sh:3: ls /does/not/exist"), "{error}");

    let error = init("prepare() {\n  exit 3\n}\nprepare\n");
    assert!(message(&error).contains("status 3"), "{error}");
    assert!(message(&error).ends_with("function.sh:2: exit 3"), "{error}");

    let error = init("lambda_error Function.NoDatabase 'it is down'\n");
    assert_eq!(error["errorType"], "Function.NoDatabase");

    let error = init("kill -KILL $$\n");
    assert!(message(&error).contains("SIGKILL"), "{error}");
}

#[test]
fn a_last_command_of_the_file_that_fails_is_no_error() {
    let mut runtime = function("handler() { echo ok; }\n[[ a == b ]]\n").start();
    assert_eq!(runtime.invoke(""), "ok\n");
}

#[test]
fn a_configuration_that_cannot_work_says_why() {
    let error = setup("nothing.handler").start().init_error();
    assert_eq!(error["errorType"], "Runtime.ImportModuleError");
    let error = setup("").start().init_error();
    assert_eq!(error["errorType"], "Runtime.MalformedHandlerName");
    let error = function("").variable("LAMBFOLD_BASH_PERSIST", "yes").start().init_error();
    assert_eq!(error["errorType"], "Runtime.InvalidConfiguration");
    let error = function("").variable("LAMBFOLD_BASH", "/nowhere/bash").start().init_error();
    assert!(message(&error).contains("/nowhere/bash"), "{error}");
}
