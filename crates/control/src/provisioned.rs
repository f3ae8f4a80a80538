//! Provisioned concurrency of published versions and aliases.

use crate::answer::{
    ProvisionedConcurrency, ProvisionedConcurrencyItem, ProvisionedConcurrencyList,
};
use crate::control::Control;
use crate::error::ControlError;
use crate::index::{Function, Stored};
use crate::key;
use crate::page::Page;
use crate::plan::{AllocationFailure, shares};
use crate::record::ProvisionedRecord;
use crate::request::{
    GetProvisionedConcurrency, ListProvisionedConcurrency, PutProvisionedConcurrency,
};
use crate::target::{Suffix, Target};
use lambfold_store::{Expected, Write};
use lambfold_types::{FunctionName, Scope, Version, limits};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;
use time::macros::format_description;

pub(crate) const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";

/// A version or alias that exists and can be provisioned.
struct Subject {
    name: FunctionName,
    qualifier: String,
    function: Arc<Function>,
}

/// How far the provisioned concurrency of a qualifier is.
#[derive(Debug, Default)]
struct Progress {
    /// Environments of its own versions.
    ready: u32,
    /// Environments of versions that it meant before.
    leaving: u32,
    failure: Option<AllocationFailure>,
}

/// As AWS writes times here: without milliseconds.
fn seconds(epoch_ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+0000");
    let seconds = i64::try_from(epoch_ms / 1_000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(format).ok()).unwrap_or_default()
}

fn answer(record: &ProvisionedRecord, progress: &Progress) -> ProvisionedConcurrency {
    let requested = record.requested;
    let (status, status_reason) = match &progress.failure {
        _ if progress.ready >= requested => ("READY", None),
        None => ("IN_PROGRESS", None),
        Some(AllocationFailure::Init) => ("FAILED", Some("FUNCTION_ERROR_INIT_FAILURE".to_owned())),
        Some(AllocationFailure::Host(why)) => ("FAILED", Some(why.clone())),
    };
    let allocated = progress.ready.saturating_add(progress.leaving).min(requested);
    ProvisionedConcurrency {
        requested_provisioned_concurrent_executions: requested,
        available_provisioned_concurrent_executions: allocated,
        allocated_provisioned_concurrent_executions: allocated,
        status,
        status_reason,
        last_modified: seconds(record.modified_ms),
    }
}

impl Control {
    /// `latest`: what AWS says of `$LATEST`.
    fn subject(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: &str,
        latest: &str,
    ) -> Result<Subject, ControlError> {
        let target = Target::parse(scope, function, Some(qualifier))?;
        let suffix = target.suffix();
        if matches!(suffix, None | Some(Suffix::Latest)) {
            return Err(ControlError::invalid(latest));
        }
        let not_found = || match &suffix {
            Some(Suffix::Number(_)) => target.not_found(),
            _ => {
                ControlError::AliasNotFound { wording: "Cannot find alias arn", arn: target.arn() }
            }
        };
        let name = target.name().ok_or_else(not_found)?;
        let function = self.index().function(scope, &name).ok_or_else(not_found)?.clone();
        let (exists, qualifier) = match &suffix {
            Some(Suffix::Number(number)) => {
                (function.published.contains_key(number), number.to_string())
            }
            _ => (function.aliases.contains_key(qualifier), qualifier.to_owned()),
        };
        if !exists {
            return Err(not_found());
        }
        Ok(Subject { name, qualifier, function })
    }

