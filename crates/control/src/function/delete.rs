use super::create::put;
use crate::control::Control;
use crate::error::ControlError;
use crate::index::Function;
use crate::key;
use crate::record::CounterRecord;
use crate::request::DeleteFunction;
use crate::target::{Suffix, Target};
use lambfold_store::{Expected, Write};
use lambfold_types::{Scope, Version};
use std::sync::Arc;

impl Control {
    /// Deletes a function with all its versions, or one version.
    ///
    /// # Errors
    /// When there is no such function, the qualifier is `$LATEST` or an alias, an alias refers
    /// to the version, or the disk fails. A version that does not exist is no error.
    pub async fn delete_function(
        &self,
        scope: &Scope,
        request: DeleteFunction,
    ) -> Result<(), ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.delete(&scope, &request).await }).await
    }

    async fn delete(&self, scope: &Scope, request: &DeleteFunction) -> Result<(), ControlError> {
        let target = Target::parse(scope, &request.function_name, request.qualifier.as_deref())?;
        let number = match target.suffix() {
            None => None,
            Some(Suffix::Number(number)) => Some(number),
            Some(Suffix::Latest) => {
                return Err(ControlError::invalid(
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Some(Suffix::Other(alias)) if alias.contains('$') => {
                return Err(target.function_not_found());
            }
            Some(Suffix::Other(_)) => {
                return Err(ControlError::invalid(
                    "Deletion of aliases is not currently supported.",
                ));
            }
        };
        let name = target.name().ok_or_else(|| target.function_not_found())?;
        let _lock = self.lock(scope, name.as_str()).await;
        let function =
            self.index().function(scope, &name).ok_or_else(|| target.function_not_found())?.clone();
        if let Some(number) = number {
            let Some(version) = function.published.get(&number) else { return Ok(()) };
            let referring = function
                .aliases
                .iter()
                .filter(|(_, alias)| alias.record.refers_to(Version::Published(number)))
                .map(|(alias, _)| alias.as_str());
            let referring: Vec<&str> = referring.collect();
            if !referring.is_empty() {
                return Err(ControlError::Conflict {
                    message: format!(
                        "Unable to delete version because the following aliases reference it: [{}]",
                        referring.join(", ")
                    ),
                });
            }
            let provisioned = number.to_string();
            let writes = vec![
                Write::Delete {
                    key: key::version(scope, &name, number),
                    expected: Expected::Revision(version.stored),
                },
                Write::Delete {
                    key: key::provisioned(scope, &name, &provisioned),
                    expected: Expected::Any,
                },
            ];
            self.0.store.commit(writes).await?;
            let mut entry = Function::clone(&function);
            entry.published.remove(&number);
            let was_provisioned = entry.provisioned.remove(&provisioned).is_some();
            self.change(scope, |region| {
                region.functions.insert(name.clone(), Arc::new(entry));
            });
            if was_provisioned {
                self.allocate(scope, &name);
            }
            self.gone(std::slice::from_ref(&version.version));
            return Ok(());
        }
        let mut writes = vec![Write::Delete {
            key: key::function(scope, &name),
            expected: Expected::Revision(function.stored),
        }];
        let mut gone = vec![function.latest.clone()];
        for (number, version) in &function.published {
            writes.push(Write::Delete {
                key: key::version(scope, &name, *number),
                expected: Expected::Any,
            });
            gone.push(version.version.clone());
        }
        let aliases = function.aliases.keys().map(|alias| key::alias(scope, &name, alias));
        let provisioned =
            function.provisioned.keys().map(|qualifier| key::provisioned(scope, &name, qualifier));
        writes.extend(
            aliases.chain(provisioned).map(|key| Write::Delete { key, expected: Expected::Any }),
        );
        if function.record.published > 0 {
            let counter = CounterRecord { published: function.record.published };
            writes.push(put(key::gone(scope, &name), &counter, Expected::Any));
        }
        self.0.store.commit(writes).await?;
        self.change(scope, |region| {
            region.functions.remove(&name);
        });
        self.allocate(scope, &name);
        self.gone(&gone);
        Ok(())
    }
}
