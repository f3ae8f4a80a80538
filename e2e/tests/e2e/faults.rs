//! Faults on purpose, as boto3, the command line, the logs and a user at a terminal see them.

use super::harness::{Api, bin, lambfold, root, server, venv, wait_until};
use super::terminal::Terminal;
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::process::Command;

/// A server with a function that does what its events say.
struct Place {
    server: TempServer,
    api: Api,
}

fn place() -> Place {
    let server = server();
    let api = Api::new(server.url());
    Place { server, api }
}

impl Place {
    /// `lambfold` with its exit code, standard output and standard error.
    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.server.client(lambfold()).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn spoil(&self, args: &[&str]) {
        let args = [&["fault", "f"], args, &["--for", "10m"]].concat();
        let (code, stdout, stderr) = self.run(&args);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.starts_with("f") && stdout.contains("ends in "), "{stdout}");
    }

    fn clear(&self) {
        let (code, _, stderr) = self.run(&["fault", "f", "--clear"]);
        assert_eq!((code, stderr.as_str()), (Some(0), "switched off\n"));
    }

    /// What boto3 makes of an invocation.
    fn boto3(&self, event: &Value, more: &[&str]) -> Value {
        let output = Command::new(venv("python"))
            .arg(root().join("e2e/tests/clients/invoke.py"))
            .args([self.server.url(), "f", &event.to_string()])
            .args(more)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The error type and text of a failed invocation, which says in its log what was done.
    fn failed(&self, event: &Value, says: &str) -> (String, String) {
        let told = self.boto3(event, &[]);
        assert_eq!((&told["status"], &told["error"]), (&json!(200), &json!("Unhandled")), "{told}");
        let log = told["log"].as_str().unwrap();
        assert!(log.contains(&format!("[lambfold] fault on purpose, {says}")), "{log}");
        let error: Value = serde_json::from_str(told["payload"].as_str().unwrap()).unwrap();
        let text = error["errorMessage"].as_str().unwrap();
        let text = text.split_once(" Error: ").map_or(text, |(_, text)| text);
        (error["errorType"].as_str().unwrap().to_owned(), text.to_owned())
    }

    fn works(&self) {
        let told = self.boto3(&json!({ "do": "echo" }), &[]);
        assert_eq!((&told["status"], &told["error"]), (&json!(200), &Value::Null), "{told}");
        assert!(!told["log"].as_str().unwrap().contains("on purpose"), "{told}");
    }

    fn metric(&self, name: &str) -> f64 {
        let page = self.api.send("GET", "/metrics", &[], b"").unwrap().text();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn pair(error_type: &str, text: &str) -> (String, String) {
    (error_type.to_owned(), text.to_owned())
}

#[test]
fn a_slow_next_and_a_close_deadline_leave_little_time() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    place.works();
    let left = |told: &Value| -> i64 {
        let payload: Value = serde_json::from_str(told["payload"].as_str().unwrap()).unwrap();
        payload["left_ms"].as_i64().unwrap()
    };
    place.spoil(&["slow-next", "--delay", "1s"]);
    let told = place.boto3(&json!({ "do": "deadline" }), &[]);
    assert!(left(&told) <= 2_000, "{told}");
    let log = told["log"].as_str().unwrap();
    let id = told["id"].as_str().unwrap();
    let line = format!(
        "[lambfold] fault on purpose, slow-next: the next that has the event of RequestId: {id} is answered 1000 ms late\n"
    );
    assert!(log.contains(&line), "{log}");
    place.clear();
    place.works();

    place.spoil(&["deadline", "--remaining", "80ms"]);
    let told = place.boto3(&json!({ "do": "deadline" }), &[]);
    assert!(left(&told) <= 80, "{told}");
    let error = place.failed(&json!({ "do": "sleep", "ms": 2_500 }), "deadline: 80 ms");
    assert_eq!(error, pair("Sandbox.Timedout", "Task timed out after 3.00 seconds"));
    place.clear();
    place.works();
}

#[test]
fn a_runtime_meets_500_and_resets() {
    let place = place();
    // What the crate makes of it: it ends, in a panic or with an error.
    place.api.create("f", &bin("lambda-runtime-echo"), json!({}));
    for (kind, says, status) in
        [("api-500", "is answered 500", 101), ("api-reset", "has its connection reset", 1)]
    {
        place.spoil(&[kind]);
        let error = place.failed(&json!({}), &format!("{kind}: the next that has the event of "));
        let exit = format!("Runtime exited with error: exit status {status}");
        assert_eq!(error, pair("Runtime.ExitError", &exit), "{kind}");
        let log = place.api.log_messages("f").concat();
        assert!(log.contains(says), "{log}");
        place.clear();
        place.works();
    }
}

#[test]
fn a_response_that_is_refused_leaves_the_event_open() {
    let place = place();
    place.api.create_puppet("f", json!({ "Timeout": 1 }));
    place.spoil(&["api-500", "--call", "response"]);
    // The puppet does not care, and asks again, and has the same event.
    let error = place.failed(&json!({ "do": "sleep", "ms": 20 }), "api-500: the response of ");
    assert_eq!(error, pair("Sandbox.Timedout", "Task timed out after 1.00 seconds"));
    place.clear();
    place.works();
    // One in a hundred, as programs should survive it: most are answered.
    place.spoil(&["api-500", "--call", "response", "--rate", "0.01"]);
    let answered = (0..20).filter(|_| place.api.invoke("f", &json!({})).json() == json!({}));
    assert!(answered.count() > 10);
}

#[test]
fn a_throttle_is_awss() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    place.spoil(&["throttle"]);
    let told = place.boto3(&json!({}), &[]);
    let expected = json!({
        "status": 429,
        "exception": "TooManyRequestsException",
        "message": "Rate Exceeded.",
        "reason": "ConcurrentInvocationLimitExceeded",
    });
    assert_eq!(told, expected);
    let log = place.api.log_messages("f").concat();
    assert!(log.contains("fault on purpose, throttle: on for 600 s"), "{log}");
    assert!(log.contains("fault on purpose, throttle: the invocation of RequestId: "), "{log}");
    // The command line: the request failed.
    let (code, stdout, stderr) = place.run(&["invoke", "f"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("TooManyRequestsException, HTTP status 429"), "{stderr}");
    place.clear();
    place.works();
    let log = place.api.log_messages("f").concat();
    assert!(log.contains("fault on purpose, throttle: off (cleared); it acted 2 times"), "{log}");
}

#[test]
fn an_init_phase_times_out_and_the_invocation_after_it() {
    let place = place();
    place.api.create_puppet("f", json!({ "Timeout": 1 }));
    // A function that was warm is cold then.
    place.works();
    place.spoil(&["init-timeout"]);
    let error = place.failed(&json!({}), "init-timeout: the init phase is not let end");
    assert_eq!(error, pair("Sandbox.Timedout", "Task timed out after 1.00 seconds"));
    let log = place.api.log_messages("f").concat();
    assert!(log.contains("Phase: init\tStatus: timeout"), "{log}");
    assert!(log.contains("Phase: invoke\tStatus: timeout"), "{log}");
    place.clear();
    place.works();
}

#[test]
fn an_asynchronous_event_is_delivered_twice() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    place.spoil(&["duplicate"]);
    let told = place.boto3(&json!({ "do": "print", "text": "here" }), &["Event"]);
    assert_eq!(told["status"], 202);
    let start = format!("START RequestId: {} ", told["id"].as_str().unwrap());
    let starts = || {
        let log = place.api.log_messages("f");
        log.iter().filter(|line| line.starts_with(&start)).count()
    };
    wait_until("two deliveries", || starts() == 2);
    let log = place.api.log_messages("f").concat();
    assert!(log.contains("fault on purpose, duplicate: the event of RequestId: "), "{log}");
    // Synchronous ones never.
    let told = place.boto3(&json!({}), &[]);
    let start = format!("START RequestId: {} ", told["id"].as_str().unwrap());
    place.clear();
    place.works();
    let log = place.api.log_messages("f");
    assert_eq!(log.iter().filter(|line| line.starts_with(&start)).count(), 1, "{log:?}");
}

