//! Tags of functions.

use crate::answer::Tags;
use crate::control::{Control, Options};
use crate::error::ControlError;
use crate::index::Function;
use crate::key;
use crate::record::FunctionRecord;
use crate::request::{ListTags, TagResource, UntagResource};
use crate::target::Target;
use lambfold_store::{Expected, Write};
use lambfold_types::{FunctionName, ROOTFS_TAG, Scope, limits};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn check_tags(
    options: &Options,
    tags: &BTreeMap<String, String>,
) -> Result<(), ControlError> {
    if tags.len() > limits::TAGS {
        return Err(ControlError::invalid("Number of tags exceeds resource tag limit."));
    }
    for (name, value) in tags {
        if name.starts_with("aws:") {
            return Err(ControlError::invalid(
                "Tag keys that begin with aws: are reserved for AWS.",
            ));
        }
        if !(1..=128).contains(&name.chars().count()) || value.chars().count() > 256 {
            return Err(ControlError::invalid(
                "Tag keys must have 1 to 128 characters and tag values at most 256.",
            ));
        }
    }
    match tags.get(ROOTFS_TAG) {
        Some(rootfs) if !options.rootfs.contains(rootfs) => {
            let known: Vec<&str> = options.rootfs.iter().map(String::as_str).collect();
            let known = match known.as_slice() {
                [] => "This server has no others than its default one.".to_owned(),
                known => format!("This server has: {}.", known.join(", ")),
            };
            Err(ControlError::invalid(format!(
                "The tag {ROOTFS_TAG} names no root file system of this server: {rootfs}. {known}"
            )))
        }
        _ => Ok(()),
    }
}

impl Control {
    fn tagged(
        &self,
        scope: &Scope,
        resource: &str,
    ) -> Result<(FunctionName, Arc<Function>), ControlError> {
        if resource.starts_with("arn:") && resource.split(':').nth(5) != Some("function") {
            // Layers have no tags, and of the other kinds nothing exists here.
            return Err(ControlError::ResourceNotFound);
        }
        let target = Target::parse(scope, resource, None)?;
        if target.qualifier.is_some() {
            return Err(ControlError::invalid(
                "Tags on function aliases and versions are not supported. Please specify a function ARN.",
            ));
        }
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let index = self.index();
        let function =
            index.function(scope, &name).ok_or_else(|| target.function_not_found())?.clone();
        Ok((name, function))
    }

    /// The tags of a function.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn list_tags(&self, scope: &Scope, request: &ListTags) -> Result<Tags, ControlError> {
        let (_, function) = self.tagged(scope, &request.resource)?;
        Ok(Tags { tags: function.record.tags.clone() })
    }

    /// Adds or replaces tags of a function.
    ///
    /// # Errors
    /// When there is no such function, a tag breaks a rule, or the disk fails.
    pub async fn tag_resource(
        &self,
        scope: &Scope,
        request: TagResource,
    ) -> Result<(), ControlError> {
        let control = self.clone();
        self.change_tags(scope, &request.resource, move |tags| {
            if request.tags.is_empty() {
                return Err(ControlError::invalid(
                    "An error occurred and the request cannot be processed.",
                ));
            }
            tags.extend(request.tags);
            check_tags(&control.0.options, tags)
        })
        .await
    }

    /// Removes tags of a function; missing ones are no error.
    ///
    /// # Errors
    /// When there is no such function, or the disk fails.
    pub async fn untag_resource(
        &self,
        scope: &Scope,
        request: UntagResource,
    ) -> Result<(), ControlError> {
        self.change_tags(scope, &request.resource, move |tags| {
            request.tag_keys.iter().for_each(|name| drop(tags.remove(name)));
            Ok(())
        })
        .await
    }

    async fn change_tags(
        &self,
        scope: &Scope,
        resource: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ControlError> + Send + 'static,
    ) -> Result<(), ControlError> {
        let (control, scope, resource) = (self.clone(), scope.clone(), resource.to_owned());
        self.detached(async move {
            let (name, _) = control.tagged(&scope, &resource)?;
            let _lock = control.lock(&scope, name.as_str()).await;
            let (_, function) = control.tagged(&scope, &resource)?;
            let mut tags = function.record.tags.clone();
            change(&mut tags)?;
            if tags == function.record.tags {
                return Ok(());
            }
            let record = FunctionRecord { tags, ..function.record.clone() };
            let value = serde_json::to_vec(&record).unwrap_or_default();
            let write = Write::Put {
                key: key::function(&scope, &name),
                value,
                expected: Expected::Revision(function.stored),
            };
            let revisions = control.0.store.commit(vec![write]).await?;
            let stored = revisions.first().copied().unwrap_or_default();
            let (entry, gone) = function.with_tags(&scope, &name, record, stored);
            control.change(&scope, |region| {
                region.functions.insert(name.clone(), Arc::new(entry));
            });
            if !gone.is_empty() {
                // What is provisioned moves before the old ones go.
                control.allocate(&scope, &name);
                control.gone(&gone);
            }
            Ok(())
        })
        .await
    }
}
