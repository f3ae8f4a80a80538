//! What is deployed: the folder, its layers, and what follows from them.

use super::deployment::Deployment;
use crate::args::{BuiltIn, Dev};
use crate::command::{code::Code, layer_build, shared};
use crate::failure::Failure;
use crate::output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_package::Finding;
use lambfold_types::{Architecture, LayerVersionArn, limits};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A layer as it was given.
enum Layer {
    Arn(String),
    /// A zip or folder, and what was last published of it: its digest and ARN.
    Local {
        path: PathBuf,
        published: Option<(String, String)>,
    },
}

pub(super) struct Inputs {
    dir: PathBuf,
    architecture: Architecture,
    wanted_handler: Option<String>,
    layers: Vec<Layer>,
    built_in: Option<(BuiltIn, String)>,
    code: Option<Code>,
    /// What is wrong with the code in a way that does not keep it from being deployed.
    warned: BTreeSet<String>,
}

impl Inputs {
    pub(super) fn new(args: &Dev) -> Result<Self, Failure> {
        if args.layers.len() > limits::LAYERS {
            return Err(Failure::usage(format!(
                "{} layers are too many: a function has at most {}",
                args.layers.len(),
                limits::LAYERS
            )));
        }
        let layers = args.layers.iter().map(|text| layer(text)).collect::<Result<_, _>>()?;
        Ok(Self {
            dir: args.dir.clone(),
            architecture: shared::architecture(None)?,
            wanted_handler: args.handler.clone(),
            layers,
            built_in: None,
            code: None,
            warned: BTreeSet::new(),
        })
    }

    /// What to watch: the folder first, then the layers that are here.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let local = self.layers.iter().filter_map(|layer| match layer {
            Layer::Local { path, .. } => Some(path.clone()),
            Layer::Arn(_) => None,
        });
        std::iter::once(self.dir.clone()).chain(local).collect()
    }

    pub(super) fn handler(&self) -> String {
        let there = |name: &str| self.dir.join(name).is_file();
        match &self.wanted_handler {
            Some(handler) => handler.clone(),
            None if there("bootstrap") => "bootstrap".to_owned(),
            None if there("index.php") => "index.php".to_owned(),
            None if there("function.sh") => "function.handler".to_owned(),
            None => "bootstrap".to_owned(),
        }
    }

    /// The built-in runtime that the folder asks for by what is in it.
    fn runtime(&self) -> Option<BuiltIn> {
        let there = |name: &str| self.dir.join(name).is_file();
        let handler = self.handler();
        let stem = handler.split('.').next().unwrap_or_default();
        if there("bootstrap") {
            None
        } else if handler.ends_with(".php") || there(&format!("{handler}.php")) {
            Some(BuiltIn::Php)
        } else if handler.ends_with(".sh") || there(&format!("{stem}.sh")) {
            Some(BuiltIn::Bash)
        } else {
            None
        }
    }

    /// ARNs in the order in which they are laid over each other.
    pub(super) fn layer_arns(&self) -> Vec<String> {
        let built_in = self.built_in.iter().map(|(_, arn)| arn.clone());
        let given = self.layers.iter().filter_map(|layer| match layer {
            Layer::Arn(arn) => Some(arn.clone()),
            Layer::Local { published, .. } => published.as_ref().map(|(_, arn)| arn.clone()),
        });
        built_in.chain(given).collect()
    }

    pub(super) fn code(&mut self) -> Option<&mut Code> {
        self.code.as_mut()
    }

    /// What was read last counts as never deployed.
    pub(super) fn forget(&mut self) {
        self.code = None;
    }

    /// Reads what has changed, by its place in what is watched. Layers are published at once,
    /// since the function names them. Whether anything is another than before.
    pub(super) fn read(
        &mut self,
        which: &BTreeSet<usize>,
        deployment: &mut Deployment,
    ) -> Result<bool, Failure> {
        let architecture = self.architecture;
        let mut is_new = false;
        let mut place = 0;
        for layer in &mut self.layers {
            let Layer::Local { path, published } = layer else { continue };
            place += 1;
            if !which.contains(&place) && published.is_some() {
                continue;
            }
            let mut zip = Code::read(path, architecture)?;
            let digest = zip.info.code_sha256();
            if published.as_ref().is_none_or(|(of, _)| *of != digest) {
                let arn = deployment.publish_layer(&zip.base64()?, &place.to_string())?;
                *published = Some((digest, arn));
                is_new = true;
            }
        }
        if which.contains(&0) || self.code.is_none() {
            is_new |= self.read_code(deployment)?;
        }
        Ok(is_new)
    }

    fn read_code(&mut self, deployment: &mut Deployment) -> Result<bool, Failure> {
        let was = self.code.take().map(|code| code.info.code_sha256());
        let code = Code::read(&self.dir, self.architecture)?;
        self.choose_runtime(deployment)?;
        for finding in &code.findings {
            match finding {
                Finding::BootstrapMissing if !self.layer_arns().is_empty() => {}
                Finding::BootstrapMissing => {
                    return Err(Failure::failed("the function could not start")
                        .because(&finding.to_string())
                        .hint("function.sh or index.php bring a runtime; --layer names another"));
                }
                other => {
                    let text = other.to_string();
                    if self.warned.insert(text.clone()) {
                        output::warn(&text);
                    }
                }
            }
        }
        let is_new = was != Some(code.info.code_sha256());
        self.code = Some(code);
        Ok(is_new)
    }

    fn choose_runtime(&mut self, deployment: &mut Deployment) -> Result<(), Failure> {
        let Some(runtime) = self.runtime() else {
            self.built_in = None;
            return Ok(());
        };
        if self.built_in.as_ref().is_some_and(|(is, _)| *is == runtime) {
            return Ok(());
        }
        let published = layer_build::cached(runtime).and_then(|path| {
            // One of our own making need not be checked here.
            let zip = std::fs::read(&path).map_err(|error| {
                Failure::failed(format!("could not read {}", path.display())).cause(&error)
            })?;
            deployment.publish_layer(&STANDARD.encode(zip), "runtime")
        });
        match published {
            Ok(arn) => self.built_in = Some((runtime, arn)),
            // Whoever brings layers may bring another runtime in one of them.
            Err(_) if !self.layers.is_empty() => self.built_in = None,
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

fn layer(text: &str) -> Result<Layer, Failure> {
    if text.starts_with("arn:") {
        LayerVersionArn::parse(text).map_err(Failure::usage)?;
        return Ok(Layer::Arn(text.to_owned()));
    }
    let path = Path::new(text);
    if !path.exists() {
        return Err(Failure::usage(format!("there is no zip or folder {text} for --layer"))
            .hint("a layer version is named by its ARN: arn:aws:lambda:…"));
    }
    Ok(Layer::Local { path: path.to_owned(), published: None })
}
