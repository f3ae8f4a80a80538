//! The rules of a function's settings, beyond what the service model says.

use crate::control::{Control, Options};
use crate::error::ControlError;
use crate::record::VersionRecord;
use crate::request::{LoggingConfig as LoggingRequest, Settings};
use lambfold_types::{
    Architecture, FunctionName, LayerUse, LayerVersionArn, LogFormat, LoggingConfig, RuntimeId,
    Scope, limits,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names that the platform sets itself.
const RESERVED: [&str; 19] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
];

/// True when a parameter says something: an empty list, map or text is how tools leave it out.
fn given(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => members.values().any(|member| given(Some(member))),
        Some(_) => true,
    }
}

/// Refuses what is not built, so that nobody believes it holds.
fn check_built(settings: &Settings, runtime: &str) -> Result<(), ControlError> {
    let parts = [
        (settings.vpc_config.as_ref(), "VpcConfig"),
        (settings.dead_letter_config.as_ref(), "DeadLetterConfig"),
        (settings.file_system_configs.as_ref(), "FileSystemConfigs"),
        (settings.image_config.as_ref(), "ImageConfig"),
        (settings.capacity_provider_config.as_ref(), "CapacityProviderConfig"),
        (settings.durable_config.as_ref(), "DurableConfig"),
    ];
    if let Some((_, feature)) = parts.into_iter().find(|(value, _)| given(*value)) {
        return Err(ControlError::NotBuilt { feature });
    }
    if settings.kms_key_arn.as_ref().is_some_and(|arn| !arn.is_empty()) {
        return Err(ControlError::NotBuilt { feature: "KMSKeyArn" });
    }
    match settings.snap_start.as_ref().and_then(|snap_start| snap_start.apply_on.as_deref()) {
        None | Some("None") => Ok(()),
        // AWS refuses it for these runtimes too.
        Some(_) => Err(ControlError::invalid(format!(
            "{runtime} is not supported for SnapStart enabled functions."
        ))),
    }
}

pub(super) fn runtime(options: &Options, text: &str) -> Result<RuntimeId, ControlError> {
    match RuntimeId::parse(text) {
        Some(RuntimeId::Provided) if options.strict => Err(ControlError::invalid(format!(
            "The runtime parameter of {text} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
        ))),
        Some(runtime) => Ok(runtime),
        None => {
            let set = if options.strict {
                "[provided.al2023, provided.al2]"
            } else {
                "[provided.al2023, provided.al2, provided]"
            };
            Err(ControlError::invalid(format!(
                "Value {text} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: {set} or be a valid ARN. Lambfold runs custom runtimes: put the language's bootstrap into the function or a layer."
            )))
        }
    }
}

pub(super) fn architecture(
    architectures: Option<&[String]>,
) -> Result<Option<Architecture>, ControlError> {
    match architectures {
        None | Some([]) => Ok(None),
        Some([one]) if one == "x86_64" => Ok(Some(Architecture::X86_64)),
        Some([one]) if one == "arm64" => Ok(Some(Architecture::Arm64)),
        Some([one]) => Err(ControlError::Validation {
            message: format!(
                "Value '[{one}]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
            ),
        }),
        Some(more) => Err(ControlError::Validation {
            message: format!(
                "Value '[{}]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
                more.join(", ")
            ),
        }),
    }
}

fn in_range(
    member: &str,
    value: i64,
    range: &std::ops::RangeInclusive<u32>,
) -> Result<u32, ControlError> {
    let bound = if value < i64::from(*range.start()) {
        format!("greater than or equal to {}", range.start())
    } else {
        format!("less than or equal to {}", range.end())
    };
    match u32::try_from(value) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(ControlError::invalid(format!(
            "'{member}' value failed to satisfy constraint: Member must have value {bound}"
        ))),
    }
}

fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(ControlError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    for (name, value) in variables {
        let valid = name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            return Err(ControlError::Validation {
                message: format!(
                    "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+], found {name:?}"
                ),
            });
        }
        if value.contains('\0') {
            return Err(ControlError::invalid(format!(
                "Environment variable {name} has a NUL character, which no process can receive."
            )));
        }
    }
    let json = serde_json::to_string(variables).unwrap_or_default();
    if json.len() > limits::VARIABLES_BYTES {
        return Err(ControlError::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {json}"
        )));
    }
    Ok(())
}

