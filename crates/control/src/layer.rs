//! Layers: published under a running number, or imported under an ARN of one's choice.

use crate::answer::{
    LayerContent, LayerItem, LayerList, LayerVersion, LayerVersionItem, LayerVersionList,
};
use crate::code::zip;
use crate::control::Control;
use crate::error::ControlError;
use crate::function::{base64_digest, timestamp};
use crate::index::Layer;
use crate::key;
use crate::page::Page;
use crate::record::{CounterRecord, LayerRecord};
use crate::request::{
    GetLayerVersion, GetLayerVersionByArn, ImportLayer, ListLayerVersions, ListLayers,
    PublishLayerVersion,
};
use lambfold_store::{Expected, Write};
use lambfold_types::{LayerName, LayerVersionArn, Scope};
use std::sync::Arc;

/// A layer as requests name it: its name, or its ARN without a version.
fn layer(scope: &Scope, text: &str) -> Result<(Scope, LayerName), ControlError> {
    if text.starts_with("arn:") {
        // With a version behind it, the rules are the same.
        let arn = LayerVersionArn::parse(&format!("{text}:1")).map_err(|error| {
            ControlError::Validation {
                message: format!(
                    "Value '{text}' at 'layerName' failed to satisfy constraint: {}",
                    error.why
                ),
            }
        })?;
        return Ok((arn.scope, arn.name));
    }
    let name = LayerName::parse(text).map_err(|error| ControlError::Validation {
        message: format!(
            "Value '{text}' at 'layerName' failed to satisfy constraint: {}",
            error.why
        ),
    })?;
    Ok((scope.clone(), name))
}

fn number(version: i64) -> Result<u64, ControlError> {
    u64::try_from(version)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| ControlError::invalid("Layer Version Cannot be less than 1"))
}

fn version_arn(text: &str) -> Result<LayerVersionArn, ControlError> {
    LayerVersionArn::parse(text).map_err(|error| ControlError::Validation {
        message: format!("Value '{text}' at 'arn' failed to satisfy constraint: {}", error.why),
    })
}

fn answer(arn: &LayerVersionArn, record: &LayerRecord) -> LayerVersion {
    LayerVersion {
        content: LayerContent {
            location: None,
            code_sha256: base64_digest(&record.code),
            code_size: record.zip_bytes,
            digest: record.code.clone(),
        },
        layer_arn: arn.layer_arn(),
        layer_version_arn: arn.to_string(),
        description: record.description.clone(),
        created_date: timestamp(record.created_ms),
        version: arn.version,
        compatible_runtimes: record.runtimes.clone(),
        license_info: record.license.clone(),
        compatible_architectures: record.architectures.clone(),
    }
}

fn item(arn: &LayerVersionArn, record: &LayerRecord) -> LayerVersionItem {
    LayerVersionItem {
        layer_version_arn: arn.to_string(),
        version: arn.version,
        description: record.description.clone(),
        created_date: timestamp(record.created_ms),
        compatible_runtimes: record.runtimes.clone(),
        license_info: record.license.clone(),
        compatible_architectures: record.architectures.clone(),
    }
}

/// Filters of lists.
struct Fits<'a> {
    runtime: Option<&'a str>,
    architecture: Option<&'a str>,
}

impl Fits<'_> {
    fn fits(&self, record: &LayerRecord) -> bool {
        let has = |list: &[String], wanted: Option<&str>| {
            wanted.is_none_or(|wanted| list.iter().any(|one| one == wanted))
        };
        has(&record.runtimes, self.runtime) && has(&record.architectures, self.architecture)
    }
}

