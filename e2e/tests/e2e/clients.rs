//! Unmodified SDKs and runtime clients.

use super::harness::{Api, bin, root, server, venv, wait_until};
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

/// A function that its authors built with aws-lambda-go 1.55.1: it handles a resource of CloudFormation's,
/// and reports to the URL that the event names. Deleting does nothing else.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "there is no such program for this machine")]
fn a_bootstrap_on_the_module_aws_lambda_go() {
    // What is told is taken by an extension, inside.
    let taker = r#"#!/usr/bin/python3
import http.server, json, os, threading, urllib.request

class Taker(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("told", told["Status"], told["PhysicalResourceId"], told["RequestId"], flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Taker)
threading.Thread(target=server.serve_forever, daemon=True).start()
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension"
name = {"Lambda-Extension-Name": os.path.basename(__file__)}
register = urllib.request.Request(api + "/register", b'{"events":["SHUTDOWN"]}', name)
me = urllib.request.urlopen(register).headers["Lambda-Extension-Identifier"]
urllib.request.urlopen(urllib.request.Request(api + "/event/next", headers={"Lambda-Extension-Identifier": me}))
"#;
    let server = server();
    let api = Api::new(server.url());
    let bootstrap = root().join("target/guest/aws-lambda-go/bootstrap");
    assert!(bootstrap.exists(), "{} is missing: run `tools/setup test`", bootstrap.display());
    let layers = [super::extensions::script_layer(&api, "taker", taker)];
    api.create("f", &bootstrap, json!({ "Layers": layers, "Timeout": 30, "MemorySize": 256 }));
    let event = |url: &str, id: &str| {
        json!({
            "RequestType": "Delete", "ResponseURL": url, "RequestId": id, "StackId": "stack",
            "LogicalResourceId": "logical", "PhysicalResourceId": "physical",
        })
    };
    for id in ["one", "two"] {
        let reply = api.invoke_tail("f", &event("http://127.0.0.1:8080/", id));
        assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
        assert!(reply.log().contains("\"RequestType\": \"Delete\""), "{}", reply.log());
        let told = format!("told SUCCESS physical {id}");
        wait_until(&told, || api.log_messages("f").iter().any(|line| line.contains(&told)));
    }
    let reply = api.invoke("f", &event("http://127.0.0.1:1/", "three"));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    let message = reply.json()["errorMessage"].as_str().unwrap().to_owned();
    assert!(message.ends_with("127.0.0.1:1: connect: connection refused"), "{message}");
    let reply = api.invoke("f", &json!({ "RequestType": 7 }));
    assert_eq!(reply.json()["errorType"], "UnmarshalTypeError", "{}", reply.text());
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
