//! Everything that is stored, in memory: read without a lock, replaced after each commit.

use crate::record::{
    AliasRecord, FunctionRecord, LayerRecord, ProvisionedRecord, PublishedRecord, VersionRecord,
};
use lambfold_types::{
    FunctionName, FunctionVersion, LayerName, ROOTFS_TAG, Scope, Version, limits,
};
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
    /// By name.
    pub(crate) aliases: BTreeMap<String, Arc<Stored<AliasRecord>>>,
    /// By qualifier.
    pub(crate) provisioned: BTreeMap<String, Arc<Stored<ProvisionedRecord>>>,
}

/// A record, and the revision of its stored document.
#[derive(Debug)]
pub(crate) struct Stored<T> {
    pub(crate) record: T,
    pub(crate) stored: u64,
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
        let latest = Arc::new(record.latest.version(scope, name, Version::Latest, &record.tags));
        let (aliases, provisioned) = (BTreeMap::new(), BTreeMap::new());
        Self { record, stored, latest, published: BTreeMap::new(), aliases, provisioned }
    }

    /// The same function with another record, and another `$LATEST` if that has changed.
    pub(crate) fn with(
        &self,
        scope: &Scope,
        name: &FunctionName,
        record: FunctionRecord,
        stored: u64,
    ) -> Self {
        let mut function = self.clone();
        if record.latest.revision != self.record.latest.revision {
            let latest = record.latest.version(scope, name, Version::Latest, &record.tags);
            function.latest = Arc::new(latest);
        }
        function.record = record;
        function.stored = stored;
        function
    }

    /// The same function with other tags; and what it had before of each version that is another
    /// one now, because a tag says how it runs.
    pub(crate) fn with_tags(
        &self,
        scope: &Scope,
        name: &FunctionName,
        record: FunctionRecord,
        stored: u64,
    ) -> (Self, Vec<Arc<FunctionVersion>>) {
        let mut function = Self { record, stored, ..self.clone() };
        let tags = &function.record.tags;
        if tags.get(ROOTFS_TAG) == self.record.tags.get(ROOTFS_TAG) {
            return (function, Vec::new());
        }
        let latest = function.record.latest.version(scope, name, Version::Latest, tags);
        function.latest = Arc::new(latest);
        for (number, was) in &self.published {
            let record = was.record.clone();
            let version = Published::new(scope, name, *number, record, tags, was.stored);
            function.published.insert(*number, Arc::new(version));
        }
        let published = self.published.values().map(|published| published.version.clone());
        let gone = std::iter::once(self.latest.clone()).chain(published).collect();
        (function, gone)
    }

    pub(crate) fn version(&self, version: Version) -> Option<&Arc<FunctionVersion>> {
        match version {
            Version::Latest => Some(&self.latest),
            Version::Published(number) => {
                self.published.get(&number).map(|published| &published.version)
            }
        }
    }

    pub(crate) fn record_of(&self, version: Version) -> Option<&VersionRecord> {
        match version {
            Version::Latest => Some(&self.record.latest),
            Version::Published(number) => {
                self.published.get(&number).map(|published| &published.record.version)
            }
        }
    }

    /// Environments that are provisioned for it.
    pub(crate) fn provisioned_total(&self) -> u32 {
        self.provisioned.values().fold(0, |sum, one| sum.saturating_add(one.record.requested))
    }

    /// What it takes from the account's concurrency, whether it uses it or not.
    pub(crate) fn held(&self) -> u32 {
        self.record.reserved.unwrap_or_else(|| self.provisioned_total())
    }
}

impl Published {
    pub(crate) fn new(
        scope: &Scope,
        name: &FunctionName,
        number: u64,
        record: PublishedRecord,
        tags: &BTreeMap<String, String>,
        stored: u64,
    ) -> Self {
        let version = record.version.version(scope, name, Version::Published(number), tags);
        let version = Arc::new(version);
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
    /// What the account has left of its concurrency when these functions have what they hold.
    pub(crate) fn unreserved<'a>(functions: impl Iterator<Item = &'a Arc<Function>>) -> u32 {
        let held = functions.map(|function| function.held()).fold(0, u32::saturating_add);
        limits::ACCOUNT_CONCURRENCY.saturating_sub(held)
    }

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
