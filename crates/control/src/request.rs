//! What the operations take. Each can be read from the request's members by serde: names are
//! those of AWS's service model, whatever part of the HTTP request they came in. Shapes are
//! taken as validated by the model already; rules beyond it are checked by the operations.

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes; from a base64 string when read by serde.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Self(bytes.into()))
            .map_err(serde::de::Error::custom)
    }
}

/// Where code comes from. Only `ZipFile` is built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Code {
    /// The zip itself.
    pub zip_file: Option<Blob>,
    /// Not built.
    #[serde(rename = "S3Bucket")]
    pub s3_bucket: Option<String>,
    /// Not built.
    pub image_uri: Option<String>,
    /// Not built.
    #[serde(rename = "SourceKMSKeyArn")]
    pub source_kms_key_arn: Option<String>,
}

/// Environment variables.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Environment {
    /// Absent: none.
    pub variables: Option<BTreeMap<String, String>>,
}

/// Size of `/tmp`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EphemeralStorage {
    /// MiB.
    pub size: i64,
}

/// X-Ray.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TracingConfig {
    /// `Active` or `PassThrough`.
    pub mode: Option<String>,
}

/// SnapStart.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapStart {
    /// `None` or `PublishedVersions`.
    pub apply_on: Option<String>,
}

/// Logging; what is absent keeps its value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoggingConfig {
    /// `Text` or `JSON`.
    pub log_format: Option<String>,
    /// Only with `JSON`.
    pub application_log_level: Option<String>,
    /// Only with `JSON`.
    pub system_log_level: Option<String>,
    /// `/aws/lambda/<function>` by default.
    pub log_group: Option<String>,
}

/// Settings that CreateFunction and UpdateFunctionConfiguration share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// `provided…`
    pub runtime: Option<String>,
    /// Kept, not interpreted.
    pub role: Option<String>,
    /// Kept, handed to the runtime.
    pub handler: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Seconds.
    pub timeout: Option<i64>,
    /// MiB.
    pub memory_size: Option<i64>,
    /// Replaces all variables.
    pub environment: Option<Environment>,
    /// ARNs of layer versions; replaces the list.
    pub layers: Option<Vec<String>>,
    /// Size of `/tmp`.
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// X-Ray.
    pub tracing_config: Option<TracingConfig>,
    /// Logging.
    pub logging_config: Option<LoggingConfig>,
    /// Only `None` can be chosen.
    pub snap_start: Option<SnapStart>,
    /// Not built.
    pub vpc_config: Option<Value>,
    /// Not built.
    pub dead_letter_config: Option<Value>,
    /// Not built.
    #[serde(rename = "KMSKeyArn")]
    pub kms_key_arn: Option<String>,
    /// Not built.
    pub file_system_configs: Option<Value>,
    /// Not built.
    pub image_config: Option<Value>,
    /// Not built.
    pub capacity_provider_config: Option<Value>,
    /// Not built.
    pub durable_config: Option<Value>,
}

/// CreateFunction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateFunction {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// The zip.
    #[serde(default)]
    pub code: Code,
    /// Publish version 1 at once.
    pub publish: Option<bool>,
    /// `Zip`; images are not built.
    pub package_type: Option<String>,
    /// At most one.
    pub architectures: Option<Vec<String>>,
    /// Tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// Not built.
    pub code_signing_config_arn: Option<String>,
    /// Not built.
    pub tenancy_config: Option<Value>,
    /// Not built.
    pub publish_to: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub settings: Settings,
}

/// GetFunction and GetFunctionConfiguration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunction {
    /// Name, partial or whole ARN, with or without a qualifier.
    pub function_name: String,
    /// `$LATEST`, a version or an alias.
    pub qualifier: Option<String>,
}

/// ListFunctions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListFunctions {
    /// `ALL`: published versions too.
    pub function_version: Option<String>,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// UpdateFunctionCode.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionCode {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// The zip.
    #[serde(flatten)]
    pub code: Code,
    /// Publish a version of it.
    pub publish: Option<bool>,
    /// Check, and change nothing.
    pub dry_run: Option<bool>,
    /// Only if it is still at this revision.
    pub revision_id: Option<String>,
    /// At most one.
    pub architectures: Option<Vec<String>>,
    /// Not built.
    pub publish_to: Option<String>,
}

/// UpdateFunctionConfiguration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionConfiguration {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Only if it is still at this revision.
    pub revision_id: Option<String>,
    /// What is absent stays.
    #[serde(flatten)]
    pub settings: Settings,
}

/// DeleteFunction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteFunction {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// A version to delete; absent: the function with all its versions.
    pub qualifier: Option<String>,
}

