//! Everything that is stored, in memory: read without a lock, replaced after each commit.

use crate::record::{FunctionRecord, LayerRecord, PublishedRecord};
use lambfold_types::{FunctionName, FunctionVersion, LayerName, Scope, Version};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// By account and region. Cloning copies pointers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) scopes: HashMap<Scope, Arc<Region>>,
}

/// What one account has in one region. Cloning copies pointers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Region {
    pub(crate) functions: BTreeMap<FunctionName, Arc<Function>>,
    pub(crate) layers: BTreeMap<LayerName, Arc<Layer>>,
}

/// A function with all its versions.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) record: FunctionRecord,
    /// Of the stored document.
    pub(crate) stored: u64,
    pub(crate) latest: Arc<FunctionVersion>,
    pub(crate) published: BTreeMap<u64, Arc<Published>>,
}

/// A published version.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) record: PublishedRecord,
    /// Of the stored document.
    pub(crate) stored: u64,
    pub(crate) version: Arc<FunctionVersion>,
}

/// A layer with all its versions that exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer {
    /// The last version number that was given.
    pub(crate) published: u64,
    /// Of the stored document with that number; `None`: there is none yet.
    pub(crate) stored: Option<u64>,
    pub(crate) versions: BTreeMap<u64, Arc<LayerRecord>>,
}

impl Function {
    pub(crate) fn new(
        scope: &Scope,
        name: &FunctionName,
        record: FunctionRecord,
        stored: u64,
    ) -> Self {
        let latest = Arc::new(record.latest.version(scope, name, Version::Latest));
        Self { record, stored, latest, published: BTreeMap::new() }
    }
}

impl Published {
    pub(crate) fn new(
        scope: &Scope,
        name: &FunctionName,
        number: u64,
        record: PublishedRecord,
        stored: u64,
    ) -> Self {
        let version = Arc::new(record.version.version(scope, name, Version::Published(number)));
        Self { record, stored, version }
    }
}

impl Index {
    pub(crate) fn function(&self, scope: &Scope, name: &FunctionName) -> Option<&Arc<Function>> {
        self.scopes.get(scope)?.functions.get(name)
    }

    pub(crate) fn layer(&self, scope: &Scope, name: &LayerName) -> Option<&Arc<Layer>> {
        self.scopes.get(scope)?.layers.get(name)
    }

    /// The region, made if it is not there, alone in this index.
    pub(crate) fn region_mut(&mut self, scope: &Scope) -> &mut Region {
        Arc::make_mut(self.scopes.entry(scope.clone()).or_default())
    }

    pub(crate) fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.scopes.values().flat_map(|region| region.functions.values())
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.scopes.values().flat_map(|region| region.layers.values())
    }
}

impl Region {
    /// Bytes of all zips, counted once a version as AWS does.
    pub(crate) fn code_bytes(&self) -> u64 {
        let functions = self.functions.values().map(|function| {
            let published: u64 =
                function.published.values().map(|p| p.record.version.zip_bytes).sum();
            function.record.latest.zip_bytes + published
        });
        let layers = self
            .layers
            .values()
            .map(|layer| layer.versions.values().map(|version| version.zip_bytes).sum::<u64>());
        functions.sum::<u64>() + layers.sum::<u64>()
    }
}
