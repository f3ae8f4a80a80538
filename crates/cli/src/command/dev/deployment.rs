//! The function on its server: versions that come and go, each initialised before it is used.

use super::inputs::Inputs;
use crate::args::Dev;
use crate::client::{Body, Client, ClientError, Request, Service, encode};
use crate::command::code::Code;
use crate::command::shared;
use crate::failure::Failure;
use lambfold_types::{FunctionName, Partition, Region, RuntimeId};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;

/// Marks functions that this command made, so that it takes none of anybody's.
const TAG: &str = "lambfold:dev";

/// How far a version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    Pending,
    Ready,
    /// Its init phase fails; the reason in AWS's words.
    Failed(String),
    /// It works and could not be initialised ahead.
    Cold(String),
    /// The server does not say.
    Unknown,
}

/// What the server has.
struct Sent {
    digest: String,
    handler: String,
    layers: Vec<String>,
}

pub(super) struct Deployment {
    client: Arc<Client>,
    name: String,
    /// What never changes: memory, timeout, runtime, variables.
    fixed: Map<String, Value>,
    sent: Option<Sent>,
    reloads: u64,
    /// Names and numbers of layer versions that were published.
    layers: Vec<(String, u64)>,
}

impl Deployment {
    pub(super) fn new(client: &Arc<Client>, args: &Dev, inputs: &Inputs) -> Result<Self, Failure> {
        let name = args.name.clone().unwrap_or_else(|| default_name(&inputs.watched()[0]));
        FunctionName::parse(&name).map_err(Failure::usage)?;
        RuntimeId::parse(&args.runtime).ok_or_else(|| {
            Failure::usage(format!("runtime {:?} is not a custom runtime", args.runtime))
                .hint("for example --runtime provided.al2023")
        })?;
        let mut variables = Map::new();
        for pair in &args.variables {
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    variables.insert(key.to_owned(), value.into());
                }
                _ => {
                    return Err(Failure::usage(format!(
                        "--env {pair:?} is not of the form KEY=VALUE"
                    )));
                }
            }
        }
        let fixed = json!({
            "MemorySize": args.memory,
            "Timeout": args.timeout,
            "Runtime": args.runtime,
            "Environment": {"Variables": variables},
        });
        let Value::Object(fixed) = fixed else { unreachable!("it was written as an object") };
        Ok(Self { client: client.clone(), name, fixed, sent: None, reloads: 0, layers: Vec::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, rest: &str) -> String {
        format!("/2015-03-31/functions/{}{rest}", encode(&self.name))
    }

    fn send(&self, request: Request) -> Result<Value, ClientError> {
        self.client.send_for_json(request)
    }

    /// Publishes a layer, a zip in base64, and returns the ARN of its version.
    pub(super) fn publish_layer(&mut self, zip: &str, which: &str) -> Result<String, Failure> {
        let name = format!("{}-{which}", self.name);
        let path = format!("/2018-10-31/layers/{}/versions", encode(&name));
        let input = json!({"Content": {"ZipFile": zip}});
        let layer = self
            .send(Request::new(Service::Lambda, "POST", path).json(&input))
            .map_err(|error| shared::explain(&error))?;
        self.layers.push((name, layer["Version"].as_u64().unwrap_or_default()));
        Ok(layer["LayerVersionArn"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes what is read a version with one environment to be initialised; its number.
    pub(super) fn publish(&mut self, inputs: &mut Inputs) -> Result<String, Failure> {
        let (handler, layers) = (inputs.handler(), inputs.layer_arns());
        let code = inputs.code().ok_or_else(|| Failure::failed("there is no code"))?;
        let digest = code.info.code_sha256();
        let published = match &self.sent {
            None => self.create(&handler, &layers, code),
            Some(sent) => {
                let is_same = sent.digest == digest;
                let settings = (is_same || sent.handler != handler || sent.layers != layers)
                    .then(|| self.settings(&handler, &layers));
                self.update(settings.as_ref(), (!is_same).then_some(code))
            }
        };
        self.reloads += 1;
        let published = published.map_err(|error| match error {
            Refused::Client(error) => shared::explain(&error),
            Refused::Failure(failure) => failure,
        })?;
        let number = published["Version"].as_str().unwrap_or_default().to_owned();
        self.sent = Some(Sent { digest, handler, layers });
        self.provision(&number).map_err(|error| shared::explain(&error))?;
        Ok(number)
    }

    /// The settings that follow the folder. A version is published of what is another than the
    /// last one only, so that each reload has a description of its own.
    fn settings(&self, handler: &str, layers: &[String]) -> Value {
        let description = format!("lambfold dev, reload {}", self.reloads);
        json!({"Handler": handler, "Layers": layers, "Description": description})
    }

    fn create(&self, handler: &str, layers: &[String], code: &mut Code) -> Result<Value, Refused> {
        let architecture = shared::architecture(None)?;
        let mut input = self.fixed.clone();
        input.insert("FunctionName".into(), self.name.as_str().into());
        input.insert("Handler".into(), handler.into());
        input.insert("Layers".into(), layers.into());
        input.insert("Role".into(), self.role().into());
        input.insert("Architectures".into(), json!([architecture.as_str()]));
        input.insert("Code".into(), json!({"ZipFile": code.base64()?}));
        input.insert("Publish".into(), true.into());
        input.insert("Tags".into(), json!({TAG: "true"}));
        let request = || {
            Request::new(Service::Lambda, "POST", "/2015-03-31/functions")
                .json(&Value::Object(input.clone()))
        };
        match self.send(request()) {
            Err(error) if error.is("ResourceConflictException") => {
                // What an earlier run left is replaced, what is somebody's is not.
                let was = self.send(Request::new(Service::Lambda, "GET", self.path("")))?;
                if was["Tags"].get(TAG).is_none() {
                    return Err(Refused::Failure(
                        Failure::failed(format!(
                            "there is a function {} that `lambfold dev` did not make",
                            self.name
                        ))
                        .hint("choose another name: --name NAME"),
                    ));
                }
                self.client.send(Request::new(Service::Lambda, "DELETE", self.path("")))?;
                Ok(self.send(request())?)
            }
            other => Ok(other?),
        }
    }

    fn update(&self, settings: Option<&Value>, code: Option<&mut Code>) -> Result<Value, Refused> {
        let put = |rest: &str| Request::new(Service::Lambda, "PUT", self.path(rest));
        if let Some(settings) = settings {
            self.send(put("/configuration").json(settings))?;
        }
        Ok(match code {
            Some(code) => {
                let input = json!({"ZipFile": code.base64()?, "Publish": true});
                self.send(put("/code").json(&input))?
            }
            None => {
                let path = self.path("/versions");
                self.send(Request::new(Service::Lambda, "POST", path).json(&json!({})))?
            }
        })
    }

    /// AWS asks every function for a role; nothing is allowed or refused by this one.
    fn role(&self) -> String {
        let partition =
            Region::parse(self.client.region()).map_or(Partition::Aws, |region| region.partition());
        format!("arn:{}:iam::000000000000:role/lambfold", partition.as_str())
    }

    fn provisioned(&self, method: &'static str, number: &str) -> Request {
        let name = encode(&self.name);
        let path = format!("/2019-09-30/functions/{name}/provisioned-concurrency");
        Request::new(Service::Lambda, method, path).query("Qualifier", number)
    }

    fn provision(&self, number: &str) -> Result<Value, ClientError> {
        let input = json!({"ProvisionedConcurrentExecutions": 1});
        self.send(self.provisioned("PUT", number).json(&input))
    }

    pub(super) fn readiness(&self, number: &str) -> Result<Readiness, Failure> {
        let status =
            self.send(self.provisioned("GET", number)).map_err(|error| shared::explain(&error))?;
        let reason = status["StatusReason"].as_str().unwrap_or_default().to_owned();
        Ok(match status["Status"].as_str() {
            Some("READY") => Readiness::Ready,
            Some("IN_PROGRESS") => Readiness::Pending,
            _ if reason.starts_with("FUNCTION_ERROR") => Readiness::Failed(reason),
            _ => Readiness::Cold(reason),
        })
    }

    /// Why the bootstrap of a version would not run, if that is why its init phase failed.
    pub(super) fn diagnosis(&self, number: &str) -> Vec<String> {
        shared::diagnosis(&self.client, &self.name, Some(number))
    }

    /// A version that takes no requests goes. One that stays by accident harms nobody.
    pub(super) fn delete_version(&self, number: &str) {
        let request = Request::new(Service::Lambda, "DELETE", self.path(""));
        let _ = self.client.send(request.query("Qualifier", number));
    }

    /// Takes everything back that was made on a server that goes on.
    pub(super) fn delete(&self) {
        if self.sent.is_some() {
            let _ = self.client.send(Request::new(Service::Lambda, "DELETE", self.path("")));
        }
        for (name, number) in &self.layers {
            let path = format!("/2018-10-31/layers/{}/versions/{number}", encode(name));
            let _ = self.client.send(Request::new(Service::Lambda, "DELETE", path));
        }
        let group = json!({"logGroupName": format!("/aws/lambda/{}", self.name)});
        let request = Request::new(Service::Logs, "POST", "/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "Logs_20140328.DeleteLogGroup")
            .body(Body::Bytes(group.to_string().into_bytes()));
        let _ = self.client.send(request);
    }
}

/// Why there is no version.
enum Refused {
    Client(ClientError),
    Failure(Failure),
}

impl From<ClientError> for Refused {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// `dev-` and the folder's name, as far as functions may be called so.
fn default_name(dir: &Path) -> String {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = name.chars().map(allowed).take(48).collect();
    format!("dev-{}", name.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_functions() {
        for (dir, name) in [("/a/site", "dev-site"), ("/a/My Shop!", "dev-My-Shop"), ("/", "dev-")]
        {
            assert_eq!(default_name(Path::new(dir)), name);
            assert!(FunctionName::parse(name).is_ok());
        }
    }
}
