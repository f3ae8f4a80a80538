//! Tags.

use crate::fixture::{World, code, scope};
use lambfold_control::{ControlError, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
