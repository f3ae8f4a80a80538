//! Blobs and trees that nothing names.

use crate::fixture::{World, code, sha256};
use lambfold_control::Garbage;
use serde_json::json;
use std::time::Duration;

fn trees(world: &World, folder: &str) -> usize {
    std::fs::read_dir(world.dir.path().join(folder)).unwrap().count()
}

#[tokio::test]
async fn what_nothing_names_is_collected_and_the_rest_stays() {
    let world = World::new().await;
    let (one, two) = (world.layer("one", &code("1")).await, world.layer("two", &code("2")).await);
    world.create_with("f", json!({"Layers": [one, two], "Publish": true})).await.unwrap();
    world.update_code("f", &code("second"), json!({})).await.unwrap();
    world.update_code("f", &code("third"), json!({})).await.unwrap();
    world.store.put_blob(&b"an interrupted upload"[..]).await.unwrap();
    assert_eq!((world.blobs().await.len(), trees(&world, "trees")), (6, 5));
    let garbage = world.control.collect_garbage(Duration::ZERO).await.unwrap();
    assert_eq!(garbage, Garbage { blobs: 2, trees: 1 });
    let mut left =
        [sha256(&code("1")), sha256(&code("2")), sha256(&code("f")), sha256(&code("third"))];
    left.sort();
    assert_eq!(world.blobs().await, left);
    assert_eq!((trees(&world, "trees"), trees(&world, "opt")), (4, 1));
    let garbage = world.control.collect_garbage(Duration::ZERO).await.unwrap();
    assert_eq!(garbage, Garbage { blobs: 0, trees: 0 });
}

#[tokio::test]
async fn start_collects() {
    let world = World::new().await;
    world.create("f").await;
    world.create("g").await;
    world.delete("g", None).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.blobs().await, [sha256(&code("f"))]);
    assert_eq!(trees(&world, "trees"), 1);
}

#[tokio::test]
async fn trees_in_use_stay() {
    let world = World::new().await;
    world.create("f").await;
    let digest = sha256(&code("f"));
    let hold = world.trees.hold(std::slice::from_ref(&digest));
    world.delete("f", None).await.unwrap();
    world.control.collect_garbage(Duration::ZERO).await.unwrap();
    assert!(world.trees.contains(&digest));
    drop(hold);
    world.control.collect_garbage(Duration::ZERO).await.unwrap();
    assert!(!world.trees.contains(&digest));
}
