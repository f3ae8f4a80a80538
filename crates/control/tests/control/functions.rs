//! Create, read, update, delete, resolve.

use crate::fixture::{World, code, name, scope, scope_in, sha256};
use lambfold_control::{ControlError, ErrorKind, Options};
use lambfold_types::{Qualifier, Version};
use serde_json::json;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn created_function_is_usable_at_once_although_the_answer_says_pending() {
    let world = World::new().await;
    let answer = world.create("f").await;
    assert_eq!(answer.state, Some("Pending"));
    assert_eq!(answer.last_update_status, None);
    let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert_eq!(version.version, Version::Latest);
    assert_eq!(version.code, sha256(&code("f")));
    assert!(world.trees.path(&version.code).join("bootstrap").is_file());
    let settled = world.get("f", None).unwrap();
    assert_eq!(settled.state, Some("Active"));
    assert_eq!(settled.last_update_status, Some("Successful"));
    assert_ne!(settled.revision_id, answer.revision_id, "as at AWS, settling is a revision");
    assert_eq!(settled.revision_id, version.revision);
}

#[tokio::test]
async fn zip_comes_back_byte_for_byte() {
    let world = World::new().await;
    world.create("f").await;
    let request = serde_json::from_value(json!({"FunctionName": "f"})).unwrap();
    let function = world.control.get_function(&scope(), &request).unwrap();
    let mut file = world.store.open_blob(&function.code.digest).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert_eq!(bytes, code("f"));
    assert_eq!(function.configuration.code_size, bytes.len() as u64);
    let digest = sha256(&bytes).to_bytes();
    assert_eq!(function.configuration.code_sha256, crate::fixture::base64(&digest));
}

#[tokio::test]
async fn taken_names_are_refused_in_their_region_alone() {
    let world = World::new().await;
    world.create("f").await;
    let error = world.create_with("f", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceConflict);
    assert_eq!(error.to_string(), "Function already exist: f");
    let other = scope_in("cn-north-1");
    let request = crate::fixture::create_request("f", json!({}));
    let answer = world.control.create_function(&other, request).await.unwrap();
    assert_eq!(answer.function_arn, "arn:aws-cn:lambda:cn-north-1:123456789012:function:f");
    world.delete("f", None).await.unwrap();
    assert!(world.control.resolve(&other, &name("f"), None).is_ok());
}

#[tokio::test]
async fn every_stored_key_begins_with_account_and_region() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    world.create_with("g", json!({"Publish": true})).await.unwrap();
    world.delete("g", None).await.unwrap();
    world.layer("l", &code("l")).await;
    let documents = world.store.scan("", None, 100).await.unwrap();
    assert_eq!(documents.len(), 5);
    for (key, _) in documents {
        assert!(key.starts_with("123456789012/eu-central-1/"), "{key}");
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let world = World::new().await;
    let layer = world.layer("l", &code("l")).await;
    let more = json!({
        "Layers": [layer], "Tags": {"a": "b"}, "Publish": true, "MemorySize": 512,
        "Environment": {"Variables": {"KEY": "value"}}, "Timeout": 9,
    });
    world.create_with("f", more).await.unwrap();
    let latest = world.get("f", None).unwrap();
    let first = world.get("f", Some("1")).unwrap();
    let resolved = world.control.resolve(&scope(), &name("f"), None).unwrap();
    let world = world.restart().await;
    assert_eq!(world.get("f", None).unwrap(), latest);
    assert_eq!(world.get("f", Some("1")).unwrap(), first);
    assert_eq!(*world.control.resolve(&scope(), &name("f"), None).unwrap(), *resolved);
    world.configure("f", json!({"Timeout": 10})).await.unwrap();
    assert_eq!(world.publish("f", json!({})).await.unwrap().version, "2");
}

#[tokio::test]
async fn missing_tree_is_made_anew_at_start() {
    let world = World::new().await;
    let (one, two) = (world.layer("one", &code("1")).await, world.layer("two", &code("2")).await);
    world.create_with("f", json!({"Layers": [one, two]})).await.unwrap();
    std::fs::remove_dir_all(world.dir.path().join("trees")).unwrap();
    std::fs::remove_dir_all(world.dir.path().join("opt")).unwrap();
    let world = world.restart().await;
    let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert!(world.trees.path(&version.code).join("bootstrap").is_file());
    assert_eq!(std::fs::read_dir(world.dir.path().join("opt")).unwrap().count(), 1);
}

