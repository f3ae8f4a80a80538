//! Each sender gets the answer that it understands.

use serde_json::{Value, json};

use crate::harness::{get, index};

const PAGE: &str = "<?php header('X-A: 1'); header('X-A: 2', false); setcookie('a', '1');
    setcookie('b', '2'); header_remove('X-Powered-By'); header('Content-Type: text/plain');
    echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['REQUEST_URI'], ' ', $_SERVER['REMOTE_ADDR'],
        ' ', json_encode($_COOKIE), ' ', json_encode($_GET), ' ', $_SERVER['HTTP_HOST'];";

fn function_url() -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/a/b%20c",
        "rawQueryString": "x=1&x=2&y=", "cookies": ["k=v", "l=w"],
        "headers": {"host": "u.lambda-url.r.on.aws", "x-forwarded-proto": "https"},
        "queryStringParameters": {"x": "1,2", "y": ""},
        "requestContext": {"stage": "$default", "http": {
            "method": "GET", "path": "/a/b c", "protocol": "HTTP/1.1", "sourceIp": "198.51.100.7"}},
        "isBase64Encoded": false})
}

#[test]
fn function_urls_and_http_apis() {
    let mut runtime = index(PAGE).start();
    let shown = runtime.http(&function_url());
    assert_eq!(
        shown.text(),
        "GET /a/b%20c?x=1&x=2&y= 198.51.100.7 {\"k\":\"v\",\"l\":\"w\"} {\"x\":\"2\",\"y\":\"\"} u.lambda-url.r.on.aws"
    );
    assert_eq!(shown.answer["cookies"], json!(["a=1", "b=2"]));
    assert_eq!(shown.headers["X-A"], "1, 2");

    let mut event = function_url();
    event["requestContext"]["stage"] = "dev".into();
    event["rawPath"] = "/dev/a".into();
    assert!(runtime.http(&event).text().starts_with("GET /a?x=1"));
}

#[test]
fn load_balancers() {
    let mut runtime = index(PAGE).start();
    let event = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/p",
        "queryStringParameters": {"q": "a%20b"},
        "headers": {"host": "lb", "x-forwarded-for": "6.6.6.6, 192.0.2.1", "cookie": "k=v"},
        "body": "", "isBase64Encoded": false});
    let shown = runtime.http(&event);
    assert_eq!(shown.text(), "GET /p?q=a%20b 192.0.2.1 {\"k\":\"v\"} {\"q\":\"a b\"} lb");
    assert_eq!(shown.answer["statusDescription"], "200 OK");
    assert_eq!(shown.headers["Set-Cookie"], "b=2");
    runtime.wait_log("multi-value");

    let event = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/p",
        "multiValueQueryStringParameters": {"q": ["1", "2"]},
        "multiValueHeaders": {"host": ["lb"]}, "body": "", "isBase64Encoded": false});
    let answer = runtime.http(&event).answer;
    assert_eq!(answer["multiValueHeaders"]["Set-Cookie"], json!(["a=1", "b=2"]));
    assert_eq!(answer["headers"], Value::Null);
}

#[test]
fn an_http_event_that_is_not_whole_is_an_error_and_the_next_is_fine() {
    let mut runtime = index(PAGE).start();
    let error = runtime.fail(&json!({"httpMethod": "GET", "body": "!", "isBase64Encoded": true}));
    assert_eq!(error["errorType"], "Runtime.InvalidEvent");
    assert!(error["errorMessage"].as_str().unwrap().contains("base64"), "{error}");
    assert_eq!(runtime.http(&get("/")).status, 200);
}
