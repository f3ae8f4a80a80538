use super::create::put;
use super::{Shape, View, settings};
use crate::answer::FunctionConfiguration;
use crate::code::{check_unpacked, zip};
use crate::control::Control;
use crate::error::ControlError;
use crate::index::Function;
use crate::key;
use crate::record::{FunctionRecord, VersionRecord};
use crate::request::{UpdateFunctionCode, UpdateFunctionConfiguration};
use crate::target::Target;
use lambfold_store::Expected;
use lambfold_types::{FunctionName, Scope, Version};
use std::sync::Arc;

impl Control {
    /// The function that a request means, which must not name a version.
    pub(super) fn function(
        &self,
        scope: &Scope,
        text: &str,
    ) -> Result<(FunctionName, Arc<Function>), ControlError> {
        let target = Target::unqualified(scope, text)?;
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let index = self.index();
        let function =
            index.function(scope, &name).ok_or_else(|| target.function_not_found())?.clone();
        Ok((name, function))
    }

    /// Replaces the code of a function.
    ///
    /// # Errors
    /// When there is no such function, its revision is not the expected one, the zip is
    /// refused, or the disk fails.
    pub async fn update_function_code(
        &self,
        scope: &Scope,
        request: UpdateFunctionCode,
    ) -> Result<FunctionConfiguration, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.update_code(&scope, request).await }).await
    }

    async fn update_code(
        &self,
        scope: &Scope,
        request: UpdateFunctionCode,
    ) -> Result<FunctionConfiguration, ControlError> {
        if request.publish_to.is_some() {
            return Err(ControlError::NotBuilt { feature: "PublishTo" });
        }
        let (name, function) = self.function(scope, &request.function_name)?;
        check_revision(&function, request.revision_id.as_deref())?;
        let architecture = settings::architecture(request.architectures.as_deref())?;
        let zip = zip(request.code)?;

        let _intake = self.0.intake.read().await;
        let code = self.take_in(scope, zip).await?;
        let _lock = self.lock(scope, name.as_str()).await;
        let (_, function) = self.function(scope, name.as_str())?;
        check_revision(&function, request.revision_id.as_deref())?;
        let mut record = function.record.clone();
        record.latest.code = code.digest;
        record.latest.zip_bytes = code.zip_bytes;
        record.latest.unpacked_bytes = code.unpacked_bytes;
        record.latest.architecture = architecture.unwrap_or(record.latest.architecture);
        check_unpacked(record.latest.unpacked_bytes, &record.latest.layers)?;
        if request.dry_run.unwrap_or(false) {
            let view = View {
                scope,
                name: &name,
                version: Version::Latest,
                qualifier: None,
                shape: Shape::Settled,
            };
            return Ok(view.answer(&record.latest));
        }
        if request.publish.unwrap_or(false) {
            renew(&mut record.latest, self.now_ms());
            return self.store_version(scope, &name, &function, record, None).await;
        }
        let function = self.replace(scope, &name, &function, record).await?;
        Ok(updated(scope, &name, &function))
    }

    /// Changes the settings of a function.
    ///
    /// # Errors
    /// When there is no such function, its revision is not the expected one, a value breaks a
    /// rule, or the disk fails.
    pub async fn update_function_configuration(
        &self,
        scope: &Scope,
        request: UpdateFunctionConfiguration,
    ) -> Result<FunctionConfiguration, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.update_configuration(&scope, request).await }).await
    }

    async fn update_configuration(
        &self,
        scope: &Scope,
        request: UpdateFunctionConfiguration,
    ) -> Result<FunctionConfiguration, ControlError> {
        let (name, _) = self.function(scope, &request.function_name)?;
        let _intake = self.0.intake.read().await;
        let _lock = self.lock(scope, name.as_str()).await;
        let (_, function) = self.function(scope, name.as_str())?;
        check_revision(&function, request.revision_id.as_deref())?;
        let mut record = function.record.clone();
        self.apply(scope, request.settings, &mut record.latest)?;
        check_unpacked(record.latest.unpacked_bytes, &record.latest.layers)?;
        self.merge(&record.latest.layers).await?;
        let function = self.replace(scope, &name, &function, record).await?;
        Ok(updated(scope, &name, &function))
    }

    /// Stores a new revision of `$LATEST` and makes it the one that is seen. The caller holds
    /// the name's lock.
    async fn replace(
        &self,
        scope: &Scope,
        name: &FunctionName,
        was: &Arc<Function>,
        mut record: FunctionRecord,
    ) -> Result<Arc<Function>, ControlError> {
        renew(&mut record.latest, self.now_ms());
        let write = put(key::function(scope, name), &record, Expected::Revision(was.stored));
        let revisions = self.0.store.commit(vec![write]).await?;
        let stored = revisions.first().copied().unwrap_or_default();
        let function = Arc::new(was.with(scope, name, record, stored));
        self.change(scope, |region| {
            region.functions.insert(name.clone(), function.clone());
        });
        self.gone(std::slice::from_ref(&was.latest));
        Ok(function)
    }
}

/// A new revision of what has changed.
fn renew(record: &mut VersionRecord, now_ms: u64) {
    record.modified_ms = now_ms;
    record.revision = uuid::Uuid::new_v4().to_string();
}

fn updated(scope: &Scope, name: &FunctionName, function: &Function) -> FunctionConfiguration {
    let view =
        View { scope, name, version: Version::Latest, qualifier: None, shape: Shape::Updated };
    view.answer(&function.record.latest)
}

pub(super) fn check_revision(
    function: &Function,
    expected: Option<&str>,
) -> Result<(), ControlError> {
    match expected {
        Some(expected) if expected != function.record.latest.revision => {
            Err(ControlError::RevisionMismatch)
        }
        _ => Ok(()),
    }
}
