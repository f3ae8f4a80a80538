#![allow(clippy::unwrap_used)]
use crate::extension::{ExtensionEvent, ShutdownReason};
use crate::shell::answer::answer;
use crate::shell::tests::TestHost;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use std::sync::Arc;

type Headers<'a> = &'a [(&'a str, &'a str)];

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";

async fn call(
    host: &TestHost,
    method: &str,
    path: &str,
    headers: Headers<'_>,
    body: &str,
) -> (u16, http::HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(format!("http://h{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let (head, body): (_, Full<Bytes>) = Response::into_parts(answer(host, request).await.unwrap());
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn registered(host: &TestHost, name: &str) -> String {
    let headers = [("lambda-extension-name", name)];
    let (status, headers, body) =
        call(host, "POST", REGISTER, &headers, r#"{"events":["INVOKE"]}"#).await;
    assert_eq!(
        (status, &*body),
        (200, "{\"functionName\":\"f\",\"functionVersion\":\"$LATEST\",\"handler\":\"h\"}\n")
    );
    headers["lambda-extension-identifier"].to_str().unwrap().to_owned()
}

fn error_of(body: &str) -> (String, String) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("errorType"), text("errorMessage"))
}

#[tokio::test]
async fn an_extension_registers_waits_and_is_told() {
    let (host, _) = TestHost::new();
    let id = registered(&host, "e").await;
    let headers = [("lambda-extension-identifier", &*id)];
    let waiting = {
        let (host, id) = (Arc::clone(&host), id.clone());
        tokio::spawn(async move {
            call(&host, "GET", NEXT, &[("lambda-extension-identifier", &id)], "").await
        })
    };
    let event = Arc::new(ExtensionEvent::Shutdown {
        deadline_ms: 5,
        shutdown_reason: ShutdownReason::Failure,
    });
    let woken = loop {
        tokio::task::yield_now().await;
        let woken = host.extensions.lock().unwrap().invoke(&event);
        if !woken.is_empty() {
            break woken;
        }
    };
    for sender in woken {
        sender.send(Ok(Arc::clone(&event))).unwrap();
    }
    let (status, _, body) = waiting.await.unwrap();
    assert_eq!(
        (status, &*body),
        (200, "{\"eventType\":\"SHUTDOWN\",\"deadlineMs\":5,\"shutdownReason\":\"failure\"}\n")
    );
    let path = "/2020-01-01/extension/exit/error";
    let (status, _, body) = call(&host, "POST", path, &headers, "").await;
    assert_eq!(status, 403);
    assert_eq!(error_of(&body).0, "Extension.MissingHeader");
    let headers = [headers[0], ("lambda-extension-function-error-type", "Extension.Oops")];
    for _ in 0..2 {
        let (status, _, body) = call(&host, "POST", path, &headers, "not json").await;
        assert_eq!((status, &*body), (202, "{\"status\":\"OK\"}\n"));
    }
    let info = host.extensions.lock().unwrap().iter().next().unwrap().clone();
    assert_eq!(info.error_type.as_deref(), Some("Extension.Oops"));
}

#[tokio::test]
async fn every_refusal_is_a_403_with_its_type() {
    let (host, _) = TestHost::new();
    let name = ("lambda-extension-name", "e");
    let stranger = ("lambda-extension-identifier", "11111111-2222-4333-8444-555555555555");
    let telemetry = "/2022-07-01/telemetry";
    let cases: &[(&str, &str, Headers<'_>, &str, &str)] = &[
        ("POST", REGISTER, &[], "{}", "Extension.InvalidExtensionName"),
        ("POST", REGISTER, &[name], "", "InvalidRequestFormat"),
        ("POST", REGISTER, &[name], r#"{"events":["X"]}"#, "Extension.InvalidEventType"),
        ("GET", NEXT, &[], "", "Extension.MissingExtensionIdentifier"),
        (
            "GET",
            NEXT,
            &[("lambda-extension-identifier", "7")],
            "",
            "Extension.InvalidExtensionIdentifier",
        ),
        ("GET", NEXT, &[stranger], "", "Extension.UnknownExtensionIdentifier"),
        ("PUT", telemetry, &[stranger], "{}", "Extension.UnknownExtensionIdentifier"),
        ("PUT", telemetry, &[], "{}", "Extension.MissingExtensionIdentifier"),
    ];
    for (method, path, headers, body, error_type) in cases {
        let (status, _, body) = call(&host, method, path, headers, body).await;
        assert_eq!((status, &*error_of(&body).0), (403, *error_type));
    }
}

#[tokio::test]
async fn the_account_is_told_first_to_who_asks_for_it() {
    let (host, _) = TestHost::new();
    let headers =
        [("lambda-extension-name", "e"), ("lambda-extension-accept-feature", "accountId")];
    let (_, _, body) = call(&host, "POST", REGISTER, &headers, "{}").await;
    assert!(body.starts_with(r#"{"accountId":"000000000000","functionName":"f","#), "{body}");
}

#[tokio::test]
async fn subscriptions_are_checked_after_the_identifier() {
    let (host, _) = TestHost::new();
    let id = registered(&host, "e").await;
    let headers = [("lambda-extension-identifier", &*id)];
    let good = r#"{"schemaVersion":"2022-12-13","types":["platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/x"}}"#;
    let (status, _, body) = call(&host, "PUT", "/2022-07-01/telemetry", &headers, good).await;
    assert_eq!((status, &*body), (200, "\"OK\""));
    for (path, error_type) in
        [("/2022-07-01/telemetry", "ValidationError"), ("/2020-08-15/logs", "Logs.ValidationError")]
    {
        let (status, _, body) = call(&host, "PUT", path, &headers, "{}").await;
        assert_eq!((status, &*error_of(&body).0), (400, error_type));
    }
}

proptest! {
    #[test]
    fn anything_that_is_sent_is_answered(
        route in 0usize..5,
        name in "[ -~]{0,12}",
        id in "([0-9a-f-]{36}|[ -~]{0,40})",
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let routes = [
            ("POST", REGISTER),
            ("POST", "/2020-01-01/extension/init/error"),
            ("POST", "/2020-01-01/extension/exit/error"),
            ("PUT", "/2022-07-01/telemetry"),
            ("PUT", "/2020-08-15/logs"),
        ];
        let (method, path) = routes[route];
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("lambda-extension-name", name.trim())
            .header("lambda-extension-identifier", id.trim())
            .header("lambda-extension-function-error-type", name.trim())
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (host, _) = TestHost::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let status = runtime.block_on(answer(&*host, request)).unwrap().status();
        prop_assert!(matches!(status.as_u16(), 200 | 202 | 400 | 403), "{status}");
    }
}
