use lambfold_runtime_client::scripted::{Call, Event};
use serde_json::json;

use crate::harness::{Setup, function, setup};

fn compat(text: &str) -> Setup {
    function(text).variable("LAMBFOLD_BASH_COMPAT", "gkrizek")
}

#[test]
fn stderr_is_the_answer_and_stdout_the_log() {
    let mut runtime = compat(
        "handler() { set -e; echo \"logged $1\"; echo '{\"success\": true}' >&2; echo >&2; cat; }",
    )
    .start();
    let post = runtime.post(Event::new("1", "{\"a\":1}\n"));
    assert_eq!((post.call, post.text().as_str()), (Call::Response, "{\"success\": true}"));
    runtime.wait_log("logged {\"a\":1}\n");
    let mut runtime = compat("handler() { :; }").start();
    assert_eq!(runtime.invoke(""), "");
}

#[test]
fn a_failure_has_that_layers_shape_and_is_json_even_so() {
    let mut runtime = compat("handler() { set -e; echo 'it \"broke\"' >&2; false; }").start();
    let error = runtime.fail("");
    assert_eq!(
        error,
        json!({
            "errorMessage": "Exited with code 1",
            "errorType": "RuntimeErrorException",
            "stackTrace": "it \"broke\""
        })
    );
}

#[test]
fn home_context_and_shell_options_are_that_layers() {
    let mut runtime = compat(
        "handler() { [[ -o pipefail && -o nounset ]] && printf '%s %s' \"$HOME\" \"$AWS_LAMBDA_REQUEST_ID\" >&2; }",
    )
    .variable("HOME", "/root")
    .start();
    assert_eq!(runtime.invoke(""), "/tmp id-1");
}

#[test]
fn a_missing_file_has_that_layers_words() {
    let error =
        setup("nothing.handler").variable("LAMBFOLD_BASH_COMPAT", "gkrizek").start().init_error();
    assert_eq!(error["errorMessage"], "Failed to load handler 'handler' from module 'nothing'");
    assert_eq!(error["errorType"], "InvalidHandlerException");
}
