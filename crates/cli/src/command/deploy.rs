use super::code::Code;
use super::shared;
use crate::args::{Deploy, Format};
use crate::client::{Client, ClientError, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_package::Finding;
use lambfold_types::{
    Architecture, FunctionName, LayerVersionArn, Partition, Region, RuntimeId, limits,
};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Until a function that is being changed by somebody is free.
const SETTLE: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Deploy) -> Result<Exit, Failure> {
    let wish = Wish::check(args)?;
    let mut code = Code::read(&args.code, wish.architecture)?;
    let client = shared::connect(&args.connection)?;
    let target = Target { client: &client, name: &args.name };
    let existing = target.configuration()?;
    wish.check_bootstrap(&code, existing.as_ref())?;
    let (function, verb) = match existing {
        Some(existing) => (target.update(&wish, &mut code, existing)?, "updated"),
        None => target.create(&wish, &mut code)?,
    };
    // With the layers and the root file system that the server has: what was found before the
    // upload is found again, and not told twice.
    let told: Vec<String> = code.findings.iter().map(ToString::to_string).collect();
    for finding in shared::diagnosis(&client, &args.name, None) {
        if !told.contains(&finding) {
            output::warn(&finding);
        }
    }
    match args.printing.format {
        Format::Json => output::json(&function)?,
        Format::Text => {
            output::talk(&format!("{verb} {} ({} bytes of code)", args.name, code.info.zip_bytes));
            output::line(function["FunctionArn"].as_str().unwrap_or_default())?;
            output::hint(&format!("run it: lambfold invoke {} --payload '{{}}' --tail", args.name));
        }
    }
    Ok(Exit::Done)
}

/// What the arguments ask for, checked; absent is what an update leaves alone.
struct Wish {
    architecture: Architecture,
    runtime: Option<RuntimeId>,
    handler: Option<String>,
    layers: Option<Vec<String>>,
    variables: Option<Map<String, Value>>,
    memory_mib: Option<u32>,
    timeout_s: Option<u32>,
}

impl Wish {
    fn check(args: &Deploy) -> Result<Self, Failure> {
        FunctionName::parse(&args.name).map_err(Failure::usage)?;
        for arn in &args.layers {
            LayerVersionArn::parse(arn).map_err(Failure::usage)?;
        }
        if args.layers.len() > limits::LAYERS {
            return Err(Failure::usage(format!(
                "{} layers are too many: a function has at most {}",
                args.layers.len(),
                limits::LAYERS
            )));
        }
        let runtime = args.runtime.as_deref().map(|text| {
            RuntimeId::parse(text).ok_or_else(|| {
                Failure::usage(format!("runtime {text:?} is not a custom runtime"))
                    .hint("for example --runtime provided.al2023")
            })
        });
        let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let variables = given(&args.variables).map(|list| parse_variables(&list)).transpose()?;
        Ok(Self {
            architecture: shared::architecture(args.architecture.as_deref())?,
            runtime: runtime.transpose()?,
            handler: args.handler.clone(),
            layers: given(&args.layers),
            variables,
            memory_mib: args.memory,
            timeout_s: args.timeout,
        })
    }

    /// Refuses code without a bootstrap that has no layer which could bring one.
    fn check_bootstrap(&self, code: &Code, existing: Option<&Value>) -> Result<(), Failure> {
        let kept = existing.and_then(|function| function["Layers"].as_array());
        let has_layers = match &self.layers {
            Some(_) => true,
            None => kept.is_some_and(|layers| !layers.is_empty()),
        };
        for finding in &code.findings {
            match finding {
                Finding::BootstrapMissing if has_layers => {}
                Finding::BootstrapMissing => {
                    return Err(Failure::failed("the function could not start")
                        .because(&finding.to_string())
                        .hint("a runtime from a layer: --layer ARN"));
                }
                other => output::warn(&other.to_string()),
            }
        }
        Ok(())
    }

    /// The configuration part of a request.
    fn input(&self) -> Map<String, Value> {
        let mut input = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                input.insert(name.to_owned(), value);
            }
        };
        set("Runtime", self.runtime.map(|runtime| runtime.as_str().into()));
        set("Handler", self.handler.clone().map(Value::from));
        set("Layers", self.layers.clone().map(Value::from));
        set("Environment", self.variables.clone().map(|map| json!({"Variables": map})));
        set("MemorySize", self.memory_mib.map(Value::from));
        set("Timeout", self.timeout_s.map(Value::from));
        input
    }
}

fn parse_variables(list: &[String]) -> Result<Map<String, Value>, Failure> {
    list.iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.into())),
            _ => Err(Failure::usage(format!("--env {pair:?} is not of the form KEY=VALUE"))),
        })
        .collect()
}

/// The function on its server.
struct Target<'a> {
    client: &'a Client,
    name: &'a str,
}

