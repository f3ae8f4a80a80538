use crate::scripted::{Reply, Scripted};
use crate::{against, fed};
use serde_json::{Value, json};

/// base64 of `START\nline\nEND\n`
const LOG: &str = "U1RBUlQKbGluZQpFTkQK";

fn answered(body: &str) -> Reply {
    Reply::new(200, body)
        .header("X-Amz-Executed-Version", "$LATEST")
        .header("x-amzn-RequestId", "d5a7c9a8-0000-4000-8000-000000000001")
}

#[test]
fn the_payload_is_printed_as_it_is() {
    let server = Scripted::new([answered("{\"b\": 1,\n \"a\":2}")]);
    let ran = against(&server, &["invoke", "f", "--payload", "{\"x\": [1]}"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"b\": 1,\n \"a\":2}"));
    assert_eq!(ran.stderr, "");
    let request = server.next();
    assert_eq!(request.line, "POST /2015-03-31/functions/f/invocations HTTP/1.1");
    assert_eq!(request.body, b"{\"x\": [1]}");
    assert_eq!(request.header("x-amz-invocation-type"), None);
    assert_eq!(request.header("x-amz-log-type"), None);
    let authorization = request.header("authorization").unwrap();
    assert!(authorization.contains("/us-east-1/lambda/aws4_request"), "{authorization}");
    assert!(
        authorization.contains("SignedHeaders=content-type;host;x-amz-date,"),
        "{authorization}"
    );
    assert_eq!(request.header("host"), server.url().strip_prefix("http://"));
}

#[test]
fn the_tail_of_the_log_goes_to_standard_error() {
    let server = Scripted::new([answered("null").header("X-Amz-Log-Result", LOG)]);
    let ran = against(&server, &["invoke", "f", "--tail"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "null"));
    assert_eq!(ran.stderr, "START\nline\nEND\n");
    assert_eq!(server.next().header("x-amz-log-type"), Some("Tail"));
}

#[test]
fn an_error_of_the_function_is_exit_code_3() {
    let body = r#"{"errorType":"E","errorMessage":"m"}"#;
    let server = Scripted::new([answered(body).header("X-Amz-Function-Error", "Unhandled")]);
    let ran = against(&server, &["invoke", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, body));
    assert!(ran.stderr.contains("the function returned an error (Unhandled)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: its log: lambfold logs f"), "{}", ran.stderr);
}

#[test]
fn json_output_holds_everything() {
    let reply = answered("{\"n\":1}")
        .header("X-Amz-Function-Error", "Unhandled")
        .header("X-Amz-Log-Result", LOG);
    let server = Scripted::new([reply]);
    let ran = against(&server, &["invoke", "f", "--tail", "--output", "json"]);
    assert_eq!(ran.code, 3);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        value,
        json!({
            "StatusCode": 200,
            "RequestId": "d5a7c9a8-0000-4000-8000-000000000001",
            "ExecutedVersion": "$LATEST",
            "FunctionError": "Unhandled",
            "LogResult": "START\nline\nEND\n",
            "Payload": {"n": 1},
        })
    );
}

#[test]
fn payloads_come_from_files_and_standard_input_and_arns_are_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("event.json");
    std::fs::write(&path, "{\"from\":\"file\"}").unwrap();
    let server = Scripted::new([answered("1"), answered("2"), answered("3")]);
    let from_file = format!("@{}", path.display());
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let ran = against(&server, &["invoke", arn, "--payload", &from_file, "--qualifier", "$LATEST"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1"), "{}", ran.stderr);
    let request = server.next();
    assert_eq!(
        request.line,
        "POST /2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations?Qualifier=%24LATEST HTTP/1.1"
    );
    assert_eq!(request.body, b"{\"from\":\"file\"}");
    let ran = fed(&server, &["invoke", "f", "--payload", "-"], "[\"stdin\"]");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2"));
    assert_eq!(server.next().body, b"[\"stdin\"]");
    assert_eq!(against(&server, &["invoke", "f"]).code, 0);
    assert_eq!(server.next().body, b"{}");
}

#[test]
fn queued_events_print_their_request_id_for_people_and_programs() {
    let id = "d5a7c9a8-0000-4000-8000-000000000002";
    let reply = || Reply::new(202, "").header("x-amzn-RequestId", id);
    let server = Scripted::new([reply(), reply()]);
    let ran = against(&server, &["invoke", "f", "--async"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.contains(id), "{}", ran.stderr);
    assert_eq!(server.next().header("x-amz-invocation-type"), Some("Event"));
    let ran = against(&server, &["invoke", "f", "--async", "--output", "json"]);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value, json!({"StatusCode": 202, "RequestId": id}));
}

#[test]
fn a_function_that_is_not_there_comes_with_hints() {
    let server = Scripted::new([Reply::not_found()]);
    let ran = against(&server, &["invoke", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: Function not found: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("(ResourceNotFoundException, HTTP status 404)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("aws lambda list-functions"), "{}", ran.stderr);
    assert!(ran.stderr.contains("lambfold deploy DIR --name f"), "{}", ran.stderr);
}

#[test]
fn keys_and_region_of_the_environment_sign() {
    let server = Scripted::new([answered("1")]);
    let mut command = crate::lambfold(&["invoke", "f"]);
    command
        .env("AWS_ENDPOINT_URL", server.url())
        .env("AWS_REGION", "cn-north-1")
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_SESSION_TOKEN", "token");
    assert_eq!(crate::run(&mut command).code, 0);
    let request = server.next();
    let authorization = request.header("authorization").unwrap();
    assert!(authorization.contains("Credential=AKIDEXAMPLE/"), "{authorization}");
    assert!(authorization.contains("/cn-north-1/lambda/"), "{authorization}");
    assert_eq!(request.header("x-amz-security-token"), Some("token"));
    assert!(authorization.contains(";x-amz-security-token,"), "{authorization}");
}