impl Control {
    /// Publishes the next version of a layer.
    ///
    /// # Errors
    /// When the zip is refused, or the disk fails.
    pub async fn publish_layer_version(
        &self,
        scope: &Scope,
        request: PublishLayerVersion,
    ) -> Result<LayerVersion, ControlError> {
        let (owner, name) = layer(scope, &request.layer_name)?;
        if owner != *scope {
            return Err(ControlError::OtherAccount { account: owner.account.to_string() });
        }
        let zip = zip(request.content)?;
        let control = self.clone();
        self.detached(async move {
            let _intake = control.0.intake.read().await;
            let code = control.take_in(&owner, zip).await?;
            let record = LayerRecord {
                code: code.digest,
                zip_bytes: code.zip_bytes,
                unpacked_bytes: code.unpacked_bytes,
                description: request.description.unwrap_or_default(),
                created_ms: control.now_ms(),
                runtimes: request.compatible_runtimes.unwrap_or_default(),
                architectures: request.compatible_architectures.unwrap_or_default(),
                license: request.license_info,
            };
            let _lock = control.lock(&owner, name.as_str()).await;
            let was = control.index().layer(&owner, &name).cloned().unwrap_or_default();
            let version = was.published + 1;
            control.put_layer(LayerVersionArn { scope: owner, name, version }, &was, record).await
        })
        .await
    }

    /// Stores a layer version under a whole ARN, of whatever account and region, so that
    /// functions which name a public layer find it. The same content again is no error.
    ///
    /// # Errors
    /// When the ARN exists with other content, the zip is refused, or the disk fails.
    pub async fn import_layer(&self, request: ImportLayer) -> Result<LayerVersion, ControlError> {
        let arn = LayerVersionArn::parse(&request.alias_arn)
            .map_err(|error| ControlError::invalid(error.to_string()))?;
        let zip = zip(request.content)?;
        let control = self.clone();
        self.detached(async move {
            let _intake = control.0.intake.read().await;
            let code = control.take_in(&arn.scope, zip).await?;
            let record = LayerRecord {
                code: code.digest,
                zip_bytes: code.zip_bytes,
                unpacked_bytes: code.unpacked_bytes,
                description: request.description.unwrap_or_default(),
                created_ms: control.now_ms(),
                runtimes: request.compatible_runtimes.unwrap_or_default(),
                architectures: request.compatible_architectures.unwrap_or_default(),
                license: request.license_info,
            };
            let _lock = control.lock(&arn.scope, arn.name.as_str()).await;
            let was = control.index().layer(&arn.scope, &arn.name).cloned().unwrap_or_default();
            match was.versions.get(&arn.version) {
                Some(existing) if existing.code == record.code => Ok(answer(&arn, existing)),
                Some(_) => Err(ControlError::LayerVersionExists { arn: arn.to_string() }),
                None => control.put_layer(arn, &was, record).await,
            }
        })
        .await
    }

    /// Stores a new layer version. The caller holds the name's lock.
    async fn put_layer(
        &self,
        arn: LayerVersionArn,
        was: &Layer,
        record: LayerRecord,
    ) -> Result<LayerVersion, ControlError> {
        let published = was.published.max(arn.version);
        let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
        let writes = vec![
            Write::Put {
                key: key::layer(&arn.scope, &arn.name),
                value: json(serde_json::to_vec(&CounterRecord { published })),
                expected: was.stored.map_or(Expected::Absent, Expected::Revision),
            },
            Write::Put {
                key: key::layer_version(&arn.scope, &arn.name, arn.version),
                value: json(serde_json::to_vec(&record)),
                expected: Expected::Absent,
            },
        ];
        let revisions = self.0.store.commit(writes).await?;
        let mut entry = was.clone();
        entry.published = published;
        entry.stored = revisions.first().copied();
        let answer = answer(&arn, &record);
        entry.versions.insert(arn.version, Arc::new(record));
        self.change(&arn.scope, |region| {
            region.layers.insert(arn.name.clone(), Arc::new(entry));
        });
        Ok(answer)
    }

    fn layer_version(&self, arn: &LayerVersionArn) -> Result<LayerVersion, ControlError> {
        let index = self.index();
        index
            .layer(&arn.scope, &arn.name)
            .and_then(|layer| layer.versions.get(&arn.version))
            .map(|record| answer(arn, record))
            .ok_or(ControlError::ResourceNotFound)
    }