#[tokio::test]
async fn update_of_code_makes_a_new_revision_and_keeps_the_settings() {
    let world = World::new().await;
    world.create_with("f", json!({"MemorySize": 256, "Description": "d"})).await.unwrap();
    let before = world.control.resolve(&scope(), &name("f"), None).unwrap();
    world.clock.advance_ms(1_000);
    let more = json!({"Architectures": ["arm64"]});
    let answer = world.update_code("f", &code("new"), more).await.unwrap();
    assert_eq!(answer.state, Some("Active"));
    assert_eq!(answer.last_update_status, Some("InProgress"));
    assert_eq!((answer.memory_size, answer.description.as_str()), (256, "d"));
    assert_eq!(answer.architectures, ["arm64"]);
    assert_eq!(answer.last_modified, "2026-01-02T03:04:06.678+0000");
    let after = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert_ne!(after.revision, before.revision);
    assert_eq!(after.code, sha256(&code("new")));
}

#[tokio::test]
async fn dry_run_checks_and_changes_nothing() {
    let world = World::new().await;
    world.create("f").await;
    let before = world.get("f", None).unwrap();
    let answer = world.update_code("f", &code("new"), json!({"DryRun": true})).await.unwrap();
    assert_ne!(answer.code_sha256, before.code_sha256);
    assert_eq!(world.get("f", None).unwrap(), before);
    let bad = world.update_code("f", b"no zip", json!({"DryRun": true})).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidParameterValue);
}

#[tokio::test]
async fn update_of_settings_changes_what_is_given_alone() {
    let world = World::new().await;
    let layer = world.layer("l", &code("l")).await;
    let more = json!({
        "Layers": [layer], "Environment": {"Variables": {"AA": "1", "BB": "2"}},
        "Timeout": 7, "MemorySize": 256, "EphemeralStorage": {"Size": 600},
        "TracingConfig": {"Mode": "Active"}, "LoggingConfig": {"LogGroup": "/own/group"},
    });
    world.create_with("f", more).await.unwrap();
    let before = world.get("f", None).unwrap();
    world.configure("f", json!({"Handler": "other"})).await.unwrap();
    let after = world.get("f", None).unwrap();
    let mut expected = before.clone();
    expected.handler = "other".to_owned();
    expected.revision_id.clone_from(&after.revision_id);
    assert_eq!(after, expected);
    let more = json!({"Environment": {"Variables": {"CC": "3"}}, "Layers": []});
    world.configure("f", more).await.unwrap();
    let after = world.get("f", None).unwrap();
    let variables = after.environment.unwrap().variables;
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["CC"]);
    assert_eq!(after.layers, []);
}

#[tokio::test]
async fn revision_ids_guard_updates() {
    let world = World::new().await;
    let created = world.create("f").await.revision_id;
    let current = world.get("f", None).unwrap().revision_id;
    for stale in [&created, "00000000-0000-4000-8000-000000000000"] {
        let stale = json!({"RevisionId": stale});
        for error in [
            world.update_code("f", &code("x"), stale.clone()).await.unwrap_err(),
            world.configure("f", stale.clone()).await.unwrap_err(),
            world.publish("f", stale).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
            assert_eq!(
                error.to_string(),
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
            );
        }
    }
    world.configure("f", json!({"RevisionId": current, "Timeout": 4})).await.unwrap();
    let current = world.get("f", None).unwrap().revision_id;
    world.update_code("f", &code("x"), json!({"RevisionId": current})).await.unwrap();
}

#[tokio::test]
async fn deleted_function_is_gone_with_its_versions() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    world.delete("f", None).await.unwrap();
    let arn = "arn:aws:lambda:eu-central-1:123456789012:function:f";
    let error = world.get("f", None).unwrap_err();
    assert_eq!(error.to_string(), format!("Function not found: {arn}"));
    let error = world.get("f", Some("1")).unwrap_err();
    assert_eq!(error.to_string(), format!("Function not found: {arn}:1"));
    let error = world.delete("f", Some("1")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Function not found: {arn}"));
    let error = world.control.resolve(&scope(), &name("f"), None).unwrap_err();
    assert_eq!(error.to_string(), format!("Function not found: {arn}:$LATEST"));
    let world = world.restart().await;
    assert!(world.get("f", None).is_err());
    assert_eq!(world.blobs().await, []);
}

