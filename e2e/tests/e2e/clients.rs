//! Unmodified SDKs and runtime clients.

use super::harness::{Api, bin, root, server, venv};
use serde_json::json;
use std::path::Path;
use std::process::Command;

pub(super) fn python(script: &str, args: &[&str]) {
    let output = Command::new(venv("python"))
        .arg(root().join("e2e/tests/clients").join(script))
        .args(args)
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {out}{err}");
}

#[test]
fn the_whole_control_plane_with_boto3() {
    let server = server();
    python("control_plane.py", &[server.url(), "us-east-1"]);
}

#[test]
fn a_client_in_china_sees_its_partition_everywhere() {
    let server = server();
    python("control_plane.py", &[server.url(), "cn-north-1"]);
}

#[test]
fn a_bootstrap_on_the_crate_lambda_runtime() {
    let server = server();
    let api = Api::new(server.url());
    api.create("f", &bin("lambda-runtime-echo"), json!({}));
    for x in 0..3 {
        let reply = api.invoke("f", &json!({ "x": x }));
        assert_eq!(reply.json()["event"], json!({ "x": x }), "{}", reply.text());
        assert_eq!(reply.json()["request_id"], reply.header("x-amzn-requestid").unwrap());
        assert_eq!(reply.json()["arn"], "arn:aws:lambda:us-east-1:000000000000:function:f");
    }
    let reply = api.invoke("f", &json!({ "fail": true }));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    assert_eq!(reply.json()["errorMessage"], "as asked");
    let context = "eyJjbGllbnQiOnsiaW5zdGFsbGF0aW9uX2lkIjoiMSIsImFwcF90aXRsZSI6InQiLCJhcHBfdmVyc2lvbl9uYW1lIjoidiIsImFwcF92ZXJzaW9uX2NvZGUiOiJjIiwiYXBwX3BhY2thZ2VfbmFtZSI6InAifSwiY3VzdG9tIjp7fSwiZW52Ijp7fX0=";
    let reply = api.invoke_with("f", &json!({}), &[("x-amz-client-context", context)]);
    assert_eq!(reply.json()["client"], true, "{}", reply.text());
}

#[test]
fn a_bootstrap_on_the_package_awslambdaric() {
    let server = server();
    let api = Api::new(server.url());
    let folder = tempfile::tempdir().unwrap();
    let packages = root().join("target/guest/awslambdaric");
    assert!(packages.exists(), "{} is missing: run `tools/setup test`", packages.display());
    let copied =
        Command::new("cp").arg("-r").arg(&packages).arg(folder.path().join("lib")).status();
    assert!(copied.unwrap().success());
    let bootstrap = "#!/bin/sh\nexport PYTHONPATH=/var/task/lib:/var/task PYTHONDONTWRITEBYTECODE=1\nexec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n";
    let path = folder.path().join("bootstrap");
    std::fs::write(&path, bootstrap).unwrap();
    let chmod = Command::new("chmod").arg("755").arg(&path).status();
    assert!(chmod.unwrap().success());
    let handler = "def handler(event, context):\n    if event.get('fail'):\n        raise ValueError('as asked')\n    print('handled', event)\n    return {'event': event, 'id': context.aws_request_id, 'left': context.get_remaining_time_in_millis()}\n";
    std::fs::write(folder.path().join("function.py"), handler).unwrap();
    api.create_from("f", folder.path(), json!({ "Timeout": 30, "MemorySize": 256 }));
    let reply = api.invoke_tail("f", &json!({ "x": 1 }));
    assert_eq!(reply.json()["event"], json!({ "x": 1 }), "{}", reply.text());
    assert_eq!(reply.json()["id"], reply.header("x-amzn-requestid").unwrap());
    assert!(reply.json()["left"].as_i64().unwrap() > 20_000);
    assert!(reply.log().contains("handled"), "{}", reply.log());
    let reply = api.invoke("f", &json!({ "fail": true }));
    assert_eq!(reply.json()["errorType"], "ValueError", "{}", reply.text());
    assert_eq!(reply.json()["errorMessage"], "as asked");
}

#[test]
fn a_bootstrap_on_the_package_aws_lambda_ric() {
    let server = server();
    let api = Api::new(server.url());
    let folder = tempfile::tempdir().unwrap();
    node_client(folder.path());
    let handler = "exports.handler = async (event, context) => {\n    if (event.fail) throw new TypeError('as asked');\n    console.log('handled', event.x);\n    return { event, id: context.awsRequestId, left: context.getRemainingTimeInMillis() };\n};\n";
    std::fs::write(folder.path().join("function.js"), handler).unwrap();
    api.create_from(
        "f",
        folder.path(),
        json!({ "Timeout": 30, "MemorySize": 256, "Handler": "function.handler" }),
    );
    let reply = api.invoke_tail("f", &json!({ "x": 1 }));
    assert_eq!(reply.json()["event"], json!({ "x": 1 }), "{}", reply.text());
    assert_eq!(reply.json()["id"], reply.header("x-amzn-requestid").unwrap());
    assert!(reply.json()["left"].as_i64().unwrap() > 20_000);
    assert!(reply.log().contains("handled 1"), "{}", reply.log());
    let reply = api.invoke("f", &json!({ "fail": true }));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    assert_eq!(reply.json()["errorType"], "TypeError", "{}", reply.text());
    assert_eq!(reply.json()["errorMessage"], "as asked");
    assert!(reply.json()["trace"][0].is_string(), "{}", reply.text());
    let reply = api.invoke("f", &json!({ "x": 2 }));
    assert_eq!(reply.json()["event"], json!({ "x": 2 }), "{}", reply.text());
}

/// Puts the runtime client for Node.js and a bootstrap that starts it into a function's folder.
pub(super) fn node_client(folder: &Path) {
    let packages = root().join("target/guest/aws-lambda-ric/node_modules");
    assert!(packages.exists(), "{} is missing: run `tools/setup test`", packages.display());
    for from in [packages, root().join("examples/conform/node/bootstrap")] {
        let copied = Command::new("cp").arg("-r").arg(&from).arg(folder).status();
        assert!(copied.unwrap().success());
    }
}