/// PublishVersion.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishVersion {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Only if this is the code.
    #[serde(rename = "CodeSha256")]
    pub code_sha256: Option<String>,
    /// In place of the function's.
    pub description: Option<String>,
    /// Only if it is still at this revision.
    pub revision_id: Option<String>,
    /// Not built.
    pub publish_to: Option<String>,
}

/// ListVersionsByFunction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListVersionsByFunction {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// How an alias divides invocations.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasRouting {
    /// At most one version, and its share from 0 to 1; absent or empty: none.
    pub additional_version_weights: Option<BTreeMap<String, f64>>,
}

/// CreateAlias.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateAlias {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Name of the alias.
    pub name: String,
    /// `$LATEST` or a number.
    pub function_version: String,
    /// Free text.
    pub description: Option<String>,
    /// Another version beside it.
    pub routing_config: Option<AliasRouting>,
}

/// UpdateAlias.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateAlias {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Name of the alias.
    pub name: String,
    /// Absent: stays.
    pub function_version: Option<String>,
    /// Absent: stays.
    pub description: Option<String>,
    /// Absent: stays; empty: none.
    pub routing_config: Option<AliasRouting>,
    /// Only if it is still at this revision.
    pub revision_id: Option<String>,
}

/// GetAlias and DeleteAlias.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAlias {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Name of the alias.
    pub name: String,
}

/// ListAliases.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAliases {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// Only aliases that run this version.
    pub function_version: Option<String>,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// PutFunctionConcurrency.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutFunctionConcurrency {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// For all versions together.
    pub reserved_concurrent_executions: i64,
}

/// GetFunctionConcurrency and DeleteFunctionConcurrency.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionConcurrency {
    /// Name, partial or whole ARN.
    pub function_name: String,
}

/// PutProvisionedConcurrencyConfig.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutProvisionedConcurrency {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// A published version or an alias.
    pub qualifier: String,
    /// From 1.
    pub provisioned_concurrent_executions: i64,
}

/// GetProvisionedConcurrencyConfig and DeleteProvisionedConcurrencyConfig.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetProvisionedConcurrency {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// A published version or an alias.
    pub qualifier: String,
}

/// ListProvisionedConcurrencyConfigs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListProvisionedConcurrency {
    /// Name, partial or whole ARN.
    pub function_name: String,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// PublishLayerVersion.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishLayerVersion {
    /// Name or ARN without a version.
    pub layer_name: String,
    /// The zip.
    pub content: Code,
    /// Free text.
    pub description: Option<String>,
    /// For filters alone.
    pub compatible_runtimes: Option<Vec<String>>,
    /// For filters alone.
    pub compatible_architectures: Option<Vec<String>>,
    /// Free text.
    pub license_info: Option<String>,
}

/// A layer version under an ARN of one's choice, so that functions which name a public layer
/// find it here.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportLayer {
    /// Whole ARN with a version; any account and region.
    pub alias_arn: String,
    /// The zip.
    pub content: Code,
    /// Free text.
    pub description: Option<String>,
    /// For filters alone.
    pub compatible_runtimes: Option<Vec<String>>,
    /// For filters alone.
    pub compatible_architectures: Option<Vec<String>>,
    /// Free text.
    pub license_info: Option<String>,
}

/// GetLayerVersion and DeleteLayerVersion.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLayerVersion {
    /// Name or ARN without a version.
    pub layer_name: String,
    /// From 1.
    pub version_number: i64,
}

/// GetLayerVersionByArn.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLayerVersionByArn {
    /// Whole ARN with a version.
    pub arn: String,
}

/// ListLayers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayers {
    /// Only layers that say they fit.
    pub compatible_runtime: Option<String>,
    /// Only layers that say they fit.
    pub compatible_architecture: Option<String>,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// ListLayerVersions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayerVersions {
    /// Name or ARN without a version.
    pub layer_name: String,
    /// Only versions that say they fit.
    pub compatible_runtime: Option<String>,
    /// Only versions that say they fit.
    pub compatible_architecture: Option<String>,
    /// From the page before.
    pub marker: Option<String>,
    /// At most 50 are given.
    pub max_items: Option<i64>,
}

/// ListTags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTags {
    /// ARN of a function.
    pub resource: String,
}

/// TagResource.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagResource {
    /// ARN of a function.
    pub resource: String,
    /// Added, or replaced.
    pub tags: BTreeMap<String, String>,
}

/// UntagResource.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UntagResource {
    /// ARN of a function.
    pub resource: String,
    /// Removed; missing ones are no error.
    pub tag_keys: Vec<String>,
}
