//! What functions reserve and provision, for whoever holds execution environments.

use crate::control::Control;
use crate::index::Function;
use lambfold_types::{FunctionName, FunctionVersion, Scope, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The concurrency of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrencyPlan {
    /// Account and region.
    pub scope: Scope,
    /// The function.
    pub name: FunctionName,
    /// For all its versions together; `None`: they share what the account has.
    pub reserved: Option<u32>,
    /// Environments to keep initialised, each version once.
    pub provisioned: Vec<(Arc<FunctionVersion>, u32)>,
}

/// How many environments of a version are initialised for provisioned concurrency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionAllocation {
    /// The version.
    pub version: Version,
    /// Initialised now, also those that stay only until others have taken their place.
    pub allocated: u32,
    /// Why there will be no more.
    pub failure: Option<AllocationFailure>,
}

/// Why provisioned environments are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllocationFailure {
    /// The function's init phase fails.
    Init,
    /// This machine's reason, in words.
    Host(String),
}

/// Makes plans come true, and knows how far they are.
pub trait Allocator: Send + Sync + 'static {
    /// The function's concurrency from now on. Returns at once.
    fn apply(&self, plan: ConcurrencyPlan);

    /// How far the last plan is; versions that are not in it may be among the answer.
    fn allocations(&self, scope: &Scope, name: &FunctionName) -> Vec<VersionAllocation>;
}

impl Control {
    /// Names who makes plans come true, once; what is stored is planned at once.
    pub fn set_allocator(&self, allocator: Arc<dyn Allocator>) {
        if self.0.allocator.set(allocator).is_err() {
            tracing::error!("there is an allocator already; it stays");
            return;
        }
        for (scope, region) in &self.index().scopes {
            for (name, function) in &region.functions {
                if function.record.reserved.is_some() || !function.provisioned.is_empty() {
                    self.allocate(scope, name);
                }
            }
        }
    }

    /// Tells what a function's concurrency is now, after it has changed; the caller holds the
    /// name's lock.
    pub(crate) fn allocate(&self, scope: &Scope, name: &FunctionName) {
        let Some(allocator) = self.0.allocator.get() else { return };
        let index = self.index();
        let function = index.function(scope, name);
        let reserved = function.and_then(|function| function.record.reserved);
        let mut by_version = BTreeMap::new();
        for (qualifier, provisioned) in function.iter().flat_map(|f| &f.provisioned) {
            for (version, count) in shares(function, qualifier, provisioned.record.requested) {
                *by_version.entry(version).or_insert(0) += count;
            }
        }
        let version = |version| function.and_then(|function| function.version(version).cloned());
        let provisioned =
            by_version.into_iter().filter_map(|(v, count)| Some((version(v)?, count))).collect();
        let (scope, name) = (scope.clone(), name.clone());
        allocator.apply(ConcurrencyPlan { scope, name, reserved, provisioned });
    }
}

/// How provisioned concurrency of a qualifier is divided: by the weights of an alias.
pub(crate) fn shares(
    function: Option<&Arc<Function>>,
    qualifier: &str,
    requested: u32,
) -> Vec<(Version, u32)> {
    let Some(function) = function else { return Vec::new() };
    if let Some(alias) = function.aliases.get(qualifier) {
        let Some((number, weight)) = alias.record.additional else {
            return vec![(alias.record.version, requested)];
        };
        // A weight is at most 1: the share is at most what was requested.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let share = (f64::from(requested) * weight).round() as u32;
        let share = share.min(requested);
        return vec![
            (alias.record.version, requested - share),
            (Version::Published(number), share),
        ];
    }
    match qualifier.parse() {
        Ok(number) => vec![(Version::Published(number), requested)],
        Err(_) => Vec::new(),
    }
}
