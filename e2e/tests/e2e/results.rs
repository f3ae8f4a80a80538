//! What a caller gets for each way in which a function can end (behaviour specification §4.3).

use super::harness::{Api, bin, server};
use serde_json::{Value, json};

fn error(reply: &super::harness::Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    let id = reply.header("x-amzn-requestid").expect("request id").to_owned();
    let body = reply.json();
    let message = body["errorMessage"].as_str().unwrap_or_default().replace(&id, "ID");
    (body["errorType"].as_str().unwrap_or_default().to_owned(), message)
}

fn pair(kind: &str, message: &str) -> (String, String) {
    (kind.to_owned(), message.to_owned())
}

#[test]
fn every_way_to_end_has_its_answer_and_the_next_event_is_fine() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 1 }));

    let reply = api.invoke("f", &json!({ "do": "echo", "x": "ä\n\"" }));
    assert_eq!(reply.json(), json!({ "do": "echo", "x": "ä\n\"" }));
    assert_eq!(reply.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(reply.header("x-amz-function-error"), None);

    let cases = [
        (
            json!({ "do": "exit", "code": 3 }),
            pair(
                "Runtime.ExitError",
                "RequestId: ID Error: Runtime exited with error: exit status 3",
            ),
        ),
        (
            json!({ "do": "exit", "code": 0 }),
            pair(
                "Runtime.ExitError",
                "RequestId: ID Error: Runtime exited without providing a reason",
            ),
        ),
        (
            json!({ "do": "abort" }),
            pair(
                "Runtime.ExitError",
                "RequestId: ID Error: Runtime exited with error: signal: aborted",
            ),
        ),
        (
            json!({ "do": "sleep", "ms": 5000 }),
            pair("Sandbox.Timedout", "RequestId: ID Error: Task timed out after 1.00 seconds"),
        ),
        (
            json!({ "do": "run", "shell": "kill -9 $PPID; sleep 9" }),
            pair(
                "Runtime.ExitError",
                "RequestId: ID Error: Runtime exited with error: signal: killed",
            ),
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(error(&api.invoke("f", &event)), expected, "{event}");
        let reply = api.invoke("f", &json!({ "do": "count" }));
        assert_eq!(reply.json()["count"], 1, "after {event}: {}", reply.text());
    }

    let reply = api.invoke("f", &json!({ "do": "raise" }));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(
        reply.json(),
        json!({ "errorMessage": "as asked", "errorType": "Puppet.Raised", "extra": 1 })
    );
    let reply = api.invoke("f", &json!({ "do": "wrong-id" }));
    assert_eq!(reply.json()["status"], 400);
    assert!(
        reply.json()["body"].as_str().unwrap().contains("InvalidRequestID"),
        "{}",
        reply.text()
    );
}

#[test]
fn a_crash_after_the_answer_leaves_the_answer_alone() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    for _ in 0..5 {
        let reply = api.invoke("f", &json!({ "do": "count", "then": "exit" }));
        assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
        assert_eq!(reply.json()["count"], 1);
    }
}

#[test]
fn a_bootstrap_that_cannot_start_is_named_in_the_answer_and_explained_in_the_log() {
    let server = server();
    let api = Api::new(server.url());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("function.sh"), "echo hello").unwrap();
    api.create_from("missing", folder.path(), json!({}));
    let reply = api.invoke_tail("missing", &json!({}));
    assert_eq!(
        error(&reply),
        pair(
            "Runtime.InvalidEntrypoint",
            "RequestId: ID Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
        )
    );
    assert!(reply.log().contains("REPORT RequestId"), "{}", reply.log());
}

#[test]
fn init_that_fails_is_tried_again_in_the_invoke_and_its_own_error_is_the_answer() {
    let server = server();
    let api = Api::new(server.url());
    let variables = |how: &str| json!({ "Environment": { "Variables": { "PUPPET_INIT": how } } });
    api.create_puppet("error", variables("error"));
    let reply = api.invoke("error", &json!({}));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    assert_eq!(reply.json(), json!({ "errorMessage": "cannot start", "errorType": "Puppet.Init" }));
    api.create_puppet("exit", variables("exit"));
    let expected =
        pair("Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: exit status 7");
    assert_eq!(error(&api.invoke("exit", &json!({}))), expected);
}

#[test]
fn responses_on_both_sides_of_the_limit() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 30 }));
    let reply = api.invoke("f", &json!({ "do": "big", "bytes": 6_291_556 }));
    assert_eq!((reply.status, reply.body.len()), (200, 6_291_556));
    assert_eq!(reply.header("x-amz-function-error"), None);
    let reply = api.invoke("f", &json!({ "do": "big", "bytes": 6_291_557 }));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(
        reply.json(),
        json!({
            "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        })
    );
    assert_eq!(api.invoke("f", &json!({ "do": "echo" })).json(), json!({ "do": "echo" }));
}

#[test]
fn the_environment_variables_are_those_of_aws() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet(
        "f",
        json!({ "Environment": { "Variables": { "MINE": "a b" } }, "MemorySize": 256 }),
    );
    let env = api.invoke("f", &json!({ "do": "env" })).json();
    let expected = [
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_LAMBDA_RUNTIME_API", "169.254.100.1:9001"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("_HANDLER", "function.handler"),
        ("TZ", ":UTC"),
        ("LANG", "en_US.UTF-8"),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("MINE", "a b"),
    ];
    for (name, value) in expected {
        assert_eq!(env[name], Value::from(value), "{name} in {env}");
    }
    assert_eq!(env["AWS_EXECUTION_ENV"], Value::Null);
    api.create("al2", &bin("puppet"), json!({ "Runtime": "provided.al2" }));
    let env = api.invoke("al2", &json!({ "do": "env" })).json();
    assert_eq!(env["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001");
    assert_eq!(env["PATH"], "/usr/local/bin:/usr/bin/:/bin:/opt/bin");
}

#[test]
fn the_log_holds_start_output_in_order_end_and_report() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let reply = api.invoke_tail("f", &json!({ "do": "log", "lines": 20 }));
    let id = reply.header("x-amzn-requestid").unwrap();
    let log = reply.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], format!("START RequestId: {id} Version: $LATEST"));
    for line in 0..20 {
        let stream = if line % 2 == 0 { "out" } else { "err" };
        assert_eq!(lines[1 + line], format!("{stream} {line}"));
    }
    assert_eq!(lines[21], format!("END RequestId: {id}"));
    assert!(lines[22].starts_with(&format!("REPORT RequestId: {id}\tDuration: ")), "{log}");
    assert!(lines[22].contains("\tMemory Size: 128 MB\tMax Memory Used: "), "{log}");
    assert!(lines[22].contains("\tInit Duration: "), "{log}");
    let warm = api.invoke_tail("f", &json!({})).log();
    assert!(!warm.contains("Init Duration"), "{warm}");
    super::harness::wait_until("the log store has the lines", || {
        let all = api.log_messages("f");
        all.iter().any(|line| line.trim_end() == "err 19")
            && all.iter().filter(|line| line.starts_with("REPORT ")).count() == 2
    });
}
