//! What the operations answer, in AWS's field names and order; absent fields are left out.

use lambfold_types::Digest;
use serde::Serialize;
use std::collections::BTreeMap;

/// A function version as AWS describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionConfiguration {
    /// Its name.
    pub function_name: String,
    /// With the qualifier when one was asked for, or for published versions.
    pub function_arn: String,
    /// `provided…`
    pub runtime: String,
    /// As given.
    pub role: String,
    /// As given.
    pub handler: String,
    /// Bytes of the zip.
    pub code_size: u64,
    /// As given, or empty.
    pub description: String,
    /// Seconds.
    pub timeout: u32,
    /// MiB.
    pub memory_size: u32,
    /// `2026-01-02T03:04:05.678+0000`
    pub last_modified: String,
    /// Base64 of the zip's SHA-256.
    #[serde(rename = "CodeSha256")]
    pub code_sha256: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// Present if it was ever given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// X-Ray.
    pub tracing_config: TracingConfig,
    /// Changes with every change.
    pub revision_id: String,
    /// Present if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// `Active` or `Pending`; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Only while `Pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<&'static str>,
    /// Only while `Pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason_code: Option<&'static str>,
    /// `Successful` or `InProgress`; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status: Option<&'static str>,
    /// Only while `InProgress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status_reason: Option<&'static str>,
    /// Only while `InProgress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status_reason_code: Option<&'static str>,
    /// `Zip`
    pub package_type: &'static str,
    /// One.
    pub architectures: Vec<&'static str>,
    /// Size of `/tmp`.
    pub ephemeral_storage: EphemeralStorage,
    /// Always off.
    pub snap_start: SnapStart,
    /// Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_version_config: Option<RuntimeVersionConfig>,
    /// Logging.
    pub logging_config: LoggingConfig,
}

/// Environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Environment {
    /// Possibly empty.
    pub variables: BTreeMap<String, String>,
}

/// X-Ray.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TracingConfig {
    /// `Active` or `PassThrough`.
    pub mode: String,
}

/// A layer version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layer {
    /// With the version.
    pub arn: String,
    /// Bytes of its zip.
    pub code_size: u64,
}

/// Size of `/tmp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EphemeralStorage {
    /// MiB.
    pub size: u32,
}

/// SnapStart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapStart {
    /// `None`
    pub apply_on: &'static str,
    /// `Off`
    pub optimization_status: &'static str,
}

/// The runtime's own version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeVersionConfig {
    /// `arn:aws:lambda:<region>::runtime:<64 hexadecimal digits>`
    pub runtime_version_arn: String,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoggingConfig {
    /// `Text` or `JSON`.
    pub log_format: &'static str,
    /// Only with `JSON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_log_level: Option<String>,
    /// Only with `JSON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_log_level: Option<String>,
    /// `/aws/lambda/<function>` unless chosen.
    pub log_group: String,
}

/// GetFunction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Function {
    /// The version asked for.
    pub configuration: FunctionConfiguration,
    /// Where its zip is.
    pub code: CodeLocation,
    /// Present if there are any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Present if something is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<FunctionConcurrency>,
}

/// PutFunctionConcurrency and GetFunctionConcurrency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionConcurrency {
    /// Absent: nothing is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_concurrent_executions: Option<u32>,
}

/// CreateAlias, GetAlias and UpdateAlias.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alias {
    /// The function's ARN with the alias.
    pub alias_arn: String,
    /// Its name.
    pub name: String,
    /// `$LATEST` or a number.
    pub function_version: String,
    /// As given, or empty.
    pub description: String,
    /// Present if there is another version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_config: Option<AliasRouting>,
    /// Changes with every change.
    pub revision_id: String,
}

/// How an alias divides invocations.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasRouting {
    /// One version, and its share from 0 to 1.
    pub additional_version_weights: BTreeMap<String, f64>,
}

/// ListAliases.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasList {
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// By name.
    pub aliases: Vec<Alias>,
}