    /// Keeps so many environments of a version or alias initialised. They are made behind the
    /// answer.
    ///
    /// # Errors
    /// When there is no such version or alias, it cannot be provisioned, too little would be
    /// left for the account or the function, or the disk fails.
    pub async fn put_provisioned_concurrency(
        &self,
        scope: &Scope,
        request: PutProvisionedConcurrency,
    ) -> Result<ProvisionedConcurrency, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.provision(&scope, &request).await }).await
    }

    async fn provision(
        &self,
        scope: &Scope,
        request: &PutProvisionedConcurrency,
    ) -> Result<ProvisionedConcurrency, ControlError> {
        let find = || self.subject(scope, &request.function_name, &request.qualifier, UNPUBLISHED);
        let name = find()?.name;
        let _sum = self.0.concurrency.lock().await;
        let _lock = self.lock(scope, name.as_str()).await;
        let Subject { name, qualifier, function } = find()?;
        let requested =
            u32::try_from(request.provisioned_concurrent_executions).unwrap_or(u32::MAX);
        check_target(&function, &qualifier)?;
        self.check_sum(scope, &name, &function, &qualifier, requested)?;
        let was = function.provisioned.get(&qualifier);
        let record = ProvisionedRecord { requested, modified_ms: self.now_ms() };
        let write = Write::Put {
            key: key::provisioned(scope, &name, &qualifier),
            value: serde_json::to_vec(&record).unwrap_or_default(),
            expected: was.map_or(Expected::Absent, |was| Expected::Revision(was.stored)),
        };
        let revisions = self.0.store.commit(vec![write]).await?;
        let stored = revisions.first().copied().unwrap_or_default();
        let record = Arc::new(Stored { record, stored });
        self.change_function(scope, &name, |function| {
            function.provisioned.insert(qualifier.clone(), record.clone());
        });
        self.allocate(scope, &name);
        let index = self.index();
        let function = index.function(scope, &name).unwrap_or(&function);
        let progress = self.progress(scope, &name, function).remove(&qualifier);
        let answer = answer(&record.record, &progress.unwrap_or_default());
        // What is ready already is told by the next question.
        Ok(ProvisionedConcurrency { status: "IN_PROGRESS", status_reason: None, ..answer })
    }

    fn check_sum(
        &self,
        scope: &Scope,
        name: &FunctionName,
        function: &Function,
        qualifier: &str,
        requested: u32,
    ) -> Result<(), ControlError> {
        let others = function.provisioned.iter().filter(|(other, _)| *other != qualifier);
        let others = others.fold(0, |sum: u32, (_, p)| sum.saturating_add(p.record.requested));
        if let Some(reserved) = function.record.reserved {
            if others.saturating_add(requested) > reserved {
                return Err(ControlError::invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
                ));
            }
            return Ok(());
        }
        let left = self.unreserved_beside(scope, name).saturating_sub(others);
        let minimum = limits::UNRESERVED_CONCURRENCY_MIN;
        if requested > left {
            return Err(ControlError::untyped(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
            )));
        }
        if left - requested < minimum {
            return Err(ControlError::untyped(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{minimum}]."
            )));
        }
        Ok(())
    }

    /// How far the provisioned concurrency of a version or alias is.
    ///
    /// # Errors
    /// When there is no such version or alias, or nothing is provisioned for it.
    pub fn get_provisioned_concurrency(
        &self,
        scope: &Scope,
        request: &GetProvisionedConcurrency,
    ) -> Result<ProvisionedConcurrency, ControlError> {
        let Subject { name, qualifier, function } = self.subject(
            scope,
            &request.function_name,
            &request.qualifier,
            "The function resource provided must be an alias or a published version.",
        )?;
        let provisioned =
            function.provisioned.get(&qualifier).ok_or(ControlError::NotProvisioned)?;
        let progress = self.progress(scope, &name, &function).remove(&qualifier);
        Ok(answer(&provisioned.record, &progress.unwrap_or_default()))
    }

    /// The provisioned concurrency of all versions and aliases of a function.
    ///
    /// # Errors
    /// When there is no such function, or the marker is not one of ours.
    pub fn list_provisioned_concurrency(
        &self,
        scope: &Scope,
        request: &ListProvisionedConcurrency,
    ) -> Result<ProvisionedConcurrencyList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let target = Target::unqualified(scope, &request.function_name)?;
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(|| target.function_not_found())?;
        let mut progress = self.progress(scope, &name, function);
        let items = function.provisioned.iter().map(|(qualifier, provisioned)| {
            let progress = progress.remove(qualifier).unwrap_or_default();
            let config = answer(&provisioned.record, &progress);
            let function_arn = format!("{}:{qualifier}", target.function_arn());
            (qualifier.as_bytes().to_vec(), ProvisionedConcurrencyItem { function_arn, config })
        });
        let (provisioned_concurrency_configs, next_marker) = page.take(items);
        Ok(ProvisionedConcurrencyList { provisioned_concurrency_configs, next_marker })
    }

    /// Keeps no environments of a version or alias initialised any more; if there were none, it
    /// is no error.
    ///
    /// # Errors
    /// When there is no such version or alias, or the disk fails.
    pub async fn delete_provisioned_concurrency(
        &self,
        scope: &Scope,
        request: GetProvisionedConcurrency,
    ) -> Result<(), ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move {
            let find = || {
                control.subject(
                    &scope,
                    &request.function_name,
                    &request.qualifier,
                    "The function resource provided must be an alias or a published version.",
                )
            };
            let name = find()?.name;
            let _lock = control.lock(&scope, name.as_str()).await;
            let Subject { name, qualifier, function } = find()?;
            let Some(was) = function.provisioned.get(&qualifier) else { return Ok(()) };
            let key = key::provisioned(&scope, &name, &qualifier);
            let expected = Expected::Revision(was.stored);
            control.0.store.commit(vec![Write::Delete { key, expected }]).await?;
            control.change_function(&scope, &name, |function| {
                function.provisioned.remove(&qualifier);
            });
            control.allocate(&scope, &name);
            Ok(())
        })
        .await
    }

    /// By qualifier. Where two share a version, the first by name is served first.
    fn progress(
        &self,
        scope: &Scope,
        name: &FunctionName,
        function: &Arc<Function>,
    ) -> BTreeMap<String, Progress> {
        let allocator = self.0.allocator.get();
        let allocations = allocator.map(|allocator| allocator.allocations(scope, name));
        let mut allocated: BTreeMap<Version, u32> = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for allocation in allocations.unwrap_or_default() {
            *allocated.entry(allocation.version).or_default() += allocation.allocated;
            failures.extend(allocation.failure.map(|failure| (allocation.version, failure)));
        }
        let mut all = BTreeMap::new();
        for (qualifier, provisioned) in &function.provisioned {
            let mut progress = Progress::default();
            for (version, share) in shares(Some(function), qualifier, provisioned.record.requested)
            {
                let left = allocated.entry(version).or_default();
                let taken = share.min(*left);
                *left -= taken;
                progress.ready += taken;
                if taken < share && progress.failure.is_none() {
                    progress.failure = failures.get(&version).cloned();
                }
            }
            all.insert(qualifier.clone(), progress);
        }
        let mut leaving: u32 = allocated.values().fold(0, |sum, one| sum.saturating_add(*one));
        for (qualifier, progress) in &mut all {
            let requested = function.provisioned.get(qualifier).map_or(0, |p| p.record.requested);
            progress.leaving = leaving.min(requested.saturating_sub(progress.ready));
            leaving -= progress.leaving;
        }
        all
    }
}