#[tokio::test]
async fn what_is_gone_is_told_after_it_is_gone() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    let gone = Arc::new(Mutex::new(Vec::new()));
    let (log, control) = (gone.clone(), world.control.clone());
    world.control.on_gone(move |version| {
        let latest = control.resolve(&scope(), &name("f"), None).ok();
        assert!(latest.is_none_or(|latest| latest.revision != version.revision));
        log.lock().unwrap().push(version.version.to_string());
    });
    world.configure("f", json!({"Timeout": 5})).await.unwrap();
    world.update_code("f", &code("x"), json!({})).await.unwrap();
    world.update_code("f", &code("y"), json!({"DryRun": true})).await.unwrap();
    world.publish("f", json!({})).await.unwrap();
    assert_eq!(*gone.lock().unwrap(), ["$LATEST", "$LATEST"]);
    world.delete("f", Some("1")).await.unwrap();
    world.delete("f", Some("99")).await.unwrap();
    world.delete("f", None).await.unwrap();
    assert_eq!(*gone.lock().unwrap(), ["$LATEST", "$LATEST", "1", "$LATEST", "2"]);
}

#[tokio::test]
async fn every_way_to_name_a_function_resolves() {
    let world = World::new().await;
    world.create_with("f", json!({"Publish": true})).await.unwrap();
    let arn = "arn:aws:lambda:eu-central-1:123456789012:function:f";
    for text in ["f", "123456789012:function:f", arn] {
        let found = world.control.resolve_text(&scope(), text, None).unwrap();
        assert_eq!((found.version.version, found.invoked_arn.as_str()), (Version::Latest, arn));
        let found = world.control.resolve_text(&scope(), text, Some("1")).unwrap();
        assert_eq!(found.version.version, Version::Published(1));
        assert_eq!(found.invoked_arn, format!("{arn}:1"));
        let found = world.control.resolve_text(&scope(), &format!("{text}:$LATEST"), None).unwrap();
        assert_eq!(found.invoked_arn, format!("{arn}:$LATEST"));
    }
    let qualifier = Qualifier::parse("live").unwrap();
    for error in [
        world.control.resolve_text(&scope(), "f", Some("live")).unwrap_err(),
        world.control.resolve(&scope(), &name("f"), Some(&qualifier)).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("Function not found: {arn}:live"));
    }
    let long = "a".repeat(65);
    let error = world.control.resolve_text(&scope(), &long, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceNotFound);
    assert!(error.to_string().ends_with(&format!("{long}:$LATEST")), "{error}");
}

