//! Sizes on both sides of their limits.

use crate::fixture::{World, code, zip};
use lambfold_control::ErrorKind;
use serde_json::json;

/// A zip that unpacks to this many bytes of one file.
fn large(bytes: usize) -> Vec<u8> {
    zip(&[("large", vec![0; bytes])])
}

#[tokio::test]
async fn code_and_layers_together_on_both_sides_of_the_limit() {
    let world = World::new().await;
    let layer = world.layer("l", &large(200_000_000)).await;
    let fits = large(62_144_000);
    let create = json!({"Layers": [layer], "Code": {"ZipFile": crate::fixture::base64(&fits)}});
    world.create_with("fits", create).await.unwrap();
    let over = large(62_144_001);
    let text = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes.";
    let create = json!({"Layers": [layer], "Code": {"ZipFile": crate::fixture::base64(&over)}});
    let error = world.create_with("over", create).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::InvalidParameterValue, text)
    );
    let error = world.update_code("fits", &over, json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), text);
    world
        .create_with("bare", json!({"Code": {"ZipFile": crate::fixture::base64(&over)}}))
        .await
        .unwrap();
    let error = world.configure("bare", json!({"Layers": [layer]})).await.unwrap_err();
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn refused_zips_leave_nothing() {
    let world = World::new().await;
    let before = world.blobs().await;
    let error = world.create_with("f", json!({"Code": {"ZipFile": "bm8gemlw"}})).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not unzip uploaded file. Please check your file, then try to upload again."
    );
    // The central directory is what limits are checked against: let it say 250 MiB.
    let mut bomb = large(1_000);
    let entry = bomb.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    bomb[entry + 24..entry + 28].copy_from_slice(&262_144_000_u32.to_le_bytes());
    let bomb = json!({"Code": {"ZipFile": crate::fixture::base64(&bomb)}});
    let error = world.create_with("f", bomb).await.unwrap_err();
    assert_eq!(error.to_string(), "Unzipped size must be smaller than 262144000 bytes");
    let zipped = vec![0; 52_428_801];
    let zipped = json!({"Code": {"ZipFile": crate::fixture::base64(&zipped)}});
    let error = world.create_with("f", zipped).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestEntityTooLarge);
    assert_eq!(error.to_string(), "Zipped size must be smaller than 52428800 bytes");
    assert_eq!(world.blobs().await, before);
}

#[tokio::test]
async fn settings_out_of_range_are_refused_by_create_and_update() {
    let world = World::new().await;
    world.create("f").await;
    for wrong in [
        json!({"MemorySize": 127}),
        json!({"MemorySize": 10_241}),
        json!({"Timeout": 0}),
        json!({"Timeout": 901}),
        json!({"EphemeralStorage": {"Size": 511}}),
        json!({"EphemeralStorage": {"Size": 10_241}}),
        json!({"Environment": {"Variables": {"AWS_REGION": "x"}}}),
        json!({"Environment": {"Variables": {"BIG": "x".repeat(4_096)}}}),
        json!({"Runtime": "nodejs22.x"}),
    ] {
        for error in [
            world.create_with("g", wrong.clone()).await.unwrap_err(),
            world.configure("f", wrong.clone()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidParameterValue, "{wrong}: {error}");
        }
    }
    let right = json!({"MemorySize": 10_240, "Timeout": 900, "EphemeralStorage": {"Size": 10_240}});
    world.configure("f", right).await.unwrap();
    let wrong = json!({"Architectures": ["x86_64", "arm64"]});
    let error = world.update_code("f", &code("x"), wrong).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"
    );
}
