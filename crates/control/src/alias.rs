//! Aliases: names for one version, or for two that share the invocations.

use crate::answer::{Alias, AliasList, AliasRouting};
use crate::control::Control;
use crate::error::ControlError;
use crate::index::{Function, Stored};
use crate::key;
use crate::page::Page;
use crate::record::AliasRecord;
use crate::request::{self, CreateAlias, GetAlias, ListAliases, UpdateAlias};
use crate::target::Target;
use lambfold_store::{CommitError, Expected, Write};
use lambfold_types::{FunctionName, Scope, Version};
use std::sync::Arc;

/// What a request says of versions, checked against the function.
struct Route<'a> {
    target: &'a Target,
    function: Option<&'a Function>,
}

impl Route<'_> {
    fn exists(&self, version: Version) -> Result<(), ControlError> {
        match self.function.and_then(|function| function.version(version)) {
            Some(_) => Ok(()),
            None => {
                let arn = format!("{}:{version}", self.target.function_arn());
                Err(ControlError::FunctionNotFound { arn })
            }
        }
    }

    fn check(&self, version: Version, additional: Option<(u64, f64)>) -> Result<(), ControlError> {
        if let Some((number, _)) = additional {
            if version == Version::Latest {
                return Err(ControlError::untyped(
                    "$LATEST is not supported for an alias pointing to more than 1 version",
                ));
            }
            if version == Version::Published(number) {
                return Err(ControlError::invalid(format!(
                    "Invalid function version {version}. Function version {version} is already included in routing configuration."
                )));
            }
        }
        self.exists(version)?;
        additional.map_or(Ok(()), |(number, _)| self.exists(Version::Published(number)))
    }
}

/// At most one version and its weight.
fn additional(routing: &request::AliasRouting) -> Result<Option<(u64, f64)>, ControlError> {
    let Some(weights) = &routing.additional_version_weights else { return Ok(None) };
    if weights.len() > 1 {
        return Err(ControlError::invalid(
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ));
    }
    let Some((version, weight)) = weights.iter().next() else { return Ok(None) };
    match version.parse() {
        Ok(number) if (0.0..=1.0).contains(weight) => Ok(Some((number, *weight))),
        _ => Err(ControlError::invalid(format!(
            "Invalid function version {version} or weight {weight}: a version is a number, and its weight is from 0 to 1."
        ))),
    }
}

/// The service model has checked that it is one of these.
fn version(text: &str) -> Result<Version, ControlError> {
    match text.parse() {
        _ if text == "$LATEST" => Ok(Version::Latest),
        Ok(number) => Ok(Version::Published(number)),
        Err(_) => Err(ControlError::invalid(format!("Invalid function version {text}."))),
    }
}

fn answer(target: &Target, name: &str, record: &AliasRecord) -> Alias {
    Alias {
        alias_arn: format!("{}:{name}", target.function_arn()),
        name: name.to_owned(),
        function_version: record.version.to_string(),
        description: record.description.clone(),
        routing_config: record.additional.map(|(number, weight)| AliasRouting {
            additional_version_weights: [(number.to_string(), weight)].into(),
        }),
        revision_id: record.revision.clone(),
    }
}

fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Control {
    /// Gives a version a name.
    ///
    /// # Errors
    /// When a version does not exist or a value breaks a rule, the name is taken, or the disk
    /// fails.
    pub async fn create_alias(
        &self,
        scope: &Scope,
        request: CreateAlias,
    ) -> Result<Alias, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.make_alias(&scope, request).await }).await
    }

    async fn make_alias(&self, scope: &Scope, request: CreateAlias) -> Result<Alias, ControlError> {
        let target = Target::unqualified(scope, &request.function_name)?;
        let version = version(&request.function_version)?;
        let additional = request.routing_config.as_ref().map(additional).transpose()?.flatten();
        let not_found = || ControlError::FunctionNotFound {
            arn: format!("{}:{version}", target.function_arn()),
        };
        let name = target.name().ok_or_else(not_found)?;
        let _lock = self.lock(scope, name.as_str()).await;
        let index = self.index();
        let function = index.function(scope, &name);
        let route = Route { target: &target, function: function.map(|function| &**function) };
        route.check(version, additional)?;
        let exists = || ControlError::AliasExists {
            arn: format!("{}:{}", target.function_arn(), request.name),
        };
        if function.is_none_or(|function| function.aliases.contains_key(&request.name)) {
            return Err(exists());
        }
        let record = AliasRecord {
            version,
            additional,
            description: request.description.unwrap_or_default(),
            revision: revision(),
        };
        let answer = answer(&target, &request.name, &record);
        match self.put_alias(scope, &name, &request.name, record, Expected::Absent).await {
            Ok(()) => Ok(answer),
            Err(CommitError::Conflict { .. }) => Err(exists()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_alias(
        &self,
        scope: &Scope,
        name: &FunctionName,
        alias: &str,
        record: AliasRecord,
        expected: Expected,
    ) -> Result<(), CommitError> {
        let value = serde_json::to_vec(&record).unwrap_or_default();
        let write = Write::Put { key: key::alias(scope, name, alias), value, expected };
        let revisions = self.0.store.commit(vec![write]).await?;
        let stored = revisions.first().copied().unwrap_or_default();
        self.change_function(scope, name, |function| {
            function.aliases.insert(alias.to_owned(), Arc::new(Stored { record, stored }));
        });
        Ok(())
    }

    /// Changes what is seen of one function. The caller holds the name's lock.
    pub(crate) fn change_function(
        &self,
        scope: &Scope,
        name: &FunctionName,
        change: impl FnOnce(&mut Function),
    ) {
        self.change(scope, |region| {
            if let Some(function) = region.functions.get_mut(name) {
                change(Arc::make_mut(function));
            }
        });
    }

    /// An alias.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get_alias(&self, scope: &Scope, request: &GetAlias) -> Result<Alias, ControlError> {
        let target = Target::unqualified(scope, &request.function_name)?;
        let not_found = || ControlError::AliasNotFound {
            wording: "Cannot find alias arn",
            arn: format!("{}:{}", target.function_arn(), request.name),
        };
        let name = target.name().ok_or_else(not_found)?;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(not_found)?;
        let alias = function.aliases.get(&request.name).ok_or_else(not_found)?;
        Ok(answer(&target, &request.name, &alias.record))
    }

    /// The aliases of a function, by name.
    ///
    /// # Errors
    /// When there is no such function, or the marker is not one of ours.
    pub fn list_aliases(
        &self,
        scope: &Scope,
        request: &ListAliases,
    ) -> Result<AliasList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let only = request.function_version.as_deref().map(version).transpose()?;
        let target = Target::unqualified(scope, &request.function_name)?;
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(|| target.function_not_found())?;
        let matching = function
            .aliases
            .iter()
            .filter(|(_, alias)| only.is_none_or(|version| alias.record.refers_to(version)));
        let (aliases, next_marker) =
            page.take(matching.map(|(name, alias)| {
                (name.as_bytes().to_vec(), answer(&target, name, &alias.record))
            }));
        Ok(AliasList { next_marker, aliases })
    }

    /// Changes an alias; invocations that begin after the answer see it.
    ///
    /// # Errors
    /// When there is none of that name, its revision is not the expected one, a version does
    /// not exist or a value breaks a rule, or the disk fails.
    pub async fn update_alias(
        &self,
        scope: &Scope,
        request: UpdateAlias,
    ) -> Result<Alias, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.move_alias(&scope, request).await }).await
    }

    async fn move_alias(&self, scope: &Scope, request: UpdateAlias) -> Result<Alias, ControlError> {
        let target = Target::unqualified(scope, &request.function_name)?;
        let not_found = || ControlError::AliasNotFound {
            wording: "Alias not found",
            arn: format!("{}:{}", target.function_arn(), request.name),
        };
        let name = target.name().ok_or_else(not_found)?;
        let _lock = self.lock(scope, name.as_str()).await;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(not_found)?;
        let was = function.aliases.get(&request.name).ok_or_else(not_found)?;
        if request.revision_id.is_some_and(|expected| expected != was.record.revision) {
            return Err(ControlError::RevisionMismatch);
        }
        let mut record = AliasRecord { revision: revision(), ..was.record.clone() };
        if let Some(text) = &request.function_version {
            record.version = version(text)?;
        }
        if let Some(routing) = &request.routing_config {
            record.additional = additional(routing)?;
        }
        if let Some(description) = request.description {
            record.description = description;
        }
        let route = Route { target: &target, function: Some(function) };
        route.check(record.version, record.additional)?;
        let provisioned = function.provisioned.contains_key(&request.name);
        if provisioned && record.version == Version::Latest {
            return Err(ControlError::invalid(crate::provisioned::UNPUBLISHED));
        }
        let answer = answer(&target, &request.name, &record);
        let expected = Expected::Revision(was.stored);
        self.put_alias(scope, &name, &request.name, record, expected).await?;
        if provisioned {
            self.allocate(scope, &name);
        }
        Ok(answer)
    }

    /// Deletes an alias with its provisioned concurrency; one that does not exist is no error.
    ///
    /// # Errors
    /// When there is no such function, or the disk fails.
    pub async fn delete_alias(&self, scope: &Scope, request: GetAlias) -> Result<(), ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move {
            control.drop_alias(&scope, &request.function_name, &request.name).await
        })
        .await
    }

    async fn drop_alias(
        &self,
        scope: &Scope,
        function: &str,
        alias: &str,
    ) -> Result<(), ControlError> {
        let target = Target::unqualified(scope, function)?;
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let _lock = self.lock(scope, name.as_str()).await;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(|| target.function_not_found())?;
        let Some(was) = function.aliases.get(alias) else { return Ok(()) };
        let provisioned = key::provisioned(scope, &name, alias);
        let writes = vec![
            Write::Delete {
                key: key::alias(scope, &name, alias),
                expected: Expected::Revision(was.stored),
            },
            Write::Delete { key: provisioned, expected: Expected::Any },
        ];
        self.0.store.commit(writes).await?;
        self.change_function(scope, &name, |function| {
            function.aliases.remove(alias);
            function.provisioned.remove(alias);
        });
        if function.provisioned.contains_key(alias) {
            self.allocate(scope, &name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_is_the_share_of_the_additional_version() {
        let record = |additional| AliasRecord {
            version: Version::Published(1),
            additional,
            description: String::new(),
            revision: String::new(),
        };
        let rolls = || (0..1_000).map(|roll| f64::from(roll) / 1_000.0);
        let share = |additional| {
            let record = record(additional);
            rolls().filter(|roll| record.pick(*roll) == Version::Published(2)).count()
        };
        assert_eq!(share(None), 0);
        assert_eq!(share(Some((2, 0.0))), 0);
        assert_eq!(share(Some((2, 0.25))), 250);
        assert_eq!(share(Some((2, 1.0))), 1_000);
    }
}