impl Target<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/2015-03-31/functions/{}{rest}", encode(self.name))
    }

    /// Its configuration; `None` when there is no such function.
    fn configuration(&self) -> Result<Option<Value>, Failure> {
        let request = Request::new(Service::Lambda, "GET", self.path("/configuration"));
        match self.client.send_for_json(request) {
            Ok(function) => Ok(Some(function)),
            Err(error) if error.is("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(shared::explain(&error)),
        }
    }

    /// Creates it, or updates it when somebody else was faster.
    fn create(&self, wish: &Wish, code: &mut Code) -> Result<(Value, &'static str), Failure> {
        if wish.handler.is_none() {
            return Err(Failure::usage(format!(
                "function {} is new and has no handler",
                self.name
            ))
            .hint("add --handler, for example --handler function.handler"));
        }
        let mut input = wish.input();
        input.entry("Runtime").or_insert_with(|| RuntimeId::ProvidedAl2023.as_str().into());
        input.insert("FunctionName".into(), self.name.into());
        input.insert("Role".into(), self.role().into());
        input.insert("Architectures".into(), json!([wish.architecture.as_str()]));
        input.insert("Code".into(), json!({"ZipFile": code.base64()?}));
        let request = Request::new(Service::Lambda, "POST", "/2015-03-31/functions");
        match self.client.send_for_json(request.json(&Value::Object(input))) {
            Ok(_) => Ok((self.settle()?, "created")),
            Err(error) if error.is("ResourceConflictException") => {
                let existing = self.configuration()?.ok_or_else(|| shared::explain(&error))?;
                Ok((self.update(wish, code, existing)?, "updated"))
            }
            Err(error) => Err(shared::explain(&error)),
        }
    }

    fn update(&self, wish: &Wish, code: &mut Code, existing: Value) -> Result<Value, Failure> {
        let same_code = existing["CodeSha256"].as_str() == Some(&code.info.code_sha256())
            && existing["Architectures"][0].as_str() == Some(wish.architecture.as_str());
        if same_code {
            output::talk("the code is the one that is there; it was not sent again");
        } else {
            let input = json!({
                "ZipFile": code.base64()?,
                "Architectures": [wish.architecture.as_str()],
            });
            self.change("/code", &input)?;
        }
        let input = wish.input();
        if !input.is_empty() {
            self.change("/configuration", &Value::Object(input))?;
        }
        self.settle()
    }

    /// One change, again when another one was under way.
    fn change(&self, what: &str, input: &Value) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            self.settle()?;
            let request = Request::new(Service::Lambda, "PUT", self.path(what)).json(input);
            match self.client.send_for_json(request) {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(&error) && start.elapsed() < SETTLE => {
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(shared::explain_function(&error, self.name)),
            }
        }
    }

    /// Waits until no change is under way; the configuration as it is then.
    fn settle(&self) -> Result<Value, Failure> {
        let start = Instant::now();
        loop {
            let function = self.configuration()?.ok_or_else(|| {
                Failure::failed(format!("function {} was deleted meanwhile", self.name))
            })?;
            let text = |key: &str| function[key].as_str().unwrap_or_default();
            let failed = text("State") == "Failed" || text("LastUpdateStatus") == "Failed";
            if failed {
                let reasons = ["StateReason", "LastUpdateStatusReason"].map(text);
                let failure =
                    Failure::failed(format!("function {} did not become usable", self.name));
                return Err(reasons
                    .iter()
                    .filter(|reason| !reason.is_empty())
                    .fold(failure, |failure, reason| failure.because(reason)));
            }
            let busy = text("State") == "Pending" || text("LastUpdateStatus") == "InProgress";
            if !busy {
                return Ok(function);
            }
            if start.elapsed() >= SETTLE {
                return Err(Failure::failed(format!(
                    "function {} is still being changed after {} s",
                    self.name,
                    SETTLE.as_secs()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// AWS asks every function for a role; nothing is allowed or refused by this one.
    fn role(&self) -> String {
        let partition =
            Region::parse(self.client.region()).map_or(Partition::Aws, |region| region.partition());
        format!("arn:{}:iam::000000000000:role/lambfold", partition.as_str())
    }
}

fn is_busy(error: &ClientError) -> bool {
    matches!(error, ClientError::Service { status: 409, .. })
        && error.is("ResourceConflictException")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_at_the_first_equals_sign() {
        let list = ["A=1".to_owned(), "B=x=y".to_owned(), "C=".to_owned()];
        let map = parse_variables(&list).expect("variables");
        assert_eq!(Value::Object(map), json!({"A": "1", "B": "x=y", "C": ""}));
        for text in ["A", "=1", ""] {
            let failure = parse_variables(&[text.to_owned()]).expect_err(text);
            assert_eq!(failure.exit(), Exit::Usage);
        }
    }
}
