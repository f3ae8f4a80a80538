use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(event: &Value) -> HttpEvent<'static> {
    let text: &'static str = Box::leak(event.to_string().into_boxed_str());
    HttpEvent::from_json(text.as_bytes()).expect("an event").expect("an HTTP event")
}

fn v1() -> Value {
    json!({
        "resource": "/{proxy+}", "path": "/a b/ü?#%41", "httpMethod": "POST",
        "headers": {"Host": "id.example", "X-One": "last"},
        "multiValueHeaders": {"Host": ["id.example"], "X-One": ["first", "last"], "Cookie": ["a=1", "b=2"]},
        "queryStringParameters": {"x": "2", "sp ace": "a&b"},
        "multiValueQueryStringParameters": {"x": ["1", "2"], "sp ace": ["a&b"]},
        "pathParameters": null, "stageVariables": null,
        "requestContext": {
            "path": "/prod/a b", "stage": "prod", "protocol": "HTTP/1.1",
            "identity": {"sourceIp": "203.0.113.9", "userAgent": null}},
        "body": "hé", "isBase64Encoded": false
    })
}

#[test]
fn format_1_is_put_together_again() {
    let event = read(&v1());
    assert_eq!(event.format, Format::V1);
    assert_eq!(event.method, "POST");
    assert_eq!(event.path, "/a%20b/%C3%BC%3F%23%41");
    assert_eq!(event.query, "sp%20ace=a%26b&x=1&x=2");
    assert_eq!(event.header("x-one").as_deref(), Some("first, last"));
    assert_eq!(event.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(event.client_address, "203.0.113.9");
    assert_eq!(&*event.body, "hé".as_bytes());
    let context: Value = serde_json::from_str(event.context).expect("JSON");
    assert_eq!(context["stage"], "prod");
}

#[test]
fn members_that_are_null_or_missing_are_empty() {
    let event = read(&json!({
        "httpMethod": "GET", "path": null, "headers": null, "multiValueHeaders": null,
        "queryStringParameters": null, "body": null}));
    assert_eq!((event.path.as_str(), event.query.as_str()), ("/", ""));
    assert_eq!((event.headers.len(), event.body.len()), (0, 0));
    let event = read(&json!({"requestContext": {"http": {"method": "GET"}}}));
    assert_eq!((event.path.as_str(), event.query.as_str()), ("/", ""));
    let event = read(&json!({"httpMethod": "GET", "headers": {"a": null, "b": "c"}}));
    assert_eq!(event.headers, [("b".to_owned(), "c".to_owned())]);
}

#[test]
fn the_order_of_the_query_is_kept() {
    let text =
        r#"{"httpMethod":"GET","path":"/","queryStringParameters":{"z":"1","a[]":"2","m":"ü"}}"#;
    let event = HttpEvent::from_json(text.as_bytes()).expect("valid").expect("HTTP");
    assert_eq!(event.query, "z=1&a[]=2&m=%C3%BC");
}

#[test]
fn format_2_has_cookies_raw_parts_and_a_stage() {
    let event = |stage: &str, path: &str| {
        read(&json!({
            "version": "2.0", "rawPath": path, "rawQueryString": "x=1&x=2&y=%20",
            "cookies": ["a=1", "b=2"], "headers": {"x-a": "1,2", "cookie": "other"},
            "requestContext": {"stage": stage, "domainName": "d.example", "http": {
                "method": "GET", "protocol": "HTTP/2.0", "sourceIp": "::1", "path": "/x"}},
            "body": "aGk=", "isBase64Encoded": true}))
    };
    let one = event("$default", "/pa2%Fth/1");
    assert_eq!(one.format, Format::V2);
    assert_eq!((one.path.as_str(), one.query.as_str()), ("/pa2%Fth/1", "x=1&x=2&y=%20"));
    assert_eq!(one.header("Cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!((one.protocol.as_str(), one.client_address.as_str()), ("HTTP/2.0", "::1"));
    assert_eq!(one.domain.as_deref(), Some("d.example"));
    assert_eq!(&*one.body, b"hi");
    assert_eq!(event("dev", "/dev/x").path, "/x");
    assert_eq!(event("dev", "/dev").path, "/");
    assert_eq!(event("dev", "/develop").path, "/develop");
    assert_eq!(event("dev", "/x/dev").path, "/x/dev");
}

#[test]
fn a_balancer_leaves_the_query_alone_and_adds_the_peer() {
    let event = read(&json!({
        "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/p",
        "queryStringParameters": {"q": "a%20b"},
        "headers": {"x-forwarded-for": "6.6.6.6, 203.0.113.7"}, "body": "", "isBase64Encoded": false}));
    assert_eq!(event.format, Format::LoadBalancer { multi_value: false });
    assert_eq!(event.query, "q=a%20b");
    assert_eq!(event.client_address, "203.0.113.7");
    let event = read(&json!({
        "requestContext": {"elb": {}}, "httpMethod": "GET", "path": "/p",
        "multiValueQueryStringParameters": {"q": ["1", "2"]}, "multiValueHeaders": {"a": ["1"]}}));
    assert_eq!(event.format, Format::LoadBalancer { multi_value: true });
    assert_eq!(event.query, "q=1&q=2");
}

#[test]
fn other_events_are_left_to_others() {
    for event in [
        json!(null),
        json!("text"),
        json!([]),
        json!({}),
        json!({"httpMethod": 7}),
        json!({"Records": [{"body": "x"}]}),
        json!({"body": {"a": 1}, "headers": "x", "path": 3, "requestContext": 5}),
        // A message of a WebSocket.
        json!({"requestContext": {"eventType": "MESSAGE", "connectionId": "c"}, "body": "hi"}),
    ] {
        let text = event.to_string();
        assert_eq!(HttpEvent::from_json(text.as_bytes()).expect("no error"), None, "{text}");
    }
    assert_eq!(HttpEvent::from_json(b"\xff").expect("no error"), None);
    assert_eq!(HttpEvent::from_json(b"{").expect("no error"), None);
}

#[test]
fn an_http_event_that_is_not_whole_is_refused() {
    for (event, part) in [
        (json!({"httpMethod": "G ET"}), "method"),
        (json!({"requestContext": {"http": {}}}), "method"),
        (json!({"httpMethod": "GET", "headers": ["a"]}), "headers"),
        (json!({"httpMethod": "GET", "body": "?", "isBase64Encoded": true}), "base64"),
        (json!({"httpMethod": "GET", "body": 1}), "body"),
    ] {
        let text = event.to_string();
        let error = HttpEvent::from_json(text.as_bytes()).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn base64_may_lack_its_padding() {
    for text in ["aGk=", "aGk"] {
        let event = read(&json!({"httpMethod": "PUT", "body": text, "isBase64Encoded": true}));
        assert_eq!(&*event.body, b"hi");
    }
}

proptest! {
    #[test]
    fn any_path_becomes_one_that_a_request_line_can_hold(path in any::<String>()) {
        let path = request_path(&path);
        prop_assert!(path.starts_with('/'));
        prop_assert!(path.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'?' && b != b'#'));
    }

    #[test]
    fn a_decoded_query_reads_back(pairs in proptest::collection::vec((any::<String>(), any::<String>()), 0..5)) {
        let text = query_string(&pairs, true);
        prop_assert!(text.bytes().all(|b| (0x21..0x7f).contains(&b)));
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned()
        };
        let back: Vec<_> = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').expect("a pair");
            (decode(name), decode(value))
        }).collect();
        prop_assert_eq!(back, pairs);
    }

    #[test]
    fn any_json_is_read_or_refused(text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        let _ = HttpEvent::from_json(text.as_bytes());
        let _ = HttpEvent::from_json(format!("{{\"httpMethod\":\"GET\",\"headers\":{text}}}").as_bytes());
    }
}
