//! Tags.

use crate::fixture::{World, code, scope};
use lambfold_control::{ControlError, ErrorKind, Options};
use lambfold_types::{FunctionName, Qualifier, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function:f";

async fn tag(world: &World, arn: &str, tags: Value) -> Result<(), ControlError> {
    let request = serde_json::from_value(json!({"Resource": arn, "Tags": tags})).unwrap();
    world.control.tag_resource(&scope(), request).await
}

async fn untag(world: &World, arn: &str, keys: Value) -> Result<(), ControlError> {
    let request = serde_json::from_value(json!({"Resource": arn, "TagKeys": keys})).unwrap();
    world.control.untag_resource(&scope(), request).await
}

fn list(world: &World, arn: &str) -> Result<BTreeMap<String, String>, ControlError> {
    let request = serde_json::from_value(json!({"Resource": arn})).unwrap();
    world.control.list_tags(&scope(), &request).map(|answer| answer.tags)
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn tags_are_added_replaced_removed_and_kept() {
    let world = World::new().await;
    world.create("f").await;
    let before = world.get("f", None).unwrap();
    assert_eq!(list(&world, ARN).unwrap(), tags(&[]));
    tag(&world, ARN, json!({"a": "1", "b": "2"})).await.unwrap();
    tag(&world, ARN, json!({"b": "3", "c": ""})).await.unwrap();
    untag(&world, ARN, json!(["a", "never"])).await.unwrap();
    assert_eq!(list(&world, ARN).unwrap(), tags(&[("b", "3"), ("c", "")]));
    assert_eq!(world.get("f", None).unwrap(), before, "tags are no revision");
    world.configure("f", json!({"Timeout": 8})).await.unwrap();
    world.update_code("f", &code("x"), json!({"Publish": true})).await.unwrap();
    let world = world.restart().await;
    assert_eq!(list(&world, ARN).unwrap(), tags(&[("b", "3"), ("c", "")]));
}

#[tokio::test]
async fn wrong_resources_are_refused() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    let missing = "arn:aws:lambda:eu-central-1:123456789012:function:missing";
    for error in [
        tag(&world, missing, json!({"a": "1"})).await.unwrap_err(),
        untag(&world, missing, json!(["a"])).await.unwrap_err(),
        list(&world, missing).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("Function not found: {missing}"));
    }
    for suffix in ["1", "$LATEST", "live"] {
        let error = tag(&world, &format!("{ARN}:{suffix}"), json!({"a": "1"})).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        );
    }
    let layer = "arn:aws:lambda:eu-central-1:123456789012:layer:l";
    assert_eq!(list(&world, layer).unwrap_err().kind(), ErrorKind::ResourceNotFound);
    let error = tag(&world, ARN, json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameterValue);
}

#[tokio::test]
async fn number_of_tags_on_both_sides_of_fifty() {
    let world = World::new().await;
    let many = |range: std::ops::Range<u32>| -> Value {
        range.map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let text = "Number of tags exceeds resource tag limit.";
    let error = world.create_with("f", json!({"Tags": many(0..51)})).await.unwrap_err();
    assert_eq!(error.to_string(), text);
    world.create_with("f", json!({"Tags": many(0..49)})).await.unwrap();
    tag(&world, ARN, many(49..50)).await.unwrap();
    assert_eq!(tag(&world, ARN, many(50..51)).await.unwrap_err().to_string(), text);
    assert_eq!(list(&world, ARN).unwrap().len(), 50);
}

#[tokio::test]
async fn a_tag_names_a_root_file_system() {
    let roots = ["al2023", "debian"].map(str::to_owned).into();
    let world = World::with(Options { rootfs: roots, ..Options::default() }).await;
    let gone = Arc::new(Mutex::new(Vec::new()));
    let seen = gone.clone();
    world.control.on_gone(move |version| {
        seen.lock().unwrap().push((version.version, version.rootfs.clone()));
    });
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    let name = FunctionName::parse("f").unwrap();
    let resolve = |world: &World, version| {
        world.control.resolve(&scope(), &name, Some(&Qualifier::Version(version))).unwrap()
    };
    let versions = [Version::Latest, Version::Published(1)];
    let before = versions.map(|version| resolve(&world, version));
    assert!(before.iter().all(|version| version.rootfs.is_none()));
    let answer = world.get("f", None).unwrap();

    tag(&world, ARN, json!({"lambfold:rootfs": "debian"})).await.unwrap();
    for (version, before) in versions.into_iter().zip(&before) {
        let after = resolve(&world, version);
        assert_eq!(after.rootfs.as_deref(), Some("debian"));
        assert_ne!(after.revision, before.revision, "environments of before are others");
    }
    assert_eq!(world.get("f", None).unwrap(), answer, "tags are no revision");
    assert_eq!(*gone.lock().unwrap(), versions.map(|version| (version, None)));
    gone.lock().unwrap().clear();
    tag(&world, ARN, json!({"other": "x"})).await.unwrap();
    assert_eq!(*gone.lock().unwrap(), [], "what else is tagged changes nothing");

    let refused = [
        tag(&world, ARN, json!({"lambfold:rootfs": "/etc"})).await.unwrap_err(),
        world.create_with("g", json!({"Tags": {"lambfold:rootfs": "x"}})).await.unwrap_err(),
    ];
    for (error, value) in refused.into_iter().zip(["/etc", "x"]) {
        assert_eq!(error.kind(), ErrorKind::InvalidParameterValue);
        assert_eq!(
            error.to_string(),
            format!(
                "The tag lambfold:rootfs names no root file system of this server: {value}. \
                 This server has: al2023, debian."
            )
        );
    }
    // What is stored stays, and its versions too, on a server that has no others.
    let world = world.restart().await;
    for version in versions {
        assert_eq!(resolve(&world, version).rootfs.as_deref(), Some("debian"));
    }
    untag(&world, ARN, json!(["lambfold:rootfs"])).await.unwrap();
    for version in versions {
        assert_eq!(resolve(&world, version).rootfs, None);
    }
    let error = tag(&world, ARN, json!({"lambfold:rootfs": "debian"})).await.unwrap_err();
    assert!(
        error.to_string().ends_with("This server has no others than its default one."),
        "{error}"
    );
}
