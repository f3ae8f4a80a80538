//! Layers.

use crate::fixture::{World, base64, code, name, scope, scope_in, sha256, zip};
use lambfold_control::answer::LayerVersion;
use lambfold_control::{ControlError, ErrorKind, Options};
use serde_json::{Value, json};

const ACCOUNT: &str = "arn:aws:lambda:eu-central-1:123456789012";

fn get(world: &World, layer: &str, version: i64) -> Result<LayerVersion, ControlError> {
    let request = json!({"LayerName": layer, "VersionNumber": version});
    world.control.get_layer_version(&scope(), &serde_json::from_value(request).unwrap())
}

async fn delete(world: &World, layer: &str, version: i64) -> Result<(), ControlError> {
    let request = json!({"LayerName": layer, "VersionNumber": version});
    let request = serde_json::from_value(request).unwrap();
    world.control.delete_layer_version(&scope(), &request).await
}

async fn publish(world: &World, layer: &str, more: Value) -> LayerVersion {
    let mut request = json!({"LayerName": layer, "Content": {"ZipFile": base64(&code(layer))}});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = serde_json::from_value(request).unwrap();
    world.control.publish_layer_version(&scope(), request).await.unwrap()
}

async fn import(world: &World, arn: &str, zip: &[u8]) -> Result<LayerVersion, ControlError> {
    let request = json!({"AliasArn": arn, "Content": {"ZipFile": base64(zip)}});
    world.control.import_layer(serde_json::from_value(request).unwrap()).await
}

#[tokio::test]
async fn versions_count_up_and_are_never_used_again() {
    let world = World::new().await;
    for version in 1..=3 {
        let layer = publish(&world, "l", json!({})).await;
        assert_eq!(layer.layer_version_arn, format!("{ACCOUNT}:layer:l:{version}"));
        assert_eq!(layer.layer_arn, format!("{ACCOUNT}:layer:l"));
        assert_eq!(get(&world, "l", version).unwrap(), layer);
        assert_eq!(get(&world, &layer.layer_arn, version).unwrap(), layer);
    }
    delete(&world, "l", 3).await.unwrap();
    delete(&world, "l", 3).await.unwrap();
    delete(&world, "nothing", 3).await.unwrap();
    assert!(get(&world, "l", 3).is_err());
    let world = world.restart().await;
    assert_eq!(publish(&world, "l", json!({})).await.version, 4);
    for version in [1, 2, 4] {
        delete(&world, "l", version).await.unwrap();
    }
    let world = world.restart().await;
    assert_eq!(publish(&world, "l", json!({})).await.version, 5);
}

