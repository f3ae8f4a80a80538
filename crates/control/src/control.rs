use crate::error::ControlError;
use crate::index::{Function, Index, Layer, Published, Region, Stored};
use crate::key::{self, Key};
use crate::plan::Allocator;
use crate::record::{
    AliasRecord, CounterRecord, FunctionRecord, LayerRecord, ProvisionedRecord, PublishedRecord,
};
use arc_swap::ArcSwap;
use lambfold_package::Trees;
use lambfold_store::{Document, Store, StoreError};
use lambfold_types::{Clock, FunctionName, FunctionVersion, Qualifier, Scope, Version};
use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Locks of names; two names share one now and then, which costs a wait and nothing else.
const LOCKS: usize = 64;
/// Documents read at once when the index is loaded.
const SCAN: usize = 500;

/// How the control plane behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse what AWS refuses today, where it is kinder by default: the retired runtime
    /// `provided`.
    pub strict: bool,
    /// Functions with layers are kept, and not run: there is no `/opt` for them here.
    pub without_layers: bool,
    /// Root file systems that the tag [`lambfold_types::ROOTFS_TAG`] may name.
    pub rootfs: BTreeSet<String>,
}

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error("cannot read the stored functions")]
    Store(#[from] StoreError),
    /// A document makes no sense.
    #[error("stored document {key:?} is damaged; restore the data folder from a copy")]
    Damaged {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

type Listener = Arc<dyn Fn(&Arc<FunctionVersion>) + Send + Sync>;

/// The control plane. Clones share it.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) trees: Arc<Trees>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    index: ArcSwap<Index>,
    index_writer: Mutex<()>,
    listeners: Mutex<Vec<Listener>>,
    pub(crate) allocator: OnceLock<Arc<dyn Allocator>>,
    locks: [tokio::sync::Mutex<()>; LOCKS],
    /// Held, before the name's lock, by changes that are checked against what all functions
    /// together hold of the account's concurrency.
    pub(crate) concurrency: tokio::sync::Mutex<()>,
    hasher: RandomState,
    /// Held for reading from the moment a zip is stored until a document names it; held for
    /// writing while what nobody names is collected.
    pub(crate) intake: tokio::sync::RwLock<()>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("dir", &self.0.store.dir()).finish_non_exhaustive()
    }
}

impl Control {
    /// Reads everything that is stored, collects blobs and trees that nothing names, and makes
    /// trees anew whose zip is there and which are not.
    ///
    /// # Errors
    /// When the store cannot be read or holds a damaged document.
    pub async fn open(
        store: Store,
        trees: Arc<Trees>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let index = load(&store).await?;
        let control = Self(Arc::new(Inner {
            store,
            trees,
            clock,
            options,
            index: ArcSwap::from_pointee(index),
            index_writer: Mutex::new(()),
            listeners: Mutex::new(Vec::new()),
            allocator: OnceLock::new(),
            locks: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            concurrency: tokio::sync::Mutex::new(()),
            hasher: RandomState::new(),
            intake: tokio::sync::RwLock::new(()),
        }));
        control.mend().await;
        if let Err(error) = control.collect_garbage(std::time::Duration::ZERO).await {
            tracing::warn!(error = %error, cause = ?error, "cannot collect blobs and trees that nothing names");
        }
        Ok(control)
    }

    /// Finds the version that a name and a qualifier mean; without a qualifier, `$LATEST`. For
    /// an alias of two versions, each call picks one by their weights. Touches no disk and takes
    /// no lock.
    ///
    /// # Errors
    /// [`ControlError::FunctionNotFound`] when there is none.
    pub fn resolve(
        &self,
        scope: &Scope,
        name: &FunctionName,
        qualifier: Option<&Qualifier>,
    ) -> Result<Arc<FunctionVersion>, ControlError> {
        let latest = Qualifier::Version(Version::Latest);
        let qualifier = qualifier.unwrap_or(&latest);
        let found = match qualifier {
            Qualifier::Version(version) => self.find(scope, name, *version),
            Qualifier::Alias(alias) => self.find_alias(scope, name, alias),
        };
        found.ok_or_else(|| ControlError::FunctionNotFound {
            arn: format!("{}function:{name}:{qualifier}", scope.arn_prefix()),
        })
    }

    pub(crate) fn find(
        &self,
        scope: &Scope,
        name: &FunctionName,
        version: Version,
    ) -> Option<Arc<FunctionVersion>> {
        let index = self.0.index.load();
        index.function(scope, name)?.version(version).cloned()
    }

