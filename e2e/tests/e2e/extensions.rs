//! Extensions that others wrote, in real sandboxes (behaviour specification §2, §3).

use super::harness::{Api, bin, server, wait_until, zip};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Publishes a layer with one external extension; its ARN.
fn layer(api: &Api, name: &str, fill: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let extensions = folder.path().join("extensions");
    std::fs::create_dir(&extensions).unwrap();
    fill(&extensions.join(name));
    let request = json!({ "Content": { "ZipFile": STANDARD.encode(zip(folder.path())) } });
    let reply = api.call("POST", &format!("/2018-10-31/layers/{name}/versions"), &request);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["LayerVersionArn"].as_str().unwrap().to_owned()
}

/// The extension on the crate `lambda-extension`.
fn crate_layer(api: &Api) -> String {
    layer(api, "extension", |path| {
        std::fs::copy(bin("extension"), path).unwrap();
    })
}

pub(super) fn script_layer(api: &Api, name: &str, script: &str) -> String {
    layer(api, name, |path| {
        std::fs::write(path, script).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    })
}

fn create(api: &Api, layer: &str, variables: &Value) {
    let more = json!({
        "Layers": [layer],
        "Timeout": 10,
        "Environment": { "Variables": variables },
    });
    api.create_puppet("f", more);
}

fn id_of(reply: &super::harness::Reply) -> String {
    reply.header("x-amzn-requestid").unwrap().to_owned()
}

fn wait_for_line(api: &Api, what: &str) {
    wait_until(what, || api.log_messages("f").iter().any(|line| line.contains(what)));
}

#[test]
fn an_extension_is_told_of_events_and_gets_telemetry() {
    let server = server();
    let api = Api::new(server.url());
    create(&api, &crate_layer(&api), &json!({ "EXTENSION_API": "telemetry" }));
    let first = api.invoke("f", &json!({ "do": "log", "lines": 2 }));
    assert_eq!(first.json(), json!({ "lines": 2 }));
    let id = id_of(&first);
    wait_for_line(
        &api,
        &format!("ext invoke {id} arn:aws:lambda:us-east-1:000000000000:function:f"),
    );
    // The report of an invocation is told during a later one.
    let told = |what: &str| {
        wait_until(what, || {
            api.invoke("f", &json!({ "do": "sleep", "ms": 300 }));
            api.log_messages("f").iter().any(|line| line.contains(what))
        });
    };
    told(&format!("ext telemetry PlatformReport {{ request_id: \"{id}\", status: Success"));
    let lines = api.log_messages("f");
    let at = |what: &str| {
        let found = lines.iter().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("{what} is not in {lines:#?}"))
    };
    let begun = "ext telemetry PlatformInitStart { initialization_type: OnDemand, phase: Init";
    let ready = "ext telemetry PlatformExtension { name: \"extension\", state: \"Ready\", events: [\"INVOKE\", \"SHUTDOWN\"] }";
    let order = [
        begun,
        "ext telemetry PlatformInitRuntimeDone { initialization_type: OnDemand, phase: Some(Init), status: Success",
        ready,
        "ext telemetry PlatformInitReport { initialization_type: OnDemand, phase: Init",
        &format!("ext telemetry PlatformStart {{ request_id: \"{id}\", version: Some(\"$LATEST\")"),
        "ext telemetry Function(\"out 0\")",
        "ext telemetry Function(\"err 1\")",
        &format!("ext telemetry PlatformRuntimeDone {{ request_id: \"{id}\", status: Success"),
        &format!("ext telemetry PlatformReport {{ request_id: \"{id}\", status: Success"),
    ];
    let places = order.map(at);
    assert!(places.is_sorted(), "{places:?} of {lines:#?}");
    // The extension subscribes before it is ready; the runtime, which starts as soon as it has
    // registered, may be done before or after.
    let subscribed = "ext telemetry PlatformTelemetrySubscription { name: \"extension\", state: \"Subscribed\", types: [\"platform\", \"function\"] }";
    let places = [begun, subscribed, ready].map(at);
    assert!(places.is_sorted(), "{places:?} of {lines:#?}");
    assert!(lines.iter().any(|line| {
        line == "EXTENSION\tName: extension\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n"
    }));

    // Not needed any more: it is told why, and may say its last words.
    assert_eq!(api.call("DELETE", "/2015-03-31/functions/f", &Value::Null).status, 204);
    wait_for_line(&api, "ext shutdown spindown");
}

#[test]
fn an_extension_gets_logs_by_the_older_api() {
    let server = server();
    let api = Api::new(server.url());
    create(&api, &crate_layer(&api), &json!({ "EXTENSION_API": "logs" }));
    let id = id_of(&api.invoke("f", &json!({ "do": "log", "lines": 1 })));
    for what in [
        format!("ext log PlatformStart {{ request_id: \"{id}\" }}"),
        "ext log Function(\"out 0\")".to_owned(),
        format!("ext log PlatformRuntimeDone {{ request_id: \"{id}\", status: \"success\" }}"),
        format!("ext log PlatformEnd {{ request_id: \"{id}\" }}"),
        format!("ext log PlatformReport {{ request_id: \"{id}\""),
    ] {
        wait_until(&what, || {
            api.invoke("f", &json!({ "do": "sleep", "ms": 300 }));
            api.log_messages("f").iter().any(|line| line.contains(&what))
        });
    }
    let lines = api.log_messages("f");
    assert!(
        lines.iter().any(|l| l.contains("ext log PlatformLogsSubscription { name: \"extension\"")),
        "{lines:#?}"
    );
}