#[tokio::test]
async fn missing_and_impossible_versions() {
    let world = World::new().await;
    for version in [0, -1] {
        let text = "Layer Version Cannot be less than 1";
        assert_eq!(get(&world, "l", version).unwrap_err().to_string(), text);
        assert_eq!(delete(&world, "l", version).await.unwrap_err().to_string(), text);
    }
    let error = get(&world, "l", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceNotFound);
    assert_eq!(error.to_string(), "The resource you requested does not exist.");
    let by_arn = |arn: String| {
        let request = serde_json::from_value(json!({"Arn": arn})).unwrap();
        world.control.get_layer_version_by_arn(&request)
    };
    let error = by_arn(format!("{ACCOUNT}:layer:l:1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceNotFound);
    let error = by_arn(format!("{ACCOUNT}:layer:l")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    let layer = publish(&world, "l", json!({})).await;
    assert_eq!(by_arn(layer.layer_version_arn.clone()).unwrap(), layer);
}

#[tokio::test]
async fn lists_filter_and_page() {
    let world = World::new().await;
    publish(&world, "a", json!({"CompatibleRuntimes": ["provided.al2"]})).await;
    publish(&world, "a", json!({"CompatibleArchitectures": ["arm64"]})).await;
    publish(&world, "b", json!({"CompatibleRuntimes": ["provided.al2023", "provided.al2"]})).await;
    let layers = |request: Value| {
        let request = serde_json::from_value(request).unwrap();
        let list = world.control.list_layers(&scope(), &request).unwrap();
        let items = list.layers.into_iter();
        let items: Vec<_> =
            items.map(|l| (l.layer_name, l.latest_matching_version.version)).collect();
        (items, list.next_marker)
    };
    let item = |name: &str, version| (name.to_owned(), version);
    assert_eq!(layers(json!({})).0, [item("a", 2), item("b", 1)]);
    let al2 = json!({"CompatibleRuntime": "provided.al2"});
    assert_eq!(layers(al2).0, [item("a", 1), item("b", 1)]);
    assert_eq!(layers(json!({"CompatibleArchitecture": "arm64"})).0, [item("a", 2)]);
    let (first, marker) = layers(json!({"MaxItems": 1}));
    assert_eq!(first, [item("a", 2)]);
    assert_eq!(layers(json!({"Marker": marker})), (vec![item("b", 1)], None));
    let versions = |request: Value| {
        let request = serde_json::from_value(request).unwrap();
        let list = world.control.list_layer_versions(&scope(), &request).unwrap();
        let numbers: Vec<u64> = list.layer_versions.iter().map(|v| v.version).collect();
        (numbers, list.next_marker)
    };
    assert_eq!(versions(json!({"LayerName": "a"})), (vec![2, 1], None));
    let (first, marker) = versions(json!({"LayerName": "a", "MaxItems": 1}));
    assert_eq!(first, [2]);
    assert_eq!(versions(json!({"LayerName": "a", "Marker": marker})), (vec![1], None));
    assert_eq!(versions(json!({"LayerName": "nothing"})), (vec![], None));
}

#[tokio::test]
async fn rules_of_a_functions_layers() {
    let world = World::new().await;
    let one = world.layer("l", &code("1")).await;
    let two = world.layer("l", &code("2")).await;
    let refused = async |layers: Value| {
        let create = world.create_with("f", json!({"Layers": layers})).await.unwrap_err();
        world.create("g").await;
        let update = world.configure("g", json!({"Layers": layers})).await.unwrap_err();
        world.delete("g", None).await.unwrap();
        assert_eq!(create.to_string(), update.to_string());
        assert_eq!(create.kind(), update.kind());
        create
    };
    let twice = "Two different versions of the same layer are not allowed to be referenced in the same function.";
    assert_eq!(
        refused(json!([one, two])).await.to_string(),
        format!("{twice} {one} and {two} are versions of the same layer.")
    );
    assert_eq!(
        refused(json!([one, one])).await.to_string(),
        format!("{twice} {one} and {one} are versions of the same layer.")
    );
    let missing = format!("{ACCOUNT}:layer:nothing:1");
    assert_eq!(
        refused(json!([missing])).await.to_string(),
        format!("Layer version {missing} does not exist.")
    );
    let far = "arn:aws:lambda:us-east-1:123456789012:layer:l:1";
    assert_eq!(
        refused(json!([far])).await.to_string(),
        "Layers are not in the same region as the function. Layers are expected to be in region eu-central-1."
    );
    let no_version = format!("{ACCOUNT}:layer:l");
    assert_eq!(refused(json!([no_version])).await.kind(), ErrorKind::Validation);
    let six: Vec<String> = (0..6).map(|i| format!("{ACCOUNT}:layer:l{i}:1")).collect();
    assert_eq!(refused(json!(six)).await.to_string(), "Cannot reference more than 5 layers.");
    for i in 0..5 {
        world.layer(&format!("l{i}"), &code(&i.to_string())).await;
    }
    world.create_with("f", json!({"Layers": six[..5]})).await.unwrap();
}

#[tokio::test]
async fn later_layers_win_and_the_tree_is_ready_before_the_answer() {
    let world = World::new().await;
    let text = |text: &str| zip(&[("same", text.into()), (text, b"own".to_vec())]);
    let (one, two) = (world.layer("one", &text("1")).await, world.layer("two", &text("2")).await);
    world.create_with("f", json!({"Layers": [one, two]})).await.unwrap();
    let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
    let opt: Vec<_> = std::fs::read_dir(world.dir.path().join("opt")).unwrap().collect();
    assert_eq!(opt.len(), 1);
    let list: Vec<_> = version.layers.iter().map(|layer| layer.code.clone()).collect();
    let merged = world.trees.merge(&list).unwrap();
    assert_eq!(std::fs::read(merged.join("same")).unwrap(), b"2");
    assert!(merged.join("1").is_file() && merged.join("2").is_file());
}

#[tokio::test]
async fn deleted_layer_stays_with_the_functions_that_use_it() {
    let world = World::new().await;
    let arn = world.layer("l", &code("l")).await;
    world.create_with("f", json!({"Layers": [arn]})).await.unwrap();
    delete(&world, "l", 1).await.unwrap();
    let world = world.restart().await;
    let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert_eq!(version.layers[0].code, sha256(&code("l")));
    assert!(world.trees.contains(&version.layers[0].code));
    assert_eq!(world.get("f", None).unwrap().layers[0].arn, arn);
    world.configure("f", json!({"Timeout": 8})).await.unwrap();
    let error = world.create_with("g", json!({"Layers": [arn]})).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Layer version {arn} does not exist."));
}

#[tokio::test]
async fn imported_layer_answers_to_its_public_arn() {
    let world = World::new().await;
    let arn = "arn:aws:lambda:eu-central-1:753240598075:layer:PublicAdapter:27";
    let layer = import(&world, arn, &code("public")).await.unwrap();
    assert_eq!(layer.layer_version_arn, arn);
    assert_eq!(import(&world, arn, &code("public")).await.unwrap(), layer);
    let error = import(&world, arn, &code("other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceConflict);
    world.create_with("f", json!({"Layers": [arn]})).await.unwrap();
    let world = world.restart().await;
    let request = serde_json::from_value(json!({"Arn": arn})).unwrap();
    assert_eq!(world.control.get_layer_version_by_arn(&request).unwrap(), layer);
    let list = world.control.list_layers(&scope(), &serde_json::from_value(json!({})).unwrap());
    assert_eq!(list.unwrap().layers, [], "it is not one of the account's own");
    let error = import(&world, "arn:aws:lambda:eu-central-1:1:layer:x:1", &code("x")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidParameterValue);
    let china = "arn:aws-cn:lambda:cn-north-1:753240598075:layer:PublicAdapter:1";
    import(&world, china, &code("public")).await.unwrap();
    let request = crate::fixture::create_request("f", json!({"Layers": [china]}));
    world.control.create_function(&scope_in("cn-north-1"), request).await.unwrap();
}

#[tokio::test]
async fn functions_with_layers_are_kept_and_not_run_without_walls() {
    let options = Options { without_layers: true, ..Options::default() };
    for (options, refuses) in [(options, true), (Options::default(), false)] {
        let world = World::with(options).await;
        let layer = publish(&world, "l", json!({})).await;
        let layers = json!({"Layers": [layer.layer_version_arn]});
        world.create_with("layered", layers).await.unwrap();
        world.create("plain").await;
        let to_run = |name| world.control.resolve_to_run(&scope(), name, None);
        assert!(to_run("plain").is_ok());
        assert!(world.control.resolve_text(&scope(), "layered", None).is_ok());
        match to_run("layered") {
            Ok(_) => assert!(!refuses),
            Err(error) => {
                assert!(refuses && error.kind() == ErrorKind::InvalidParameterValue, "{error:?}");
                let message = error.message().unwrap();
                assert!(message.starts_with("The function layered cannot run here: it has layers"));
                assert!(message.contains("--isolation namespace"), "{message}");
            }
        }
    }
}