/// Applies what is given to what was; levels exist only with the JSON format.
fn logging(was: &LoggingConfig, given: &LoggingRequest) -> Result<LoggingConfig, ControlError> {
    let format = match given.log_format.as_deref() {
        None => was.format,
        Some("Text") => LogFormat::Text,
        Some("JSON") => LogFormat::Json,
        Some(other) => {
            return Err(ControlError::Validation {
                message: format!(
                    "Value '{other}' at 'loggingConfig.logFormat' failed to satisfy constraint: Member must satisfy enum value set: [JSON, Text]"
                ),
            });
        }
    };
    let group = match given.log_group.as_deref() {
        None | Some("") => was.group.clone(),
        Some(group) => group.to_owned(),
    };
    let level = |given: &Option<String>, was: &Option<String>| match format {
        LogFormat::Text => None,
        LogFormat::Json => {
            Some(given.clone().or_else(|| was.clone()).unwrap_or_else(|| "INFO".to_owned()))
        }
    };
    if format == LogFormat::Text
        && (given.application_log_level.is_some() || given.system_log_level.is_some())
    {
        return Err(ControlError::invalid(
            "ApplicationLogLevel and SystemLogLevel can be set only when LogFormat is JSON.",
        ));
    }
    Ok(LoggingConfig {
        group,
        format,
        application_level: level(&given.application_log_level, &was.application_level),
        system_level: level(&given.system_log_level, &was.system_level),
    })
}

/// The settings of a function for which nothing was chosen.
pub(super) fn default_logging(name: &FunctionName) -> LoggingConfig {
    LoggingConfig {
        group: format!("/aws/lambda/{name}"),
        format: LogFormat::Text,
        application_level: None,
        system_level: None,
    }
}

impl Control {
    /// Checks what is given and writes it over the record.
    pub(super) fn apply(
        &self,
        scope: &Scope,
        settings: Settings,
        record: &mut VersionRecord,
    ) -> Result<(), ControlError> {
        if let Some(text) = &settings.runtime {
            record.runtime = runtime(&self.0.options, text)?;
        }
        check_built(&settings, record.runtime.as_str())?;
        if let Some(role) = settings.role {
            record.role = role;
        }
        if let Some(handler) = settings.handler {
            record.handler = handler;
        }
        if let Some(description) = settings.description {
            record.description = description;
        }
        if let Some(timeout) = settings.timeout {
            record.timeout_s = in_range("Timeout", timeout, &limits::TIMEOUT_S)?;
        }
        if let Some(memory) = settings.memory_size {
            record.memory_mib = in_range("MemorySize", memory, &limits::MEMORY_MIB)?;
        }
        if let Some(storage) = settings.ephemeral_storage {
            record.ephemeral_storage_mib =
                in_range("EphemeralStorage.Size", storage.size, &limits::EPHEMERAL_STORAGE_MIB)?;
        }
        if let Some(mode) = settings.tracing_config.and_then(|tracing| tracing.mode) {
            record.tracing = mode;
        }
        if let Some(given) = &settings.logging_config {
            record.logging = logging(&record.logging, given)?;
        }
        if let Some(environment) = settings.environment {
            let variables = environment.variables.unwrap_or_default();
            check_variables(&variables)?;
            record.variables = Some(variables);
        }
        if let Some(arns) = &settings.layers {
            record.layers = self.layer_uses(scope, arns)?;
        }
        Ok(())
    }