#[tokio::test]
async fn lists_are_paged_by_name() {
    let world = World::new().await;
    for i in 0..7 {
        world.create_with(&format!("f{i}"), json!({"Publish": i == 3})).await.unwrap();
    }
    let list = |request: serde_json::Value| {
        world.control.list_functions(&scope(), &serde_json::from_value(request).unwrap()).unwrap()
    };
    let mut names = Vec::new();
    let mut marker = None;
    loop {
        let page = list(json!({"MaxItems": 3, "Marker": marker}));
        names.extend(page.functions.into_iter().map(|function| function.function_name));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(names, ["f0", "f1", "f2", "f3", "f4", "f5", "f6"]);
    let all = list(json!({"FunctionVersion": "ALL"})).functions;
    assert_eq!(all.len(), 8);
    assert_eq!((all[3].version.as_str(), all[4].version.as_str()), ("$LATEST", "1"));
    assert!(all[3].function_arn.ends_with(":f3:$LATEST") && all[4].function_arn.ends_with(":f3:1"));
    assert_eq!((all[0].state, all[0].last_update_status), (None, None));
    let request = serde_json::from_value(json!({"Marker": "nonsense"})).unwrap();
    let error = world.control.list_functions(&scope(), &request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameterValue);
}

#[tokio::test]
async fn wrong_deletes_are_refused_as_aws_does() {
    let world = World::new().await;
    world.create("f").await;
    let error = world.delete("f:$LATEST", None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "$LATEST version cannot be deleted without deleting the function."
    );
    let error = world.delete("f:1", Some("2")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "The derived qualifier from the function name does not match the specified qualifier."
    );
    let error = world.delete("f", Some("live")).await.unwrap_err();
    assert_eq!(error.to_string(), "Deletion of aliases is not currently supported.");
    let error = world.delete("f", Some("$latest")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceNotFound);
    world.delete("f", Some("17")).await.unwrap();
    world.get("f", None).unwrap();
}

#[tokio::test]
async fn what_is_not_built_says_so_and_creates_nothing() {
    let world = World::new().await;
    for (more, feature) in [
        (json!({"Code": {"S3Bucket": "b", "S3Key": "k"}}), "S3"),
        (json!({"Code": {"ImageUri": "i"}}), "image"),
        (json!({"PackageType": "Image"}), "PackageType"),
        (json!({"VpcConfig": {"SubnetIds": ["subnet-1"]}}), "VpcConfig"),
        (json!({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:x"}}), "DeadLetterConfig"),
        (json!({"KMSKeyArn": "arn:aws:kms:x"}), "KMSKeyArn"),
        (json!({"FileSystemConfigs": [{"Arn": "a", "LocalMountPath": "/mnt/a"}]}), "FileSystem"),
        (json!({"CodeSigningConfigArn": "arn"}), "CodeSigningConfigArn"),
        (json!({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}), "TenancyConfig"),
        (json!({"DurableConfig": {"ExecutionTimeout": 5}}), "DurableConfig"),
    ] {
        let error = world.create_with("f", more).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        assert!(error.to_string().contains(feature), "{error}");
    }
    let more = json!({"SnapStart": {"ApplyOn": "PublishedVersions"}});
    let error = world.create_with("f", more).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "provided.al2023 is not supported for SnapStart enabled functions."
    );
    assert!(world.get("f", None).is_err());
    let empty = json!({
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}, "DeadLetterConfig": {},
        "KMSKeyArn": "", "SnapStart": {"ApplyOn": "None"}, "FileSystemConfigs": [],
    });
    world.create_with("f", empty).await.unwrap();
}

#[tokio::test]
async fn mandatory_parts_are_named() {
    let world = World::new().await;
    let source = "Please provide a source for function code.";
    let error = world.create_with("f", json!({"Code": {}})).await.unwrap_err();
    assert_eq!(error.to_string(), source);
    let both = "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
    for member in ["Runtime", "Handler"] {
        let error = world.create_with("f", json!({member: null})).await.unwrap_err();
        assert_eq!(error.to_string(), both);
    }
    let error = world.create_with(&"a".repeat(65), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameterValue);
    assert!(error.to_string().ends_with("Member must have length less than or equal to 64"));
    assert!(matches!(
        world.create_with("f:1", json!({})).await.unwrap_err(),
        ControlError::Validation { .. }
    ));
}

#[tokio::test]
async fn strict_servers_refuse_the_retired_runtime() {
    let kind = World::new().await;
    kind.create_with("f", json!({"Runtime": "provided"})).await.unwrap();
    let strict = World::with(Options { strict: true, ..Options::default() }).await;
    strict.create("f").await;
    for error in [
        strict.create_with("g", json!({"Runtime": "provided"})).await.unwrap_err(),
        strict.configure("f", json!({"Runtime": "provided"})).await.unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "The runtime parameter of provided is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
        );
    }
}

#[tokio::test]
async fn account_settings_count_every_version_and_layer() {
    let world = World::new().await;
    let usage = || world.control.get_account_settings(&scope()).account_usage;
    assert_eq!((usage().function_count, usage().total_code_size), (0, 0));
    let size = world.create_with("f", json!({"Publish": true})).await.unwrap().code_size;
    world.layer("l", &code("f")).await;
    assert_eq!((usage().function_count, usage().total_code_size), (1, 3 * size));
    world.delete("f", Some("1")).await.unwrap();
    assert_eq!(usage().total_code_size, 2 * size);
    let limit = world.control.get_account_settings(&scope()).account_limit;
    assert_eq!(limit.code_size_unzipped, 262_144_000);
    assert_eq!(limit.code_size_zipped, 52_428_800);
    assert_eq!(limit.concurrent_executions, 1_000);
}