#[test]
fn a_timeout_is_told_to_the_extension_and_leaves_a_usable_environment() {
    let server = server();
    let api = Api::new(server.url());
    let more = json!({ "Layers": [crate_layer(&api)], "Timeout": 1 });
    api.create_puppet("f", more);
    let reply = api.invoke("f", &json!({ "do": "sleep", "ms": 60_000 }));
    assert_eq!(reply.json()["errorType"], "Sandbox.Timedout");
    wait_for_line(&api, "ext shutdown timeout");
    assert_eq!(api.invoke("f", &json!({ "do": "count" })).json()["count"], 1);
    let reply = api.invoke("f", &json!({ "do": "exit", "code": 1 }));
    assert_eq!(reply.json()["errorType"], "Runtime.ExitError");
    wait_for_line(&api, "ext shutdown failure");
    assert_eq!(api.invoke("f", &json!({ "do": "count" })).json()["count"], 1);
}

#[test]
fn an_extension_that_ends_takes_the_environment_with_it() {
    let server = server();
    let api = Api::new(server.url());
    let arn = script_layer(&api, "quits", "#!/bin/bash\nexit 3\n");
    create(&api, &arn, &json!({}));
    let reply = api.invoke("f", &json!({ "do": "echo" }));
    let id = id_of(&reply);
    assert_eq!(
        reply.text(),
        format!(
            r#"{{"errorType":"Extension.Crash","errorMessage":"RequestId: {id} Error: exit status 3"}}"#
        )
    );
    wait_for_line(&api, "Phase: init\tStatus: error\tError Type: Extension.Crash");
}

#[test]
fn an_extension_sees_its_own_environment_and_no_more() {
    let server = server();
    let api = Api::new(server.url());
    let script = r#"#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension
env | sed 's/^/ext env /'
echo "ext in $PWD as $(id -un)"
echo "ext host" $(getent hosts sandbox.localdomain)
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
printf 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: h\r\nLambda-Extension-Name: %s\r\nContent-Length: 13\r\n\r\n{"events":[]}' "${0##*/}" >&3
while IFS=$'\r' read -r line _ && [[ -n $line ]]; do
  [[ $line == Lambda-Extension-Identifier:* ]] && id=${line#*: }
done <&3
read -r body <&3
echo "ext registered $body"
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
printf 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: h\r\nLambda-Extension-Identifier: %s\r\n\r\n' "$id" >&3
cat <&3
"#;
    create(&api, &script_layer(&api, "script", script), &json!({ "MINE": "yes" }));
    assert_eq!(api.invoke("f", &json!({ "do": "echo" })).json(), json!({ "do": "echo" }));
    let lines = api.log_messages("f").concat();
    for expected in [
        "ext env MINE=yes\n",
        "ext env AWS_LAMBDA_FUNCTION_NAME=f\n",
        "ext in / as sbx_user1051\n",
        "ext host 127.0.0.1 sandbox.localdomain\n",
        r#"ext registered {"functionName":"f","functionVersion":"$LATEST","handler":"function.handler"}"#,
        "EXTENSION\tName: script\tState: Ready\tEvents: []\n",
    ] {
        assert!(lines.contains(expected), "{expected} is not in {lines}");
    }
    for hidden in ["_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY"] {
        assert!(!lines.contains(&format!("ext env {hidden}")), "{hidden} in {lines}");
    }
}

#[test]
fn a_function_may_log_in_json() {
    let server = server();
    let api = Api::new(server.url());
    let logging = json!({
        "LogFormat": "JSON",
        "ApplicationLogLevel": "WARN",
        "SystemLogLevel": "INFO",
    });
    api.create_puppet("f", json!({ "LoggingConfig": logging }));
    let text = "{\"level\":\"INFO\",\"m\":1}\n{\"level\":\"ERROR\",\"m\":2}\nplain";
    let reply = api.invoke_tail("f", &json!({ "do": "print", "text": text }));
    assert_eq!(reply.status, 200);
    let id = id_of(&reply);
    let log = reply.log();
    let lines: Vec<&str> = log.lines().collect();
    let system = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let start = system(lines[0]);
    assert_eq!(start["type"], "platform.start");
    assert_eq!(start["record"], json!({ "requestId": id, "version": "$LATEST" }));
    assert_eq!(lines[1..3], [r#"{"level":"ERROR","m":2}"#, "plain"], "{log}");
    let report = system(lines.last().unwrap());
    assert_eq!(report["type"], "platform.report");
    assert_eq!(report["record"]["status"], "success");
    assert_eq!(report["record"]["metrics"]["memorySizeMB"], 128);
}
