//! Events that are no HTTP: a callable gets them.

use std::time::Duration;

use lambfold_runtime_client::scripted::{Call, Event};
use serde_json::{Value, json};

use crate::harness::{Runtime, Setup, get, index, wait_until};

const HANDLER: &str = r#"<?php
echo "loaded\n";
function inner() { throw new DomainException('no "such" thing é'); }
return function ($event, Lambfold\Context $context) {
    static $count = 0;
    $count++;
    switch ($event['do'] ?? null) {
        case 'count': return $count;
        case 'pid': return getmypid();
        case 'context': return $context;
        case 'left': return $context->getRemainingTimeInMillis();
        case 'trace': return [getenv('_X_AMZN_TRACE_ID'), $_SERVER['_X_AMZN_TRACE_ID'] ?? null];
        case 'throw': inner();
        case 'print': echo 'printed'; ob_start(); echo ' buffered'; return null;
        case 'exit': exit(0);
        case 'fatal': ini_set('memory_limit', -1); $x = null; eval('class A { function f(); }'); break;
        case 'memory': $all = []; while (true) { $all[] = str_repeat('x', 1000000); }
        case 'time': set_time_limit(1); while (true) { }
        case 'kill': posix_kill(getmypid(), SIGKILL); sleep(100);
        case 'forever': while (true) { sleep(1000); }
        case 'not-json': return "\xff";
        case 'stdin': return stream_get_contents(STDIN);
        case 'argv': return [$_SERVER['argv'], $_SERVER['SCRIPT_FILENAME'], getenv('LAMBFOLD_PHP_SOCKET')];
    }
    return $event;
};
"#;

fn function() -> Setup {
    index(HANDLER).variable("LAMBFOLD_PHP_MODE", "function")
}

fn works(runtime: &mut Runtime) {
    assert_eq!(
        runtime.invoke(&json!({"a": [1, 2.5, "ü", null]})),
        json!({"a": [1, 2.5, "ü", null]})
    );
}

#[test]
fn any_json_comes_and_goes() {
    let mut runtime = function().start();
    for event in [
        json!({"a": {"b": [1, 2.0, "x/y", "é\u{0}💡", true, null]}}),
        json!([1, 2]),
        json!("text"),
        json!(7),
        json!(null),
        json!({"long": "x".repeat(3_000_000)}),
    ] {
        assert_eq!(runtime.invoke(&event), event);
    }
    assert_eq!(runtime.invoke(&json!({"do": "count"})), 7);
    // Loaded once.
    assert_eq!(runtime.log_so_far().matches("loaded").count(), 1);
    // Here even HTTP events are events.
    assert_eq!(runtime.invoke(&get("/x"))["path"], "/x");
}

