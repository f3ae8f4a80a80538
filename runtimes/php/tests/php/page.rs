//! What a page sees of a request, and what becomes of what it prints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_runtime_client::scripted::{Call, Event};
use serde_json::{Value, json};

use crate::harness::{get, index, request, setup};

const DUMP: &str = r#"<?php
header('Content-Type: application/json');
echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE,
    'input' => base64_encode(file_get_contents('php://input'))], JSON_INVALID_UTF8_SUBSTITUTE);
"#;

#[test]
fn a_page_prints_its_request_uri() {
    let mut runtime = index("<?php echo $_SERVER['REQUEST_URI'];").start();
    let mut event = get("/hello/world");
    event["queryStringParameters"] = json!({"name": "a b", "x": "1"});
    event["requestContext"]["path"] = "/prod/hello/world".into();
    let shown = runtime.http(&event);
    assert_eq!((shown.status, shown.text().as_str()), (200, "/hello/world?name=a%20b&x=1"));
    assert_eq!(shown.headers["Content-type"], "text/html; charset=UTF-8");
    // The same PHP answers the next one.
    let before = runtime.children();
    assert_eq!(runtime.http(&get("/")).text(), "/");
    assert_eq!((before.len(), runtime.children()), (1, before));
}

#[test]
fn variables_are_those_of_a_web_server() {
    let mut runtime = setup("public/index.php").file("public/index.php", DUMP).start();
    let root = runtime.folder().join("public").display().to_string();
    let event = request(
        "POST",
        "/index.php/a%20b",
        json!({
            "multiValueHeaders": {
                "Host": ["shop.example:8443"], "Content-Type": ["text/plain"], "X-Two": ["a", "b"],
                "Cookie": ["c=1; d=2"], "X_Under": ["no"], "Proxy": ["http://evil"],
                "X-Forwarded-Proto": ["https"], "X-Forwarded-Port": ["8443"],
                "Content-Length": ["999"], "Authorization": ["Basic dTpw"]},
            "queryStringParameters": {"q": "1"}, "body": "hé"}),
    );
    let dump = runtime.http(&event).json();
    let server = &dump["server"];
    for (name, value) in [
        ("REQUEST_URI", "/index.php/a%20b?q=1"),
        ("REQUEST_METHOD", "POST"),
        ("QUERY_STRING", "q=1"),
        ("SCRIPT_NAME", "/index.php"),
        ("PATH_INFO", "/a b"),
        ("PHP_SELF", "/index.php/a b"),
        ("SCRIPT_FILENAME", &format!("{root}/index.php")),
        ("DOCUMENT_ROOT", &root),
        ("SERVER_NAME", "shop.example"),
        ("SERVER_PORT", "8443"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("REMOTE_ADDR", "203.0.113.9"),
        ("HTTP_HOST", "shop.example:8443"),
        ("HTTP_X_TWO", "a, b"),
        ("CONTENT_TYPE", "text/plain"),
        ("CONTENT_LENGTH", "3"),
        ("HTTP_CONTENT_LENGTH", "3"),
        ("PHP_AUTH_USER", "u"),
        ("PHP_AUTH_PW", "p"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
    ] {
        assert_eq!(server[name], value, "{name}");
    }
    assert_eq!(server["HTTP_X_UNDER"], Value::Null);
    assert_eq!(server["HTTP_PROXY"], Value::Null);
    assert_eq!(dump["cookie"], json!({"c": "1", "d": "2"}));
    assert_eq!(dump["input"], STANDARD.encode("hé"));
}

#[test]
fn a_page_knows_its_event() {
    let mut runtime = index(
        "<?php echo json_encode([json_decode($_SERVER['LAMBDA_REQUEST_CONTEXT']),
            json_decode($_SERVER['LAMBDA_INVOCATION_CONTEXT']), getenv('_X_AMZN_TRACE_ID')]);",
    )
    .start();
    let event = Event::new("id-7", get("/").to_string())
        .with_field("Lambda-Runtime-Trace-Id", "Root=1-2-3;Sampled=0");
    let post = runtime.post(event);
    let answer: Value = serde_json::from_slice(&post.body).unwrap();
    let seen: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(seen[0]["identity"]["sourceIp"], "203.0.113.9");
    assert_eq!(seen[1]["awsRequestId"], "id-7");
    assert!(seen[1]["invokedFunctionArn"].as_str().unwrap().starts_with("arn:"));
    assert_eq!(seen[2], "Root=1-2-3;Sampled=0");
    // It is gone with its event.
    let answer = runtime.http(&get("/")).json();
    assert_eq!(answer[2], false);
}

