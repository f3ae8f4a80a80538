use lambfold_runtime_client::scripted::Event;

use crate::harness::{Runtime, setup};

/// The kernel's limit for one argument is 131072 bytes with its NUL.
const LIMIT: usize = 131_071;

fn script(text: &str, mode: u32) -> Runtime {
    setup("script.sh").file("script.sh", text, mode).start()
}

#[test]
fn the_script_runs_for_each_event_with_the_event_on_stdin_and_as_argument() {
    let mut runtime = script(
        "#!/usr/bin/env bash\necho \"$# $1 $(cat) $AWS_LAMBDA_REQUEST_ID\"; echo l >&2\n",
        0o755,
    );
    assert_eq!(runtime.invoke("{}"), "1 {} {} id-1\n");
    assert_eq!(runtime.invoke("'q\"\nx"), "1 'q\"\nx 'q\"\nx id-2\n");
    runtime.wait_log("l\nl\n");
}

#[test]
fn the_argument_ends_at_the_kernels_limit_and_stdin_does_not() {
    for text in ["#!/usr/bin/env bash\necho $# ${#1}; wc -c\n", "echo $# ${#1}; wc -c\n"] {
        let mut runtime = script(text, 0o755);
        let mut sizes = |size: usize| runtime.invoke("x".repeat(size));
        assert_eq!(sizes(LIMIT), format!("1 {LIMIT}\n{LIMIT}\n"));
        assert_eq!(sizes(LIMIT + 1), format!("0 0\n{}\n", LIMIT + 1));
        assert_eq!(sizes(6 << 20), format!("0 0\n{}\n", 6 << 20));
    }
}

#[test]
fn a_script_need_not_be_executable_nor_say_what_it_is() {
    for (text, mode) in [
        ("[[ $1 == x ]] && echo bash", 0o644),
        ("[[ $1 == x ]] && echo bash", 0o755),
        ("#!/no/such/interpreter\necho bash", 0o644),
        ("#!/bin/sh\necho bash", 0o755),
        ("#!/usr/bin/env python3\nprint('bash')", 0o755),
    ] {
        assert_eq!(script(text, mode).invoke("x"), "bash\n", "{text}");
    }
}

#[test]
fn a_script_that_fails_says_where() {
    let mut runtime = script(
        "#!/usr/bin/env bash\nset -e\nf() {\n  ls /does/not/exist\n}\n[[ $1 == ok ]] || f\necho ok\n",
        0o755,
    );
    assert_eq!(runtime.invoke("ok"), "ok\n");
    let path = runtime.path("script.sh").display().to_string();
    let error = runtime.fail("bad");
    assert_eq!(
        error["errorMessage"],
        format!("script.sh exited with status 2 at {path}:4: ls /does/not/exist")
    );
    assert_eq!(
        error["stackTrace"],
        serde_json::json!([format!("f ({path}:4)"), format!("main ({path}:6)")])
    );
    let mut runtime = script("#!/bin/sh\nexit 3\n", 0o755);
    assert_eq!(runtime.fail("")["errorMessage"], "script.sh exited with status 3");
}

#[test]
fn a_script_has_the_functions_for_handlers_and_what_it_starts_has_not() {
    let mut runtime = script(
        "#!/usr/bin/env bash\ncase $1 in\n  error) lambda_error Bad worse; echo no ;;\n  *) bash -c 'type lambda_error' 2>/dev/null || echo \"clean ${BASH_ENV-unset}\" ;;\nesac\n",
        0o755,
    );
    assert_eq!(runtime.fail("error")["errorType"], "Bad");
    assert_eq!(runtime.invoke(""), "clean unset\n");
}

#[test]
fn the_functions_own_bash_env_is_kept() {
    let mut runtime = setup("script.sh")
        .file("env.sh", "from_env=yes\n", 0o644)
        .file(
            "script.sh",
            "#!/usr/bin/env bash\necho \"$from_env $(bash -c 'echo $from_env')\"\n",
            0o755,
        )
        .variable("BASH_ENV", "./env.sh")
        .start();
    assert_eq!(runtime.invoke(""), "yes yes\n");
}

#[test]
fn an_interpreter_that_is_missing_is_an_error_of_the_event() {
    let mut runtime = script("#!/no/such/interpreter\n", 0o755);
    let error = runtime.fail("");
    assert_eq!(error["errorType"], "Function.StartError");
    let error = runtime.post(Event::new("x", "")).text();
    assert!(error.contains("script.sh cannot be started"), "{error}");
}

#[test]
fn a_script_may_read_none_of_its_event() {
    let mut runtime = script("#!/usr/bin/env bash\necho done\n", 0o755);
    assert_eq!(runtime.invoke("x".repeat(1 << 20)), "done\n");
}
