use super::LogsSchema;
use http::{StatusCode, Uri};
use serde::Deserialize;
use std::time::Duration;

/// Port of the Runtime API inside, which cannot be a destination.
const RESERVED_PORT: u16 = 9001;
const ITEMS: std::ops::RangeInclusive<u64> = 1_000..=10_000;
const BYTES: std::ops::RangeInclusive<u64> = 262_144..=1_048_576;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 25..=30_000;

/// Which of the two APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TelemetryApi {
    /// `PUT /2022-07-01/telemetry`
    Telemetry,
    /// `PUT /2020-08-15/logs`
    Logs(LogsSchema),
}

/// Which records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Types {
    /// The platform's.
    pub platform: bool,
    /// The function's lines.
    pub function: bool,
    /// The extensions' lines.
    pub extension: bool,
}

impl Types {
    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.platform, "platform"),
            (self.function, "function"),
            (self.extension, "extension"),
        ];
        all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect()
    }
}

/// When a batch is sent: at the first of these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffering {
    /// Records.
    pub items: usize,
    /// Bytes.
    pub bytes: usize,
    /// Since the first record.
    pub timeout: Duration,
}

impl Default for Buffering {
    /// 10 000 records, 262 144 bytes, 1 s.
    fn default() -> Self {
        Self { items: 10_000, bytes: 262_144, timeout: Duration::from_secs(1) }
    }
}

/// Where batches are sent, inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A request with a JSON array.
    Http {
        /// Of the listener.
        port: u16,
        /// Path and query.
        path: String,
        /// `PUT` in place of `POST`; the Logs API's.
        put: bool,
    },
    /// A connection that carries a JSON document a line.
    Tcp {
        /// Of the listener.
        port: u16,
    },
}

impl Destination {
    /// Of the listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Http { port, .. } | Self::Tcp { port } => *port,
        }
    }
}

/// What an extension subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// By which API.
    pub api: TelemetryApi,
    /// Which records.
    pub types: Types,
    /// When they are sent.
    pub buffering: Buffering,
    /// Where to.
    pub destination: Destination,
}

/// Why a subscription is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionRefusal {
    /// The body is not what it should be.
    Invalid(TelemetryApi, String),
    /// The init phase is over.
    Closed(TelemetryApi),
    /// Another extension of this environment uses the other API.
    OtherApi(TelemetryApi),
    /// A fault of the platform.
    Internal,
}