#[test]
fn forms_and_uploads_arrive() {
    let mut runtime = index(
        r#"<?php
        $file = $_FILES['file'] ?? null;
        echo json_encode(['post' => $_POST, 'name' => $file['name'] ?? null,
            'size' => $file['size'] ?? null,
            'sum' => $file ? hash_file('sha256', $file['tmp_name']) : null]);"#,
    )
    .start();
    let form = request(
        "POST",
        "/",
        json!({"headers": {"content-type": "application/x-www-form-urlencoded"},
            "body": STANDARD.encode("a=1&b[]=x&b[]=%C3%BC"), "isBase64Encoded": true}),
    );
    assert_eq!(runtime.http(&form).json()["post"], json!({"a": "1", "b": ["x", "ü"]}));

    let content: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let mut body = b"--xyz\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n\xc3\xbc\r\n\
        --xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&content);
    body.extend_from_slice(b"\r\n--xyz--\r\n");
    let upload = request(
        "POST",
        "/",
        json!({"headers": {"content-type": "multipart/form-data; boundary=xyz"},
            "body": STANDARD.encode(&body), "isBase64Encoded": true}),
    );
    let seen = runtime.http(&upload).json();
    assert_eq!((&seen["post"]["t"], &seen["name"]), (&json!("ü"), &json!("a b.bin")));
    assert_eq!(seen["size"], 300_000);
}

#[test]
fn status_headers_and_cookies_are_the_pages() {
    let mut runtime = index(
        "<?php http_response_code(404); header('X-A: 1'); header('X-A: 2', false);
        setcookie('a', '1'); setcookie('b', '2'); echo 'gone';",
    )
    .start();
    let shown = runtime.http(&get("/"));
    assert_eq!((shown.status, shown.text().as_str()), (404, "gone"));
    assert_eq!(shown.answer["multiValueHeaders"]["X-A"], json!(["1", "2"]));
    assert_eq!(shown.answer["multiValueHeaders"]["Set-Cookie"], json!(["a=1", "b=2"]));

    let mut runtime = index("<?php header('Location: /there');").start();
    let shown = runtime.http(&get("/"));
    assert_eq!((shown.status, &shown.headers["Location"]), (302, &json!("/there")));
}

#[test]
fn bytes_come_back_as_they_were() {
    let mut runtime = index("<?php echo file_get_contents('php://input');").start();
    let bytes: Vec<u8> = (0..=255u8).cycle().take(1_000_000).collect();
    let event =
        request("PUT", "/", json!({"body": STANDARD.encode(&bytes), "isBase64Encoded": true}));
    let shown = runtime.http(&event);
    assert_eq!(shown.answer["isBase64Encoded"], true);
    assert!(shown.body == bytes, "{} bytes came back", shown.body.len());
    let text = "\u{0}text \"quoted\"\n ü 💡";
    let shown = runtime.http(&request("PUT", "/", json!({"body": text})));
    assert_eq!(shown.answer["body"], text);
}

#[test]
fn a_page_may_answer_before_it_has_read_its_body() {
    // More than the socket holds in either direction.
    let mut runtime = index(
        "<?php ini_set('zlib.output_compression', '0');
        for ($i = 0; $i < 40; $i++) { echo str_repeat('x', 100000); flush(); }",
    )
    .start();
    let event = request("PATCH", "/", json!({"body": "y".repeat(5_000_000)}));
    assert_eq!(runtime.http(&event).body.len(), 4_000_000);
    assert_eq!(runtime.http(&get("/")).body.len(), 4_000_000);
    assert_eq!(runtime.children().len(), 1);
}

#[test]
fn an_answer_that_is_too_large_is_the_platforms_to_refuse() {
    let mut runtime = index("<?php echo str_repeat('x', (int) $_SERVER['QUERY_STRING']);").start();
    let sized =
        |size: usize| request("GET", "/", json!({"queryStringParameters": {size.to_string(): ""}}));
    // `=` follows the name.
    assert_eq!(runtime.http(&sized(6_000_000)).body.len(), 6_000_000);
    runtime.server.answer_next_post_with(413, "{\"errorType\":\"RequestEntityTooLarge\"}");
    let event = runtime.event(&sized(50_000_000));
    let post = runtime.post(event);
    assert_eq!(post.call, Call::Response);
    assert!(post.body.len() > 6_291_556, "{} bytes", post.body.len());
    assert_eq!(runtime.http(&sized(5)).text(), "xxxxx");
}

#[test]
fn head_has_no_body_and_a_page_may_be_empty() {
    let mut runtime = index("<?php header('X-Is: here'); echo 'body';").start();
    let shown = runtime.http(&request("HEAD", "/", json!({})));
    assert_eq!((shown.headers["X-Is"].as_str(), shown.text().as_str()), (Some("here"), ""));
    let mut runtime = index("").start();
    let shown = runtime.http(&get("/"));
    assert_eq!((shown.status, shown.text().as_str()), (200, ""));
}

#[test]
fn headers_that_fastcgi_cannot_hold_are_refused_and_nothing_breaks() {
    let mut runtime = index("<?php echo strlen($_SERVER['HTTP_X_LONG'] ?? '');").start();
    let long = |size: usize| request("GET", "/", json!({"headers": {"X-Long": "x".repeat(size)}}));
    assert_eq!(runtime.http(&long(65_000)).text(), "65000");
    assert_eq!(runtime.http(&long(70_000)).status, 431);
    assert_eq!(runtime.http(&long(3)).text(), "3");
}
