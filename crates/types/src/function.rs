use crate::name::{FunctionName, LayerVersionArn, Scope};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A SHA-256, as 64 lower-case hexadecimal digits; names content-addressed trees and blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// From the 32 bytes of the hash.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in bytes {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// From 64 lower-case hexadecimal digits; anything else is `None`, so that a digest can
    /// never climb out of the folder it names.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        let valid = hex.len() == 64
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Self(hex.to_owned()))
    }

    /// The hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.0[2 * i..2 * i + 2], 16).unwrap_or_default();
        }
        bytes
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a SHA-256 in lower-case hexadecimal")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `$LATEST` or a published number (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// The one that can be changed.
    Latest,
    /// Immutable.
    Published(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Published(number) => number.fmt(f),
        }
    }
}

/// The runtime identifiers that run custom runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RuntimeId {
    /// `provided.al2023`
    #[serde(rename = "provided.al2023")]
    ProvidedAl2023,
    /// `provided.al2`
    #[serde(rename = "provided.al2")]
    ProvidedAl2,
    /// `provided`, retired by AWS; accepted here unless the server is strict.
    #[serde(rename = "provided")]
    Provided,
}

impl RuntimeId {
    /// Parses an identifier; `None` for those that are not custom runtimes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "provided.al2023" => Some(Self::ProvidedAl2023),
            "provided.al2" => Some(Self::ProvidedAl2),
            "provided" => Some(Self::Provided),
            _ => None,
        }
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProvidedAl2023 => "provided.al2023",
            Self::ProvidedAl2 => "provided.al2",
            Self::Provided => "provided",
        }
    }
}

/// Why an execution environment was initialised; the values of `AWS_LAMBDA_INITIALIZATION_TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InitializationType {
    /// An invocation waits for it.
    #[default]
    OnDemand,
    /// Ahead of invocations, for provisioned concurrency.
    ProvisionedConcurrency,
}

impl InitializationType {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::ProvisionedConcurrency => "provisioned-concurrency",
        }
    }
}

/// Instruction set of a function's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Architecture {
    /// `x86_64`
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// `arm64`
    #[serde(rename = "arm64")]
    Arm64,
}

impl Architecture {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A layer version that a function uses, in the order of its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerUse {
    /// Its ARN with the version number.
    pub arn: LayerVersionArn,
    /// The content of its zip.
    pub code: Digest,
    /// Size of the zip.
    pub zip_bytes: u64,
    /// Size of what is in it.
    pub unpacked_bytes: u64,
}

/// Format of the platform's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LogFormat {
    /// Lines such as `START RequestId: …`.
    #[default]
    Text,
    /// One JSON object a line.
    #[serde(rename = "JSON")]
    Json,
}

/// Where and how a function logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingConfig {
    /// `/aws/lambda/<function>` unless it was chosen.
    pub group: String,
    /// Format of system lines.
    pub format: LogFormat,
    /// `DEBUG`, `INFO`, …; only with the JSON format.
    pub application_level: Option<String>,
    /// `DEBUG`, `INFO`, `WARN`; only with the JSON format.
    pub system_level: Option<String>,
}

/// The tag of a function that names its root file system: a name of the server's own settings, never
/// a path. Ours, not AWS's, which treats it like any other tag.
pub const ROOTFS_TAG: &str = "lambfold:rootfs";

/// Why a function with layers does not run where functions have no walls, and what to do.
pub const LAYERS_NEED_WALLS: &str = "it has layers, and this server runs functions without walls \
    (--isolation process), where there is no /opt of theirs; put what the layers hold into the \
    function's own zip, or run the server with --isolation namespace";

/// All that an execution environment needs to know of one immutable function version, or of
/// one revision of `$LATEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionVersion {
    /// Account and region.
    pub scope: Scope,
    /// Its name.
    pub name: FunctionName,
    /// `$LATEST` or a number.
    pub version: Version,
    /// Changes with every change of code or configuration; environments are shared only
    /// between invocations of the same revision.
    pub revision: String,
    /// `provided…`
    pub runtime: RuntimeId,
    /// Of the code.
    pub architecture: Architecture,
    /// Handed to the runtime in `_HANDLER`, not interpreted.
    pub handler: String,
    /// MemorySize, in MiB.
    pub memory_mib: u32,
    /// Timeout, in seconds.
    pub timeout_s: u32,
    /// EphemeralStorage, in MiB.
    pub ephemeral_storage_mib: u32,
    /// The function's own environment variables.
    pub variables: BTreeMap<String, String>,
    /// The content of its zip.
    pub code: Digest,
    /// In the order of the list: later ones win.
    pub layers: Vec<LayerUse>,
    /// Logging.
    pub logging: LoggingConfig,
    /// The root file system that its tag [`ROOTFS_TAG`] asks for; `None`: that of its runtime.
    pub rootfs: Option<String>,
}
