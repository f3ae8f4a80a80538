//! What several commands do: find the server, and say what to do about its refusals.

use crate::args::Connection;
use crate::client::{Client, ClientError, Endpoint, Request, Service};
use crate::failure::Failure;
use lambfold_types::{Architecture, FunctionRef, Region};

/// The region of everything that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// A client for the server that flags, environment or defaults name.
pub(crate) fn connect(connection: &Connection) -> Result<Client, Failure> {
    let (endpoint, region) = server(connection)?;
    Ok(Client::new(endpoint, region.as_str().to_owned()))
}

/// Endpoint and region, from flags, environment or defaults.
pub(crate) fn server(connection: &Connection) -> Result<(Endpoint, Region), Failure> {
    let endpoint = first(connection.endpoint_url.as_deref(), &["AWS_ENDPOINT_URL"]);
    let endpoint = endpoint.unwrap_or_else(|| Endpoint::DEFAULT.to_owned());
    let endpoint = Endpoint::parse(&endpoint).map_err(|error| {
        Failure::usage(&error).hint(match error {
            ClientError::Https { .. } => {
                "lambfold serves plain http; behind a TLS proxy use the AWS CLI, or an ssh tunnel"
            }
            _ => "for example --endpoint-url http://127.0.0.1:9000",
        })
    })?;
    let region = first(connection.region.as_deref(), &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let region = Region::parse(&region).map_err(Failure::usage)?;
    Ok((endpoint, region))
}

fn first(flag: Option<&str>, variables: &[&str]) -> Option<String> {
    let variable =
        || variables.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    flag.map(str::to_owned).or_else(variable)
}

/// A failed request in the words of the terminal, with the next step.
pub(crate) fn explain(error: &ClientError) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        ClientError::Connect { endpoint, .. } => failure
            .hint(format!("is the server running at {endpoint}? start it with: lambfold serve"))
            .hint("for another address: --endpoint-url, or AWS_ENDPOINT_URL"),
        ClientError::NotTheApi { .. } => {
            failure.hint("is this the address of a lambfold server? see: lambfold env")
        }
        ClientError::Service { status: 501, .. } => {
            failure.hint("docs/compatibility.md lists what this version does")
        }
        ClientError::Service { status: 429, .. } => {
            failure.hint("every execution environment is busy; try again when one is free")
        }
        _ => failure,
    }
}

/// As [`explain`], for a request about one function.
pub(crate) fn explain_function(error: &ClientError, function: &str) -> Failure {
    let failure = explain(error);
    if error.is("ResourceNotFoundException") {
        failure.hint("list what is there with: aws lambda list-functions").hint(format!(
            "create it with: lambfold deploy DIR --name {function} --handler HANDLER"
        ))
    } else {
        failure
    }
}

/// Checks that a function's name or ARN is one.
pub(crate) fn function(text: &str) -> Result<FunctionRef, Failure> {
    FunctionRef::parse(text).map_err(Failure::usage)
}

/// Why the bootstrap of a function would not run on its server, each a sentence with the fix. A
/// server that cannot say says nothing: this is advice beside something else.
pub(crate) fn diagnosis(client: &Client, function: &str, qualifier: Option<&str>) -> Vec<String> {
    let mut request = Request::new(Service::Lambda, "GET", "/_lambfold/v1/diagnosis");
    request = request.query("function", function);
    if let Some(qualifier) = qualifier {
        request = request.query("qualifier", qualifier);
    }
    let Ok(answer) = client.send_for_json(request) else { return Vec::new() };
    let findings = answer["Findings"].as_array().into_iter().flatten();
    findings.filter_map(|finding| finding.as_str().map(str::to_owned)).collect()
}

/// `x86_64` or `arm64`; without a choice that of this machine.
pub(crate) fn architecture(text: Option<&str>) -> Result<Architecture, Failure> {
    match text {
        Some("x86_64") => Ok(Architecture::X86_64),
        Some("arm64") => Ok(Architecture::Arm64),
        Some(other) => {
            Err(Failure::usage(format!("architecture {other:?} is neither x86_64 nor arm64")))
        }
        None if cfg!(target_arch = "aarch64") => Ok(Architecture::Arm64),
        None => Ok(Architecture::X86_64),
    }
}