#[test]
fn the_context_is_told() {
    let mut runtime = function().start();
    let event = Event::new("id-1", r#"{"do":"context"}"#)
        .with_field("Lambda-Runtime-Client-Context", r#"{"custom":{"a":1}}"#)
        .with_field("Lambda-Runtime-Aws-Tenant-Id", "blue")
        .with_field("Lambda-Runtime-Trace-Id", "Root=1-2-3");
    let post = runtime.post(event);
    let context: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(context["awsRequestId"], "id-1");
    assert_eq!(context["clientContext"]["custom"]["a"], 1);
    assert_eq!((&context["tenantId"], &context["traceId"]), (&json!("blue"), &json!("Root=1-2-3")));
    let event =
        Event::new("id-2", r#"{"do":"trace"}"#).with_field("Lambda-Runtime-Trace-Id", "Root=4");
    assert_eq!(runtime.post(event).text(), r#"["Root=4","Root=4"]"#);
    assert_eq!(runtime.invoke(&json!({"do": "trace"})), json!([false, null]));
    let left = runtime.invoke(&json!({"do": "left"})).as_u64().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    let file = runtime.folder().join("index.php");
    assert_eq!(runtime.invoke(&json!({"do": "argv"})), json!([[&file], &file, false]));
    assert_eq!(runtime.invoke(&json!({"do": "stdin"})), "");
}

#[test]
fn what_is_thrown_is_the_error_with_its_stack() {
    let mut runtime = function().start();
    let pid = runtime.invoke(&json!({"do": "pid"}));
    let event = runtime.event(&json!({"do": "throw"}));
    let post = runtime.post(event);
    assert_eq!(post.call, Call::Error);
    assert_eq!(post.field("lambda-runtime-function-error-type"), Some("Function.DomainException"));
    let error: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(error["errorType"], "DomainException");
    assert_eq!(error["errorMessage"], "no \"such\" thing é");
    let stack = error["stackTrace"].as_array().unwrap();
    let file = runtime.folder().join("index.php").display().to_string();
    assert_eq!(stack[0], format!("inner ({file}:3)"));
    assert!(stack[1].as_str().unwrap().contains("{closure}"), "{error}");
    assert!(!error.to_string().contains("driver.php"), "{error}");
    runtime.wait_log("DomainException");
    // The same PHP goes on.
    assert_eq!(runtime.invoke(&json!({"do": "pid"})), pid);
}

#[test]
fn however_an_event_ends_the_next_is_fine() {
    let mut runtime = function().variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128").start();
    for (what, error_type, message) in [
        ("exit", "Function.Exit", "called exit() and gave no answer"),
        ("memory", "Function.FatalError", "Allowed memory size"),
        ("time", "Function.FatalError", "Maximum execution time of 1 second"),
        ("fatal", "Function.FatalError", "Non-abstract method"),
        ("kill", "Function.WorkerDied", "signal 9 (SIGKILL)"),
        ("not-json", "JsonException", "UTF-8"),
    ] {
        let error = runtime.fail(&json!({"do": what}));
        assert_eq!(error["errorType"], error_type, "{error}");
        assert!(error["errorMessage"].as_str().unwrap().contains(message), "{error}");
        works(&mut runtime);
        runtime.wait_idle();
        assert_eq!(runtime.children().len(), 1);
    }
}

#[test]
fn the_deadline_is_an_error() {
    let mut runtime = function().start();
    let event = runtime.event(&json!({"do": "forever"})).with_timeout(Duration::from_millis(1500));
    let error = runtime.fail_with(event);
    assert_eq!(error["errorType"], "Function.Timeout");
    works(&mut runtime);
}

#[test]
fn what_is_printed_is_for_the_log() {
    let mut runtime = function().start();
    assert_eq!(runtime.invoke(&json!({"do": "print"})), Value::Null);
    runtime.wait_log("printed buffered");
}

#[test]
fn one_file_may_be_page_and_callable() {
    let text = "<?php if (PHP_SAPI !== 'cli') { echo 'page'; } return fn ($event) => [$event];";
    let mut runtime = index(text).start();
    assert_eq!(runtime.http(&get("/")).text(), "page");
    assert_eq!(runtime.invoke(&json!({"Records": []})), json!([{"Records": []}]));
    assert_eq!(runtime.http(&get("/")).text(), "page");
    wait_until("both", || runtime.children().len() == 2);
}

#[test]
fn a_callable_that_a_web_request_misses_is_hinted_at() {
    let mut runtime = index("<?php return function ($event) { return 1; };").start();
    assert_eq!(runtime.http(&get("/")).text(), "");
    assert_eq!(runtime.http(&get("/")).text(), "");
    let log = runtime.wait_log("LAMBFOLD_PHP_MODE=function");
    assert_eq!(log.matches("LAMBFOLD_PHP_MODE").count(), 1);
}

#[test]
fn everything_that_can_be_called_is_a_callable() {
    for handler in [
        "class H { function __invoke($e) { return 1; } } return new H;",
        "class H { static function f($e) { return 1; } } return ['H', 'f'];",
        "class H { static function f($e) { return 1; } } return 'H::f';",
        "function f($e) { return 1; } return 'f';",
        "return fn () => 1;",
    ] {
        let mut runtime =
            index(&format!("<?php {handler}")).variable("LAMBFOLD_PHP_MODE", "function").start();
        assert_eq!(runtime.invoke(&json!({})), 1, "{handler}");
    }
}

#[test]
fn a_file_that_gives_no_callable_fails_its_init() {
    for (text, error_type, message) in [
        ("<?php echo 'page';", "Runtime.HandlerNotFound", "no callable but integer"),
        ("<?php return new stdClass;", "Runtime.HandlerNotFound", "no callable but stdClass"),
        ("<?php throw new LogicException('broken');", "LogicException", "broken"),
        ("<?php return function ( {", "ParseError", "syntax error"),
        ("<?php undefined_function();", "Error", "undefined function"),
        ("<?php exit;", "Function.Exit", "while it was loaded"),
        ("<?php posix_kill(getmypid(), SIGKILL); sleep(100);", "Runtime.StartError", "SIGKILL"),
    ] {
        let mut runtime = index(text).variable("LAMBFOLD_PHP_MODE", "function").start();
        let error = runtime.init_error();
        assert_eq!(error["errorType"], error_type, "{text}: {error}");
        assert!(error["errorMessage"].as_str().unwrap().contains(message), "{error}");
    }
}

#[test]
fn without_the_mode_a_missing_callable_fails_the_event_alone() {
    let mut runtime = index("<?php echo 'page';").start();
    let error = runtime.fail(&json!({"Records": []}));
    assert_eq!(error["errorType"], "Runtime.HandlerNotFound");
    assert_eq!(runtime.http(&get("/")).text(), "page");
}
