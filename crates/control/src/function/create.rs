use super::{Shape, View, settings};
use crate::answer::FunctionConfiguration;
use crate::code::{check_unpacked, zip};
use crate::control::Control;
use crate::error::ControlError;
use crate::index::{Function, Published};
use crate::key;
use crate::record::{CounterRecord, FunctionRecord, PublishedRecord, VersionRecord};
use crate::request::CreateFunction;
use crate::tag::check_tags;
use crate::target::{Suffix, Target};
use lambfold_store::{CommitError, Expected, Write};
use lambfold_types::{Digest, FunctionName, Scope, Version, limits};
use std::sync::Arc;

/// Which stored document says what.
pub(super) fn put<T: serde::Serialize>(key: String, record: &T, expected: Expected) -> Write {
    // Records are plain data: serialising them cannot fail.
    Write::Put { key, value: serde_json::to_vec(record).unwrap_or_default(), expected }
}

fn name_of(scope: &Scope, text: &str) -> Result<FunctionName, ControlError> {
    let target = Target::parse(scope, text, None)?;
    if !matches!(target.suffix(), None | Some(Suffix::Latest)) {
        return Err(ControlError::Validation {
            message: format!(
                "Value '{text}' at 'functionName' failed to satisfy constraint: Member must not have a qualifier"
            ),
        });
    }
    target.name().ok_or_else(|| {
        let long = target.text().len() > 64;
        let rule = if long {
            "Member must have length less than or equal to 64"
        } else {
            "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"
        };
        ControlError::invalid(format!(
            "1 validation error detected: Value '{}' at 'functionName' failed to satisfy constraint: {rule}",
            target.text()
        ))
    })
}

impl Control {
    /// Creates a function. It can be invoked as soon as this returns, although the answer
    /// says `Pending`, as AWS does.
    ///
    /// # Errors
    /// When a value breaks a rule, the name is taken, the zip is refused, or the disk fails.
    pub async fn create_function(
        &self,
        scope: &Scope,
        request: CreateFunction,
    ) -> Result<FunctionConfiguration, ControlError> {
        let (control, scope) = (self.clone(), scope.clone());
        self.detached(async move { control.create(&scope, request).await }).await
    }

    async fn create(
        &self,
        scope: &Scope,
        request: CreateFunction,
    ) -> Result<FunctionConfiguration, ControlError> {
        let name = name_of(scope, &request.function_name)?;
        let taken = || ControlError::FunctionExists { name: name.to_string() };
        match request.package_type.as_deref() {
            None | Some("Zip") => {}
            Some(_) => return Err(ControlError::NotBuilt { feature: "PackageType Image" }),
        }
        if request.code_signing_config_arn.is_some_and(|arn| !arn.is_empty()) {
            return Err(ControlError::NotBuilt { feature: "CodeSigningConfigArn" });
        }
        if request.tenancy_config.is_some() {
            return Err(ControlError::NotBuilt { feature: "TenancyConfig" });
        }
        if request.publish_to.is_some() {
            return Err(ControlError::NotBuilt { feature: "PublishTo" });
        }
        let zip = zip(request.code)?;
        let (Some(runtime), Some(handler)) = (&request.settings.runtime, &request.settings.handler)
        else {
            return Err(ControlError::invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        };
        let tags = request.tags.unwrap_or_default();
        check_tags(&self.0.options, &tags)?;
        let mut record = VersionRecord {
            runtime: settings::runtime(&self.0.options, runtime)?,
            role: String::new(),
            handler: handler.clone(),
            code: Digest::from_bytes(&[0; 32]),
            zip_bytes: 0,
            unpacked_bytes: 0,
            description: String::new(),
            timeout_s: limits::TIMEOUT_DEFAULT_S,
            memory_mib: limits::MEMORY_DEFAULT_MIB,
            ephemeral_storage_mib: limits::EPHEMERAL_STORAGE_DEFAULT_MIB,
            variables: None,
            layers: Vec::new(),
            architecture: settings::architecture(request.architectures.as_deref())?
                .unwrap_or_default(),
            tracing: "PassThrough".to_owned(),
            logging: settings::default_logging(&name),
            modified_ms: self.now_ms(),
            revision: uuid::Uuid::new_v4().to_string(),
        };
        self.apply(scope, request.settings, &mut record)?;
        if self.index().function(scope, &name).is_some() {
            return Err(taken());
        }

        let _intake = self.0.intake.read().await;
        let code = self.take_in(scope, zip).await?;
        record.code = code.digest;
        record.zip_bytes = code.zip_bytes;
        record.unpacked_bytes = code.unpacked_bytes;
        check_unpacked(record.unpacked_bytes, &record.layers)?;
        self.merge(&record.layers).await?;

        let _lock = self.lock(scope, name.as_str()).await;
        let gone = key::gone(scope, &name);
        let mut published = match self.0.store.get(&gone).await? {
            Some(document) => {
                let counter: CounterRecord = serde_json::from_slice(&document.value)
                    .map_err(|source| ControlError::Damaged { key: gone.clone(), source })?;
                counter.published
            }
            None => 0,
        };
        let version = request.publish.unwrap_or(false).then(|| PublishedRecord {
            version: VersionRecord { revision: uuid::Uuid::new_v4().to_string(), ..record.clone() },
            source: record.fingerprint(),
        });
        published += u64::from(version.is_some());
        let function = FunctionRecord { latest: record, tags, published, reserved: None };
        let mut writes = vec![
            put(key::function(scope, &name), &function, Expected::Absent),
            Write::Delete { key: gone, expected: Expected::Any },
        ];
        if let Some(version) = &version {
            writes.push(put(key::version(scope, &name, published), version, Expected::Absent));
        }
        let revisions = match self.0.store.commit(writes).await {
            Ok(revisions) => revisions,
            Err(CommitError::Conflict { .. }) => return Err(taken()),
            Err(CommitError::Store(error)) => return Err(error.into()),
        };
        let stored = revisions.first().copied().unwrap_or_default();
        let view = View {
            scope,
            name: &name,
            version: match version {
                Some(_) => Version::Published(published),
                None => Version::Latest,
            },
            qualifier: None,
            shape: Shape::Created,
        };
        let answer = view.answer(&function.latest);
        let mut entry = Function::new(scope, &name, function, stored);
        if let Some(version) = version {
            let tags = &entry.record.tags;
            let version = Published::new(scope, &name, published, version, tags, stored);
            entry.published.insert(published, Arc::new(version));
        }
        self.change(scope, |region| {
            region.functions.insert(name.clone(), Arc::new(entry));
        });
        Ok(answer)
    }
}
