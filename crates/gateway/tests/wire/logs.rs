use crate::client::Response;
use crate::golden;
use crate::service::{NOW_MS, Service};
use serde_json::{Value, json};

const GROUP: &str = "/aws/lambda/f";

async fn ask(service: &Service, operation: &str, body: Value) -> Response {
    let headers = format!(
        "x-amz-target: Logs_20140328.{operation}\r\ncontent-type: application/x-amz-json-1.1\r\n"
    );
    service.call("POST", "/", &headers, body.to_string().as_bytes()).await
}

fn write(service: &Service, stream: &str, lines: std::ops::Range<u64>) {
    let writer = service.logs.stream(&service.scope, GROUP, stream);
    for line in lines {
        writer.push(NOW_MS + line, format!("line {line}\n").as_bytes());
    }
    // The group is as old as the first stream that was written out.
    service.logs.flush();
}

#[tokio::test]
async fn what_a_tail_asks() {
    let service = Service::start().await;
    write(&service, "s1", 0..3);
    write(&service, "s2", 3..5);
    let body = json!({"logGroupName": GROUP, "startTime": NOW_MS + 1, "interleaved": true});
    golden::check("filter-log-events", &ask(&service, "FilterLogEvents", body).await);
    let body = json!({"logGroupIdentifier": GROUP, "filterPattern": "\"line 4\""});
    let found = ask(&service, "FilterLogEvents", body).await.json();
    assert_eq!(found["events"].as_array().map(Vec::len), Some(1), "{found}");
    let body = json!({"logGroupName": GROUP, "logStreamName": "s1", "startFromHead": true});
    let got = ask(&service, "GetLogEvents", body).await.json();
    assert_eq!(got["events"][0]["message"], "line 0\n", "{got}");
    golden::check("describe-log-groups", &ask(&service, "DescribeLogGroups", json!({})).await);
    let body = json!({"logGroupName": GROUP, "orderBy": "LastEventTime", "descending": true});
    golden::check("describe-log-streams", &ask(&service, "DescribeLogStreams", body).await);
}

#[tokio::test]
async fn pages_follow_each_other() {
    let service = Service::start().await;
    write(&service, "s", 0..25);
    let mut lines = Vec::new();
    let mut token = Value::Null;
    loop {
        let body = json!({"logGroupName": GROUP, "limit": 10, "nextToken": token});
        let page = ask(&service, "FilterLogEvents", body).await.json();
        for event in page["events"].as_array().expect("events") {
            lines.push(event["message"].as_str().expect("message").to_owned());
        }
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|line| format!("line {line}\n")).collect();
    assert_eq!(lines, expected);

    let mut lines = Vec::new();
    let mut token = Value::Null;
    loop {
        let body = json!({
            "logGroupName": GROUP, "logStreamName": "s", "startFromHead": true,
            "limit": 10, "nextToken": token,
        });
        let page = ask(&service, "GetLogEvents", body).await.json();
        for event in page["events"].as_array().expect("events") {
            lines.push(event["message"].as_str().expect("message").to_owned());
        }
        if page["nextForwardToken"] == token {
            break;
        }
        token = page["nextForwardToken"].clone();
    }
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn refusals() {
    let service = Service::start().await;
    let none = json!({"logGroupName": "nothing"});
    golden::check("no-log-group", &ask(&service, "FilterLogEvents", none).await);
    write(&service, "s", 0..1);
    let body = json!({"logGroupName": GROUP, "logStreamName": "other"});
    golden::check("no-log-stream", &ask(&service, "GetLogEvents", body).await);
    let code = |response: &Response| response.json()["__type"].clone();
    for (operation, body, expected) in [
        ("FilterLogEvents", json!({}), "InvalidParameterException"),
        ("FilterLogEvents", json!({"logGroupName": 1}), "SerializationException"),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "limit": 0}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "limit": 10_001}),
            "InvalidParameterException",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "nextToken": "x"}),
            "InvalidParameterException",
        ),
        ("PutRetentionPolicy", json!({}), "UnknownOperationException"),
        ("CreateLogGroup", json!({"logGroupName": "a b"}), "InvalidParameterException"),
    ] {
        let refused = ask(&service, operation, body.clone()).await;
        assert_eq!(refused.status, 400, "{operation} {body}");
        assert_eq!(code(&refused), expected, "{operation} {body}");
    }
}

#[tokio::test]
async fn groups_can_be_made_and_deleted() {
    let service = Service::start().await;
    let body = json!({"logGroupName": "mine"});
    assert_eq!(ask(&service, "CreateLogGroup", body.clone()).await.text(), "{}");
    let again = ask(&service, "CreateLogGroup", body.clone()).await;
    assert_eq!(again.json()["__type"], "ResourceAlreadyExistsException");
    assert_eq!(ask(&service, "DeleteLogGroup", body.clone()).await.status, 200);
    assert_eq!(ask(&service, "DeleteLogGroup", body).await.status, 400);
}
