use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

fn head(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("request").into_parts().0
}

fn made(format: Format, head: &Parts, body: &[u8]) -> Value {
    let request = Request {
        head,
        body,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 3000,
        id: "6f1c2a90-4b1d-4a57-9d0e-2b8f6c1e7a34",
        epoch_ms: 1_773_342_238_390,
        account: "000000000000",
        region: "us-east-1",
    };
    event(format, &request)
}

const HEADERS: &[(&str, &[u8])] = &[
    ("host", b"127.0.0.1:3000"),
    ("user-agent", b"curl/8.5.0"),
    ("accept", b"text/html"),
    ("accept", b"text/plain"),
    ("cookie", b"a=1; b=2"),
    ("connection", b"keep-alive"),
    ("x-forwarded-for", b"203.0.113.9"),
];

#[test]
fn a_request_in_format_2_0() {
    let head = head("POST", "/pa%2Fth/1?x=1&x=a+b%26&y", HEADERS);
    for (format, account) in
        [(Format::ApiGatewayV2, "000000000000"), (Format::FunctionUrl, "anonymous")]
    {
        let expected = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/pa%2Fth/1",
            "rawQueryString": "x=1&x=a+b%26&y", "cookies": ["a=1", "b=2"],
            "headers": {
                "host": "127.0.0.1:3000", "user-agent": "curl/8.5.0",
                "accept": "text/html,text/plain",
                "x-amzn-trace-id": "Root=1-69b30e1e-6f1c2a904b1d4a579d0e2b8f",
                "x-forwarded-for": "127.0.0.1", "x-forwarded-port": "3000",
                "x-forwarded-proto": "http",
            },
            "queryStringParameters": {"x": "1,a b&", "y": ""},
            "requestContext": {
                "accountId": account, "apiId": "lambfold", "domainName": "127.0.0.1",
                "domainPrefix": "127",
                "http": {"method": "POST", "path": "/pa%2Fth/1", "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1", "userAgent": "curl/8.5.0"},
                "requestId": "6f1c2a90-4b1d-4a57-9d0e-2b8f6c1e7a34",
                "routeKey": "$default", "stage": "$default",
                "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_773_342_238_390_u64,
            },
            "body": "hi", "isBase64Encoded": false,
        });
        assert_eq!(made(format, &head, b"hi"), expected);
    }
}