#[test]
fn memory_is_used_up_and_is_there_again() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    place.works();
    let killed = pair("Runtime.OutOfMemory", "Runtime exited with error: signal: killed");
    place.spoil(&["oom"]);
    // One that needs memory is killed by the kernel, where there is a limit.
    let event = json!({ "do": "allocate", "mib": 20 });
    assert_eq!(place.failed(&event, "oom: "), killed);
    let log = place.api.log_messages("f").concat();
    let limited = log.contains("oom: the memory limit is lowered");
    assert_eq!(log.contains("in place of the kernel"), !limited, "{log}");
    // One that needs none is ended all the same.
    assert_eq!(place.failed(&json!({ "do": "echo" }), "oom: "), killed);
    place.clear();
    place.works();
    let told = place.boto3(&json!({ "do": "allocate", "mib": 20 }), &[]);
    assert_eq!(told["error"], Value::Null, "{told}");
}

#[test]
fn nobody_forgets_a_fault_and_it_ends_by_itself() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    let (code, stdout, _) = place.run(&["doctor", "--output", "json"]);
    assert!(!stdout.contains("on purpose"), "{stdout}");
    place.spoil(&["slow-next", "--delay", "10ms", "--rate", "0.5"]);
    assert_eq!(place.metric("lambfold_faults"), 1.0);
    // Doctor does not fail for it, but says so with the remedy.
    let (with, stdout, stderr) = place.run(&["doctor", "--output", "json"]);
    assert_eq!(with, code, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let checks = report["Checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["Name"] == "fault on purpose").unwrap();
    assert_eq!((&check["Outcome"], &check["Group"]), (&json!("lesser"), &json!("server")));
    let explanation = check["Explanation"].as_str().unwrap();
    let expected = "f  slow-next (10ms late, rate 0.5)  ends in 9m";
    assert!(explanation.starts_with(expected), "{explanation}");
    assert_eq!(check["Remedy"], "lambfold fault f --clear");
    assert!(place.server.log().contains("fault on purpose, slow-next (10 ms late, rate 0.5): on"));
    let (code, stdout, _) = place.run(&["fault", "f", "--list", "--output", "json"]);
    let list: Value = serde_json::from_str(&stdout).unwrap();
    let fault = &list["Faults"][0];
    assert_eq!(code, Some(0));
    assert_eq!((&fault["Kind"], &fault["DelayMs"]), (&json!("slow-next"), &json!(10)));
    assert_eq!((&fault["FunctionName"], &fault["Version"]), (&json!("f"), &Value::Null));

    // In place of the one before, for a second.
    let again = ["fault", "f", "slow-next", "--for", "1s", "--qualifier", "$LATEST"];
    assert_eq!(place.run(&again).0, Some(0));
    place.clear();
    assert_eq!(place.run(&again).0, Some(0));
    wait_until("the end of the fault", || place.metric("lambfold_faults") == 0.0);
    let log = place.api.log_messages("f").concat();
    assert!(log.contains("off (its time is over); it acted 0 times"), "{log}");
    assert!(place.server.log().contains("off (its time is over)"));
    let (code, stdout, stderr) = place.run(&["fault", "--list"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "", "no fault is on\n"));
    let (code, _, stderr) = place.run(&["fault", "nobody", "oom", "--for", "1s"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("Function not found"), "{stderr}");
}

#[test]
fn a_restart_switches_faults_off() {
    let folder = tempfile::tempdir().unwrap();
    let options = || ServerOptions::new(lambfold()).data_dir(folder.path().join("data"));
    let start = || {
        let server = TempServer::start(&options()).unwrap();
        let api = Api::new(server.url());
        Place { server, api }
    };
    let first = start();
    first.api.create_puppet("f", json!({}));
    first.spoil(&["throttle"]);
    assert_eq!(first.api.invoke("f", &json!({})).status, 429);
    drop(first);
    let second = start();
    assert_eq!(second.metric("lambfold_faults"), 0.0);
    assert_eq!(second.api.invoke("f", &json!({})).status, 200);
}

#[test]
fn the_address_of_faults_refuses_what_is_none() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    let send = |method: &str, query: &str, body: &str| {
        let path = format!("/_lambfold/v1/faults{query}");
        place.api.send(method, &path, &[], body.as_bytes()).unwrap()
    };
    let good = r#"{"Kind":"oom","ForSeconds":1}"#;
    for (method, query, body, status, says) in [
        ("PUT", "", good, 400, "function: name or ARN of a function is missing"),
        ("PUT", "?function=none", good, 404, "Function not found"),
        ("PUT", "?function=f&qualifier=7", good, 404, "Function not found"),
        ("PUT", "?function=f", "{}", 400, "missing field `Kind`"),
        ("PUT", "?function=f", r#"{"Kind":"oom","ForSeconds":86401}"#, 400, "at most 24 hours"),
        ("PUT", "?function=f", r#"{"Kind":"oom","ForSeconds":0}"#, 400, "at least 1 second"),
        ("DELETE", "", "", 400, "function: name or ARN"),
        ("DELETE", "?function=f&kind=flood", "", 400, "there is no fault"),
        ("POST", "?function=f", good, 405, "allowed: GET, PUT, DELETE"),
    ] {
        let reply = send(method, query, body);
        assert_eq!(reply.status, status, "{method} {query} {body}: {}", reply.text());
        assert!(reply.text().contains(says), "{method} {query} {body}: {}", reply.text());
    }
    assert_eq!(send("PUT", "?function=f", r#"{"Kind":"oom","ForSeconds":86400}"#).status, 200);
    let path = "/_lambfold/v1/faults?function=f";
    let foreign = [("origin", "http://example.com")];
    let reply = place.api.send("PUT", path, &foreign, good.as_bytes()).unwrap();
    assert_eq!(reply.status, 403);
}

#[test]
fn a_user_at_a_terminal_switches_one_on_sees_it_and_switches_it_off() {
    let place = place();
    place.api.create_puppet("f", json!({}));
    let terminal = Terminal::of(&place.server);
    assert_eq!(terminal.run("lambfold fault f throttle --for 10m --rate 1"), 0);
    let screen = terminal.screen();
    assert!(screen.contains("f  throttle  ends in 10m, acted 0 times"), "{screen}");
    let hint = "hint: before its time is over: lambfold fault f --clear";
    assert!(screen.contains(hint), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("lambfold invoke f"), 1);
    let screen = terminal.screen();
    assert!(screen.contains("error: Rate Exceeded. (TooManyRequestsException"), "{screen}");
    terminal.clear();
    terminal.run("lambfold doctor 2>&1 | grep -A1 purpose");
    let screen = terminal.screen();
    assert!(screen.contains("server   fault on purpose"), "{screen}");
    assert!(screen.contains("acted 1 times"), "{screen}");
    assert!(screen.contains("remedy: lambfold fault f --clear"), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("lambfold fault f flood --for 10m"), 2);
    let screen = terminal.screen();
    assert!(screen.contains("invalid value 'flood' for '[KIND]'"), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("lambfold fault f --clear"), 0);
    assert_eq!(terminal.run("lambfold invoke f --payload '{\"do\":\"echo\"}'"), 0);
    let screen = terminal.screen();
    assert!(screen.contains("switched off"), "{screen}");
    assert!(screen.contains("{\"do\":\"echo\"}"), "{screen}");
}
