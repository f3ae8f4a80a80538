//! A control plane in a temporary folder, and requests as a gateway would make them.

use base64::Engine as _;
use lambfold_control::answer::FunctionConfiguration;
use lambfold_control::{Control, ControlError, Options};
use lambfold_package::{Trees, pack};
use lambfold_store::Store;
use lambfold_types::{AccountId, Architecture, Digest, FunctionName, ManualClock, Region, Scope};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// 2026-01-02T03:04:05.678Z
pub(crate) const NOW_MS: u64 = 1_767_323_045_678;

pub(crate) struct World {
    pub(crate) control: Control,
    pub(crate) store: Store,
    pub(crate) trees: Arc<Trees>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: TempDir,
}

pub(crate) fn scope_in(region: &str) -> Scope {
    Scope {
        account: AccountId::parse("123456789012").unwrap(),
        region: Region::parse(region).unwrap(),
    }
}

pub(crate) fn scope() -> Scope {
    scope_in("eu-central-1")
}

pub(crate) fn name(text: &str) -> FunctionName {
    FunctionName::parse(text).unwrap()
}

pub(crate) async fn open(dir: &Path, options: Options) -> (Control, Store, Arc<Trees>) {
    let store = Store::open(dir).unwrap();
    let trees = Arc::new(Trees::open(dir, lambfold_package::Options::default()).unwrap());
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let control = Control::open(store.clone(), trees.clone(), clock, options).await.unwrap();
    (control, store, trees)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(dir, options).await
    }

    async fn at(dir: TempDir, options: Options) -> Self {
        let store = Store::open(dir.path()).unwrap();
        let trees =
            Arc::new(Trees::open(dir.path(), lambfold_package::Options::default()).unwrap());
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let control =
            Control::open(store.clone(), trees.clone(), clock.clone(), options).await.unwrap();
        Self { control, store, trees, clock, dir }
    }

    /// The same folder, as the next start of the server finds it.
    pub(crate) async fn restart(self) -> Self {
        let Self { control, store, trees, dir, .. } = self;
        drop((control, store, trees));
        Self::at(dir, Options::default()).await
    }

    pub(crate) async fn create(&self, name: &str) -> FunctionConfiguration {
        self.create_with(name, json!({})).await.unwrap()
    }

    /// CreateFunction, with more members over the usual ones.
    pub(crate) async fn create_with(
        &self,
        name: &str,
        more: Value,
    ) -> Result<FunctionConfiguration, ControlError> {
        let request = create_request(name, more);
        self.control.create_function(&scope(), request).await
    }

    pub(crate) async fn update_code(
        &self,
        name: &str,
        zip: &[u8],
        more: Value,
    ) -> Result<FunctionConfiguration, ControlError> {
        let request = merge(json!({"FunctionName": name, "ZipFile": base64(zip)}), more);
        self.control.update_function_code(&scope(), serde_json::from_value(request).unwrap()).await
    }

    pub(crate) async fn configure(
        &self,
        name: &str,
        more: Value,
    ) -> Result<FunctionConfiguration, ControlError> {
        let request = merge(json!({"FunctionName": name}), more);
        self.control
            .update_function_configuration(&scope(), serde_json::from_value(request).unwrap())
            .await
    }

    pub(crate) fn get(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<FunctionConfiguration, ControlError> {
        let request = json!({"FunctionName": name, "Qualifier": qualifier});
        self.control.get_function_configuration(&scope(), &serde_json::from_value(request).unwrap())
    }

    pub(crate) async fn publish(
        &self,
        name: &str,
        more: Value,
    ) -> Result<FunctionConfiguration, ControlError> {
        let request = merge(json!({"FunctionName": name}), more);
        self.control.publish_version(&scope(), serde_json::from_value(request).unwrap()).await
    }

    pub(crate) async fn delete(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<(), ControlError> {
        let request = json!({"FunctionName": name, "Qualifier": qualifier});
        self.control.delete_function(&scope(), serde_json::from_value(request).unwrap()).await
    }

    pub(crate) async fn layer(&self, layer: &str, zip: &[u8]) -> String {
        let request = json!({"LayerName": layer, "Content": {"ZipFile": base64(zip)}});
        let request = serde_json::from_value(request).unwrap();
        self.control.publish_layer_version(&scope(), request).await.unwrap().layer_version_arn
    }

    pub(crate) async fn blobs(&self) -> Vec<Digest> {
        let mut blobs = self.store.list_blobs().await.unwrap();
        blobs.sort();
        blobs
    }
}

pub(crate) fn create_request<T: serde::de::DeserializeOwned>(name: &str, more: Value) -> T {
    let usual = json!({
        "FunctionName": name,
        "Runtime": "provided.al2023",
        "Role": "arn:aws:iam::123456789012:role/lambda",
        "Handler": "function.handler",
        "Code": {"ZipFile": base64(&code(name))},
    });
    serde_json::from_value(merge(usual, more)).unwrap()
}

/// Members of `more` over those of `base`.
fn merge(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}") };
    base.as_object_mut().unwrap().extend(more);
    base
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(&sha2::Sha256::digest(bytes).into())
}

/// A zip with a bootstrap that says `word`.
pub(crate) fn code(word: &str) -> Vec<u8> {
    zip(&[("bootstrap", format!("#!/bin/sh\necho {word}\n").into_bytes())])
}

/// A zip with these files; `bootstrap` is executable.
pub(crate) fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        let mode = if *name == "bootstrap" { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = dir.path().join("out.zip");
    let mut out = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    pack(&folder, &mut out, Architecture::X86_64).unwrap();
    fs::read(&path).unwrap()
}