    /// Picks one of the alias's versions.
    pub(crate) fn find_alias(
        &self,
        scope: &Scope,
        name: &FunctionName,
        alias: &str,
    ) -> Option<Arc<FunctionVersion>> {
        let index = self.0.index.load();
        let function = index.function(scope, name)?;
        let version = function.aliases.get(alias)?.record.pick(fastrand::f64());
        function.version(version).cloned()
    }

    /// Calls `listener` whenever a revision is gone (replaced or deleted), after the change is
    /// durable and [`Control::resolve`] no longer gives it. It must return soon.
    pub fn on_gone(&self, listener: impl Fn(&Arc<FunctionVersion>) + Send + Sync + 'static) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(listener));
    }

    pub(crate) fn gone(&self, versions: &[Arc<FunctionVersion>]) {
        let listeners: Vec<Listener> =
            self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for version in versions {
            listeners.iter().for_each(|listener| listener(version));
        }
    }

    /// Everything as of now.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.0.index.load_full()
    }

    /// Changes what is seen, after it is durable.
    pub(crate) fn change(&self, scope: &Scope, change: impl FnOnce(&mut Region)) {
        let _writer = self.0.index_writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = Index::clone(&self.0.index.load());
        change(index.region_mut(scope));
        self.0.index.store(Arc::new(index));
    }

    /// One change of a name at a time.
    pub(crate) async fn lock(&self, scope: &Scope, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = self.0.hasher.hash_one((scope, name));
        let slot = usize::try_from(hash % LOCKS as u64).unwrap_or_default();
        self.0.locks[slot].lock().await
    }

    /// Runs a change to its end even when the caller goes away, so that what is stored and
    /// what is seen never differ.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Result<T, ControlError> {
        tokio::spawn(work).await.unwrap_or(Err(ControlError::Interrupted))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.clock.epoch_ms()
    }
}

fn read<T: serde::de::DeserializeOwned>(key: &str, document: &Document) -> Result<T, OpenError> {
    serde_json::from_slice(&document.value)
        .map_err(|source| OpenError::Damaged { key: key.to_owned(), source })
}

async fn load(store: &Store) -> Result<Index, OpenError> {
    let mut index = Index::default();
    // "function" sorts before "function-version", but not before another scope's: collect.
    let mut published = Vec::new();
    let mut aliases = Vec::new();
    let mut provisioned = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let documents = store.scan("", after.as_deref(), SCAN).await?;
        let Some((last, _)) = documents.last() else { break };
        after = Some(last.clone());
        for (key, document) in &documents {
            match key::parse(key) {
                Some(Key::Function(scope, name)) => {
                    let record: FunctionRecord = read(key, document)?;
                    let function = Function::new(&scope, &name, record, document.revision);
                    index.region_mut(&scope).functions.insert(name, Arc::new(function));
                }
                Some(Key::Version(scope, name, number)) => {
                    let record: PublishedRecord = read(key, document)?;
                    published.push((scope, name, number, record, document.revision));
                }
                Some(Key::Alias(scope, name, alias)) => {
                    let record: AliasRecord = read(key, document)?;
                    let stored = document.revision;
                    aliases.push((scope, name, alias, Arc::new(Stored { record, stored })));
                }
                Some(Key::Provisioned(scope, name, qualifier)) => {
                    let record: ProvisionedRecord = read(key, document)?;
                    let stored = document.revision;
                    provisioned.push((scope, name, qualifier, Arc::new(Stored { record, stored })));
                }
                Some(Key::Layer(scope, name)) => {
                    let record: CounterRecord = read(key, document)?;
                    let layer = index.region_mut(&scope).layers.entry(name).or_default();
                    let layer: &mut Layer = Arc::make_mut(layer);
                    layer.published = record.published;
                    layer.stored = Some(document.revision);
                }
                Some(Key::LayerVersion(scope, name, number)) => {
                    let record: LayerRecord = read(key, document)?;
                    let layer = index.region_mut(&scope).layers.entry(name).or_default();
                    Arc::make_mut(layer).versions.insert(number, Arc::new(record));
                }
                Some(Key::Gone) | None => {}
            }
        }
    }
    for (scope, name, number, record, stored) in published {
        if let Some(function) = index.region_mut(&scope).functions.get_mut(&name) {
            let tags = &function.record.tags;
            let version = Published::new(&scope, &name, number, record, tags, stored);
            Arc::make_mut(function).published.insert(number, Arc::new(version));
        }
    }
    for (scope, name, alias, record) in aliases {
        if let Some(function) = index.region_mut(&scope).functions.get_mut(&name) {
            Arc::make_mut(function).aliases.insert(alias, record);
        }
    }
    for (scope, name, qualifier, record) in provisioned {
        if let Some(function) = index.region_mut(&scope).functions.get_mut(&name) {
            Arc::make_mut(function).provisioned.insert(qualifier, record);
        }
    }
    Ok(index)
}
