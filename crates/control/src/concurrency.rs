//! Reserved concurrency of functions.

use crate::answer::FunctionConcurrency;
use crate::control::Control;
use crate::error::ControlError;
use crate::index::{Function, Region};
use crate::key;
use crate::record::FunctionRecord;
use crate::request::{GetFunctionConcurrency, PutFunctionConcurrency};
use crate::target::Target;
use lambfold_store::{Expected, Write};
use lambfold_types::{FunctionName, Scope, limits};
use std::sync::Arc;

impl Control {
    fn reserving(
        &self,
        scope: &Scope,
        text: &str,
    ) -> Result<(FunctionName, Arc<Function>), ControlError> {
        let target = Target::unqualified(scope, text)?;
        let name = target.name().ok_or_else(|| target.latest_not_found())?;
        let index = self.index();
        let function =
            index.function(scope, &name).ok_or_else(|| target.latest_not_found())?.clone();
        Ok((name, function))
    }

    /// What the account has left in a region beside one function.
    pub(crate) fn unreserved_beside(&self, scope: &Scope, name: &FunctionName) -> u32 {
        let index = self.index();
        let region = index.scopes.get(scope);
        let functions = region.into_iter().flat_map(|region| &region.functions);
        Region::unreserved(functions.filter(|(other, _)| *other != name).map(|(_, f)| f))
    }

    /// Reserves concurrency for a function; its invocations beyond that are throttled.
    ///
    /// # Errors
    /// When there is no such function, too little would be left for the others, more of it is
    /// provisioned, or the disk fails.
    pub async fn put_function_concurrency(
        &self,
        scope: &Scope,
        request: PutFunctionConcurrency,
    ) -> Result<FunctionConcurrency, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move {
            let (name, _) = control.reserving(&scope, &request.function_name)?;
            let _sum = control.0.concurrency.lock().await;
            let _lock = control.lock(&scope, name.as_str()).await;
            let (_, function) = control.reserving(&scope, &request.function_name)?;
            let reserved = u32::try_from(request.reserved_concurrent_executions).unwrap_or(u32::MAX);
            let minimum = limits::UNRESERVED_CONCURRENCY_MIN;
            let left = control.unreserved_beside(&scope, &name);
            if reserved > 0 && left < reserved.saturating_add(minimum) {
                return Err(ControlError::untyped(format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{minimum}]."
                )));
            }
            let provisioned = function.provisioned_total();
            if reserved < provisioned {
                // AWS's own spaces.
                return Err(ControlError::invalid(format!(
                    " ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned concurrency [{provisioned}]."
                )));
            }
            control.reserve(&scope, &name, &function, Some(reserved)).await?;
            Ok(FunctionConcurrency { reserved_concurrent_executions: Some(reserved) })
        })
        .await
    }

    /// What is reserved for a function.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn get_function_concurrency(
        &self,
        scope: &Scope,
        request: &GetFunctionConcurrency,
    ) -> Result<FunctionConcurrency, ControlError> {
        let (_, function) = self.reserving(scope, &request.function_name)?;
        Ok(FunctionConcurrency { reserved_concurrent_executions: function.record.reserved })
    }

    /// Reserves nothing for a function any more.
    ///
    /// # Errors
    /// When there is no such function, or the disk fails.
    pub async fn delete_function_concurrency(
        &self,
        scope: &Scope,
        request: GetFunctionConcurrency,
    ) -> Result<(), ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move {
            let (name, _) = control.reserving(&scope, &request.function_name)?;
            let _lock = control.lock(&scope, name.as_str()).await;
            let (_, function) = control.reserving(&scope, &request.function_name)?;
            control.reserve(&scope, &name, &function, None).await
        })
        .await
    }

    async fn reserve(
        &self,
        scope: &Scope,
        name: &FunctionName,
        was: &Arc<Function>,
        reserved: Option<u32>,
    ) -> Result<(), ControlError> {
        if was.record.reserved == reserved {
            return Ok(());
        }
        let record = FunctionRecord { reserved, ..was.record.clone() };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        let expected = Expected::Revision(was.stored);
        let write = Write::Put { key: key::function(scope, name), value, expected };
        let revisions = self.0.store.commit(vec![write]).await?;
        let stored = revisions.first().copied().unwrap_or_default();
        let entry = Arc::new(was.with(scope, name, record, stored));
        self.change(scope, |region| {
            region.functions.insert(name.clone(), entry);
        });
        self.allocate(scope, name);
        Ok(())
    }
}
