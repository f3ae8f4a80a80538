use super::create::put;
use super::update::check_revision;
use super::{Shape, View, base64_digest};
use crate::answer::FunctionConfiguration;
use crate::control::Control;
use crate::error::ControlError;
use crate::index::{Function, Published};
use crate::key;
use crate::record::{FunctionRecord, PublishedRecord, VersionRecord};
use crate::request::PublishVersion;
use lambfold_store::Expected;
use lambfold_types::{FunctionName, Scope, Version};
use std::sync::Arc;

impl Control {
    /// Makes an immutable version of `$LATEST`; when nothing changed since the last one,
    /// answers that.
    ///
    /// # Errors
    /// When there is no such function, its code or revision is not the expected one, or the
    /// disk fails.
    pub async fn publish_version(
        &self,
        scope: &Scope,
        request: PublishVersion,
    ) -> Result<FunctionConfiguration, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.publish(&scope, request).await }).await
    }

    async fn publish(
        &self,
        scope: &Scope,
        request: PublishVersion,
    ) -> Result<FunctionConfiguration, ControlError> {
        if request.publish_to.is_some() {
            return Err(ControlError::NotBuilt { feature: "PublishTo" });
        }
        let (name, _) = self.function(scope, &request.function_name)?;
        let _lock = self.lock(scope, name.as_str()).await;
        let (_, function) = self.function(scope, name.as_str())?;
        check_revision(&function, request.revision_id.as_deref())?;
        let current = base64_digest(&function.record.latest.code);
        if let Some(expected) = request.code_sha256
            && !expected.is_empty()
            && expected != current
        {
            return Err(ControlError::invalid(format!(
                "CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the CodeSHA256 in $LATEST."
            )));
        }
        let record = function.record.clone();
        self.store_version(scope, &name, &function, record, request.description).await
    }

    /// Publishes what `record` says `$LATEST` is, in one commit with that record when it is a
    /// new one. The caller holds the name's lock.
    pub(super) async fn store_version(
        &self,
        scope: &Scope,
        name: &FunctionName,
        was: &Arc<Function>,
        mut record: FunctionRecord,
        description: Option<String>,
    ) -> Result<FunctionConfiguration, ControlError> {
        let source = record.latest.fingerprint();
        let last = was.published.last_key_value();
        let equal = last.filter(|(_, last)| last.record.source == source);
        let (number, published) = match equal {
            Some((number, equal)) => (*number, equal.record.clone()),
            None => {
                let latest = &record.latest;
                let version = VersionRecord {
                    description: description.unwrap_or_else(|| latest.description.clone()),
                    modified_ms: self.now_ms(),
                    revision: uuid::Uuid::new_v4().to_string(),
                    ..latest.clone()
                };
                (record.published + 1, PublishedRecord { version, source })
            }
        };
        let new = equal.is_none();
        if new {
            record.published = number;
        }
        let mut writes = Vec::new();
        if record != was.record {
            let key = key::function(scope, name);
            writes.push(put(key, &record, Expected::Revision(was.stored)));
        }
        if new {
            writes.push(put(key::version(scope, name, number), &published, Expected::Absent));
        }
        let revisions = self.0.store.commit(writes).await?;
        let stored = revisions.first().copied().unwrap_or(was.stored);
        let replaced = record.latest.revision != was.record.latest.revision;
        let answer = view(scope, name, number, &published.version);
        let mut entry = was.with(scope, name, record, stored);
        if new {
            let tags = &entry.record.tags;
            let published = Published::new(scope, name, number, published, tags, stored);
            entry.published.insert(number, Arc::new(published));
        }
        self.change(scope, |region| {
            region.functions.insert(name.clone(), Arc::new(entry));
        });
        if replaced {
            self.gone(std::slice::from_ref(&was.latest));
        }
        Ok(answer)
    }
}

fn view(
    scope: &Scope,
    name: &FunctionName,
    number: u64,
    record: &VersionRecord,
) -> FunctionConfiguration {
    let qualifier = number.to_string();
    let view = View {
        scope,
        name,
        version: Version::Published(number),
        qualifier: Some(&qualifier),
        shape: Shape::Settled,
    };
    view.answer(record)
}
