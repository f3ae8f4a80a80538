//! What is stored, as JSON. Fields are only ever added, with defaults.

use lambfold_types::{
    Architecture, Digest, FunctionName, FunctionVersion, LayerUse, LoggingConfig, ROOTFS_TAG,
    RuntimeId, Scope, Version,
};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::BTreeMap;

/// Code and configuration of a function version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) runtime: RuntimeId,
    pub(crate) role: String,
    pub(crate) handler: String,
    pub(crate) code: Digest,
    pub(crate) zip_bytes: u64,
    pub(crate) unpacked_bytes: u64,
    pub(crate) description: String,
    pub(crate) timeout_s: u32,
    pub(crate) memory_mib: u32,
    pub(crate) ephemeral_storage_mib: u32,
    /// `None`: never given, and then absent in answers.
    pub(crate) variables: Option<BTreeMap<String, String>>,
    pub(crate) layers: Vec<LayerUse>,
    pub(crate) architecture: Architecture,
    pub(crate) tracing: String,
    pub(crate) logging: LoggingConfig,
    pub(crate) modified_ms: u64,
    pub(crate) revision: String,
}

impl VersionRecord {
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.code).chain(self.layers.iter().map(|layer| &layer.code))
    }

    /// Equal when publishing would make an equal version.
    pub(crate) fn fingerprint(&self) -> String {
        let bare = Self { modified_ms: 0, revision: String::new(), ..self.clone() };
        let json = serde_json::to_vec(&bare).unwrap_or_default();
        Digest::from_bytes(&sha2::Sha256::digest(json).into()).to_string()
    }

    pub(crate) fn version(
        &self,
        scope: &Scope,
        name: &FunctionName,
        version: Version,
        tags: &BTreeMap<String, String>,
    ) -> FunctionVersion {
        let rootfs = tags.get(ROOTFS_TAG).cloned();
        // Environments of another root file system are others, though AWS sees the same revision.
        let revision = match &rootfs {
            Some(rootfs) => format!("{} {rootfs}", self.revision),
            None => self.revision.clone(),
        };
        FunctionVersion {
            scope: scope.clone(),
            name: name.clone(),
            version,
            revision,
            runtime: self.runtime,
            architecture: self.architecture,
            handler: self.handler.clone(),
            memory_mib: self.memory_mib,
            timeout_s: self.timeout_s,
            ephemeral_storage_mib: self.ephemeral_storage_mib,
            variables: self.variables.clone().unwrap_or_default(),
            code: self.code.clone(),
            layers: self.layers.clone(),
            logging: self.logging.clone(),
            rootfs,
        }
    }
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionRecord {
    pub(crate) latest: VersionRecord,
    pub(crate) tags: BTreeMap<String, String>,
    /// The last version number that was given.
    pub(crate) published: u64,
    /// Concurrent executions that are reserved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reserved: Option<u32>,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AliasRecord {
    pub(crate) version: Version,
    /// Another version, and its share of the invocations, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) additional: Option<(u64, f64)>,
    pub(crate) description: String,
    pub(crate) revision: String,
}

impl AliasRecord {
    /// The version of an invocation that rolled a number from 0 to below 1.
    pub(crate) fn pick(&self, roll: f64) -> Version {
        match self.additional {
            Some((number, weight)) if roll < weight => Version::Published(number),
            _ => self.version,
        }
    }

    pub(crate) fn refers_to(&self, version: Version) -> bool {
        let additional = self.additional.map(|(number, _)| Version::Published(number));
        self.version == version || additional == Some(version)
    }
}

/// Provisioned concurrency of a published version or an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvisionedRecord {
    /// Environments to keep initialised.
    pub(crate) requested: u32,
    pub(crate) modified_ms: u64,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedRecord {
    pub(crate) version: VersionRecord,
    /// Fingerprint of the `$LATEST` that it was made from.
    pub(crate) source: String,
}

/// The last version number of a function that was deleted, or of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CounterRecord {
    pub(crate) published: u64,
}

/// A layer version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) code: Digest,
    pub(crate) zip_bytes: u64,
    pub(crate) unpacked_bytes: u64,
    pub(crate) description: String,
    pub(crate) created_ms: u64,
    pub(crate) runtimes: Vec<String>,
    pub(crate) architectures: Vec<String>,
    pub(crate) license: Option<String>,
}