    /// A layer version.
    ///
    /// # Errors
    /// When there is none.
    pub fn get_layer_version(
        &self,
        scope: &Scope,
        request: &GetLayerVersion,
    ) -> Result<LayerVersion, ControlError> {
        let version = number(request.version_number)?;
        let (scope, name) = layer(scope, &request.layer_name)?;
        self.layer_version(&LayerVersionArn { scope, name, version })
    }

    /// A layer version by its whole ARN.
    ///
    /// # Errors
    /// When there is none.
    pub fn get_layer_version_by_arn(
        &self,
        request: &GetLayerVersionByArn,
    ) -> Result<LayerVersion, ControlError> {
        self.layer_version(&version_arn(&request.arn)?)
    }

    /// Layers of a region by name, each with its newest version that passes the filters.
    ///
    /// # Errors
    /// When the marker is not one of ours.
    pub fn list_layers(
        &self,
        scope: &Scope,
        request: &ListLayers,
    ) -> Result<LayerList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let fits = Fits {
            runtime: request.compatible_runtime.as_deref(),
            architecture: request.compatible_architecture.as_deref(),
        };
        let index = self.index();
        let layers = index.scopes.get(scope).map(|region| region.layers.iter());
        let items = layers.into_iter().flatten().filter_map(|(name, layer)| {
            let (version, record) =
                layer.versions.iter().rev().find(|(_, record)| fits.fits(record))?;
            let arn =
                LayerVersionArn { scope: scope.clone(), name: name.clone(), version: *version };
            let item = LayerItem {
                layer_name: name.to_string(),
                layer_arn: arn.layer_arn(),
                latest_matching_version: item(&arn, record),
            };
            Some((name.as_str().as_bytes().to_vec(), item))
        });
        let (layers, next_marker) = page.take(items);
        Ok(LayerList { next_marker, layers })
    }

    /// Versions of a layer, the newest first; none when there is no such layer.
    ///
    /// # Errors
    /// When the marker is not one of ours.
    pub fn list_layer_versions(
        &self,
        scope: &Scope,
        request: &ListLayerVersions,
    ) -> Result<LayerVersionList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let (scope, name) = layer(scope, &request.layer_name)?;
        let fits = Fits {
            runtime: request.compatible_runtime.as_deref(),
            architecture: request.compatible_architecture.as_deref(),
        };
        let index = self.index();
        let versions = index.layer(&scope, &name).map(|layer| layer.versions.iter().rev());
        let items = versions.into_iter().flatten().filter(|(_, record)| fits.fits(record)).map(
            |(version, record)| {
                let arn =
                    LayerVersionArn { scope: scope.clone(), name: name.clone(), version: *version };
                // The newest comes first, so markers grow as numbers fall.
                ((u64::MAX - version).to_be_bytes().to_vec(), item(&arn, record))
            },
        );
        let (layer_versions, next_marker) = page.take(items);
        Ok(LayerVersionList { next_marker, layer_versions })
    }

    /// Deletes a layer version; a missing one is no error. Functions that use it keep it.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn delete_layer_version(
        &self,
        scope: &Scope,
        request: &GetLayerVersion,
    ) -> Result<(), ControlError> {
        let version = number(request.version_number)?;
        let (scope, name) = layer(scope, &request.layer_name)?;
        let control = self.clone();
        self.detached(async move {
            let _lock = control.lock(&scope, name.as_str()).await;
            let index = control.index();
            let Some(was) = index.layer(&scope, &name) else { return Ok(()) };
            if !was.versions.contains_key(&version) {
                return Ok(());
            }
            let key = key::layer_version(&scope, &name, version);
            let write = Write::Delete { key, expected: Expected::Any };
            control.0.store.commit(vec![write]).await?;
            let mut entry = Layer::clone(was);
            entry.versions.remove(&version);
            control.change(&scope, |region| {
                region.layers.insert(name.clone(), Arc::new(entry));
            });
            Ok(())
        })
        .await
    }
}