    /// Finds the layer versions of a list.
    fn layer_uses(&self, scope: &Scope, arns: &[String]) -> Result<Vec<LayerUse>, ControlError> {
        if arns.len() > limits::LAYERS {
            return Err(ControlError::invalid(format!(
                "Cannot reference more than {} layers.",
                limits::LAYERS
            )));
        }
        let index = self.index();
        let mut uses: Vec<LayerUse> = Vec::with_capacity(arns.len());
        for text in arns {
            let arn = LayerVersionArn::parse(text).map_err(|error| ControlError::Validation {
                message: format!(
                    "Value '[{}]' at 'layers' failed to satisfy constraint: {}",
                    arns.join(", "),
                    error.why
                ),
            })?;
            if arn.scope.region != scope.region {
                return Err(ControlError::invalid(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                    scope.region
                )));
            }
            let found = index
                .layer(&arn.scope, &arn.name)
                .and_then(|layer| layer.versions.get(&arn.version))
                .ok_or_else(|| {
                    ControlError::invalid(format!("Layer version {arn} does not exist."))
                })?;
            if let Some(other) =
                uses.iter().find(|other| other.arn.scope == arn.scope && other.arn.name == arn.name)
            {
                return Err(ControlError::invalid(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. {} and {arn} are versions of the same layer.",
                    other.arn
                )));
            }
            uses.push(LayerUse {
                arn,
                code: found.code.clone(),
                zip_bytes: found.zip_bytes,
                unpacked_bytes: found.unpacked_bytes,
            });
        }
        Ok(uses)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_on_both_sides_of_four_kilobytes() {
        // {"AB":"…"} has 9 bytes beside the value.
        let value = "x".repeat(limits::VARIABLES_BYTES - 9);
        check_variables(&variables(&[("AB", &value)])).unwrap();
        let error = check_variables(&variables(&[("AB", &format!("{value}x"))])).unwrap_err();
        assert!(
            error.to_string().contains(r#"exceeded the 4KB limit. String measured: {"AB":"xx"#)
        );
    }

    #[test]
    fn every_reserved_name_is_refused_and_named() {
        for name in RESERVED {
            let error = check_variables(&variables(&[(name, "v"), ("OK", "v")])).unwrap_err();
            assert!(error.to_string().ends_with(&format!("in this request: {name}")), "{error}");
        }
        for name in ["PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "AWS_XRAY_CONTEXT_MISSING"] {
            check_variables(&variables(&[(name, "v")])).unwrap();
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for name in ["A", "1A", "_A", "A-B", "A=B", "Ä"] {
            assert!(check_variables(&variables(&[(name, "v")])).is_err(), "{name}");
        }
        assert!(check_variables(&variables(&[("AB", "a\0b")])).is_err());
    }

    #[test]
    fn numbers_on_both_sides_of_their_limits() {
        for (range, low, high) in [
            (limits::MEMORY_MIB, 128, 10_240),
            (limits::TIMEOUT_S, 1, 900),
            (limits::EPHEMERAL_STORAGE_MIB, 512, 10_240),
        ] {
            assert!(in_range("M", low, &range).is_ok());
            assert!(in_range("M", high, &range).is_ok());
            assert!(in_range("M", low - 1, &range).unwrap_err().to_string().contains("greater"));
            assert!(in_range("M", high + 1, &range).unwrap_err().to_string().contains("less"));
            assert!(in_range("M", i64::MIN, &range).is_err());
            assert!(in_range("M", i64::MAX, &range).is_err());
        }
    }

    #[test]
    fn runtimes() {
        let kind = Options::default();
        let strict = Options { strict: true, ..Options::default() };
        for text in ["provided.al2023", "provided.al2"] {
            assert_eq!(runtime(&kind, text).unwrap().as_str(), text);
            assert_eq!(runtime(&strict, text).unwrap().as_str(), text);
        }
        assert_eq!(runtime(&kind, "provided").unwrap(), RuntimeId::Provided);
        let error = runtime(&strict, "provided").unwrap_err();
        assert!(error.to_string().starts_with("The runtime parameter of provided is no longer"));
        let error = runtime(&kind, "nodejs22.x").unwrap_err();
        assert!(error.to_string().contains("[provided.al2023, provided.al2, provided]"), "{error}");
    }

    #[test]
    fn levels_come_with_json_and_go_with_text() {
        let text = default_logging(&FunctionName::parse("f").unwrap());
        let set = |was: &LoggingConfig, format: Option<&str>, level: Option<&str>| {
            let given = LoggingRequest {
                log_format: format.map(str::to_owned),
                application_log_level: level.map(str::to_owned),
                ..LoggingRequest::default()
            };
            logging(was, &given)
        };
        let json = set(&text, Some("JSON"), Some("DEBUG")).unwrap();
        assert_eq!(json.application_level.as_deref(), Some("DEBUG"));
        assert_eq!(json.system_level.as_deref(), Some("INFO"));
        assert_eq!(json.group, "/aws/lambda/f");
        let same = set(&json, None, None).unwrap();
        assert_eq!(same, json);
        assert_eq!(set(&json, Some("Text"), None).unwrap(), text);
        assert!(set(&text, None, Some("DEBUG")).is_err());
    }

    #[test]
    fn empty_parts_say_nothing() {
        let empty = serde_json::json!({"SubnetIds": [], "SecurityGroupIds": []});
        let full = serde_json::json!({"SubnetIds": ["subnet-1"], "SecurityGroupIds": []});
        let with = |value: Value| Settings { vpc_config: Some(value), ..Settings::default() };
        assert!(check_built(&with(empty), "provided").is_ok());
        let error = check_built(&with(full), "provided").unwrap_err();
        assert!(matches!(error, ControlError::NotBuilt { feature: "VpcConfig" }));
    }
}