/// PutProvisionedConcurrencyConfig and GetProvisionedConcurrencyConfig.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProvisionedConcurrency {
    /// Environments asked for.
    pub requested_provisioned_concurrent_executions: u32,
    /// Environments that are initialised.
    pub available_provisioned_concurrent_executions: u32,
    /// Environments that are initialised.
    pub allocated_provisioned_concurrent_executions: u32,
    /// `IN_PROGRESS`, `READY` or `FAILED`.
    pub status: &'static str,
    /// Only with `FAILED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// `2026-01-02T03:04:05+0000`
    pub last_modified: String,
}

/// ListProvisionedConcurrencyConfigs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProvisionedConcurrencyList {
    /// By qualifier.
    pub provisioned_concurrency_configs: Vec<ProvisionedConcurrencyItem>,
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
}

/// One item of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProvisionedConcurrencyItem {
    /// With the version or alias.
    pub function_arn: String,
    /// The rest.
    #[serde(flatten)]
    pub config: ProvisionedConcurrency,
}

/// Where a zip is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CodeLocation {
    /// `S3`, as AWS says.
    pub repository_type: &'static str,
    /// A URL; filled in by who serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Names the blob.
    #[serde(skip)]
    pub digest: Digest,
}

/// ListFunctions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionList {
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// By name.
    pub functions: Vec<FunctionConfiguration>,
}

/// ListVersionsByFunction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionList {
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `$LATEST`, then by number.
    pub versions: Vec<FunctionConfiguration>,
}

/// PublishLayerVersion, GetLayerVersion and GetLayerVersionByArn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerVersion {
    /// Its zip.
    pub content: LayerContent,
    /// Without the version.
    pub layer_arn: String,
    /// With the version.
    pub layer_version_arn: String,
    /// As given, or empty.
    pub description: String,
    /// `2026-01-02T03:04:05.678+0000`
    pub created_date: String,
    /// From 1.
    pub version: u64,
    /// As given, or empty.
    pub compatible_runtimes: Vec<String>,
    /// As given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_info: Option<String>,
    /// As given, or empty.
    pub compatible_architectures: Vec<String>,
}

/// A layer version's zip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerContent {
    /// A URL; filled in by who serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Base64 of its SHA-256.
    #[serde(rename = "CodeSha256")]
    pub code_sha256: String,
    /// Bytes.
    pub code_size: u64,
    /// Names the blob.
    #[serde(skip)]
    pub digest: Digest,
}

/// ListLayers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerList {
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// By name.
    pub layers: Vec<LayerItem>,
}

/// One layer of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerItem {
    /// Its name.
    pub layer_name: String,
    /// Without a version.
    pub layer_arn: String,
    /// The newest that passes the filters.
    pub latest_matching_version: LayerVersionItem,
}

/// ListLayerVersions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerVersionList {
    /// Present if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// The newest first.
    pub layer_versions: Vec<LayerVersionItem>,
}

/// One layer version of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerVersionItem {
    /// With the version.
    pub layer_version_arn: String,
    /// From 1.
    pub version: u64,
    /// As given, or empty.
    pub description: String,
    /// `2026-01-02T03:04:05.678+0000`
    pub created_date: String,
    /// As given, or empty.
    pub compatible_runtimes: Vec<String>,
    /// As given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_info: Option<String>,
    /// As given, or empty.
    pub compatible_architectures: Vec<String>,
}

/// ListTags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tags {
    /// Possibly empty.
    pub tags: BTreeMap<String, String>,
}

/// GetAccountSettings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccountSettings {
    /// What is allowed.
    pub account_limit: AccountLimit,
    /// What is in use.
    pub account_usage: AccountUsage,
}

/// What an account may use in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccountLimit {
    /// Bytes of all zips.
    pub total_code_size: u64,
    /// Bytes of a function's code and layers.
    pub code_size_unzipped: u64,
    /// Bytes of a zip.
    pub code_size_zipped: u64,
    /// Invocations at once.
    pub concurrent_executions: u32,
    /// What is not reserved for functions.
    pub unreserved_concurrent_executions: u32,
}

/// What an account uses in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccountUsage {
    /// Bytes of all zips of functions' versions and layers.
    pub total_code_size: u64,
    /// Functions, whatever their versions.
    pub function_count: u64,
}
