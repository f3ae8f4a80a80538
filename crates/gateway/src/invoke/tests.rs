use super::*;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

#[test]
fn the_path_names_the_function() {
    let path = |label| format!("/2015-03-31/functions/{label}/invocations");
    assert_eq!(function_of(&path("f")), Some("f"));
    assert_eq!(function_of(&path("arn%3Aaws")), Some("arn%3Aaws"));
    assert_eq!(function_of(&format!("{}/", path("f"))), Some("f"));
    assert_eq!(function_of(&path("a/b")), None);
    assert_eq!(function_of("/2015-03-31/functions/f"), None);
    assert_eq!(function_of("/2015-03-31/functions/invocations"), None);
    let streaming = "/2021-11-15/functions/f/response-streaming-invocations";
    assert_eq!(function_of(streaming), None);
    assert_eq!(streaming_function_of(streaming), Some("f"));
    assert_eq!(streaming_function_of(&path("f")), None);
}

#[test]
fn traces_are_completed() {
    let trace = |given: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(TRACE_ID, given.parse().expect("value"));
        }
        trace_id(&headers)
    };
    let fresh = trace(None);
    let parts: Vec<&str> = fresh.split(';').collect();
    assert_eq!(parts.len(), 3, "{fresh}");
    let root: Vec<&str> = parts[0].split('-').collect();
    assert_eq!((root[0], root[1].len(), root[2].len()), ("Root=1", 8, 24), "{fresh}");
    assert_eq!(parts[1].len(), "Parent=".len() + 16);
    assert_eq!(parts[2], "Sampled=0");
    let whole =
        "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=1;Lineage=a:0";
    assert_eq!(trace(Some(whole)), whole);
    assert!(trace(Some("Root=1-0-0;Sampled=1")).starts_with("Root=1-0-0;Sampled=1;Parent="));
    assert!(trace(Some("nonsense")).starts_with("Root=1-"));
}

#[test]
fn media_types() {
    let check = |kind: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().expect("value"));
        check_media_type(&headers).map_err(|error| error.status)
    };
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/x-amz-json-1.1",
        "application/cloudevents+json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(check(kind), Ok(()), "{kind}");
    }
    for kind in ["text/plain", "image/png", "application/xml", "multipart/form-data; boundary=x"] {
        assert_eq!(check(kind), Err(415), "{kind}");
    }
}

#[test]
fn client_contexts() {
    let context = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT_CONTEXT, text.parse().expect("value"));
        client_context(&headers).map_err(|error| error.code.into_owned())
    };
    let bad = Err("InvalidRequestContentException".to_owned());
    assert_eq!(context("eyJhIjoxfQ==").map(|c| c.as_deref() == Some("{\"a\":1}")), Ok(true));
    assert_eq!(context(""), Ok(None));
    assert_eq!(context("*"), bad);
    assert_eq!(context("aGVsbG8="), bad);
    let sized = |quads: usize| STANDARD.encode(format!("\"{}\"", "a".repeat(3 * quads - 2)));
    assert_eq!(sized(895).len(), 3_580);
    assert!(context(&sized(895)).is_ok());
    assert_eq!(context(&sized(896)), bad);
}
