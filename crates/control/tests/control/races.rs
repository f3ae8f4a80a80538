//! Many callers at once.

use crate::fixture::{World, code, create_request, name, scope};
use lambfold_control::ErrorKind;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creates_of_a_name_wins() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..12)
        .map(|i| {
            let control = world.control.clone();
            let request = create_request("f", json!({"Description": i.to_string()}));
            tokio::spawn(async move { control.create_function(&scope(), request).await })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => winners.push(answer.description),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ResourceConflict);
                assert_eq!(error.to_string(), "Function already exist: f");
            }
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(world.get("f", None).unwrap().description, winners[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_updates_of_a_revision_wins() {
    let world = World::new().await;
    world.create("f").await;
    let revision = world.get("f", None).unwrap().revision_id;
    let tasks: Vec<_> = (1..=12)
        .map(|i| {
            let control = world.control.clone();
            let request =
                json!({"FunctionName": "f", "Timeout": i, "RevisionId": revision.clone()});
            let request = serde_json::from_value(request).unwrap();
            tokio::spawn(
                async move { control.update_function_configuration(&scope(), request).await },
            )
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => winners.push(answer.timeout),
            Err(error) => assert_eq!(error.kind(), ErrorKind::PreconditionFailed),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(world.get("f", None).unwrap().timeout, winners[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_changes_end_as_they_are_stored() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for i in 0..40_u32 {
        let control = world.control.clone();
        tasks.push(tokio::spawn(async move {
            let function = format!("f{}", i % 3);
            let named = json!({"FunctionName": function.clone()});
            let read = |value: serde_json::Value| value;
            match i % 5 {
                0 | 1 => drop(
                    control
                        .create_function(
                            &scope(),
                            create_request(&function, json!({"Publish": true})),
                        )
                        .await,
                ),
                2 => drop(
                    control
                        .delete_function(&scope(), serde_json::from_value(read(named)).unwrap())
                        .await,
                ),
                3 => {
                    let request = json!({"FunctionName": function, "Timeout": i + 1});
                    let request = serde_json::from_value(request).unwrap();
                    drop(control.update_function_configuration(&scope(), request).await);
                }
                _ => drop(
                    control
                        .publish_version(&scope(), serde_json::from_value(read(named)).unwrap())
                        .await,
                ),
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all = |world: &World| {
        let request = serde_json::from_value(json!({"FunctionVersion": "ALL"})).unwrap();
        world.control.list_functions(&scope(), &request).unwrap().functions
    };
    let seen = all(&world);
    let world = world.restart().await;
    assert_eq!(all(&world), seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_that_goes_away_leaves_no_half_change() {
    let world = World::new().await;
    world.create("f").await;
    for i in 1..=20 {
        let request = json!({"FunctionName": "f", "Timeout": i});
        let request = serde_json::from_value(request).unwrap();
        let task = tokio::spawn({
            let control = world.control.clone();
            async move { control.update_function_configuration(&scope(), request).await }
        });
        if i % 2 == 0 {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
    }
    // What was started goes on behind: this waits for the name's lock after all of it.
    world.configure("f", json!({"Timeout": 21})).await.unwrap();
    let seen = world.control.resolve(&scope(), &name("f"), None).unwrap();
    let document = world.store.get("123456789012/eu-central-1/function/f").await.unwrap().unwrap();
    let stored = String::from_utf8(document.value).unwrap();
    assert!(stored.contains(&seen.revision), "what is seen is what is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_and_collections_do_not_disturb_each_other() {
    let world = World::new().await;
    world.create("f").await;
    let collector = tokio::spawn({
        let control = world.control.clone();
        async move {
            for _ in 0..30 {
                control.collect_garbage(std::time::Duration::ZERO).await.unwrap();
            }
        }
    });
    for i in 0..15 {
        world.update_code("f", &code(&i.to_string()), json!({})).await.unwrap();
        let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
        assert!(world.store.open_blob(&version.code).await.unwrap().is_some());
        assert!(world.trees.contains(&version.code));
    }
    collector.await.unwrap();
    world.control.collect_garbage(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(world.blobs().await.len(), 1);
}
