use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn head(text: &str) -> Head {
    let (head, body) = HeadReader::default().push(text.as_bytes()).expect("valid").expect("whole");
    assert_eq!(body, b"");
    head
}

fn answer(format: Format, head: &Head, body: &[u8]) -> Value {
    serde_json::from_slice(&whole(format, head, body)).expect("JSON")
}

const TWO_COOKIES: &str = "Status: 404 Not Found\r\nSet-Cookie: a=1; Path=/\r\nX-A: 1\r\n\
    Set-Cookie: b=2\r\nx-a: 2\r\nContent-type: text/html; charset=UTF-8\r\n\r\n";

#[test]
fn a_head_is_read_in_both_kinds_of_lines_and_may_be_empty() {
    assert_eq!(head("\r\n").headers, []);
    let one = head("Content-type: text/html\n\n");
    assert_eq!((one.status, one.headers.len()), (200, 1));
    let one = head("Status: 302\r\nLocation: http://x/a:b\r\n\r\n");
    assert_eq!((one.status, one.reason), (302, None));
    assert_eq!(one.headers, [("Location".to_owned(), "http://x/a:b".to_owned())]);
}

#[test]
fn heads_that_are_none_are_refused() {
    let refused = |text: &str| HeadReader::default().push(text.as_bytes()).expect_err("refused");
    assert!(matches!(refused("no colon\r\n\r\n"), HeadError::Line { .. }));
    for status in ["abc", "99", "1000", "+20", ""] {
        let text = format!("Status: {status}\r\n\r\n");
        assert!(matches!(refused(&text), HeadError::Status { .. }), "{status}");
    }
    let mut reader = HeadReader::default();
    assert_eq!(reader.push(&[b'a'; MAX_HEAD_BYTES]), Ok(None));
    assert_eq!(reader.push(b"a"), Err(HeadError::TooLong));
}

#[test]
fn format_1_has_lists_for_what_comes_more_than_once() {
    assert_eq!(
        answer(Format::V1, &head(TWO_COOKIES), b"<p>"),
        json!({
            "statusCode": 404,
            "headers": {"Content-type": "text/html; charset=UTF-8"},
            "multiValueHeaders": {"Set-Cookie": ["a=1; Path=/", "b=2"], "X-A": ["1", "2"]},
            "body": "<p>", "isBase64Encoded": false})
    );
}

#[test]
fn format_2_has_cookies_apart() {
    assert_eq!(
        answer(Format::V2, &head(TWO_COOKIES), b""),
        json!({
            "statusCode": 404,
            "headers": {"Content-type": "text/html; charset=UTF-8", "X-A": "1, 2"},
            "cookies": ["a=1; Path=/", "b=2"], "body": "", "isBase64Encoded": false})
    );
    assert_eq!(
        serde_json::from_str::<Value>(&prelude(&head(TWO_COOKIES))).expect("JSON"),
        json!({
            "statusCode": 404,
            "headers": {"Content-type": "text/html; charset=UTF-8", "X-A": "1, 2"},
            "cookies": ["a=1; Path=/", "b=2"]})
    );
}

#[test]
fn a_balancer_gets_a_description_and_the_headers_it_asked_for() {
    let one = answer(Format::LoadBalancer { multi_value: false }, &head(TWO_COOKIES), b"");
    assert_eq!(one["statusDescription"], "404 Not Found");
    assert_eq!(one["headers"]["Set-Cookie"], "b=2");
    assert_eq!(one["headers"]["X-A"], "1, 2");
    let many = answer(Format::LoadBalancer { multi_value: true }, &head(TWO_COOKIES), b"");
    assert_eq!(many["multiValueHeaders"]["Set-Cookie"], json!(["a=1; Path=/", "b=2"]));
    assert_eq!(many["headers"], Value::Null);
    let format = Format::LoadBalancer { multi_value: false };
    assert_eq!(answer(format, &head("\r\n"), b"")["statusDescription"], "200 OK");
    assert!(loses_cookies(format, &head(TWO_COOKIES)));
    assert!(!loses_cookies(format, &head("Set-Cookie: a=1\r\n\r\n")));
    assert!(!loses_cookies(Format::V1, &head(TWO_COOKIES)));
}

#[test]
fn bytes_that_are_no_text_are_base64() {
    let one = answer(Format::V2, &head("\r\n"), b"\x1f\x8b\xff");
    assert_eq!((&one["body"], &one["isBase64Encoded"]), (&json!("H4v/"), &json!(true)));
    let one = answer(Format::V2, &head("\r\n"), b"\0\x01\"");
    assert_eq!((&one["body"], &one["isBase64Encoded"]), (&json!("\0\u{1}\""), &json!(false)));
}

proptest! {
    #[test]
    fn a_head_reads_the_same_however_it_is_cut(
        headers in proptest::collection::vec(("[A-Za-z-]{1,12}", "[ -~]{0,20}"), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..50),
        size in 1usize..40,
    ) {
        let mut bytes = Vec::new();
        for (name, value) in &headers {
            if !name.eq_ignore_ascii_case("status") {
                bytes.extend(format!("{name}: {value}\r\n").into_bytes());
            }
        }
        bytes.extend(b"\r\n");
        bytes.extend(&body);
        let once = HeadReader::default().push(&bytes).expect("valid").expect("whole");
        let (mut reader, mut found, mut rest) = (HeadReader::default(), None, Vec::new());
        for part in bytes.chunks(size) {
            match &mut found {
                None => found = reader.push(part).expect("valid"),
                Some(_) => rest.extend_from_slice(part),
            }
        }
        let (head, mut start) = found.expect("whole");
        start.extend(rest);
        prop_assert_eq!(&start, &body);
        prop_assert_eq!((head, start), once);
    }

    #[test]
    fn any_output_gives_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((head, body))) = HeadReader::default().push(&bytes) {
            for format in [Format::V1, Format::V2, Format::LoadBalancer { multi_value: true }] {
                prop_assert!(serde_json::from_slice::<Value>(&whole(format, &head, &body)).is_ok());
            }
        }
    }

    #[test]
    fn a_body_arrives_as_it_was(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let answer = answer(Format::V1, &head("\r\n"), &body);
        let text = answer["body"].as_str().expect("text");
        let back = match answer["isBase64Encoded"].as_bool().expect("a flag") {
            true => STANDARD.decode(text).expect("base64"),
            false => text.as_bytes().to_vec(),
        };
        prop_assert_eq!(back, body);
    }
}
