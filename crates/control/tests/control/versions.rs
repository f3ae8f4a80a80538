//! Published versions.

use crate::fixture::{World, code, name, scope};
use lambfold_control::ErrorKind;
use lambfold_types::{Qualifier, Version};
use serde_json::json;

fn versions(world: &World) -> Vec<(String, String)> {
    let request = serde_json::from_value(json!({"FunctionName": "f"})).unwrap();
    let list = world.control.list_versions_by_function(&scope(), &request).unwrap();
    list.versions.into_iter().map(|v| (v.version, v.description)).collect()
}

fn pair(version: &str, description: &str) -> (String, String) {
    (version.to_owned(), description.to_owned())
}

#[tokio::test]
async fn published_version_keeps_what_was() {
    let world = World::new().await;
    world.create_with("f", json!({"Description": "zero"})).await.unwrap();
    let first = world.publish("f", json!({"Description": "first"})).await.unwrap();
    assert_eq!((first.version.as_str(), first.description.as_str()), ("1", "first"));
    assert!(first.function_arn.ends_with(":f:1"));
    assert_eq!(first.state, Some("Active"));
    world.update_code("f", &code("two"), json!({})).await.unwrap();
    world.configure("f", json!({"Description": "second", "Timeout": 9})).await.unwrap();
    let second = world.publish("f", json!({})).await.unwrap();
    assert_eq!((second.version.as_str(), second.description.as_str()), ("2", "second"));
    assert_ne!(second.code_sha256, first.code_sha256);
    assert_eq!(world.get("f", Some("1")).unwrap(), first);
    assert_eq!(
        versions(&world),
        [pair("$LATEST", "second"), pair("1", "first"), pair("2", "second")]
    );
    let one = Qualifier::Version(Version::Published(1));
    let resolved = world.control.resolve(&scope(), &name("f"), Some(&one)).unwrap();
    assert_eq!(resolved.revision, first.revision_id);
}

#[tokio::test]
async fn publishing_the_same_again_answers_the_same_version() {
    let world = World::new().await;
    world.create("f").await;
    let first = world.publish("f", json!({})).await.unwrap();
    world.clock.advance_ms(1_000);
    let again = world.publish("f", json!({"Description": "ignored"})).await.unwrap();
    assert_eq!(again, first);
    world.configure("f", json!({"Timeout": 3})).await.unwrap();
    let same = world.publish("f", json!({})).await.unwrap();
    assert_eq!(same, first, "an update that changes nothing is nothing to publish");
    world.configure("f", json!({"Timeout": 4})).await.unwrap();
    assert_eq!(world.publish("f", json!({})).await.unwrap().version, "2");
}

#[tokio::test]
async fn publish_with_create_and_with_update_is_one_step() {
    let world = World::new().await;
    let created = world.create_with("f", json!({"Publish": true})).await.unwrap();
    assert_eq!(created.version, "1");
    assert!(created.function_arn.ends_with(":f"));
    assert_eq!(world.publish("f", json!({})).await.unwrap().version, "1");
    let updated = world.update_code("f", &code("two"), json!({"Publish": true})).await.unwrap();
    assert_eq!(updated.version, "2");
    assert!(updated.function_arn.ends_with(":f:2"));
    let same = world.update_code("f", &code("two"), json!({"Publish": true})).await.unwrap();
    assert_eq!(same.version, "2");
    assert_eq!(world.get("f", None).unwrap().code_sha256, updated.code_sha256);
}

#[tokio::test]
async fn code_digest_guards_publishing() {
    let world = World::new().await;
    world.create("f").await;
    let current = world.get("f", None).unwrap().code_sha256;
    let error = world.publish("f", json!({"CodeSha256": "other"})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameterValue);
    assert_eq!(
        error.to_string(),
        format!(
            "CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the CodeSHA256 in $LATEST."
        )
    );
    world.publish("f", json!({"CodeSha256": current})).await.unwrap();
}

#[tokio::test]
async fn version_numbers_are_never_used_again() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    world.configure("f", json!({"Timeout": 4})).await.unwrap();
    world.publish("f", json!({})).await.unwrap();
    world.delete("f", Some("2")).await.unwrap();
    assert_eq!(world.publish("f", json!({})).await.unwrap().version, "3");
    world.delete("f", None).await.unwrap();
    let world = world.restart().await;
    let again = world.create_with("f", json!({"Publish": true})).await.unwrap();
    assert_eq!(again.version, "4", "not even when the function is deleted and made anew");
    let world = world.restart().await;
    world.configure("f", json!({"Timeout": 5})).await.unwrap();
    assert_eq!(world.publish("f", json!({})).await.unwrap().version, "5");
}

#[tokio::test]
async fn versions_of_a_missing_function_are_not_found() {
    let world = World::new().await;
    let error = world.publish("f", json!({})).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Function not found: arn:aws:lambda:eu-central-1:123456789012:function:f"
    );
    let request = serde_json::from_value(json!({"FunctionName": "f"})).unwrap();
    let error = world.control.list_versions_by_function(&scope(), &request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceNotFound);
}