impl SubscriptionRefusal {
    /// Status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(..) | Self::OtherApi(_) => StatusCode::BAD_REQUEST,
            Self::Closed(_) => StatusCode::FORBIDDEN,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `errorType` of the body.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        use TelemetryApi::{Logs, Telemetry};
        match self {
            Self::Invalid(Telemetry, _) | Self::OtherApi(Telemetry) => "ValidationError",
            Self::Invalid(Logs(_), _) | Self::OtherApi(Logs(_)) => "Logs.ValidationError",
            Self::Closed(Telemetry) => "Telemetry.SubscriptionClosed",
            Self::Closed(Logs(_)) => "Logs.SubscriptionClosed",
            Self::Internal => "InternalServerError",
        }
    }

    /// The `errorMessage` of the body.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Invalid(_, text) => text.clone(),
            Self::Closed(TelemetryApi::Telemetry) => {
                "Telemetry API subscription is closed".to_owned()
            }
            Self::Closed(TelemetryApi::Logs(_)) => "Logs API subscription is closed".to_owned(),
            Self::OtherApi(TelemetryApi::Telemetry) => {
                "The Logs API is in use in this execution environment".to_owned()
            }
            Self::OtherApi(TelemetryApi::Logs(_)) => {
                "The Telemetry API is in use in this execution environment".to_owned()
            }
            Self::Internal => "Internal Server Error".to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<String>,
    types: Vec<String>,
    buffering: Option<BufferingBody>,
    destination: DestinationBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BufferingBody {
    max_items: Option<u64>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct DestinationBody {
    protocol: String,
    #[serde(rename = "URI", alias = "uri")]
    uri: Option<String>,
    port: Option<u64>,
    method: Option<String>,
    encoding: Option<String>,
}

impl Subscription {
    /// From the body of a request; the schema version in it decides which Logs API it is.
    ///
    /// # Errors
    /// [`SubscriptionRefusal::Invalid`], which names the field.
    pub fn parse(legacy: bool, body: &[u8]) -> Result<Self, SubscriptionRefusal> {
        let mut api = match legacy {
            true => TelemetryApi::Logs(LogsSchema::V2020),
            false => TelemetryApi::Telemetry,
        };
        let parsed = (|| {
            let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
            api = schema(legacy, body.schema_version.as_deref())?;
            Ok((types(&body.types)?, buffering(body.buffering)?, destination(&body.destination)?))
        })();
        let (types, buffering, destination) =
            parsed.map_err(|text| SubscriptionRefusal::Invalid(api, text))?;
        Ok(Self { api, types, buffering, destination })
    }
}

fn schema(legacy: bool, version: Option<&str>) -> Result<TelemetryApi, String> {
    match (legacy, version) {
        (false, Some("2022-07-01" | "2022-12-13" | "2025-01-29")) => Ok(TelemetryApi::Telemetry),
        (false, None) => Err("schemaVersion is required".to_owned()),
        (true, None | Some("2020-08-15")) => Ok(TelemetryApi::Logs(LogsSchema::V2020)),
        (true, Some("2021-03-18")) => Ok(TelemetryApi::Logs(LogsSchema::V2021)),
        (_, Some(other)) => Err(format!("schemaVersion {other:?} is not supported")),
    }
}

fn types(names: &[String]) -> Result<Types, String> {
    let mut types = Types::default();
    for name in names {
        match name.as_str() {
            "platform" => types.platform = true,
            "function" => types.function = true,
            "extension" => types.extension = true,
            other => {
                return Err(format!(
                    "types: {other:?} is not one of platform, function, extension"
                ));
            }
        }
    }
    if types == Types::default() { Err("types must not be empty".to_owned()) } else { Ok(types) }
}

fn buffering(body: Option<BufferingBody>) -> Result<Buffering, String> {
    let mut buffering = Buffering::default();
    let Some(body) = body else { return Ok(buffering) };
    let within = |name: &str, value: u64, range: std::ops::RangeInclusive<u64>| {
        if range.contains(&value) {
            return usize::try_from(value).map_err(|error| error.to_string());
        }
        Err(format!("buffering.{name} must be from {} to {}", range.start(), range.end()))
    };
    if let Some(items) = body.max_items {
        buffering.items = within("maxItems", items, ITEMS)?;
    }
    if let Some(bytes) = body.max_bytes {
        buffering.bytes = within("maxBytes", bytes, BYTES)?;
    }
    if let Some(ms) = body.timeout_ms {
        within("timeoutMs", ms, TIMEOUT_MS)?;
        buffering.timeout = Duration::from_millis(ms);
    }
    Ok(buffering)
}

fn destination(body: &DestinationBody) -> Result<Destination, String> {
    match body.protocol.as_str() {
        "HTTP" => {
            let put = match body.method.as_deref() {
                None | Some("POST") => false,
                Some("PUT") => true,
                Some(other) => {
                    return Err(format!("destination.method {other:?} is not supported"));
                }
            };
            if let Some(other) = body.encoding.as_deref().filter(|encoding| *encoding != "JSON") {
                return Err(format!("destination.encoding {other:?} is not supported"));
            }
            let text = body.uri.as_deref().ok_or("destination.URI is required for HTTP")?;
            let uri: Uri =
                text.parse().map_err(|_| format!("destination.URI {text:?} is not a URI"))?;
            if uri.scheme_str() != Some("http") {
                return Err("destination.URI must begin with http://".to_owned());
            }
            if !matches!(uri.host(), Some("sandbox.localdomain" | "sandbox")) {
                return Err("destination.URI: the host must be sandbox.localdomain".to_owned());
            }
            let port = uri.port_u16().map(u64::from);
            let port = checked(port.ok_or("destination.URI must have a port")?)?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            Ok(Destination::Http { port, path, put })
        }
        "TCP" => {
            let port = checked(body.port.ok_or("destination.port is required for TCP")?)?;
            Ok(Destination::Tcp { port })
        }
        other => Err(format!("destination.protocol {other:?} is not one of HTTP, TCP")),
    }
}

fn checked(port: u64) -> Result<u16, String> {
    match u16::try_from(port) {
        Ok(RESERVED_PORT) => Err(format!("port {RESERVED_PORT} is the Runtime API's")),
        Ok(port) if port > 0 => Ok(port),
        _ => Err("the port must be from 1 to 65535".to_owned()),
    }
}