#[test]
fn what_is_empty_is_left_out_of_format_2_0_and_null_in_1_0() {
    let head = head("GET", "/", &[("host", b"localhost")]);
    let event = made(Format::ApiGatewayV2, &head, b"");
    for name in ["cookies", "queryStringParameters", "body"] {
        assert!(event.get(name).is_none(), "{name}");
    }
    let event = made(Format::ApiGatewayProxy, &head, b"");
    for name in [
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "pathParameters",
        "stageVariables",
        "body",
    ] {
        assert_eq!(event.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(event["resource"], "/");
    assert_eq!(made(Format::Alb, &head, b"")["body"], "");
}

#[test]
fn a_request_in_format_1_0() {
    let event = made(Format::ApiGatewayProxy, &head("GET", "/a%20b/c?x=1&x=2", HEADERS), b"");
    assert_eq!(event["path"], "/a%20b/c");
    assert_eq!(event["pathParameters"], json!({"proxy": "a b/c"}));
    assert_eq!(event["queryStringParameters"], json!({"x": "2"}));
    assert_eq!(event["multiValueQueryStringParameters"], json!({"x": ["1", "2"]}));
    assert_eq!(event["headers"]["Accept"], "text/plain");
    assert_eq!(event["multiValueHeaders"]["Accept"], json!(["text/html", "text/plain"]));
    assert_eq!(event["headers"]["Cookie"], "a=1; b=2");
    assert_eq!(event["headers"].get("Connection"), None);
    assert_eq!(event["requestContext"]["identity"]["sourceIp"], "127.0.0.1");
}

#[test]
fn a_request_of_a_load_balancer() {
    let event = made(Format::Alb, &head("GET", "/p?q=a%20b&q=c", HEADERS), b"");
    assert_eq!(event["queryStringParameters"], json!({"q": "c"}));
    assert_eq!(event["headers"]["accept"], "text/plain");
    let event = made(Format::Alb, &head("GET", "/p?q=a%20b", HEADERS), b"");
    assert_eq!(event["queryStringParameters"], json!({"q": "a%20b"}));
    let arn = event["requestContext"]["elb"]["targetGroupArn"].as_str().expect("ARN");
    assert!(arn.starts_with("arn:aws:elasticloadbalancing:us-east-1:000000000000:"), "{arn}");
}

#[test]
fn bodies_are_text_by_their_type_or_base64() {
    let case = |format, kind: &str, body: &[u8]| {
        let head = head("POST", "/", &[("content-type", kind.as_bytes())]);
        let event = made(format, &head, body);
        let text = event["body"].as_str().expect("body").to_owned();
        match event["isBase64Encoded"].as_bool().expect("flag") {
            true => {
                assert_eq!(STANDARD.decode(text).expect("base64"), body);
                true
            }
            false => {
                assert_eq!(text.as_bytes(), body);
                false
            }
        }
    };
    for (kind, v2, v1) in [
        ("text/plain; charset=utf-8", false, false),
        ("application/json", false, false),
        ("application/problem+json", false, false),
        ("image/svg+xml", true, false),
        ("application/xml", false, false),
        ("application/javascript", false, false),
        ("application/x-www-form-urlencoded", true, false),
        ("multipart/form-data; boundary=x", true, false),
        ("application/octet-stream", true, false),
    ] {
        assert_eq!(case(Format::ApiGatewayV2, kind, b"a=b"), v2, "{kind}");
        assert_eq!(case(Format::ApiGatewayProxy, kind, b"a=b"), v1, "{kind}");
        // What is no text is base64 whatever it says it is.
        assert!(case(Format::ApiGatewayV2, kind, b"\xff\x00"), "{kind}");
        assert!(case(Format::ApiGatewayProxy, kind, b"\xff\x00"), "{kind}");
    }
    let head = head("POST", "/", &[("content-encoding", b"gzip"), ("content-type", b"text/plain")]);
    assert_eq!(made(Format::ApiGatewayV2, &head, b"x")["isBase64Encoded"], true);
}

fn answered(format: Format, answer: &Value) -> Response {
    response(format, answer.to_string().as_bytes()).expect("a response")
}

fn pairs(response: &Response) -> Vec<(&str, &str)> {
    let pairs = response.headers.iter();
    pairs.map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
}

#[test]
fn a_structured_answer() {
    let answer = json!({
        "statusCode": "418",
        "headers": {"X-Number": 7, "Content-Length": "9", "Connection": "close", "x-a": "single"},
        "multiValueHeaders": {"X-A": ["1", "2"]},
        "cookies": ["a=1", "b=2; Path=/"],
        "body": "aGk=", "isBase64Encoded": true,
    });
    let response = answered(Format::ApiGatewayV2, &answer);
    assert_eq!((response.status, response.body.as_slice()), (418, &b"hi"[..]));
    let mut headers = pairs(&response);
    headers.sort_unstable();
    let expected = [
        ("content-type", "application/json"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2; Path=/"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-number", "7"),
    ];
    assert_eq!(headers, expected);
    // Format 1.0 knows neither cookies nor a type of its own.
    let response = answered(Format::ApiGatewayProxy, &answer);
    let mut headers = pairs(&response);
    headers.sort_unstable();
    assert_eq!(headers, [("x-a", "1"), ("x-a", "2"), ("x-number", "7")]);
}

#[test]
fn an_answer_without_status_is_a_body_in_format_2_0_only() {
    for (answer, body) in [
        (json!("hello"), "hello"),
        (json!({"a": [1, 2]}), "{\"a\":[1,2]}"),
        (json!([1]), "[1]"),
        (json!(null), "null"),
        (json!({"statusCode": null}), "{\"statusCode\":null}"),
    ] {
        for format in [Format::ApiGatewayV2, Format::FunctionUrl] {
            let response = answered(format, &answer);
            assert_eq!((response.status, response.body.as_slice()), (200, body.as_bytes()));
            assert_eq!(pairs(&response), [("content-type", "application/json")]);
        }
        for format in [Format::ApiGatewayProxy, Format::Alb] {
            let error = response(format, answer.to_string().as_bytes()).expect_err("no status");
            assert_eq!(error, ResponseError::NoStatus { format });
        }
    }
}

#[test]
fn wrong_answers_are_named() {
    let refused = |answer: Value| {
        let error = response(Format::ApiGatewayV2, answer.to_string().as_bytes());
        error.expect_err("refused").to_string()
    };
    assert_eq!(response(Format::Alb, b"<html>").expect_err("not JSON"), ResponseError::NotJson);
    for status in [json!(199), json!(600), json!(1e9), json!("x"), json!(true), json!([200])] {
        assert!(refused(json!({"statusCode": status})).starts_with("statusCode "), "{status}");
    }
    for status in [200, 599] {
        assert_eq!(answered(Format::Alb, &json!({"statusCode": status})).status, status);
    }
    let with = |name: &str, value: Value| json!({"statusCode": 200, name: value});
    assert_eq!(refused(with("headers", json!("x"))), "headers is not an object");
    assert_eq!(refused(with("cookies", json!("x"))), "cookies is not a list");
    assert_eq!(
        refused(with("multiValueHeaders", json!({"a": "b"}))),
        "multiValueHeaders is not an object of lists"
    );
    assert!(refused(with("headers", json!({"a b": "c"}))).contains("\"a b\""));
    assert!(refused(with("headers", json!({"a": "b\r\nc: d"}))).contains("\"a\""));
    assert!(refused(with("cookies", json!(["a\nb"]))).contains("\"cookies\""));
    let body = json!({"statusCode": 200, "body": "%", "isBase64Encoded": true});
    assert_eq!(refused(body), "isBase64Encoded is true and the body is not base64");
    assert!(answered(Format::Alb, &with("headers", json!([]))).headers.is_empty());
    assert!(answered(Format::Alb, &json!({"statusCode": 304, "body": "x"})).body.is_empty());
}

fn any_format() -> impl Strategy<Value = Format> {
    proptest::sample::select(&Format::ALL[..])
}

proptest! {
    /// Whatever a client sends has an event from which the body comes back byte by byte.
    #[test]
    fn a_body_is_passed_on_whole(
        format in any_format(),
        kind in proptest::option::of("[ -~]{0,30}"),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let headers = kind.as_deref().map(|kind| ("content-type", kind.as_bytes()));
        let event = made(format, &head("POST", "/", headers.as_slice()), &body);
        let text = event["body"].as_str().unwrap_or_default();
        let whole = match event["isBase64Encoded"].as_bool() {
            Some(true) => STANDARD.decode(text).expect("base64"),
            _ => text.as_bytes().to_vec(),
        };
        prop_assert_eq!(whole, body);
    }

    /// No query and no header breaks the event.
    #[test]
    fn any_request_has_an_event(
        format in any_format(),
        query in "[!$-;=?-Z_a-z~%]{0,60}",
        value in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        let Ok(uri) = format!("/?{query}").parse::<http::Uri>() else { return Ok(()) };
        let mut head = head("GET", "/", &[]);
        head.uri = uri;
        for name in ["host", "cookie", "content-type", "user-agent", "x-any"] {
            head.headers.insert(name, value.clone());
        }
        prop_assert!(made(format, &head, b"").is_object());
    }

    /// No answer makes a response that HTTP could not send.
    #[test]
    fn any_answer_is_a_response_or_an_error(
        format in any_format(),
        status in any::<i64>(),
        name in ".{0,12}",
        value in ".{0,12}",
        body in ".{0,40}",
        is_encoded in any::<bool>(),
    ) {
        let answer = json!({
            "statusCode": status.rem_euclid(700), "headers": {name.clone(): value.clone()},
            "multiValueHeaders": {name: [value.clone()]}, "cookies": [value], "body": body,
            "isBase64Encoded": is_encoded,
        });
        if let Ok(response) = response(format, answer.to_string().as_bytes()) {
            prop_assert!((200..600).contains(&response.status));
            prop_assert!(!response.headers.contains_key("transfer-encoding"));
        }
        let _ = response(format, body.as_bytes());
    }
}
