//! Answers as they go over the wire, field by field, in their order. `UPDATE_GOLDEN=1` writes
//! the files anew.

use crate::fixture::{World, base64, code, scope, scope_in, zip};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Members whose values are numbered in the order of their appearance: random, or of the
/// compression.
const NUMBERED: [&str; 3] = ["RevisionId", "CodeSha256", "CodeSize"];

/// Pretty JSON, a step after the other.
fn text(steps: &[(&str, String)]) -> String {
    let mut values: Vec<String> = Vec::new();
    let mut out = String::new();
    for (step, json) in steps {
        out.push_str(&format!("# {step}\n"));
        for line in json.lines() {
            let (member, value) = line.split_once(": ").unwrap_or_default();
            let member = member.trim().trim_matches('"');
            if !NUMBERED.contains(&member) {
                out.push_str(&format!("{line}\n"));
                continue;
            }
            let value = format!("{member} {}", value.trim_end_matches(','));
            if !values.contains(&value) {
                values.push(value.clone());
            }
            let mut same = values.iter().filter(|other| other.starts_with(member));
            let number = same.position(|other| *other == value).unwrap() + 1;
            let indent = line.split_once('"').unwrap().0;
            let comma = if line.ends_with(',') { "," } else { "" };
            out.push_str(&format!("{indent}\"{member}\": <{number}>{comma}\n"));
        }
    }
    out
}

fn check(name: &str, steps: &[(&str, String)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let found = text(steps);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

fn pretty(answer: &impl Serialize) -> String {
    serde_json::to_string_pretty(answer).unwrap()
}

fn request<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The smallest function.
#[tokio::test]
async fn plain_function() {
    let world = World::new().await;
    let created = world.create("plain").await;
    let get = request(json!({"FunctionName": "plain"}));
    let function = world.control.get_function(&scope(), &get).unwrap();
    world.clock.advance_ms(61_001);
    let updated = world.configure("plain", json!({"Description": "changed"})).await.unwrap();
    let latest = world.get("plain", Some("$LATEST")).unwrap();
    let list = world.control.list_functions(&scope(), &request(json!({}))).unwrap();
    check(
        "plain-function.txt",
        &[
            ("CreateFunction", pretty(&created)),
            ("GetFunction", pretty(&function)),
            ("UpdateFunctionConfiguration", pretty(&updated)),
            ("GetFunctionConfiguration, Qualifier $LATEST", pretty(&latest)),
            ("ListFunctions", pretty(&list)),
        ],
    );
}

/// A function for which everything is chosen, in China.
#[tokio::test]
async fn full_function() {
    let world = World::new().await;
    let scope = scope_in("cn-northwest-1");
    let layer = json!({
        "LayerName": "tools", "Content": {"ZipFile": base64(&code("tools"))},
        "Description": "tools for all", "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["provided.al2023"], "CompatibleArchitectures": ["arm64"],
    });
    let layer = world.control.publish_layer_version(&scope, request(layer)).await.unwrap();
    let create = json!({
        "FunctionName": "full", "Runtime": "provided.al2", "Handler": "h", "Publish": true,
        "Role": "arn:aws-cn:iam::123456789012:role/r", "Description": "all of it",
        "Code": {"ZipFile": base64(&zip(&[("bootstrap", b"#!/bin/sh\n".to_vec())]))},
        "Timeout": 900, "MemorySize": 10240, "EphemeralStorage": {"Size": 1024},
        "Environment": {"Variables": {"ZZ": "last", "AA": "first"}},
        "Layers": [layer.layer_version_arn], "Architectures": ["arm64"],
        "TracingConfig": {"Mode": "Active"}, "Tags": {"team": "x", "stage": "dev"},
        "LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "WARN", "LogGroup": "/g"},
    });
    let created = world.control.create_function(&scope, request(create)).await.unwrap();
    let mut function =
        world.control.get_function(&scope, &request(json!({"FunctionName": "full"}))).unwrap();
    function.code.location = Some("http://127.0.0.1:9000/zip".to_owned());
    let list = json!({"FunctionName": "full"});
    let versions = world.control.list_versions_by_function(&scope, &request(list)).unwrap();
    let layers = world.control.list_layers(&scope, &request(json!({}))).unwrap();
    let list = json!({"LayerName": "tools"});
    let layer_versions = world.control.list_layer_versions(&scope, &request(list)).unwrap();
    let tags = json!({"Resource": "arn:aws-cn:lambda:cn-northwest-1:123456789012:function:full"});
    let tags = world.control.list_tags(&scope, &request(tags)).unwrap();
    let mut settings = world.control.get_account_settings(&scope);
    let sizes = 2 * created.code_size + layer.content.code_size;
    assert_eq!(std::mem::take(&mut settings.account_usage.total_code_size), sizes);
    check(
        "full-function.txt",
        &[
            ("PublishLayerVersion", pretty(&layer)),
            ("CreateFunction with Publish", pretty(&created)),
            ("GetFunction", pretty(&function)),
            ("ListVersionsByFunction", pretty(&versions)),
            ("ListLayers", pretty(&layers)),
            ("ListLayerVersions", pretty(&layer_versions)),
            ("ListTags", pretty(&tags)),
            ("GetAccountSettings", pretty(&settings)),
        ],
    );
}
