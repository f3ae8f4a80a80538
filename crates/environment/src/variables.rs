//! The process environment of a runtime (behaviour specification §5.2).

use lambfold_package::{LIBRARY_PATH, PATH};
use lambfold_types::{FunctionVersion, InitializationType, LogFormat, RuntimeId};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Keys that are well-formed and open nothing: there are no roles yet whose credentials a
/// function could be given. AWS SDKs refuse to start without keys, and so they exist.
const ACCESS_KEY_ID: &str = "ASIALAMBFOLDNOACCESS";
const SECRET_ACCESS_KEY: &str = "lambfoldNoAccess/lambfoldNoAccess/000000";
const SESSION_TOKEN: &str = "bGFtYmZvbGQ6IHRoZXNlIGtleXMgb3BlbiBub3RoaW5n";

/// Port of the Runtime API inside.
const RUNTIME_API_PORT: u16 = 9001;
/// `PATH` without what AWS alone has.
const HOST_PATH: &str = "/usr/local/bin:/usr/bin/:/bin";
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 1);

/// Where the Runtime API is listened on inside, whatever the runtime identifier.
pub(crate) fn listeners() -> Vec<SocketAddrV4> {
    [LOOPBACK, LINK_LOCAL].map(|address| SocketAddrV4::new(address, RUNTIME_API_PORT)).to_vec()
}

/// The one of these that a function is told, as it was opened: in the host's network it has
/// another address than was asked for.
pub(crate) fn runtime_api(version: &FunctionVersion, opened: &[SocketAddr]) -> String {
    let told = userland(version).runtime_api;
    let place = listeners().iter().position(|asked| *asked.ip() == told);
    let told = SocketAddr::from((told, RUNTIME_API_PORT));
    place.and_then(|place| opened.get(place)).unwrap_or(&told).to_string()
}

/// What differs between Amazon Linux 2023 and its elders.
struct Userland {
    runtime_api: Ipv4Addr,
    xray: &'static str,
    path: &'static str,
    library_path: &'static str,
}

const AL2023: Userland = Userland {
    runtime_api: LINK_LOCAL,
    xray: "169.254.100.1",
    path: PATH,
    library_path: LIBRARY_PATH,
};

const AL2: Userland = Userland {
    runtime_api: LOOPBACK,
    xray: "169.254.79.129",
    path: "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    library_path: "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
};

fn userland(version: &FunctionVersion) -> &'static Userland {
    match version.runtime {
        RuntimeId::ProvidedAl2023 => &AL2023,
        RuntimeId::ProvidedAl2 | RuntimeId::Provided => &AL2,
    }
}

/// Where a function finds its code and what AWS has around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// Where AWS has it.
    Sandbox,
    /// The code in this folder of the host's, and the rest of the host: `/opt` and `/var/lang` are
    /// somebody else's there, if anybody's.
    Host {
        /// An absolute path.
        task: String,
    },
}

impl View {
    /// The code's folder.
    pub(crate) fn task(&self) -> &str {
        match self {
            Self::Sandbox => "/var/task",
            Self::Host { task } => task,
        }
    }
}

/// The whole environment of a function's bootstrap, sorted by name; `runtime_api` is host and port.
pub(crate) fn variables(
    version: &FunctionVersion,
    initialization: InitializationType,
    log_stream: &str,
    runtime_api: &str,
    view: &View,
) -> Vec<(String, String)> {
    let userland = userland(version);
    let (path, library_path) = match view {
        View::Sandbox => (userland.path.to_owned(), userland.library_path.to_owned()),
        View::Host { task } => (HOST_PATH.to_owned(), format!("{task}:{task}/lib")),
    };
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    // What a function may override.
    all.extend([
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", format!("{}:2000", userland.xray)),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("LD_LIBRARY_PATH", library_path),
        ("PATH", path),
        ("TZ", ":UTC".to_owned()),
    ]);
    if version.logging.format == LogFormat::Json {
        all.insert("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned());
        if let Some(level) = &version.logging.application_level {
            all.insert("AWS_LAMBDA_LOG_LEVEL", level.clone());
        }
    }
    all.extend(version.variables.iter().map(|(name, value)| (name.as_str(), value.clone())));
    // What it may not.
    let region = version.scope.region.as_str();
    all.extend([
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", version.name.as_str().to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version.version.to_string()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", version.memory_mib.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", initialization.as_str().to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", version.logging.group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", log_stream.to_owned()),
        ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_owned()),
        ("LAMBDA_TASK_ROOT", view.task().to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("_AWS_XRAY_DAEMON_ADDRESS", userland.xray.to_owned()),
        ("_AWS_XRAY_DAEMON_PORT", "2000".to_owned()),
        ("_HANDLER", version.handler.clone()),
    ]);
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The environment of a function's external extensions: what a runtime has, without what is the
/// runtime's alone.
pub(crate) fn extension_variables(
    version: &FunctionVersion,
    initialization: InitializationType,
    log_stream: &str,
    runtime_api: &str,
) -> Vec<(String, String)> {
    const NOT_THEIRS: [&str; 5] = [
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    ];
    // There are none where there is no /opt.
    let mut all = variables(version, initialization, log_stream, runtime_api, &View::Sandbox);
    all.retain(|(name, _)| {
        !name.starts_with('_') && !name.starts_with("AWS_XRAY_") && !NOT_THEIRS.contains(&&**name)
    });
    all
}

/// What `INIT_START` says: the runtime's version and its ARN.
pub(crate) fn runtime_version(version: &FunctionVersion) -> (&'static str, String) {
    let name = match version.runtime {
        RuntimeId::ProvidedAl2023 => "provided:al2023.v1",
        RuntimeId::ProvidedAl2 => "provided:al2.v1",
        RuntimeId::Provided => "provided:v1",
    };
    let region = &version.scope.region;
    let arn = format!("arn:{}:lambda:{region}::runtime:{:064}", region.partition().as_str(), 0);
    (name, arn)
}

#[cfg(test)]
mod tests;