fn check_target(function: &Function, qualifier: &str) -> Result<(), ControlError> {
    let provisioned = |version: Version| function.provisioned.contains_key(&version.to_string());
    let conflict = |message: &str| Err(ControlError::Conflict { message: message.to_owned() });
    if let Some(alias) = function.aliases.get(qualifier) {
        if alias.record.additional.is_some() {
            return Err(ControlError::invalid(
                "Alias with weights can not be used with Provisioned Concurrency",
            ));
        }
        if alias.record.version == Version::Latest {
            return Err(ControlError::invalid(UNPUBLISHED));
        }
        if provisioned(alias.record.version) {
            return conflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
            );
        }
        return Ok(());
    }
    let Ok(number) = qualifier.parse() else { return Ok(()) };
    let aliased = function.aliases.iter().any(|(name, alias)| {
        function.provisioned.contains_key(name)
            && alias.record.refers_to(Version::Published(number))
    });
    if aliased {
        return conflict("Version is pointed by a Provisioned Concurrency alias");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_milliseconds() {
        assert_eq!(seconds(1_767_323_045_678), "2026-01-02T03:04:05+0000");
    }

    #[test]
    fn the_status_follows_from_what_is_ready() {
        let record = ProvisionedRecord { requested: 3, modified_ms: 0 };
        let status = |ready, leaving, failure| {
            let answer = answer(&record, &Progress { ready, leaving, failure });
            let allocated = answer.allocated_provisioned_concurrent_executions;
            (allocated, answer.status, answer.status_reason)
        };
        assert_eq!(status(0, 0, None), (0, "IN_PROGRESS", None));
        assert_eq!(status(1, 3, None), (3, "IN_PROGRESS", None));
        assert_eq!(status(3, 0, Some(AllocationFailure::Init)), (3, "READY", None));
        let why = Some("FUNCTION_ERROR_INIT_FAILURE".to_owned());
        assert_eq!(status(2, 0, Some(AllocationFailure::Init)), (2, "FAILED", why));
    }
}
