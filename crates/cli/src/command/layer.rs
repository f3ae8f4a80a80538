use super::code::Code;
use super::shared;
use crate::args::{Format, LayerImport, LayerPublish};
use crate::client::{Body, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_types::{LayerName, LayerVersionArn};
use serde_json::json;

pub(crate) fn publish(args: &LayerPublish) -> Result<Exit, Failure> {
    LayerName::parse(&args.name).map_err(Failure::usage)?;
    let mut code = Code::read(&args.code, shared::architecture(None)?)?;
    let client = shared::connect(&args.connection)?;
    let mut input = json!({"Content": {"ZipFile": code.base64()?}});
    if let Some(description) = &args.description {
        input["Description"] = description.as_str().into();
    }
    let path = format!("/2018-10-31/layers/{}/versions", encode(&args.name));
    let layer = client
        .send_for_json(Request::new(Service::Lambda, "POST", path).json(&input))
        .map_err(|error| shared::explain(&error))?;
    match args.printing.format {
        Format::Json => output::json(&layer)?,
        Format::Text => {
            let arn = layer["LayerVersionArn"].as_str().unwrap_or_default();
            output::line(arn)?;
            output::hint(&format!(
                "use it: lambfold deploy DIR --name NAME --handler HANDLER --layer {arn}"
            ));
        }
    }
    Ok(Exit::Done)
}

pub(crate) fn import(args: &LayerImport) -> Result<Exit, Failure> {
    let layer = LayerVersionArn::parse(&args.alias_arn).map_err(Failure::usage)?;
    let (arn, region) = (layer.to_string(), layer.scope.region.as_str());
    let file = std::fs::File::open(&args.file).map_err(|error| {
        Failure::failed(format!("could not read {}", args.file.display())).cause(&error)
    })?;
    let client = shared::connect(&args.connection)?;
    let request = Request::new(Service::Lambda, "PUT", "/_lambfold/v1/layers")
        .query("arn", &arn)
        .header("content-type", "application/zip")
        .body(Body::File(file));
    client.send(request).map_err(|error| shared::explain(&error))?;
    match args.printing.format {
        Format::Json => output::json(&json!({"LayerVersionArn": arn}))?,
        Format::Text => {
            output::line(&arn)?;
            output::talk(&format!("functions in {region} that name it now get this content"));
            if client.region() != region {
                output::hint(&format!(
                    "a function and its layers are in one region: use --region {region}, or AWS_REGION, for the function too"
                ));
            }
        }
    }
    Ok(Exit::Done)
}
