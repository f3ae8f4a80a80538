//! Functions and their versions.

mod create;
mod delete;
mod publish;
mod read;
mod settings;
mod update;

use crate::answer;
use crate::record::VersionRecord;
use base64::Engine as _;
use lambfold_types::{Digest, FunctionName, LogFormat, RuntimeId, Scope, Version};
use sha2::Digest as _;
use time::OffsetDateTime;
use time::macros::format_description;

const CREATING: &str = "The function is being created.";

/// What an answer says of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The answer of CreateFunction: AWS says `Pending`. Here everything is done already, and
    /// invocations succeed; the next question is answered with `Active`.
    Created,
    /// The answer of an update: AWS says `InProgress`.
    Updated,
    /// Everything else about one version.
    Settled,
    /// An item of a list: nothing of the state.
    Listed,
}

/// One function version, for answers.
struct View<'a> {
    scope: &'a Scope,
    name: &'a FunctionName,
    version: Version,
    /// What stands behind the ARN.
    qualifier: Option<&'a str>,
    shape: Shape,
}

impl View<'_> {
    fn answer(&self, record: &VersionRecord) -> answer::FunctionConfiguration {
        let (scope, name, shape) = (self.scope, self.name, self.shape);
        let prefix = scope.arn_prefix();
        let suffix = self.qualifier.map(|q| format!(":{q}")).unwrap_or_default();
        let state = match shape {
            Shape::Created => Some("Pending"),
            Shape::Updated | Shape::Settled => Some("Active"),
            Shape::Listed => None,
        };
        let last_update_status = match shape {
            Shape::Updated => Some("InProgress"),
            Shape::Settled => Some("Successful"),
            Shape::Created | Shape::Listed => None,
        };
        // AWS's revision changes once more when a change has settled. A caller that holds on
        // to the revision of a create or an update must be refused here as it is there.
        let revision_id = match shape {
            Shape::Created | Shape::Updated => uuid::Uuid::new_v4().to_string(),
            Shape::Settled | Shape::Listed => record.revision.clone(),
        };
        let created = (shape == Shape::Created).then_some(());
        let updated = (shape == Shape::Updated).then_some(());
        answer::FunctionConfiguration {
            function_name: name.to_string(),
            function_arn: format!("{prefix}function:{name}{suffix}"),
            runtime: record.runtime.as_str().to_owned(),
            role: record.role.clone(),
            handler: record.handler.clone(),
            code_size: record.zip_bytes,
            description: record.description.clone(),
            timeout: record.timeout_s,
            memory_size: record.memory_mib,
            last_modified: timestamp(record.modified_ms),
            code_sha256: base64_digest(&record.code),
            version: self.version.to_string(),
            environment: record
                .variables
                .clone()
                .map(|variables| answer::Environment { variables }),
            tracing_config: answer::TracingConfig { mode: record.tracing.clone() },
            revision_id,
            layers: record
                .layers
                .iter()
                .map(|layer| answer::Layer {
                    arn: layer.arn.to_string(),
                    code_size: layer.zip_bytes,
                })
                .collect(),
            state,
            state_reason: created.map(|()| CREATING),
            state_reason_code: created.map(|()| "Creating"),
            last_update_status,
            last_update_status_reason: updated.map(|()| CREATING),
            last_update_status_reason_code: updated.map(|()| "Creating"),
            package_type: "Zip",
            architectures: vec![record.architecture.as_str()],
            ephemeral_storage: answer::EphemeralStorage { size: record.ephemeral_storage_mib },
            snap_start: answer::SnapStart { apply_on: "None", optimization_status: "Off" },
            runtime_version_config: (shape != Shape::Listed).then(|| {
                answer::RuntimeVersionConfig {
                    runtime_version_arn: runtime_version_arn(scope, record.runtime),
                }
            }),
            logging_config: answer::LoggingConfig {
                log_format: match record.logging.format {
                    LogFormat::Text => "Text",
                    LogFormat::Json => "JSON",
                },
                application_log_level: record.logging.application_level.clone(),
                system_log_level: record.logging.system_level.clone(),
                log_group: record.logging.group.clone(),
            },
        }
    }
}

/// There is one version of each runtime: the host's.
fn runtime_version_arn(scope: &Scope, runtime: RuntimeId) -> String {
    let hash = sha2::Sha256::digest(format!("lambfold runtime {}", runtime.as_str()));
    let digest = Digest::from_bytes(&hash.into());
    format!("arn:{}:lambda:{}::runtime:{digest}", scope.region.partition().as_str(), scope.region)
}

/// As AWS writes digests of code.
pub(crate) fn base64_digest(digest: &Digest) -> String {
    base64::engine::general_purpose::STANDARD.encode(digest.to_bytes())
}

/// As AWS writes times: `2026-01-02T03:04:05.678+0000`.
pub(crate) fn timestamp(epoch_ms: u64) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]+0000"
    );
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_three_digits_and_no_colon_in_the_offset() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000+0000");
        assert_eq!(timestamp(1_767_323_045_678), "2026-01-02T03:04:05.678+0000");
        assert_eq!(timestamp(1_767_323_045_600), "2026-01-02T03:04:05.600+0000");
    }

    #[test]
    fn digests_are_base64_of_the_bytes() {
        let digest = Digest::from_bytes(&sha2::Sha256::digest(b"").into());
        assert_eq!(base64_digest(&digest), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
